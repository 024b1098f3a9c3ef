//! The load.

use crate::config::Config;
use crate::config::fields::{Field, Involved};
use crate::config::pgbench::Pgbench;
use crate::diagnostic::{Code, Note, Problems};
use crate::value::{LoadScript, LoadShape, Protocol, StandbyMode};

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
    /// What a lab with none of its keys has not.
    pub shaped: Option<ShapedPlan>,
}

impl PgbenchPlan {
    /// Connections of the load to any one server. Where the Service of the replicas may lead to the one that takes writes, both
    /// kinds of clients meet there, all of them when it is the only one left.
    pub(super) fn connections(&self, may_meet: bool) -> u32 {
        let readers = self.shaped.as_ref().and_then(|shaped| shaped.readers).unwrap_or(0);
        if may_meet { self.clients + readers } else { self.clients.max(readers) }
    }
}

/// How the load changes, what it does, and who reads beside it.
#[derive(Debug)]
pub struct ShapedPlan {
    /// How the rate changes.
    pub shape: LoadShape,
    /// Seconds of a period, which is a round; none where the rate does not change.
    pub period: Option<u32>,
    /// What a transaction does.
    pub script: LoadScript,
    /// Clients that read on the replicas.
    pub readers: Option<u32>,
}

const DEFAULT_SCALE: u32 = 10;
const DEFAULT_PERIOD: u32 = 600;

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
    check_shape(&section, problems);
    check_readers(config, &section, problems);
    let is_shaped = section.shape.or(LoadShape::Steady) != LoadShape::Steady;
    PgbenchPlan {
        scale,
        clients,
        threads,
        duration: section.duration.or(300),
        pause: section.pause.or(if is_shaped { 0 } else { 10 }),
        rate: section.rate.get().copied(),
        protocol: section.protocol.or(Protocol::Simple),
        partitions: section.partitions.or(0),
        shaped: shaped(&section, is_shaped),
    }
}

fn shaped(section: &Pgbench, is_shaped: bool) -> Option<ShapedPlan> {
    let shaped = ShapedPlan {
        shape: section.shape.or(LoadShape::Steady),
        period: is_shaped.then(|| section.period.or(DEFAULT_PERIOD)),
        script: section.script.or(LoadScript::Tpcb),
        readers: section.read_replicas.get().copied(),
    };
    let is_usual = !is_shaped && shaped.script == LoadScript::Tpcb && shaped.readers.is_none();
    (!is_usual).then_some(shaped)
}

fn check_shape(section: &Pgbench, problems: &mut Problems) {
    let shape = section.shape.or(LoadShape::Steady);
    if shape == LoadShape::Steady {
        // what was meant by a shape that is wrong is not known
        if section.period.is_present() && section.shape.place().is_ok() {
            problems.contradiction(
                Code::KeyWithoutEffect,
                &[(&section.period, "of a rate that changes"), (&section.shape, "and this one does not")],
                "`pgbench.period` is for a `shape` other than `steady`, whose rounds last `duration` seconds",
                "remove it, or set `pgbench.shape` to `burst`, `ramp` or `diurnal`",
            );
        }
        return;
    }
    if !section.rate.is_present() {
        problems.contradiction(
            Code::MissingKey,
            &[(&section.shape, "of which rate?")],
            format!(
                "`pgbench.shape` {} has no rate to begin from: `rate` is the most that it reaches",
                shape.as_str()
            ),
            "add `pgbench.rate`, the transactions of a second",
        );
    }
    if section.duration.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&section.duration, "of rounds that this shape does not have"),
                (&section.shape, "whose round is a period"),
            ],
            "`pgbench.duration` does nothing: a round of this shape is one period",
            "remove it; `pgbench.period` says how long a round is",
        );
    }
}

fn check_readers(config: &Config, section: &Pgbench, problems: &mut Problems) {
    if !section.read_replicas.is_present() {
        return;
    }
    if config.replica_count.get() == Some(&0) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&section.read_replicas, "would read on replicas"),
                (&config.replica_count, "and there are none"),
            ],
            "`pgbench.read-replicas` reads on the replicas, and the lab has none",
            "remove it, or ask for replicas",
        );
    }
    let standby_mode = config.postgresql.or_default().standby_mode;
    if standby_mode.get() == Some(&StandbyMode::Warm) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&section.read_replicas, "would read on replicas"),
                (&standby_mode, "which refuse connections"),
            ],
            "`pgbench.read-replicas` reads on the replicas, and warm standbys take no connections",
            "remove it, or have hot standbys",
        );
    }
}
