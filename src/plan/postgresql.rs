//! The servers' settings: those that gen decides, and the user's own.

mod checks;
mod parameters;
mod patroni;
mod synchronous;

pub use synchronous::SynchronousPlan;

use super::LedgerPlan;
use super::sizing::SharedMemory;
use crate::config::Config;
use crate::config::fields::{Field, Involved};
use crate::config::postgresql::Postgresql;
use crate::diagnostic::{Code, Note, Problems};
use crate::value::{PgSize, StandbyMode};
use parameters::Settings;

/// Settings of the servers.
#[derive(Debug)]
pub struct PostgresqlPlan {
    /// WAL kept for followers without a slot.
    pub wal_keep_size: PgSize,
    /// The most WAL a slot holds back.
    pub max_slot_wal_keep_size: PgSize,
    /// WAL senders and replication slots.
    pub max_wal_senders: u32,
    /// Connections.
    pub max_connections: u32,
    /// Whether standbys answer queries.
    pub standby_mode: StandbyMode,
    /// What a commit waits for on standbys; none: for nothing.
    pub synchronous: Option<SynchronousPlan>,
    /// The user's other settings, in the order of the config.
    pub parameters: Vec<(String, String)>,
    /// WAL between two checkpoints.
    pub(super) max_wal_size: PgSize,
    /// Bytes of `shared_buffers`.
    pub(super) shared_buffers: u128,
    /// What the server shares beside them.
    pub(super) shared_memory: SharedMemory,
}

/// PostgreSQL's own `shared_buffers`, in bytes.
pub(super) const SHARED_BUFFERS: u128 = 128 << 20;

/// Connections beside pgbench's: superuser slots, the guest's own checks, people and monitoring.
const SPARE_CONNECTIONS: u32 = 30;

/// PostgreSQL's limit on all its processes (`MAX_BACKENDS`).
const MAX_PROCESSES: u32 = (1 << 18) - 1;

/// WAL senders of a lab of up to 30 replicas.
pub(super) const LEAST_WAL_SENDERS: u32 = 64;

pub(super) fn plan(
    config: &Config,
    replicas: u32,
    (clients, ledger): (u32, Option<&LedgerPlan>),
    is_patroni: bool,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> PostgresqlPlan {
    let section = config.postgresql.or_default();
    // each clone takes two senders; a value that does not change with each replica leaves the others alone
    let max_wal_senders = (2 * replicas + 4).max(LEAST_WAL_SENDERS).next_power_of_two();
    let wal_keep_size = config.wal_keep_size.or(PgSize::mib(256));
    // in the same steps, for clones that start together: 32MB for each sender
    let default_cap = PgSize::mib(32 * u64::from(max_wal_senders)).max(wal_keep_size);
    let max_slot_wal_keep_size = section.max_slot_wal_keep_size.or(default_cap);
    check_slot_cap(config, replicas, &section, max_slot_wal_keep_size, wal_keep_size, problems, notes);

    let parameters = section.parameters.or_default().0;
    let settings = Settings::read(&parameters, config, problems);
    checks::check(&settings, problems, notes);
    if is_patroni {
        patroni::check(config, &settings, problems);
    }
    let synchronous = synchronous::plan(config, replicas, is_patroni, &settings, problems, notes);
    let sessions = (clients, ledger.map_or(0, LedgerPlan::sessions));
    let (max_connections, processes) = processes(&settings, sessions, max_wal_senders, config, problems);

    let usual = SharedMemory::of(processes);
    let number = |name: &str, unit: u128| settings.number(name).map(|number| u128::from(number) * unit);
    let wal = ["max_wal_size", "min_wal_size"].into_iter().filter_map(|name| settings.number(name)).max();
    PostgresqlPlan {
        wal_keep_size,
        max_slot_wal_keep_size,
        max_wal_senders,
        max_connections,
        standby_mode: standby_mode(config, is_patroni, problems),
        synchronous,
        // PostgreSQL's own default is 1GB
        max_wal_size: PgSize::mib(wal.unwrap_or(0).max(1024).into()),
        shared_buffers: number("shared_buffers", 8 << 10).unwrap_or(SHARED_BUFFERS),
        shared_memory: SharedMemory {
            locks: settings.number("max_locks_per_transaction").unwrap_or(usual.locks),
            predicate_locks: settings
                .number("max_pred_locks_per_transaction")
                .unwrap_or(usual.predicate_locks),
            query_size: settings.number("track_activity_query_size").unwrap_or(usual.query_size),
            buffers: [
                ("wal_buffers", 8 << 10),
                ("min_dynamic_shared_memory", 1 << 20),
                ("wal_decode_buffer_size", 1),
            ]
            .into_iter()
            .filter_map(|(name, unit)| number(name, unit))
            .sum(),
            ..usual
        },
        parameters: parameters.into_iter().map(|(k, v)| (k.value.to_string(), v.value.0)).collect(),
    }
}

fn standby_mode(config: &Config, is_patroni: bool, problems: &mut Problems) -> StandbyMode {
    let field = config.postgresql.or_default().standby_mode;
    if is_patroni && field.get() == Some(&StandbyMode::Warm) {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(&field, "refuse connections"), (&config.failover, "asks them how far they are")],
            "standbys under Patroni are hot",
            "remove `postgresql.standby-mode`, or set `failover` to `manual`",
        );
    }
    field.or(StandbyMode::Hot)
}

