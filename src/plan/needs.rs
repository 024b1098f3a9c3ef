//! What the lab asks of disks and memory.

use super::client::LedgerPlan;
use super::pgbench::PgbenchPlan;
use super::postgresql::{LEAST_WAL_SENDERS, PostgresqlPlan, SHARED_BUFFERS};
use super::sizing;
use crate::config::Config;
use crate::config::fields::{Entries, Field};
use crate::config::pgbench::Pgbench;
use crate::config::postgresql::Postgresql;
use crate::value::{ParameterName, ParameterValue, PgSize, Quantity};

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
    /// `archive.max-pending-wal`.
    pub(super) max_pending_wal: Field<PgSize>,
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
    /// What runs in the place of a database, and the usual size of its disk.
    pub(super) instead: Option<Instead>,
}

/// What runs on a VM without database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instead {
    /// In a message about memory and disks.
    pub(super) name: &'static str,
    /// The usual size of its disk in GiB.
    pub(super) disk: u64,
}

/// etcd compacts what it keeps to some MiB; its write-ahead log and a snapshot come beside it.
const ETCD_DISK: u128 = 1 << 30;

/// A ledger's file of the most rows that are kept, twice: those of a database that is gone are kept once.
const LEDGER_DISK: u128 = 1 << 30;

impl<'c> Needs<'c> {
    pub(super) fn new(
        config: &'c Config,
        pgbench: &PgbenchPlan,
        postgresql: &PostgresqlPlan,
        ledger: Option<&LedgerPlan>,
        pending: Option<PgSize>,
    ) -> Self {
        let wal = sizing::Wal {
            max_wal_size: postgresql.max_wal_size,
            // what waits for an archive, for a slot or for nobody is the newest WAL each time
            retained: postgresql
                .max_slot_wal_keep_size
                .max(postgresql.wal_keep_size)
                .max(pending.unwrap_or(postgresql.wal_keep_size)),
        };
        let rows = ledger.map_or(0, LedgerPlan::bytes);
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
            max_pending_wal: config.archive.or_default().max_pending_wal,
            replicas_set_cap,
            settings,
            data_and_wal: sizing::data_and_wal(pgbench.scale, rows, wal),
            data_only: sizing::data_only(pgbench.scale, rows),
            wal_only: sizing::wal_only(wal),
            memory: shared.guest(postgresql.shared_buffers),
            memory_by_default: sizing::SharedMemory::of(shared.processes).guest(SHARED_BUFFERS),
            usual_gib: 2,
            usual_cpus: 2,
            instead: None,
        }
    }

    /// What a witness needs, which runs etcd and nothing else.
    pub(super) fn of_witness(&self) -> Self {
        self.without_database(Instead { name: "etcd", disk: 2 }, ETCD_DISK)
    }

    /// What a client needs.
    pub(super) fn of_client(&self) -> Self {
        self.without_database(Instead { name: "the ledger", disk: 2 }, LEDGER_DISK)
    }

    fn without_database(&self, instead: Instead, disk: u128) -> Self {
        Self {
            postgresql: Postgresql::default(),
            pgbench: Pgbench::default(),
            max_pending_wal: Field::Absent,
            settings: Field::Absent,
            data_and_wal: disk,
            memory: sizing::LEAST_MEMORY,
            memory_by_default: sizing::LEAST_MEMORY,
            usual_gib: 1,
            usual_cpus: 1,
            instead: Some(instead),
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
