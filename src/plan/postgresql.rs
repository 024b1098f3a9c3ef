//! The servers' settings: those that gen decides, and the user's own.

use super::sizing::SharedMemory;
use super::{DEFAULT_REPLICA_COUNT, release};
use crate::config::Config;
use crate::config::fields::{Field, Involved, Spanned};
use crate::config::postgresql::Postgresql;
use crate::diagnostic::{Diagnostic, Problems};
use crate::source::one_line;
use crate::value::{Meaning, ParameterName, ParameterValue, PgSize, Setting, SettingFault};

/// Settings of the servers.
#[derive(Debug)]
pub struct PostgresqlPlan {
    /// WAL kept for followers without a slot.
    pub wal_keep_size: PgSize,
    /// The most WAL a slot holds back.
    pub max_slot_wal_keep_size: PgSize,
    /// WAL senders and replication slots.
    pub max_wal_senders: u32,
    /// Connections.
    pub max_connections: u32,
    /// The user's other settings, in the order of the config.
    pub parameters: Vec<(String, String)>,
    /// WAL between two checkpoints.
    pub(super) max_wal_size: PgSize,
    /// Bytes of `shared_buffers`.
    pub(super) shared_buffers: u128,
    /// What the server shares beside them.
    pub(super) shared_memory: SharedMemory,
}

/// PostgreSQL's own `shared_buffers`, in bytes.
pub(super) const SHARED_BUFFERS: u128 = 128 << 20;

/// The settings that disks and memory are sized by.
pub(super) const SIZING: &[&str] = &[
    "autovacuum_max_workers",
    "autovacuum_worker_slots",
    "max_connections",
    "max_locks_per_transaction",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_size",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "min_wal_size",
    "shared_buffers",
    "track_activity_query_size",
    "wal_buffers",
    "wal_decode_buffer_size",
];

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

/// Switches that no lab survives when they are on.
const NEVER_ON: &[(&str, &str)] = &[
    ("zero_damaged_pages", "it destroys damaged data for good"),
    ("ignore_checksum_failure", "it hides damaged data, and copies it on"),
    ("ignore_invalid_pages", "it hides damaged data, and copies it on"),
    ("ignore_system_indexes", "it is for the repair of a single server"),
    ("db_user_namespace", "the lab's roles could not log in"),
    ("bonjour", "the guests' PostgreSQL is built without it"),
];

/// Settings with which the data may not outlive a crash: some measure with them, and should know.
const UNSAFE: &[(&str, bool)] = &[("fsync", false), ("full_page_writes", false), ("data_sync_retry", true)];

/// Libraries that come with PostgreSQL in both families.
const CONTRIB: &[&str] = &[
    "auth_delay",
    "auto_explain",
    "passwordcheck",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_trgm",
    "pgrowlocks",
    "pgstattuple",
];

/// Locales that every guest has.
const LOCALES: &[&str] = &["C", "POSIX", "C.UTF-8", "C.utf8"];

/// Connections beside pgbench's: superuser slots, the guest's own checks, people and monitoring.
const SPARE_CONNECTIONS: u32 = 30;

/// PostgreSQL's limit on all its processes (`MAX_BACKENDS`).
const MAX_PROCESSES: u32 = (1 << 18) - 1;

/// WAL senders of a lab of up to 30 replicas.
pub(super) const LEAST_WAL_SENDERS: u32 = 64;

type Parameter = (Spanned<ParameterName>, Spanned<ParameterValue>);

/// The user's settings with what they mean; without those that are wrong.
struct Settings<'c>(Vec<(&'c Parameter, Meaning)>);

impl<'c> Settings<'c> {
    fn read(parameters: &'c [Parameter], config: &Config, problems: &mut Problems) -> Self {
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

    fn get(&self, name: &str) -> Option<(&'c Spanned<ParameterValue>, &Meaning)> {
        let (parameter, meaning) = self.0.iter().find(|((of, _), _)| of.value.as_str() == name)?;
        Some((&parameter.1, meaning))
    }

    fn is(&self, name: &str, meaning: &Meaning) -> bool {
        self.get(name).is_some_and(|(_, of)| of == meaning)
    }

    /// A number in the setting's own unit.
    fn number(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            // the bounds of all settings are those of an `int`; -1 stands for `by itself`
            (_, Meaning::Number(number)) if *number >= 0.0 => Some(*number as u32),
            _ => None,
        }
    }

