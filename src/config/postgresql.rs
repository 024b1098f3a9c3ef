//! `postgresql:` settings of the servers.

use super::fields::{Entries, Field, Fields, Spanned, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    Cidr, ParameterName, ParameterValue, PgSize, StandbyMode, SynchronousCommit, SynchronousMethod,
};

section! {
    /// The keys of `postgresql`.
    pub struct Postgresql {
        /// Whether standbys answer queries (`hot`), or refuse connections until they are promoted (`warm`).
        "standby-mode" => standby_mode: StandbyMode {
            default: Literal("hot"),
            example: "warm",
            objects: &["ConfigMap", "Service"],
            change: Restart,
        }
        /// Which standbys a commit waits for.
        "synchronous" => synchronous: Synchronous {
            default: Words("none: a commit waits for no standby"),
            example: "any",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The most WAL that the slot of a replica that is away holds back, at least `wal-keep-size`.
        "max-slot-wal-keep-size" => max_slot_wal_keep_size: PgSize {
            default: Words("2GB up to 30 replicas, 4GB up to 62, 8GB up to 126 and so on; at least `wal-keep-size`"),
            example: "8GB",
            objects: &["ConfigMap", "DataVolume"],
            change: Room,
        }
        /// Any other settings, by PostgreSQL's own names and in its own units. They are checked against PostgreSQL 13
        /// to 18, or the one of the image.
        "parameters" => parameters: Entries<ParameterName, ParameterValue> {
            default: Literal("{}"),
            example: "{work_mem: 16MB, max_wal_size: 8GB}",
            objects: &["ConfigMap", "DataVolume"],
            change: Room,
        }
        /// Who reaches port 5432 beside the namespace's pods.
        "allowed-clients" => allowed_clients: Vec<Spanned<Cidr>> {
            default: Literal("[]"),
            example: "[192.0.2.0/24]",
            objects: &["NetworkPolicy"],
            change: Apply,
        }
    }
}

section! {
    /// `postgresql.synchronous`: a method, or `{method, count, commit}`.
    pub struct Synchronous or method {
        /// Any of the standbys, or the first of them that are there.
        "method" => method: SynchronousMethod {
            default: Literal("any"),
            example: "first",
            with: "count: 1",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// For how many of them. With fewer at hand commits wait (under Patroni they go on without).
        #[whole(1..=100, "standbys", "a commit waits for one standby at least, and every one more makes it slower")]
        "count" => count: u32 {
            default: Literal("1"),
            example: "2",
            with: "method: any",
            with_lab: "replica-count: 100",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Until its WAL is on their disks, with their operating systems, or replayed.
        "commit" => commit: SynchronousCommit {
            default: Literal("on"),
            example: "remote_apply",
            with: "method: any",
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}
