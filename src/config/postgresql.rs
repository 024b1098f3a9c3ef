//! `postgresql:` settings of the servers.

use super::fields::{Entries, Field, Fields, Spanned, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{Cidr, ParameterName, ParameterValue, PgSize};

section! {
    /// The keys of `postgresql`.
    pub struct Postgresql {
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