    /// Text that is there and not empty.
    fn text(&self, name: &str) -> Option<&'c Spanned<ParameterValue>> {
        self.get(name).map(|(value, _)| value).filter(|value| !value.value.0.is_empty())
    }

    fn place(&self, name: &str) -> Field<ParameterValue> {
        self.get(name).map_or(Field::Absent, |(value, _)| Field::Given(value.clone()))
    }
}

/// Why a setting is not for `postgresql.parameters`.
pub(crate) fn managed(name: &str) -> Option<&'static str> {
    let exact = MANAGED.iter().find(|(managed, _)| *managed == name);
    let (_, reason) =
        exact.or_else(|| MANAGED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)))?;
    Some(reason)
}

pub(super) fn plan(
    config: &Config,
    clients: u32,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) -> PostgresqlPlan {
    let section = config.postgresql.or_default();
    let replicas = config.replica_count.or(DEFAULT_REPLICA_COUNT);
    // each clone takes two senders; a value that does not change with each replica leaves the others alone
    let max_wal_senders = (2 * replicas + 4).max(LEAST_WAL_SENDERS).next_power_of_two();
    let wal_keep_size = config.wal_keep_size.or(PgSize::mib(256));
    // in the same steps, for clones that start together: 32MB for each sender
    let default_cap = PgSize::mib(32 * u64::from(max_wal_senders)).max(wal_keep_size);
    let max_slot_wal_keep_size = section.max_slot_wal_keep_size.or(default_cap);
    check_slot_cap(config, &section, max_slot_wal_keep_size, wal_keep_size, problems, notes);

    let parameters = section.parameters.or_default().0;
    let settings = Settings::read(&parameters, config, problems);
    check_switches(&settings, problems, notes);
    check_archive(&settings, problems);
    note_needs(&settings, notes);
    if let Some((value, Meaning::Word("minimal"))) = settings.get("wal_level") {
        problems.push(
            Diagnostic::new(value.span.clone(), "replicas cannot follow with `wal_level` minimal")
                .help("write `logical`, or leave it out for `replica`"),
        );
    }
    let (max_connections, processes) = processes(&settings, clients, max_wal_senders, config, problems);

    let usual = SharedMemory::of(processes);
    let number = |name: &str, unit: u128| settings.number(name).map(|number| u128::from(number) * unit);
    let wal = ["max_wal_size", "min_wal_size"].into_iter().filter_map(|name| settings.number(name)).max();
    PostgresqlPlan {
        wal_keep_size,
        max_slot_wal_keep_size,
        max_wal_senders,
        max_connections,
        // PostgreSQL's own default is 1GB
        max_wal_size: PgSize::mib(wal.unwrap_or(0).max(1024).into()),
        shared_buffers: number("shared_buffers", 8 << 10).unwrap_or(SHARED_BUFFERS),
        shared_memory: SharedMemory {
            locks: settings.number("max_locks_per_transaction").unwrap_or(usual.locks),
            predicate_locks: settings
                .number("max_pred_locks_per_transaction")
                .unwrap_or(usual.predicate_locks),
            query_size: settings.number("track_activity_query_size").unwrap_or(usual.query_size),
            buffers: [
                ("wal_buffers", 8 << 10),
                ("min_dynamic_shared_memory", 1 << 20),
                ("wal_decode_buffer_size", 1),
            ]
            .into_iter()
            .filter_map(|(name, unit)| number(name, unit))
            .sum(),
            ..usual
        },
        parameters: parameters.into_iter().map(|(k, v)| (k.value.to_string(), v.value.0)).collect(),
    }
}

/// What a clone moves while it runs: its base backup switches a segment, and so do those of its neighbours. Measured
/// with eight at once: 26 MB for each.
const CLONE_WAL_MIB: u64 = 32;

