//! `pgbench:` the load on the primary.

use super::fields::{Field, Fields, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::Protocol;

section! {
    /// The keys of `pgbench`.
    pub struct Pgbench {
        /// Connections that send transactions. Above one for each unit of scale they mostly wait for each other.
        #[whole(1..=5000, "connections", "each client is a connection, a process of the primary")]
        "clients" => clients: u32 {
            default: Words("the scale, at most 10"),
            example: "8",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Threads that drive the clients, at most as many as those.
        #[whole(1..=256, "threads", "each thread keeps a CPU of the primary busy")]
        "threads" => threads: u32 {
            default: Words("the clients, at most 2"),
            example: "4",
            with: "clients: 256",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds of one round. The history table is emptied between rounds, and at 512 MiB.
        #[whole(
            1..=86_400,
            "seconds",
            "seconds of one round, at most a day: the history table is emptied between rounds"
        )]
        "duration" => duration: u32 {
            default: Literal("300"),
            example: "600",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds between two rounds.
        #[whole(0..=86_400, "seconds", "seconds between two rounds, at most a day")]
        "pause" => pause: u32 {
            default: Literal("10"),
            example: "0",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Transactions a second, over all clients.
        #[whole(
            1..=1_000_000,
            "transactions a second",
            "transactions a second over all clients; leave it out for no limit"
        )]
        "rate" => rate: u32 {
            default: Words("as many as possible"),
            example: "200",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// How queries are sent (`pgbench -M`).
        "protocol" => protocol: Protocol {
            default: Literal("simple"),
            example: "prepared",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Partitions of the accounts table; 0 is a plain table.
        #[whole(0..=1000, "partitions", "0 is a plain table; planning time grows with each partition")]
        "partitions" => partitions: u32 {
            default: Literal("0"),
            example: "8",
            objects: &["ConfigMap"],
            change: Lab,
        }
    }
}
