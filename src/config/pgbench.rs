//! `pgbench:` the load on the primary.

use super::fields::{Field, Fields, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{LoadScript, LoadShape, Protocol};

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
        /// How the rate changes. A `burst` lasts a fifth of the period, at `rate`, and the rest goes at a fifth of it; a `ramp`
        /// rises in ten steps; `diurnal` is a day of 24 steps from midnight on, whatever the period.
        "shape" => shape: LoadShape {
            default: Literal("steady"),
            example: "burst",
            with: "rate: 200",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds in which a shape other than `steady` comes once: they are its round.
        #[whole(120..=86_400, "seconds", "two minutes to a day: a shape has up to 24 steps, each a run of pgbench")]
        "period" => period: u32 {
            default: Literal("600"),
            example: "86400",
            with: "shape: diurnal, rate: 200",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// What a transaction does: `tpcb` reads and writes, `simple` the same without the tables that clients wait for each
        /// other at, `select` reads one account.
        "script" => script: LoadScript {
            default: Literal("tpcb"),
            example: "simple",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Clients that read accounts through the Service of the replicas, from the primary's VM, at the same rate and shape.
        #[whole(1..=5000, "connections", "each client is a connection, a process of a replica; leave it out for none")]
        "read-replicas" => read_replicas: u32 {
            default: Words("none"),
            example: "4",
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
            default: Words("10; of a shape other than `steady` 0"),
            example: "0",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Transactions a second, over all clients; of a shape the most that it reaches.
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
