//! `credentials:` where the two passwords come from.

use super::fields::{Field, Fields, Value, short_form};
use super::section;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{ObjectName, SecretKey};

/// The keys of `credentials`.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The secrets file, relative to the config.
    pub file: Field<String>,
    /// A Secret of the cluster that the bundle does not hold.
    pub existing_secret: Field<ExistingSecret>,
}

section!(Credentials, |fields| Self {
    file: fields.value("file"),
    existing_secret: fields.value("existing-secret"),
});

/// `credentials.existing-secret`: a name, or `{name, replication-key, client-key}`.
#[derive(Debug, Clone, Default)]
pub struct ExistingSecret {
    /// Name of the Secret.
    pub name: Field<ObjectName>,
    /// Key of the replication password.
    pub replication_key: Field<SecretKey>,
    /// Key of the client password.
    pub client_key: Field<SecretKey>,
}

impl Value for ExistingSecret {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let Some(name) = short_form(node, problems) {
            return name.map(|name| Self { name, ..Self::default() });
        }
        let mut fields = Fields::of(node, problems)?;
        let secret = Self {
            name: fields.value("name"),
            replication_key: fields.value("replication-key"),
            client_key: fields.value("client-key"),
        };
        fields.finish();
        Some(secret)
    }
}