fn check_slot_cap(
    config: &Config,
    section: &Postgresql,
    cap: PgSize,
    wal_keep_size: PgSize,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) {
    let given = &section.max_slot_wal_keep_size;
    if cap < wal_keep_size {
        problems.contradiction(
            &[(given, "slots keep less"), (&config.wal_keep_size, "than is kept anyway")],
            format!("`postgresql.max-slot-wal-keep-size` {cap} is below `wal-keep-size` {wal_keep_size}"),
            format!("raise it to at least `{wal_keep_size}`, or leave it out"),
        );
    }
    let replicas = config.replica_count.or(DEFAULT_REPLICA_COUNT);
    let together = PgSize::mib(CLONE_WAL_MIB * u64::from(replicas));
    if given.is_present() && cap < together {
        notes.push(format!(
            "`max-slot-wal-keep-size` {cap} is little for {replicas} replicas: those that clone together push each \
             other over it and start again; `{together}` is enough"
        ));
    }
}

fn check_switches(settings: &Settings, problems: &mut Problems, notes: &mut Vec<String>) {
    let mut refuse = |value: &Spanned<ParameterValue>, message: String, help: &str| {
        problems.push(Diagnostic::new(value.span.clone(), message).help(help));
    };
    for (name, reason) in NEVER_ON {
        if let Some((value, Meaning::Bool(true))) = settings.get(name) {
            refuse(value, format!("`{name}` must stay off: {reason}"), "remove it");
        }
    }
    if let Some((value, Meaning::Word("on"))) = settings.get("huge_pages") {
        let message = "with `huge_pages` on the server does not start: the guests reserve none";
        refuse(value, message.to_owned(), "write `try`, which is the default");
    }
    if settings.is("logging_collector", &Meaning::Bool(true))
        && let Some((value, _)) = settings.get("log_filename").filter(|(value, _)| value.value.0.is_empty())
    {
        let message = "without a `log_filename` the server does not start: `logging_collector` opens a file";
        refuse(value, message.to_owned(), "write it like `postgresql-%a.log`, or remove it for the default");
    }
    // libpqwalreceiver is looked for there
    if let Some(value) = settings.text("dynamic_library_path")
        && !value.value.0.split(':').any(|directory| directory == "$libdir")
    {
        let message = "without `$libdir` in `dynamic_library_path` replicas cannot stream";
        refuse(value, message.to_owned(), &format!("write `$libdir:{}`", one_line(&value.value.0)));
    }
    for (name, value) in UNSAFE {
        if settings.is(name, &Meaning::Bool(*value)) {
            let value = if *value { "on" } else { "off" };
            notes.push(format!(
                "with `{name}` {value} a node that loses power may come back with damaged data"
            ));
        }
    }
}

fn check_archive(settings: &Settings, problems: &mut Problems) {
    // a shell runs blanks with success and archives nothing
    let command = settings.text("archive_command").filter(|value| !value.value.0.trim().is_empty());
    let library = settings.text("archive_library");
    if let (Some(command), Some(library)) = (command, library) {
        problems.contradiction(
            &[(command, "either a command"), (library, "or a library")],
            "`archive_command` and `archive_library` exclude each other",
            "keep one of the two; from PostgreSQL 16 on nothing is archived with both, and the WAL fills the disk",
        );
    }
    let mode = settings.0.iter().find(|((name, _), _)| name.value.as_str() == "archive_mode");
    let Some(((mode, _), Meaning::Word("on" | "always"))) = mode else { return };
    if command.is_none() && library.is_none() {
        problems.push(
            Diagnostic::new(
                mode.span.clone(),
                "`archive_mode` without an `archive_command` fills the disk with WAL",
            )
            .help("add `archive_command`, or leave `archive_mode` out"),
        );
    }
    // an archive module that is not configured is asked again for ever (basic_archive_configured)
    if let (Some(library), None) = (library, command)
        && library.value.0.trim_start_matches("$libdir/") == "basic_archive"
        && settings.text("basic_archive.archive_directory").is_none()
    {
        let message = "`basic_archive` without a directory archives nothing, and WAL fills the disk";
        problems.push(
            Diagnostic::new(library.span.clone(), message)
                .help("add `basic_archive.archive_directory`, or leave `archive_mode` out"),
        );
    }
}

