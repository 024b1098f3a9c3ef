//! What was typed: the config file, key by key, with places and without defaults.

pub mod archive;
pub mod chaos_network;
pub mod client;
pub mod credentials;
pub mod example;
pub mod failover;
pub mod fields;
pub mod guest;
pub mod keys;
pub mod monitoring;
pub mod pgbench;
pub mod postgresql;
pub mod service;
pub mod tls;
pub mod upstream;
pub mod vm;
pub mod wal_player;

use crate::diagnostic::Problems;
use crate::document::KINDS;
use crate::node::{self, Node};
use crate::source::Source;
use crate::value::{
    AnnotationKey, AnnotationValue, LabName, LabelKey, LabelValue, Namespace, NodeName, PgSize,
};
use archive::{Archive, Restore};
use chaos_network::ChaosNetwork;
use client::Client;
use credentials::Credentials;
use failover::Failover;
use fields::{Entries, Field, Fields, Value};
use guest::Guest;
use keys::{Key, Shape, section};
use monitoring::Monitoring;
use pgbench::Pgbench;
use postgresql::Postgresql;
use service::Service;
use tls::Tls;
use upstream::Upstream;
use vm::Vm;
use wal_player::WalPlayer;

/// The most replicas of one lab.
pub const MAX_REPLICAS: u32 = 10_000;

/// The kinds of all objects.
const EVERY_KIND: &[&str] = &KINDS;

