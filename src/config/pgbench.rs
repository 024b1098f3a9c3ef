//! `pgbench:` the load on the primary.

use super::fields::{Field, Fields, Value};
use super::section;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::Protocol;

/// The keys of `pgbench`.
#[derive(Debug, Clone, Default)]
pub struct Pgbench {
    /// Connections that send transactions.
    pub clients: Field<u32>,
    /// Threads that drive them.
    pub threads: Field<u32>,
    /// Seconds of one round.
    pub duration: Field<u32>,
    /// Seconds between two rounds.
    pub pause: Field<u32>,
    /// Transactions a second; as many as possible when absent.
    pub rate: Field<u32>,
    /// How queries are sent.
    pub protocol: Field<Protocol>,
    /// Partitions of the accounts table; 0 is a plain table.
    pub partitions: Field<u32>,
}

section!(Pgbench, |fields| Self {
    clients: fields.integer("clients", 1..=5000, "each client is a connection, a process of the primary"),
    threads: fields.integer("threads", 1..=256, "each thread keeps a CPU of the primary busy"),
    duration: fields.integer(
        "duration",
        1..=86_400,
        "seconds of one round, at most a day: the history table is emptied between rounds"
    ),
    pause: fields.integer("pause", 0..=86_400, "seconds between two rounds, at most a day"),
    rate: fields.integer(
        "rate",
        1..=1_000_000,
        "transactions a second over all clients; leave it out for no limit"
    ),
    protocol: fields.value("protocol"),
    partitions: fields.integer(
        "partitions",
        0..=1000,
        "0 is a plain table; planning time grows with each partition"
    ),
});
