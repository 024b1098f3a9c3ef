//! What Patroni makes of settings: it passes some to the server itself (`CMDLINE_OPTIONS` in its postgresql/config.py).

use super::parameters::Settings;
use crate::config::Config;
use crate::config::fields::Involved;
use crate::diagnostic::{Code, Problems};
use crate::value::{Meaning, PgSize};

/// Settings that Patroni replaces by its own default below its own bound: name, bound, default. No lab has so few
/// connections, senders and slots.
const BOUNDS: [(&str, u32, u32); 2] = [("max_locks_per_transaction", 32, 64), ("max_worker_processes", 2, 8)];

/// The same of `wal_keep_size`, in MB.
const LEAST_WAL_KEEP_SIZE: u64 = 16;

/// Settings that would not reach the servers of a lab under Patroni.
pub(super) fn check(config: &Config, settings: &Settings, problems: &mut Problems) {
    let mut refuse = |key: &dyn Involved, label, message: String, help: String| {
        let keys = [(key, label), (&config.failover, "because of this")];
        problems.contradiction(Code::PatroniSetting, &keys, message, help);
    };
    for (name, least, default) in BOUNDS {
        if let Some((value, Meaning::Number(number))) = settings.get(name)
            && *number < f64::from(least)
        {
            refuse(
                value,
                "below its bound",
                format!(
                    "under Patroni `{name}` is at least {least}: it would run the servers with {default}"
                ),
                format!("write at least `{least}`, or remove it"),
            );
        }
    }
    if config.wal_keep_size.get().is_some_and(|size| *size < PgSize::mib(LEAST_WAL_KEEP_SIZE)) {
        refuse(
            &config.wal_keep_size,
            "below its bound",
            format!(
                "under Patroni `wal-keep-size` is at least {LEAST_WAL_KEEP_SIZE}MB: it would run the servers with 128MB"
            ),
            format!("write at least `{LEAST_WAL_KEEP_SIZE}MB`"),
        );
    }
    if let Some((value, _)) = settings.get("cluster_name") {
        let message = "under Patroni `cluster_name` is the name of the lab".to_owned();
        refuse(value, "read by no server", message, "remove it".to_owned());
    }
}
