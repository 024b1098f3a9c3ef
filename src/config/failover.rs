//! `failover:` who decides which node takes writes.

use super::fields::{Field, Fields, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{FailoverMode, Watchdog};

section! {
    /// `failover`: a mode, or `{mode, ttl, …}`.
    pub struct Failover or mode {
        /// By hand, with `virtwork-promote` in a guest, or by Patroni with etcd on identical nodes.
        "mode" => mode: FailoverMode {
            default: Literal("manual"),
            example: "patroni",
            objects: &["Secret", "ConfigMap", "Service", "NetworkPolicy", "DataVolume", "VirtualMachine"],
            change: Lab,
        }
        /// Seconds until a leader that nobody hears of has lost its office. At least `loop-wait` and twice
        /// `retry-timeout`.
        #[whole(20..=600, "seconds", "Patroni takes no less than 20 seconds; with more than 600 nobody waits for it")]
        "ttl" => ttl: u32 {
            default: Literal("30"),
            example: "40",
            with: "mode: patroni",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds between two looks of Patroni at its node.
        #[whole(1..=60, "seconds", "Patroni looks once a second at the most, and once a minute at least")]
        "loop-wait" => loop_wait: u32 {
            default: Words("a third of `ttl`, at most 10"),
            example: "5",
            with: "mode: patroni, ttl: 100",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds for which Patroni tries again when etcd or PostgreSQL does not answer.
        #[whole(3..=100, "seconds", "Patroni takes no less than 3 seconds; twice this has to fit into `ttl`")]
        "retry-timeout" => retry_timeout: u32 {
            default: Words("half of what `loop-wait` leaves of `ttl`, at most 10"),
            example: "5",
            with: "mode: patroni, ttl: 300",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// What resets a node on which Patroni no longer runs while it leads: KubeVirt's i6300esb. Clusters of other
        /// architectures than amd64 refuse it; there it has to be `off`.
        "watchdog" => watchdog: Watchdog {
            default: Words(
                "`required` where the image is known to have its driver (Debian 13), else `automatic`; `off` with a \
                 preference for another architecture",
            ),
            example: "off",
            with: "mode: patroni",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Restart,
        }
    }
}
