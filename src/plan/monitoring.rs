//! What is measured of replication, and who is told.

use super::Family;
use crate::config::Config;
use crate::config::fields::Involved;
use crate::config::monitoring::Rules;
use crate::diagnostic::{Code, Problems};

/// What every node measures.
#[derive(Debug)]
pub struct MonitoringPlan {
    /// Seconds between two lines in the journal.
    pub interval: u32,
    /// Who may ask for it.
    pub metrics: Option<MetricsPlan>,
}

/// What Prometheus is told.
#[derive(Debug)]
pub struct MetricsPlan {
    /// When it alerts somebody.
    pub rules: Option<RulesPlan>,
    /// Whether there is a dashboard.
    pub dashboard: bool,
    /// Whether nodes run the exporter of their distribution, too.
    pub has_exporter: bool,
}

/// Thresholds of the alerts.
#[derive(Debug)]
pub struct RulesPlan {
    /// Seconds that a replica may be behind.
    pub lag: u32,
    /// Seconds that it may be away.
    pub disconnected: u32,
    /// Percent of the limit that its slot may hold back.
    pub slot_retention: u32,
}

/// The package of the exporter, on Debian and Ubuntu.
pub(super) const EXPORTER_PACKAGE: &str = "prometheus-postgres-exporter";

pub(super) fn plan(
    config: &Config,
    replicas: u32,
    family: Family,
    problems: &mut Problems,
) -> Option<MonitoringPlan> {
    let section = config.monitoring.spanned()?;
    let monitoring = &section.value;
    let has_metrics = monitoring.metrics.or(false);
    let wants_exporter = monitoring.postgres_exporter.or(false);
    if !has_metrics {
        let of_metrics: [(&dyn Involved, bool); 3] = [
            (&monitoring.rules, monitoring.rules.is_present()),
            (&monitoring.dashboard, monitoring.dashboard.or(false)),
            (&monitoring.postgres_exporter, wants_exporter),
        ];
        for (key, _) in of_metrics.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            problems.contradiction(
                Code::KeyWithoutEffect,
                &[(key, "is for Prometheus"), (&monitoring.metrics, "which is told nothing")],
                "the key is about metrics, and `monitoring.metrics` is `false`",
                "set `monitoring.metrics` to `true`, or remove the key",
            );
        }
    }
    if replicas == 0 {
        check_thresholds(config, &monitoring.rules.or_default(), problems);
    }
    if wants_exporter && family == Family::Rpm {
        let guest = config.guest.or_default();
        problems.contradiction(
            Code::NoExporterPackage,
            &[
                (&monitoring.postgres_exporter as &dyn Involved, "has no package"),
                (&guest.image, "for this"),
                (&guest.os, "for this"),
            ],
            format!("the guest's distribution has no package `{EXPORTER_PACKAGE}`"),
            "remove `monitoring.postgres-exporter`, or choose an image of Debian or Ubuntu",
        );
    }
    let metrics = has_metrics.then(|| MetricsPlan {
        rules: monitoring.rules.get().map(|rules| RulesPlan {
            lag: rules.lag.or(30),
            disconnected: rules.disconnected.or(60),
            slot_retention: rules.slot_retention.or(80),
        }),
        dashboard: monitoring.dashboard.or(false),
        has_exporter: wants_exporter,
    });
    Some(MonitoringPlan { interval: monitoring.interval.or(1), metrics })
}

/// Without replicas there are the alerts about nodes alone, and these have no thresholds.
fn check_thresholds(config: &Config, rules: &Rules, problems: &mut Problems) {
    let thresholds: [&dyn Involved; 3] = [&rules.lag, &rules.disconnected, &rules.slot_retention];
    for key in thresholds.into_iter().filter(|key| !matches!(key.place(), Ok(None))) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "of replicas"), (&config.replica_count, "and there are none")],
            "the threshold is for alerts about replicas, and the lab has none",
            "remove it, or ask for replicas",
        );
    }
}
