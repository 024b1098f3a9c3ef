//! What the lab asks of disks and memory.

use super::pgbench::PgbenchPlan;
use super::postgresql::{LEAST_WAL_SENDERS, PostgresqlPlan, SHARED_BUFFERS};
use super::sizing;
use crate::config::Config;
use crate::config::fields::{Entries, Field};
use crate::config::pgbench::Pgbench;
use crate::config::postgresql::Postgresql;
use crate::value::{ParameterName, ParameterValue, Quantity};

/// The settings that disks and memory are sized by.
const SIZING: &[&str] = &[
    "autovacuum_max_workers",
    "autovacuum_worker_slots",
    "max_connections",
    "max_locks_per_transaction",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_size",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "min_wal_size",
    "shared_buffers",
    "track_activity_query_size",
    "wal_buffers",
    "wal_decode_buffer_size",
];

/// What tables, WAL and connections need, with the keys that say so.
pub(super) struct Needs<'c> {
    pub(super) config: &'c Config,
    pub(super) postgresql: Postgresql,
    pub(super) pgbench: Pgbench,
    /// Whether there are so many replicas that they raise the default of the slots' cap.
    pub(super) replicas_set_cap: bool,
    /// `postgresql.parameters`, where one of them takes part.
    pub(super) settings: Field<Entries<ParameterName, ParameterValue>>,
    pub(super) data_and_wal: u128,
    pub(super) data_only: u128,
    pub(super) wal_only: u128,
    pub(super) memory: u128,
    /// The same with PostgreSQL's own buffers and locks: the user's must not order a larger VM by themselves.
    memory_by_default: u128,
    /// The least memory and CPUs by default, in GiB.
    usual_gib: u64,
    pub(super) usual_cpus: u32,
    /// A witness has no database.
    pub(super) is_witness: bool,
}

/// etcd compacts what it keeps to some MiB; its write-ahead log and a snapshot come beside it.
const ETCD_DISK: u128 = 1 << 30;

impl<'c> Needs<'c> {
    pub(super) fn new(config: &'c Config, pgbench: &PgbenchPlan, postgresql: &PostgresqlPlan) -> Self {
        let wal = sizing::Wal {
            max_wal_size: postgresql.max_wal_size,
            retained: postgresql.max_slot_wal_keep_size.max(postgresql.wal_keep_size),
        };
        let shared = &postgresql.shared_memory;
        let settings = match postgresql.parameters.iter().any(|(name, _)| SIZING.contains(&name.as_str())) {
            true => config.postgresql.or_default().parameters,
            false => Field::Absent,
        };
        let section = config.postgresql.or_default();
        let replicas_set_cap =
            postgresql.max_wal_senders > LEAST_WAL_SENDERS && !section.max_slot_wal_keep_size.is_present();
        Self {
            config,
            postgresql: section,
            pgbench: config.pgbench.or_default(),
            replicas_set_cap,
            settings,
            data_and_wal: sizing::data_and_wal(pgbench.scale, wal),
            data_only: sizing::data_only(pgbench.scale),
            wal_only: sizing::wal_only(wal),
            memory: shared.guest(postgresql.shared_buffers),
            memory_by_default: sizing::SharedMemory::of(shared.processes).guest(SHARED_BUFFERS),
            usual_gib: 2,
            usual_cpus: 2,
            is_witness: false,
        }
    }

    /// What a witness needs, which runs etcd and nothing else.
    pub(super) fn of_witness(&self) -> Self {
        Self {
            postgresql: Postgresql::default(),
            pgbench: Pgbench::default(),
            settings: Field::Absent,
            data_and_wal: ETCD_DISK,
            memory: sizing::LEAST_MEMORY,
            memory_by_default: sizing::LEAST_MEMORY,
            usual_gib: 1,
            usual_cpus: 1,
            is_witness: true,
            ..*self
        }
    }

    /// The memory by default: 2 GiB, or what many replicas or clients need.
    pub(super) fn default_memory(&self) -> Quantity {
        Quantity::gib(
            u64::try_from(self.memory_by_default.div_ceil(1 << 30)).unwrap_or(u64::MAX).max(self.usual_gib),
        )
    }
}
