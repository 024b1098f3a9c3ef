//! The load.

use crate::config::Config;
use crate::config::fields::Field;
use crate::diagnostic::{Code, Note, Problems};
use crate::value::Protocol;

/// The load on the primary.
#[derive(Debug)]
pub struct PgbenchPlan {
    /// Scale of the tables.
    pub scale: u32,
    /// Connections.
    pub clients: u32,
    /// Threads.
    pub threads: u32,
    /// Seconds of a round.
    pub duration: u32,
    /// Seconds between rounds.
    pub pause: u32,
    /// Transactions a second, unlimited when absent.
    pub rate: Option<u32>,
    /// How queries are sent.
    pub protocol: Protocol,
    /// Partitions of the accounts table.
    pub partitions: u32,
}

const DEFAULT_SCALE: u32 = 10;

pub(super) fn plan(config: &Config, problems: &mut Problems, notes: &mut Vec<Note>) -> PgbenchPlan {
    let section = config.pgbench.or_default();
    let scale = config.pgbench_scale.or(DEFAULT_SCALE);
    let clients = section.clients.or(scale.min(10));
    let threads = section.threads.or(clients.min(2));
    if threads > clients {
        let default: Field<u32> = Field::Absent;
        let of_scale = if section.clients.is_present() { &default } else { &config.pgbench_scale };
        problems.contradiction(
            Code::MoreThreadsThanClients,
            &[
                (&section.threads, "more threads"),
                (&section.clients, "than clients"),
                (of_scale, "sets the default of `pgbench.clients`"),
            ],
            format!("more pgbench threads ({threads}) than clients ({clients})"),
            format!("set `pgbench.threads` to at most `{clients}`"),
        );
    }
    if clients > scale {
        let text = format!(
            "{clients} pgbench clients on scale {scale}: above one client per unit of scale they mostly wait \
             for each other's row locks"
        );
        notes.push(Note::new(Code::MoreClientsThanScale, text));
    }
    PgbenchPlan {
        scale,
        clients,
        threads,
        duration: section.duration.or(300),
        pause: section.pause.or(10),
        rate: section.rate.get().copied(),
        protocol: section.protocol.or(Protocol::Simple),
        partitions: section.partitions.or(0),
    }
}
