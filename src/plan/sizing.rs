//! How large the database disks must be.

use crate::value::{PgSize, Quantity};

const GIB: u128 = 1 << 30;
const MIB: u128 = 1 << 20;

/// Bytes that a disk must hold at least.
///
/// Measured: a unit of scale is 15 MiB and grows by half under load; 2 GiB are two times `max_wal_size`; 1 GiB is
/// left for the rest of the cluster; a tenth of the disk stays free for the file system.
fn with_file_system(bytes: u128) -> u128 {
    (bytes * 10).div_ceil(9)
}

fn tables(scale: u32) -> u128 {
    15 * MIB * u128::from(scale) * 3 / 2 + GIB
}

fn wal(retained: PgSize) -> u128 {
    2 * GIB + retained.bytes()
}

/// The least data disk that holds tables and WAL.
pub fn data_and_wal(scale: u32, retained: PgSize) -> u128 {
    with_file_system(tables(scale) + wal(retained))
}

/// The least data disk where the WAL has a disk of its own.
pub fn data_only(scale: u32) -> u128 {
    with_file_system(tables(scale))
}

/// The least WAL disk.
pub fn wal_only(retained: PgSize) -> u128 {
    with_file_system(wal(retained))
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
