//! `monitoring:` what is measured of replication, and who is told.

use super::fields::{Field, Fields, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;

section! {
    /// `monitoring`: a sampler on each node; the section alone is enough.
    pub struct Monitoring {
        /// Seconds between two lines of what was measured, in the journal of each node. Positions are sampled ten times
        /// a second whatever this says.
        #[whole(1..=60, "seconds", "a second to a minute")]
        "interval" => interval: u32 {
            default: Literal("1"),
            example: "5",
            with: "metrics: true",
            also: &["period"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Whether each node serves the same to Prometheus, at port 9188, with a ServiceMonitor. That is a kind of the
        /// Prometheus Operator, which the cluster has to have.
        "metrics" => metrics: bool {
            default: Words("`false`"),
            example: "true",
            with: "interval: 1",
            also: &["prometheus", "service-monitor"],
            objects: &["ConfigMap", "Service", "NetworkPolicy", "ServiceMonitor"],
            change: Restart,
        }
        /// Alerts, as a PrometheusRule; `{}` is all of them with the thresholds below.
        "rules" => rules: Rules { with: "metrics: true", also: &["alerts", "prometheus-rule"] }
        /// Whether a dashboard of Grafana is part of the bundle, in a ConfigMap with the label `grafana_dashboard`.
        "dashboard" => dashboard: bool {
            default: Literal("false"),
            example: "true",
            with: "metrics: true",
            also: &["grafana"],
            objects: &["ConfigMap"],
            change: Leftovers,
        }
        /// Whether each node also runs Debian's or Ubuntu's `prometheus-postgres-exporter`, which serves its own metrics
        /// at port 9187.
        "postgres-exporter" => postgres_exporter: bool {
            default: Literal("false"),
            example: "true",
            with: "metrics: true",
            with_lab: "guest: {image: \"quay.io/containerdisks/debian:13\"}",
            also: &["exporter"],
            objects: &["ConfigMap", "Service", "NetworkPolicy", "ServiceMonitor"],
            change: Restart,
        }
    }
}

section! {
    /// `monitoring.rules`: when somebody is alerted.
    pub struct Rules {
        /// Seconds that a replica may be behind.
        #[whole(1..=86_400, "seconds", "a second to a day; lag of more than a day is not measured")]
        "lag" => lag: u32 {
            default: Literal("30"),
            example: "10",
            with: "disconnected: 60",
            objects: &["PrometheusRule"],
            change: Apply,
        }
        /// Seconds that a replica may be away, or its receiver hear nothing.
        #[whole(15..=86_400, "seconds", "below 15 s a receiver that waits for its next message is taken for a dead one")]
        "disconnected" => disconnected: u32 {
            default: Literal("60"),
            example: "300",
            with: "lag: 30",
            objects: &["PrometheusRule"],
            change: Apply,
        }
        /// Percent of `postgresql.max-slot-wal-keep-size` that the slot of a replica may hold back.
        #[whole(1..=99, "percent", "at 100 the replica has lost its slot")]
        "slot-retention" => slot_retention: u32 {
            default: Literal("80"),
            example: "50",
            with: "lag: 30",
            objects: &["PrometheusRule"],
            change: Apply,
        }
    }
}
