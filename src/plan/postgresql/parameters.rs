//! The user's own settings, as PostgreSQL reads them.

use crate::config::Config;
use crate::config::fields::{Field, Spanned};
use crate::diagnostic::{Diagnostic, Problems};
use crate::plan::release;
use crate::value::{Meaning, ParameterName, ParameterValue, Setting, SettingFault};

/// Settings that `postgresql.parameters` may not hold, with the reason or the key that sets them. What is read-only
/// the table of settings knows.
const MANAGED: &[(&str, &str)] = &[
    ("wal_keep_size", "it is `wal-keep-size` at the top level of the config"),
    ("max_slot_wal_keep_size", "it is `postgresql.max-slot-wal-keep-size`"),
    ("max_wal_senders", "gen derives it from `replica-count`"),
    ("max_replication_slots", "gen derives it from `replica-count`"),
    ("hot_standby", "it is `on`, so that replicas answer queries"),
    ("listen_addresses", "it is `*`; the NetworkPolicy says who may connect"),
    ("port", "Services, probes and SELinux expect 5432"),
    ("unix_socket_directories", "the guest's scripts use the distribution's own"),
    ("unix_socket_group", "the guest's scripts come through the socket"),
    ("unix_socket_permissions", "the guest's scripts come through the socket"),
    ("password_encryption", "it is `scram-sha-256`"),
    ("primary_conninfo", "each replica writes its own"),
    ("primary_slot_name", "each replica writes its own"),
    (
        "synchronous_standby_names",
        "with no replica attached it stops every commit, the set-up of the lab first",
    ),
    // the WAL receiver starts when all local WAL is replayed, or held back no more (xlogrecovery.c)
    ("recovery_min_apply_delay", "a fresh replica would not stream until the delay is over"),
    ("data_directory", "the data disk is mounted there"),
    ("config_file", "it lies on the data disk"),
    ("hba_file", "it lies on the data disk"),
    ("ident_file", "it lies on the data disk"),
    ("external_pid_file", "systemd watches the server"),
    ("include", "list the settings themselves instead"),
    ("include_dir", "list the settings themselves instead"),
    ("include_if_exists", "list the settings themselves instead"),
    ("ssl", "the guests hold no certificate"),
    ("allow_in_place_tablespaces", "it is for PostgreSQL's own tests"),
    ("recovery_target_timeline", "standbys follow the latest"),
    ("recovery_target_action", "standbys follow without end"),
    ("recovery_target_inclusive", "standbys follow without end"),
    ("promote_trigger_file", "`pg_ctl promote` promotes a standby"),
    ("default_transaction_read_only", "the load writes"),
    ("default_table_access_method", "there is no other than `heap` when the pgbench tables are made"),
    ("superuser_reserved_connections", "the connections are counted with its default"),
    ("reserved_connections", "the connections are counted with its default"),
    ("pre_auth_delay", "it delays each connection past the lab's own time limits"),
    ("post_auth_delay", "it delays each connection past the lab's own time limits"),
];

/// Families of them.
const MANAGED_PREFIXES: &[(&str, &str)] =
    &[("ssl_", "the guests hold no certificate"), ("recovery_target", "it would stop each standby")];

pub(super) type Parameter = (Spanned<ParameterName>, Spanned<ParameterValue>);

/// The user's settings with what they mean; without those that are wrong.
pub(super) struct Settings<'c>(pub(super) Vec<(&'c Parameter, Meaning)>);

impl<'c> Settings<'c> {
    pub(super) fn read(parameters: &'c [Parameter], config: &Config, problems: &mut Problems) -> Self {
        if parameters.is_empty() {
            return Self(Vec::new());
        }
        let majors = release::majors(&config.guest.or_default());
        let read = parameters.iter().filter_map(|parameter| {
            let (name, value) = parameter;
            let text = name.value.as_str();
            if let Some(reason) = managed(text) {
                problems.push(
                    Diagnostic::new(
                        name.span.clone(),
                        format!("`{text}` is not for `postgresql.parameters`"),
                    )
                    .help(format!("remove it: {reason}")),
                );
                return None;
            }
            if text.contains('.') {
                // an extension's own, which the server takes as they are until the extension is there
                return Some((parameter, Meaning::Text));
            }
            let (span, refusal) = match Setting::read(text, &value.value.0, &majors) {
                Ok(meaning) => return Some((parameter, meaning)),
                Err(SettingFault::Name(refusal)) => (&name.span, refusal),
                Err(SettingFault::Value(refusal)) => (&value.span, refusal),
            };
            problems.push(Diagnostic::new(span.clone(), refusal.message).help(refusal.help));
            None
        });
        Self(read.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<(&'c Spanned<ParameterValue>, &Meaning)> {
        let (parameter, meaning) = self.0.iter().find(|((of, _), _)| of.value.as_str() == name)?;
        Some((&parameter.1, meaning))
    }

    pub(super) fn is(&self, name: &str, meaning: &Meaning) -> bool {
        self.get(name).is_some_and(|(_, of)| of == meaning)
    }

    /// A number in the setting's own unit.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            // the bounds of all settings are those of an `int`; -1 stands for `by itself`
            (_, Meaning::Number(number)) if *number >= 0.0 => Some(*number as u32),
            _ => None,
        }
    }

    /// Text that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&'c Spanned<ParameterValue>> {
        self.get(name).map(|(value, _)| value).filter(|value| !value.value.0.is_empty())
    }

    pub(super) fn place(&self, name: &str) -> Field<ParameterValue> {
        self.get(name).map_or(Field::Absent, |(value, _)| Field::Given(value.clone()))
    }
}

fn managed(name: &str) -> Option<&'static str> {
    let exact = MANAGED.iter().find(|(managed, _)| *managed == name);
    let (_, reason) =
        exact.or_else(|| MANAGED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)))?;
    Some(reason)
}