/// Notes what the guest must have for a setting: libraries that are preloaded, locales.
fn note_needs(settings: &Settings, notes: &mut Vec<String>) {
    for (name, fate) in [
        ("shared_preload_libraries", "the server does not start"),
        ("session_preload_libraries", "nobody can connect"),
        ("local_preload_libraries", "nobody can connect"),
    ] {
        let Some(value) = settings.text(name) else { continue };
        // from $libdir/plugins, where no package puts any
        let is_local = name.starts_with("local");
        let libraries = value.value.0.split(',');
        let libraries = libraries.map(|name| name.trim().trim_matches('"').trim_start_matches("$libdir/"));
        let others: Vec<_> =
            libraries.filter(|name| !name.is_empty() && (is_local || !CONTRIB.contains(name))).collect();
        if !others.is_empty() {
            notes.push(format!(
                "`{name}`: {fate} unless the guest has `{}`; name the package in `extra-packages`, or use an image \
                 that has it",
                one_line(&others.join("`, `"))
            ));
        }
    }
    for name in ["lc_messages", "lc_monetary", "lc_numeric", "lc_time"] {
        if let Some(value) = settings.text(name)
            && !LOCALES.contains(&value.value.0.as_str())
        {
            let locale = one_line(&value.value.0);
            notes.push(format!(
                "`{name}`: the server does not start unless the guest has the locale `{locale}`"
            ));
        }
    }
    for ((name, value), meaning) in &settings.0 {
        let what = match meaning {
            Meaning::TimeZone => "knows the time zone",
            Meaning::Abbreviations => "has the time zone abbreviations",
            _ => continue,
        };
        let (name, value) = (name.value.as_str(), one_line(&value.value.0));
        notes.push(format!("`{name}`: the server does not start unless the guest {what} `{value}`"));
    }
    if settings.is("logging_collector", &Meaning::Bool(true))
        && let Some(directory) = settings.text("log_directory").filter(|value| value.value.0.starts_with('/'))
    {
        notes.push(format!(
            "`log_directory`: the server does not start unless `postgres` may write into `{}` in the guest",
            one_line(&directory.value.0)
        ));
    }
}

/// `max_connections`, and all processes that shared memory is laid out for.
fn processes(
    settings: &Settings,
    clients: u32,
    max_wal_senders: u32,
    config: &Config,
    problems: &mut Problems,
) -> (u32, u32) {
    let least = clients + SPARE_CONNECTIONS;
    let number = |name: &str| settings.number(name);
    let max_connections = number("max_connections").unwrap_or(least.max(100));
    // PostgreSQL's own defaults; from 18 on the slots count, before them the workers
    let vacuum = number("autovacuum_worker_slots").or(number("autovacuum_max_workers")).unwrap_or(16);
    let workers = number("max_worker_processes").unwrap_or(8);
    let clients_field = config.pgbench.or_default().clients;
    if max_connections < least {
        problems.contradiction(
            &[(&settings.place("max_connections"), "too few"), (&clients_field, "the load's connections")],
            format!("`max_connections` must leave room for {clients} pgbench clients"),
            format!("set it to at least `{least}`, or leave it out"),
        );
    }
    // two for the server's own (NUM_SPECIAL_WORKER_PROCS)
    let all = max_connections + max_wal_senders + vacuum + workers + 2;
    if all > MAX_PROCESSES {
        let names =
            ["max_connections", "max_worker_processes", "autovacuum_max_workers", "autovacuum_worker_slots"];
        let places = names.map(|name| settings.place(name));
        let mut keys: Vec<(&dyn Involved, &str)> =
            places.iter().map(|place| (place as _, "of this")).collect();
        keys.push((&config.replica_count, "with the WAL senders of these"));
        keys.push((&clients_field, "with the connections of these"));
        problems.contradiction(
            &keys,
            format!("PostgreSQL runs at most {MAX_PROCESSES} processes, this asks for {all}"),
            format!("ask for {} fewer", all - MAX_PROCESSES),
        );
    }
    // the usual workers are in what every server shares
    let beyond = workers.saturating_sub(8) + vacuum.saturating_sub(16);
    let prepared = number("max_prepared_transactions").unwrap_or(0);
    (max_connections, max_connections + max_wal_senders + prepared + beyond)
}
