//! `credentials:` where the passwords come from.

use super::fields::{Field, Fields, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{ObjectName, SecretKey};

section! {
    /// The keys of `credentials`.
    pub struct Credentials {
        /// The secrets file, relative to the config. gen adds random passwords where it has none.
        #[instead_of(existing_secret)]
        "file" => file: String {
            default: Literal("gen.secrets.yaml"),
            example: "lab.secrets.yaml",
            objects: &["Secret"],
            change: Restart,
        }
        /// A Secret of the cluster, made before the lab, in place of one that gen writes: the bundle holds no password.
        #[instead_of(file)]
        "existing-secret" => existing_secret: ExistingSecret {
            default: Words("none"),
            example: "lab-passwords",
            objects: &["Secret", "VirtualMachine"],
            change: Restart,
        }
    }
}

section! {
    /// `credentials.existing-secret`: a name, or `{name, replication-key, client-key, ca-seed-key}`.
    pub struct ExistingSecret or name {
        /// Name of the Secret.
        "name" => name: ObjectName {
            default: Words("none: it has to be given"),
            example: "lab-passwords",
            objects: &["Secret", "VirtualMachine"],
            change: Restart,
        }
        /// Its key with the password of the role `replicator`.
        "replication-key" => replication_key: SecretKey {
            default: Literal("replication-password"),
            example: "replicator",
            with: "name: lab-passwords",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Its key with the password of the role `pgbench`.
        "client-key" => client_key: SecretKey {
            default: Literal("client-password"),
            example: "application",
            with: "name: lab-passwords",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Its key with what the nodes derive their certificates from, under `failover: patroni` and with `tls`: 32 random
        /// characters do.
        "ca-seed-key" => ca_seed_key: SecretKey {
            default: Literal("ca-seed"),
            example: "seed",
            with: "name: lab-passwords",
            with_lab: "failover: patroni, replica-count: 2, guest: {image: \"quay.io/containerdisks/debian:13\"}",
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}
