//! Machines outside of the database, and their ledgers.

use crate::config::Config;
use crate::config::fields::Involved;
use crate::config::vm::Vm;
use crate::diagnostic::{Code, Problems};
use crate::value::StandbyMode;

/// Paths to the primary through which a ledger commits.
const PATHS: u32 = 2;

/// A session is trusted with so many commits of a second.
const OF_ONE_SESSION: u32 = 50;

/// A row with its index; as much again is what was deleted and not yet vacuumed.
const ROW: u64 = 2 * 140;

/// The ledgers of a lab.
#[derive(Debug)]
pub struct LedgerPlan {
    /// How many clients there are.
    pub count: u32,
    /// Commits of a second and path.
    pub rate: u32,
    /// Reads of a second; none where no Service leads to replicas.
    pub read_rate: u32,
    /// Rows of each path that are kept.
    pub retain: u32,
}

impl LedgerPlan {
    /// The sessions of all of them: those that write, one that reads and one that compares.
    pub fn sessions(&self) -> u32 {
        self.count * (PATHS * self.rate.div_ceil(OF_ONE_SESSION) + 2)
    }

    /// What their rows take in the database.
    pub fn bytes(&self) -> u128 {
        let rows = u64::from(self.count * PATHS) * u64::from(self.retain);
        u128::from(rows * ROW)
    }
}

pub(super) fn plan(config: &Config, replicas: u32, problems: &mut Problems) -> Option<LedgerPlan> {
    let client = config.client.or_default();
    let count = client.count.or(0);
    if count == 0 {
        check_none(config, problems);
        return None;
    }
    let standby_mode = config.postgresql.or_default().standby_mode;
    let is_warm = standby_mode.get() == Some(&StandbyMode::Warm);
    if client.read_rate.is_present() && (replicas == 0 || is_warm) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&client.read_rate, "reads on replicas"),
                match is_warm {
                    true => (&standby_mode, "and these answer no queries"),
                    false => (&config.replica_count, "of which there are none"),
                },
            ],
            "no Service leads to replicas that answer queries",
            "remove `client.read-rate`",
        );
    }
    let read_rate = if replicas == 0 || is_warm { 0 } else { client.read_rate.or(10) };
    Some(LedgerPlan { count, rate: client.rate.or(50), read_rate, retain: client.retain.or(500_000) })
}

/// Keys that say something of clients, where there are none.
fn check_none(config: &Config, problems: &mut Problems) {
    let client = config.client.or_default();
    let Vm {
        cpu_cores,
        memory,
        instancetype,
        preference,
        data_disk_size,
        wal_disk_size,
        storage_class,
        access_modes,
        volume_mode,
        node_selector,
        tolerations,
        anti_affinity,
        run_strategy,
        dedicated_io_thread,
        block_multiqueue,
        network_multiqueue,
        io_threads_policy,
    } = &client.vm;
    let keys: [&dyn Involved; 20] = [
        &client.rate,
        &client.read_rate,
        &client.retain,
        cpu_cores,
        memory,
        instancetype,
        preference,
        data_disk_size,
        wal_disk_size,
        storage_class,
        access_modes,
        volume_mode,
        node_selector,
        tolerations,
        anti_affinity,
        run_strategy,
        dedicated_io_thread,
        block_multiqueue,
        network_multiqueue,
        io_threads_policy,
    ];
    for key in keys.into_iter().filter(|key| !matches!(key.place(), Ok(None))) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "of no VM"), (&client.count, "because of this")],
            "the key is about clients, and there are none",
            "remove it, or set `client.count` to `1`",
        );
    }
}
