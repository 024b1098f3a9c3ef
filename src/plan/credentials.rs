//! Where the passwords come from.

use super::tls;
use crate::config::Config;
use crate::config::credentials::ExistingSecret;
use crate::config::fields::Field;
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::names::{CA_SEED_KEY, CLIENT_KEY, Names, REPLICATION_KEY, Role};
use crate::value::{FailoverMode, SecretKey};

/// Where the passwords come from.
#[derive(Debug)]
pub enum CredentialsPlan {
    /// The secrets file at this path; relative to the config.
    File(String),
    /// A Secret that is in the cluster already.
    ExistingSecret {
        /// Its name.
        name: String,
        /// Key of the replication password.
        replication_key: String,
        /// Key of the client password.
        client_key: String,
        /// Key of what certificates are derived from.
        ca_seed_key: String,
    },
}

impl CredentialsPlan {
    /// The keys of the two passwords in the Secret: replication, client.
    pub fn keys(&self) -> (&str, &str) {
        match self {
            Self::File(_) => (REPLICATION_KEY, CLIENT_KEY),
            Self::ExistingSecret { replication_key, client_key, .. } => (replication_key, client_key),
        }
    }

    /// The key of what certificates are derived from.
    pub fn ca_seed_key(&self) -> &str {
        match self {
            Self::File(_) => CA_SEED_KEY,
            Self::ExistingSecret { ca_seed_key, .. } => ca_seed_key,
        }
    }
}

pub(super) fn plan(
    config: &Config,
    names: &Names,
    roles: &[(Role, u32)],
    is_patroni: bool,
    problems: &mut Problems,
) -> CredentialsPlan {
    let section = config.credentials.or_default();
    if section.file.is_present() && section.existing_secret.is_present() {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(&section.file, "either a file"), (&section.existing_secret, "or a Secret")],
            "`credentials` names two sources",
            "keep `credentials.file` for a Secret that gen writes, or `credentials.existing-secret` for one that is in the cluster",
        );
    }
    if let Some(file) = section.file.spanned()
        && (file.value.is_empty() || file.value.chars().any(char::is_control))
    {
        problems.push(
            Diagnostic::new(Code::NotAPath, file.span.clone(), "`credentials.file` is not a path")
                .help("name a file beside the config, such as `gen.secrets.yaml`"),
        );
    }
    let Some(existing) = section.existing_secret.spanned() else {
        return CredentialsPlan::File(section.file.or("gen.secrets.yaml".to_owned()));
    };
    let secret = &existing.value;
    if !secret.name.is_present() {
        let message = "`credentials.existing-secret` has no `name`";
        problems.push(
            Diagnostic::new(Code::MissingKey, existing.span.clone(), message)
                .help("add `name`, the Secret's name"),
        );
    }
    let name = secret.name.get().map(ToString::to_string).unwrap_or_default();
    let derives = is_patroni || tls::is_derived(config);
    if secret.ca_seed_key.is_present() && !derives {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&secret.ca_seed_key, "read by no node"),
                (&mode(config), "because of this"),
                (&config.tls, "because of this"),
            ],
            "only nodes under Patroni, or with `tls`, derive certificates",
            "remove `ca-seed-key`, or set `failover` to `patroni` or `tls` to `true`",
        );
    }
    if derives {
        check_seed(secret, problems);
    }
    if roles.iter().any(|(role, _)| names.cloudinit(*role) == name) {
        problems.contradiction(
            Code::NameTaken,
            &[(&secret.name, "this name is taken"), (&config.name, "by an object of this lab")],
            format!("`{name}` is the name of a Secret that gen writes"),
            "give the Secret of the passwords another name",
        );
    }
    let key =
        |field: &Field<SecretKey>, default: &str| field.get().map_or(default.to_owned(), ToString::to_string);
    CredentialsPlan::ExistingSecret {
        name,
        replication_key: key(&secret.replication_key, REPLICATION_KEY),
        client_key: key(&secret.client_key, CLIENT_KEY),
        ca_seed_key: key(&secret.ca_seed_key, CA_SEED_KEY),
    }
}

/// The mode of `failover`, which may have been reported already.
fn mode(config: &Config) -> Field<FailoverMode> {
    match &config.failover {
        Field::Absent => Field::Absent,
        Field::Invalid => Field::Invalid,
        Field::Given(section) => section.value.mode.clone(),
    }
}

/// People and tools get the client's password, and every node's backup the replicator's: who has the seed can give himself a
/// certificate, and with it etcd and Patroni.
fn check_seed(secret: &ExistingSecret, problems: &mut Problems) {
    let seed = secret.ca_seed_key.get().map_or(CA_SEED_KEY, SecretKey::as_str);
    for (field, default) in [(&secret.replication_key, REPLICATION_KEY), (&secret.client_key, CLIENT_KEY)] {
        if field.get().map_or(default, SecretKey::as_str) == seed {
            problems.contradiction(
                Code::NameTaken,
                &[(&secret.ca_seed_key, "the seed of certificates"), (field, "and a password")],
                format!("`{seed}` would be a password and what certificates are derived from"),
                "choose another key for one of them: who has that password could act as a node",
            );
        }
    }
}
