//! `wal-player:` what measures how fast somebody consumes WAL.

use super::fields::{Field, Fields, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    ClusterName, Endpoint, ImageReference, IssuerKind, ObjectName, PgSize, Quantity, Schedule, SecretKey,
    WalTarget,
};

/// Everything that the player has.
const ALL: &[&str] = &["PersistentVolumeClaim", "Certificate", "ConfigMap", "Job"];

section! {
    /// `wal-player`: a target, or `{target, wal-size, …}`.
    pub struct WalPlayer or target {
        /// Who consumes the WAL: `klio` is a Klio server, which keeps it for backups, `replication` are the replicas of this lab.
        "target" => target: WalTarget {
            default: Words("none: it has to be given"),
            example: "klio",
            objects: ALL,
            change: Leftovers,
        }
        /// Size of each WAL file, a power of two as PostgreSQL has it.
        "wal-size" => wal_size: PgSize {
            default: Literal("16MB"),
            example: "64MB",
            with: "target: klio",
            objects: &["PersistentVolumeClaim", "Job"],
            change: Run,
        }
        /// Number of WAL files that are made and sent, or written.
        #[whole(1..=100_000, "files", "each file is sent once and reported once")]
        "length" => length: u32 {
            default: Literal("100"),
            example: "1000",
            with: "target: klio",
            also: &["count", "files", "segments"],
            objects: &["PersistentVolumeClaim", "Job", "ConfigMap"],
            change: Run,
        }
        /// Files that are sent at the same time, each over a connection of its own, as by so many PostgreSQL clusters; of
        /// `replication` the sessions that write, at most 16.
        #[whole(1..=1024, "connections", "each sends one file after the other")]
        "jobs" => jobs: u32 {
            default: Literal("1"),
            example: "4",
            with: "target: klio, length: 1024",
            also: &["writers"],
            objects: &["Job", "ConfigMap"],
            change: Run,
        }
        /// What `replication` writes in a second, over all writers.
        "rate" => rate: PgSize {
            default: Words("as much as possible"),
            example: "8MB",
            with: "target: replication",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// What a good compression leaves of it, in percent. Its bytes are random and never come again; the rest are zeros.
        #[whole(1..=100, "percent", "100 does not compress at all")]
        "compressed-percent" => compressed_percent: u32 {
            default: Literal("100"),
            example: "40",
            with: "target: replication",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// When `replication` is played. What was played is noted in the data, so a new primary goes on from there.
        "schedule" => schedule: Schedule {
            default: Literal("manual"),
            example: "hourly",
            with: "target: replication",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds that a replica may take to have a segment on its disk.
        #[whole(1..=3600, "seconds", "a segment that takes longer is reported as an error")]
        "replica-timeout" => replica_timeout: u32 {
            default: Literal("60"),
            example: "300",
            with: "target: replication",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Size of the messages that a file is sent in.
        #[whole(1..=8192, "KiB", "Klio counts it in KiB, and takes no message over 8 MiB")]
        "block-size" => block_size: u32 {
            default: Literal("2048"),
            example: "8192",
            with: "target: klio",
            objects: &["Job"],
            change: Run,
        }
        /// Klio's image. It has the player at `/usr/bin/klio`, and `/usr/bin/find`.
        "image" => image: ImageReference {
            default: Literal("ghcr.io/cloudnative-pg/klio:v0.0.20"),
            example: "registry.example.com/klio:v0.0.20",
            with: "target: klio",
            objects: &["Job"],
            change: Run,
        }
        /// The Secret of the registry's login.
        "image-pull-secret" => image_pull_secret: ObjectName {
            default: Words("none"),
            example: "registry-login",
            with: "target: klio",
            objects: &["Job"],
            change: Run,
        }
        /// Where the server takes WAL, by a name that its certificate has.
        "server-address" => server_address: Endpoint {
            default: Literal("klio-server:52000"),
            example: "klio-server.backup:52000",
            with: "target: klio",
            also: &["address", "server"],
            objects: &["ConfigMap"],
            change: Run,
        }
        /// The Secret with the certificate that the server is trusted by.
        "server-secret" => server_secret: ServerSecret {
            default: Literal("klio-server-tls"),
            example: "backup-tls",
            with: "target: klio",
            objects: &["Job"],
            change: Run,
        }
        /// The issuer of cert-manager whose certificates the server takes from clients.
        #[instead_of(client_secret)]
        "issuer" => issuer: Issuer {
            default: Literal("klio-server-ca-issuer"),
            example: "backup-clients",
            with: "target: klio",
            objects: &["Certificate"],
            change: Run,
        }
        /// A Secret with a client's `tls.crt` and `tls.key`, made before the run, in place of a Certificate.
        #[instead_of(issuer)]
        "client-secret" => client_secret: ObjectName {
            default: Words("none"),
            example: "klio-client",
            with: "target: klio",
            objects: &["Certificate", "Job"],
            change: Run,
        }
        /// The PostgreSQL cluster as which the server keeps the files. It must be none that is backed up there: WAL of the
        /// same names would be overwritten.
        "cluster-name" => cluster_name: ClusterName {
            default: Words("`<name>-wal-player`"),
            example: "benchmark",
            with: "target: klio",
            objects: &["Certificate", "ConfigMap"],
            change: Run,
        }
        /// Size of the volume that the files are made on.
        "storage-size" => storage_size: Quantity {
            default: Words("what the files need"),
            example: "10Gi",
            with: "target: klio",
            objects: &["PersistentVolumeClaim"],
            change: Run,
        }
        /// StorageClass of the volume.
        "storage-class" => storage_class: ObjectName {
            default: Words("the cluster's"),
            example: "fast",
            with: "target: klio",
            objects: &["PersistentVolumeClaim"],
            change: Run,
        }
        /// Group that the volume is given to. OpenShift chooses one and refuses others; elsewhere most volumes need one,
        /// such as `26`, that of Klio's image.
        #[whole(1..=2_147_483_647, "by its number", "the number of a group; 0 is root's")]
        "fs-group" => fs_group: u32 {
            default: Words("none"),
            example: "26",
            with: "target: klio",
            objects: &["Job"],
            change: Run,
        }
        /// Seconds until a run is ended, from its start on, because a player that cannot connect may wait for ever.
        #[whole(60..=2_592_000, "seconds", "a minute to 30 days; making the files and waiting for a volume count")]
        "time-limit" => time_limit: u32 {
            default: Words("an hour, and two minutes for each GB of files"),
            example: "7200",
            with: "target: klio",
            also: &["timeout", "active-deadline-seconds"],
            objects: &["Job"],
            change: Apply,
        }
        /// Seconds after the end of a run until its Job is deleted, and with it the log that has the results.
        #[whole(60..=31_536_000, "seconds", "a minute to a year; leave it out to keep the results")]
        "delete-after" => delete_after: u32 {
            default: Words("never"),
            example: "86400",
            with: "target: klio",
            also: &["ttl", "ttl-seconds-after-finished"],
            objects: &["Job"],
            change: Apply,
        }
    }
}

section! {
    /// `wal-player.server-secret`: a name, or `{name, key}`.
    pub struct ServerSecret or name {
        /// Name of the Secret.
        "name" => name: ObjectName {
            default: Words("none: it has to be given"),
            example: "backup-tls",
            objects: &["Job"],
            change: Run,
        }
        /// Its key with the certificate, or with that of the authority which signed it.
        "key" => key: SecretKey {
            default: Literal("ca.crt"),
            example: "tls.crt",
            with: "name: backup-tls",
            objects: &["ConfigMap", "Job"],
            change: Run,
        }
    }
}

section! {
    /// `wal-player.issuer`: a name, or `{name, kind}`.
    pub struct Issuer or name {
        /// Name of the issuer.
        "name" => name: ObjectName {
            default: Words("none: it has to be given"),
            example: "backup-clients",
            objects: &["Certificate"],
            change: Run,
        }
        /// Its kind: of the namespace, or of the cluster.
        "kind" => kind: IssuerKind {
            default: Literal("Issuer"),
            example: "ClusterIssuer",
            with: "name: backup-clients",
            objects: &["Certificate"],
            change: Run,
        }
    }
}
