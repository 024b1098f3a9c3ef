//! `client:` machines outside of the database that keep account of what it acknowledged.

use super::fields::{Field, Fields, Value};
use super::keys::{Key, Shape, section};
use super::vm::Vm;
use crate::diagnostic::Problems;
use crate::node::Node;

section! {
    /// `client`: `{count, rate, …}`, and any key of `vm`.
    pub struct Client {
        /// Number of client VMs, each with a ledger of its own.
        #[whole(0..=16, "clients", "each keeps a few sessions of the primary busy")]
        "count" => count: u32 {
            default: Words("none"),
            example: "1",
            also: &["clients", "replicas"],
            objects: &["Secret", "ConfigMap", "NetworkPolicy", "DataVolume", "VirtualMachine"],
            change: Members,
        }
        /// Rows that each client commits in a second, through each path to the primary.
        #[whole(10..=1000, "commits", "with fewer a gap could not be told; with more it is a load and no measurement")]
        "rate" => rate: u32 {
            default: Literal("50"),
            example: "200",
            with: "count: 1",
            also: &["commits"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Reads of a second, through the Service of the replicas.
        #[whole(1..=100, "reads", "each asks a replica for the newest row that it has")]
        "read-rate" => read_rate: u32 {
            default: Literal("10"),
            example: "50",
            with: "count: 1",
            also: &["reads"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Rows of each path that stay in the database and on the client's disk; older ones are only counted.
        #[whole(10_000..=2_000_000, "rows", "all of them are compared with the database every minute")]
        "retain" => retain: u32 {
            default: Literal("500000"),
            example: "100000",
            with: "count: 1",
            also: &["retention", "window"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        ..vm: Vm
    }
}
