//! What was typed: the config file, key by key, with places and without defaults.

pub mod credentials;
pub mod fields;
pub mod guest;
pub mod pgbench;
pub mod postgresql;
pub mod service;
pub mod vm;

use crate::diagnostic::Problems;
use crate::node::{self, Node};
use crate::source::Source;
use crate::value::{AnnotationKey, AnnotationValue, LabName, LabelKey, LabelValue, Namespace, PgSize};
use credentials::Credentials;
use fields::{Entries, Field, Fields};
use guest::Guest;
use pgbench::Pgbench;
use postgresql::Postgresql;
use service::Service;
use vm::Vm;

/// The most replicas of one lab.
pub const MAX_REPLICAS: u32 = 10_000;

/// The whole config file.
#[derive(Debug, Default)]
pub struct Config {
    /// Prefix of every object's name.
    pub name: Field<LabName>,
    /// Namespace written into every object.
    pub namespace: Field<Namespace>,
    /// Number of replica VMs.
    pub replica_count: Field<u32>,
    /// `wal_keep_size` of every server.
    pub wal_keep_size: Field<PgSize>,
    /// Scale of the pgbench tables.
    pub pgbench_scale: Field<u32>,
    /// Labels for every object.
    pub labels: Field<Entries<LabelKey, LabelValue>>,
    /// Annotations for every object.
    pub annotations: Field<Entries<AnnotationKey, AnnotationValue>>,
    /// The load.
    pub pgbench: Field<Pgbench>,
    /// The servers.
    pub postgresql: Field<Postgresql>,
    /// The guest's operating system.
    pub guest: Field<Guest>,
    /// Every VM.
    pub vm: Field<Vm>,
    /// What differs on the primary.
    pub primary: Field<Vm>,
    /// What differs on the replicas.
    pub replica: Field<Vm>,
    /// The Services.
    pub service: Field<Service>,
    /// Whether a NetworkPolicy is part of the bundle.
    pub network_policy: Field<bool>,
    /// Whether a directory gets a `kustomization.yaml`.
    pub kustomization: Field<bool>,
    /// Where the passwords come from.
    pub credentials: Field<Credentials>,
}

impl Config {
    /// Reads a config, reporting every fault of its text.
    pub fn read(source: &Source, problems: &mut Problems) -> Option<Self> {
        Self::from_node(&node::parse(&source.text, problems)?, problems)
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let config = Self {
            name: fields.value("name"),
            namespace: fields.value("namespace"),
            replica_count: fields.integer(
                "replica-count",
                0..=MAX_REPLICAS,
                "`0` is a plain single-node database; no PostgreSQL can serve more than `10000` replicas",
            ),
            wal_keep_size: fields.value("wal-keep-size"),
            pgbench_scale: fields.integer(
                "pgbench-scale",
                1..=1_000_000,
                "each unit is 100000 accounts, about 15 MB; a million of them are 15 TB",
            ),
            labels: fields.value("labels"),
            annotations: fields.value("annotations"),
            pgbench: fields.value("pgbench"),
            postgresql: fields.value("postgresql"),
            guest: fields.value("guest"),
            vm: fields.value("vm"),
            primary: fields.value("primary"),
            replica: fields.value("replica"),
            service: fields.value("service"),
            network_policy: fields.value("network-policy"),
            kustomization: fields.value("kustomization"),
            credentials: fields.value("credentials"),
        };
        fields.finish();
        Some(config)
    }
}

/// Implements [`Value`] for a section: a mapping read key by key.
macro_rules! section {
    ($section:ty, |$fields:ident| $read:expr) => {
        impl Value for $section {
            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                let mut $fields = Fields::of(node, problems)?;
                let section = $read;
                $fields.finish();
                Some(section)
            }
        }
    };
}
pub(crate) use section;