section! {
    /// The whole config file.
    pub struct Config {
        /// Prefix of the name of every object.
        "name" => name: LabName {
            default: Literal("virtwork-database-replication"),
            example: "db",
            objects: EVERY_KIND,
            change: Lab,
        }
        /// Namespace of every object.
        "namespace" => namespace: Namespace {
            default: Words("none is written, and the bundle goes to the current project"),
            example: "databases",
            objects: EVERY_KIND,
            change: Identity,
        }
        /// Number of replica VMs; 0 is a plain single-node database. More than 30 raise limits of every server.
        #[whole(
            0..=MAX_REPLICAS,
            "replicas",
            "`0` is a plain single-node database; no PostgreSQL can serve more than `10000` replicas"
        )]
        "replica-count" => replica_count: u32 {
            default: Literal("1"),
            example: "2",
            also: &["replicas"],
            objects: &["Secret", "ConfigMap", "Service", "DataVolume", "VirtualMachine"],
            change: Members,
        }
        /// WAL that every server keeps for followers without a slot.
        "wal-keep-size" => wal_keep_size: PgSize {
            default: Literal("256MB"),
            example: "8GB",
            also: &["wal-keep", "wal-keep-segments"],
            objects: &["ConfigMap", "DataVolume"],
            change: Room,
        }
        /// Scale of the pgbench tables: each unit is 100000 accounts, about 15 MB. Also sets how large the data disks
        /// are.
        #[whole(1..=1_000_000, "units", "each unit is 100000 accounts, about 15 MB; a million of them are 15 TB")]
        "pgbench-scale" => pgbench_scale: u32 {
            default: Literal("10"),
            example: "500",
            also: &["scale"],
            objects: &["ConfigMap", "DataVolume"],
            change: Lab,
        }
        /// The node that takes writes now, where somebody promoted another: `<name>-primary` leads to it.
        "primary-node" => primary_node: NodeName {
            default: Literal("primary-0"),
            example: "replica-0",
            objects: &["Service"],
            change: Apply,
        }
        /// Who decides which node takes writes. A lab changes it only by another name.
        "failover" => failover: Failover {
            default: Literal("manual"),
            example: "patroni",
            with: "guest: {image: \"quay.io/containerdisks/debian:13\"}, replica-count: 2",
            objects: &["Secret", "ConfigMap", "Service", "NetworkPolicy", "DataVolume", "VirtualMachine"],
            change: Lab,
        }
        /// Labels of every object, beside those that gen sets.
        "labels" => labels: Entries<LabelKey, LabelValue> {
            default: Literal("{}"),
            example: "{team: storage}",
            objects: EVERY_KIND,
            change: Restart,
        }
        /// Annotations of every object. Those of GitOps tools and of Kubernetes do not go on to pods.
        "annotations" => annotations: Entries<AnnotationKey, AnnotationValue> {
            default: Literal("{}"),
            example: "{example.com/owner: storage}",
            objects: EVERY_KIND,
            change: Restart,
        }
        /// The load on the primary.
        "pgbench" => pgbench: Pgbench {}
        /// The servers.
        "postgresql" => postgresql: Postgresql {}
        /// The operating system in the VMs.
        "guest" => guest: Guest {}
        /// The virtual machines and their disks.
        "vm" => vm: Vm {}
        /// What differs on the primary: any key of `vm`, over that of `vm`. Lists and mappings replace. An instancetype
        /// takes the place of CPUs, memory and preference, and the other way round.
        "primary" => primary: Vm { over: Some("vm"), example: "{memory: 4Gi}" }
        /// The same for the replicas.
        "replica" => replica: Vm { over: Some("vm"), example: "{storage-class: slow}" }
        /// The same for the witness, the third VM with etcd that a lab of two nodes has under `failover: patroni`.
        "witness" => witness: Vm {
            over: Some("vm"),
            example: "{storage-class: slow}",
            with: "failover: patroni, guest: {image: \"quay.io/containerdisks/debian:13\"}",
        }
        /// VMs outside of the database that keep account of what it acknowledged: docs/client.md. Any key of `vm` may stand here,
        /// too, such as `storage-class`; of `vm` itself they take where they run and what their disks are, not how large
        /// databases are.
        "client" => client: Client {}
        /// The Services in front of the databases.
        "service" => service: Service {}
        /// The primary of another site. With it this lab is a standby site, with the same `credentials` and another `name`: all its
        /// nodes are standbys, until it is promoted. See docs/two-sites.md.
        "upstream" => upstream: Upstream {}
        /// TLS between clients, servers and replicas: docs/tls.md.
        "tls" => tls: Tls {
            default: Words("none: connections are in clear"),
            example: "true",
            also: &["ssl"],
            objects: &["Secret", "ConfigMap", "VirtualMachine", "Certificate"],
            change: Restart,
        }
        /// What is measured of replication: a sampler on each node, and what Prometheus is told.
        "monitoring" => monitoring: Monitoring {}
        /// Whether a NetworkPolicy is part of the bundle. It lets in port 5432 from the namespace and
        /// `postgresql.allowed-clients`, SSH, metrics, and from the lab's own nodes the ports on which they ask each other.
        "network-policy" => network_policy: bool {
            default: Literal("true"),
            example: "false",
            objects: &["NetworkPolicy"],
            change: Leftovers,
        }
        /// Whether the bundle has the database: its VMs with all that belongs to them. `false` leaves the rest, such as
        /// a WAL player alone.
        "database" => database: bool {
            default: Literal("true"),
            example: "false",
            with: "wal-player: klio",
            objects: &["Secret", "ConfigMap", "Service", "NetworkPolicy", "DataVolume", "VirtualMachine"],
            change: Leftovers,
        }
        /// Whether a directory (`-o`) gets a `kustomization.yaml`, and what overlays need to know.
        "kustomization" => kustomization: bool {
            default: Literal("false"),
            example: "true",
        }
        /// Where the passwords come from, and the seed of certificates that nodes derive.
        "credentials" => credentials: Credentials {}
        /// Where WAL and base backups go: docs/archive.md.
        "archive" => archive: Archive {}
        /// An archive that this lab is made from, in place of a new database. Never over data: only a blank disk is restored to.
        "restore" => restore: Restore {}
        /// A bad network between the primary and its replicas, for WAL alone.
        "chaos-network" => chaos_network: ChaosNetwork {}
        /// A Job that measures what consumes WAL, with all that it needs.
        "wal-player" => wal_player: WalPlayer {
            default: Words("none"),
            example: "klio",
            objects: &["PersistentVolumeClaim", "Certificate", "ConfigMap", "Job"],
            change: Leftovers,
        }
    }
}

impl Config {
    /// Reads a config, reporting every fault of its text.
    pub fn read(source: &Source, problems: &mut Problems) -> Option<Self> {
        Value::read(&node::parse(&source.text, problems)?, problems)
    }
}
