//! How large disks and memory must be.

use crate::value::{PgSize, Quantity};

const GIB: u128 = 1 << 30;
const MIB: u128 = 1 << 20;

/// A tenth of a disk stays free for the file system.
pub fn with_file_system(bytes: u128) -> u128 {
    (bytes * 10).div_ceil(9)
}

/// Measured: a unit of scale is 15 MiB and grows by half under load; `rows` are the ledgers'; 1 GiB is left for the rest of
/// the cluster.
fn tables(scale: u32, rows: u128) -> u128 {
    15 * MIB * u128::from(scale) * 3 / 2 + rows + GIB
}

/// WAL of a running server: two checkpoints' worth, and what is kept for others.
#[derive(Debug, Clone, Copy)]
pub struct Wal {
    /// The larger of `max_wal_size` and `min_wal_size`: so much is recycled rather than removed.
    pub max_wal_size: PgSize,
    /// The larger of `wal_keep_size` and `max_slot_wal_keep_size`.
    pub retained: PgSize,
}

impl Wal {
    fn bytes(self) -> u128 {
        2 * self.max_wal_size.bytes() + self.retained.bytes()
    }
}

/// The least data disk that holds tables and WAL.
pub fn data_and_wal(scale: u32, rows: u128, wal: Wal) -> u128 {
    with_file_system(tables(scale, rows) + wal.bytes())
}

/// The least data disk where the WAL has a disk of its own.
pub fn data_only(scale: u32, rows: u128) -> u128 {
    with_file_system(tables(scale, rows))
}

/// The least WAL disk.
pub fn wal_only(wal: Wal) -> u128 {
    with_file_system(wal.bytes())
}

/// With less the guest's package manager or PostgreSQL runs out of memory.
pub const LEAST_MEMORY: u128 = GIB;

/// What the server shares with all its processes from its start.
#[derive(Debug, Clone, Copy)]
pub struct SharedMemory {
    /// Connections, WAL senders, prepared transactions and the workers beyond the usual ones.
    pub processes: u32,
    /// `max_locks_per_transaction`.
    pub locks: u32,
    /// `max_pred_locks_per_transaction`.
    pub predicate_locks: u32,
    /// Bytes of `track_activity_query_size`.
    pub query_size: u32,
    /// Bytes that settings ask for by themselves: `wal_buffers` and the like.
    pub buffers: u128,
}

impl SharedMemory {
    /// That of a server whose settings are PostgreSQL's own, but for what counts its processes.
    pub const fn of(processes: u32) -> Self {
        Self { processes, locks: 64, predicate_locks: 64, query_size: 1024, buffers: 0 }
    }

    /// The least memory of a guest: `shared_buffers`, twice what the server shares for each process, and 256 MiB for
    /// the rest of the system. Measured with `postgres -C shared_memory_size` (15 to 18): 53 KiB for a process, each
    /// further lock of a transaction 400 bytes, a predicate lock 250.
    pub fn guest(&self, shared_buffers: u128) -> u128 {
        let usual = Self::of(0);
        let further = |number: u32, usual: u32, bytes: u32| {
            u128::from(number.saturating_sub(usual)) * u128::from(bytes)
        };
        let process = (53 << 10)
            + further(self.locks, usual.locks, 400)
            + further(self.predicate_locks, usual.predicate_locks, 250)
            + further(self.query_size, usual.query_size, 1);
        let shared = u128::from(self.processes) * process + 16 * MIB;
        (2 * shared + self.buffers + shared_buffers + 256 * MIB).max(LEAST_MEMORY)
    }
}

/// The need rounded up to a size people order: 10, 20, 50, 100, 200, 500Gi, 1, 2, 5Ti and so on.
pub fn round_up(bytes: u128) -> Quantity {
    let mut base: u64 = 10;
    loop {
        for factor in [1, 2, 5] {
            // past 500Gi the steps are 1, 2, 5 times powers of ten of Ti
            let gib = if base >= 1000 { base / 1000 * 1024 * factor } else { base * factor };
            if u128::from(gib) * GIB >= bytes {
                return Quantity::gib(gib);
            }
        }
        base *= 10;
    }
}

/// The need in whole GiB for a message.
pub fn in_gib(bytes: u128) -> String {
    format!("{}Gi", bytes.div_ceil(GIB))
}