/// What a clone moves while it runs: its base backup switches a segment, and so do those of its neighbours. Measured
/// with eight at once: 26 MB for each.
const CLONE_WAL_MIB: u64 = 32;

fn check_slot_cap(
    config: &Config,
    replicas: u32,
    section: &Postgresql,
    cap: PgSize,
    wal_keep_size: PgSize,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) {
    let given = &section.max_slot_wal_keep_size;
    if cap < wal_keep_size {
        problems.contradiction(
            Code::SlotWalBelowWalKeepSize,
            &[(given, "slots keep less"), (&config.wal_keep_size, "than is kept anyway")],
            format!("`postgresql.max-slot-wal-keep-size` {cap} is below `wal-keep-size` {wal_keep_size}"),
            format!("raise it to at least `{wal_keep_size}`, or leave it out"),
        );
    }
    let together = PgSize::mib(CLONE_WAL_MIB * u64::from(replicas));
    if given.is_present() && cap < together {
        let text = format!(
            "`max-slot-wal-keep-size` {cap} is little for {replicas} replicas: those that clone together push each \
             other over it and start again; `{together}` is enough"
        );
        notes.push(Note::new(Code::SlotWalSmallForClones, text));
    }
}

/// `max_connections`, and all processes that shared memory is laid out for.
fn processes(
    settings: &Settings,
    (clients, ledgers): (u32, u32),
    max_wal_senders: u32,
    config: &Config,
    problems: &mut Problems,
) -> (u32, u32) {
    let least = clients + ledgers + SPARE_CONNECTIONS;
    let number = |name: &str| settings.number(name);
    let max_connections = number("max_connections").unwrap_or(least.max(100));
    // PostgreSQL's own defaults; from 18 on the slots count, before them the workers
    let vacuum = number("autovacuum_worker_slots").or(number("autovacuum_max_workers")).unwrap_or(16);
    let workers = number("max_worker_processes").unwrap_or(8);
    let load = config.pgbench.or_default();
    // whichever opens more connections to one server, or both
    let is = |field: &Field<u32>| field.get() == Some(&clients);
    let (writers, readers) = match (is(&load.clients), is(&load.read_replicas)) {
        (_, true) => (Field::Absent, load.read_replicas),
        (true, false) => (load.clients, Field::Absent),
        (false, false) => (load.clients, load.read_replicas),
    };
    if max_connections < least {
        problems.contradiction(
            Code::TooFewConnections,
            &[
                (&settings.place("max_connections"), "too few"),
                (&writers, "the load's connections"),
                (&readers, "the load's connections"),
                (&config.client, "the ledgers' connections"),
            ],
            match ledgers {
                0 => format!("`max_connections` must leave room for {clients} pgbench clients"),
                _ => format!(
                    "`max_connections` must leave room for {clients} pgbench clients and {ledgers} sessions of ledgers"
                ),
            },
            format!("set it to at least `{least}`, or leave it out"),
        );
    }
    // two for the server's own (NUM_SPECIAL_WORKER_PROCS)
    let all = max_connections + max_wal_senders + vacuum + workers + 2;
    if all > MAX_PROCESSES {
        let names =
            ["max_connections", "max_worker_processes", "autovacuum_max_workers", "autovacuum_worker_slots"];
        let places = names.map(|name| settings.place(name));
        let mut keys: Vec<(&dyn Involved, &str)> =
            places.iter().map(|place| (place as _, "of this")).collect();
        keys.push((&config.replica_count, "with the WAL senders of these"));
        keys.push((&writers, "with the connections of these"));
        keys.push((&readers, "with the connections of these"));
        problems.contradiction(
            Code::TooManyProcesses,
            &keys,
            format!("PostgreSQL runs at most {MAX_PROCESSES} processes, this asks for {all}"),
            format!("ask for {} fewer", all - MAX_PROCESSES),
        );
    }
    // the usual workers are in what every server shares
    let beyond = workers.saturating_sub(8) + vacuum.saturating_sub(16);
    let prepared = number("max_prepared_transactions").unwrap_or(0);
    (max_connections, max_connections + max_wal_senders + prepared + beyond)
}
