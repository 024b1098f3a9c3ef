//! PrometheusRule: who is told of what. docs/monitoring.md has the same alerts as a table.

use super::monitoring_metadata;
use crate::document::Document;
use crate::plan::{Plan, RulesPlan};
use crate::yaml::Yaml;

struct Alert {
    name: &'static str,
    expr: String,
    /// Seconds that it has to hold; 0 where what it measures is a time already.
    lasting: u32,
    severity: &'static str,
    summary: String,
    description: String,
    runbook: &'static str,
}

/// The alerts of a lab. None is of a series that goes away with the fault it is to tell: what has gone is counted, or asked
/// for by `absent`. Names of labs are plain in PromQL.
pub fn replication<'p>(plan: &'p Plan, rules: &'p RulesPlan) -> Document<'p> {
    let name = plan.names.metrics();
    let alerts = alerts(plan, rules).into_iter().map(|alert| {
        map! {
            "alert" => alert.name,
            "expr" => alert.expr,
            "for" => (alert.lasting > 0).then(|| format!("{}s", alert.lasting)),
            "labels" => map! { "severity" => alert.severity, "lab" => plan.names.lab() },
            "annotations" => map! {
                "summary" => alert.summary,
                "description" => alert.description,
                "runbook" => alert.runbook,
            },
        }
    });
    let tree = map! {
        "apiVersion" => "monitoring.coreos.com/v1",
        "kind" => "PrometheusRule",
        "metadata" => monitoring_metadata(plan, &name, None),
        "spec" => map! {
            "groups" => list![map! { "name" => name.clone(), "rules" => Yaml::items(alerts) }],
        },
    };
    Document::new("PrometheusRule", name, tree)
}

fn alerts(plan: &Plan, rules: &RulesPlan) -> Vec<Alert> {
    let lab = plan.names.lab();
    let job = format!("job=\"{}\"", plan.names.metrics());
    let targets = format!("up{{{job}, endpoint=\"metrics\"}}");
    let (nodes, replicas) = (plan.databases().count(), plan.replica_count);
    let (lag, away, retention) = (rules.lag, rules.disconnected, rules.slot_retention);
    // a node that was primary keeps what it knew, and says that it is none
    let by_primary = format!("and on (namespace, node) virtwork_server_is_primary{{{job}}} == 1");
    // what a standby said before its server went down
    let by_server = format!("and on (namespace, node) virtwork_server_up{{{job}}} == 1");
    let mut alerts = vec![
        Alert {
            name: "VirtworkNodesMissing",
            expr: format!("count by (namespace) ({targets}) < {nodes} or absent({targets})"),
            lasting: 60,
            severity: "warning",
            summary: format!("Prometheus finds fewer nodes of the lab {lab} than its {nodes}"),
            description: "A VM is off, or was never made.".to_owned(),
            runbook: "Look which VM does not run: `oc get vmi`. A node that was stopped on purpose comes back with `virtctl start`.",
        },
        Alert {
            name: "VirtworkScrapeFails",
            expr: format!("{targets} == 0"),
            lasting: 60,
            severity: "warning",
            summary: "{{ $labels.pod }} does not serve its metrics".to_owned(),
            description: "The VM runs, and its port 9188 does not answer.".to_owned(),
            runbook: "In the guest: `systemctl status virtwork-monitor.socket virtwork-monitor.service`. If these run, look at \
                      what lies between: NetworkPolicies of the namespace, and where Prometheus comes from.",
        },
        Alert {
            name: "VirtworkServerDown",
            expr: format!("virtwork_server_up{{{job}}} == 0"),
            lasting: 30,
            severity: "critical",
            summary: "PostgreSQL of {{ $labels.node }} takes no connections".to_owned(),
            description: "The guest runs, its server does not; what it says of replicas is from before."
                .to_owned(),
            runbook: "In the guest: `virtwork-status`, then `journalctl -u 'virtwork-*' -u 'postgresql*'`.",
        },
        Alert {
            name: "VirtworkSamplerStale",
            expr: format!("virtwork_sample_age_seconds{{{job}}} > 30"),
            lasting: 0,
            severity: "warning",
            summary: "Nothing was measured on {{ $labels.node }} for {{ $value | humanizeDuration }}"
                .to_owned(),
            description: "The server took the sampler's connection and does not answer it.".to_owned(),
            runbook: "A server that is frozen, or whose disk does not answer: look at `dmesg` and at the processes of PostgreSQL \
                      in the guest.",
        },
        Alert {
            name: "VirtworkNoPrimary",
            expr: format!(
                "sum by (namespace) (virtwork_server_is_primary{{{job}}}) == 0 or absent(virtwork_server_is_primary{{{job}}})"
            ),
            lasting: 30,
            severity: "critical",
            summary: format!("No node of the lab {lab} takes writes"),
            description: "No node that serves metrics is a primary.".to_owned(),
            runbook: "`virtwork-status` on any node says what it knows. In a manual lab start the primary, or promote a replica \
                      (`virtwork-promote`); under Patroni see who is left of etcd.",
        },
        Alert {
            name: "VirtworkTwoPrimaries",
            expr: format!("sum by (namespace) (virtwork_server_is_primary{{{job}}}) > 1"),
            lasting: 30,
            severity: "critical",
            summary: format!("{{{{ $value }}}} nodes of the lab {lab} take writes"),
            description: "Their histories part, and each may have acknowledged what the other lacks."
                .to_owned(),
            runbook: "Stop the load. Keep both nodes' disks. `virtwork-status` on each says since when; `virtwork-rejoin` on the \
                      one that is to follow keeps its data aside.",
        },
    ];
    // there is none until it is promoted
    if plan.upstream.as_ref().is_some_and(|upstream| !upstream.promote) {
        alerts.retain(|alert| alert.name != "VirtworkNoPrimary");
    }
    if replicas == 0 {
        return alerts;
    }
    alerts.extend([
        Alert {
            name: "VirtworkReplicationLag",
            expr: format!("virtwork_replica_lag_seconds{{{job}}} > {lag} {by_primary}"),
            lasting: 0,
            severity: "warning",
            summary: "{{ $labels.replica }} is {{ $value | humanizeDuration }} behind".to_owned(),
            description: format!("What was written so long ago is not replayed there. The threshold is {lag} s."),
            runbook: "`virtwork_replica_lag_bytes` says where it waits: at `sent` on the primary or the link, at `flush` on the \
                      replica's disk, at `replay` on its replay. A replica that is being cloned is behind, too.",
        },
        Alert {
            name: "VirtworkReplicaDisconnected",
            expr: format!("virtwork_replica_connected{{{job}}} == 0 {by_primary}"),
            lasting: away,
            severity: "warning",
            summary: "{{ $labels.replica }} does not follow".to_owned(),
            description: format!("It has not answered the primary for {away} s; its slot holds WAL back."),
            runbook: "On the replica: `virtwork-status`, and the journal of `virtwork-setup` and `postgresql`.",
        },
        Alert {
            name: "VirtworkLagNotMeasured",
            expr: format!(
                "sum by (namespace) (virtwork_server_is_primary{{{job}}}) > 0 unless on (namespace) \
                 count by (namespace) (virtwork_replica_lag_seconds{{{job}}} {by_primary}) >= {replicas}"
            ),
            lasting: 60,
            severity: "warning",
            summary: format!("The primary does not tell the lag of all {replicas} replicas"),
            description: "There is a primary, and series of replicas are missing.".to_owned(),
            runbook: "The primary counts with fewer replicas than this rule: restart it after a change of `replica-count`.",
        },
        Alert {
            name: "VirtworkSlotNearLimit",
            expr: format!(
                "100 * virtwork_slot_retained_bytes{{{job}}} / on (namespace, node) group_left virtwork_slot_limit_bytes{{{job}}} \
                 > {retention} {by_primary}"
            ),
            lasting: 0,
            severity: "warning",
            summary: "The slot of {{ $labels.replica }} holds back {{ $value | humanize }} % of its limit".to_owned(),
            description: "At 100 % the replica loses its WAL and is cloned again.".to_owned(),
            runbook: "Bring the replica back, or raise `postgresql.max-slot-wal-keep-size` where the disk has room.",
        },
        Alert {
            name: "VirtworkSlotLost",
            expr: format!("virtwork_slot_status{{{job}, status=~\"lost|missing\"}} == 1 {by_primary}"),
            lasting: 30,
            severity: "critical",
            summary: "The slot of {{ $labels.replica }} is {{ $labels.status }}".to_owned(),
            description: "The primary does not keep what the replica needs.".to_owned(),
            runbook: "A replica that runs clones again by itself: its journal says so. One that is off does so at its next start.",
        },
        Alert {
            name: "VirtworkReplayPaused",
            expr: format!("virtwork_replay_paused{{{job}}} == 1 {by_server}"),
            lasting: 60,
            severity: "warning",
            summary: "{{ $labels.node }} receives and does not replay".to_owned(),
            description: "Replay is paused there.".to_owned(),
            runbook: "`SELECT pg_wal_replay_resume()` on it, unless somebody paused it on purpose. A setting that is lower than \
                      the primary's pauses, too: the server's log says so.",
        },
        Alert {
            name: "VirtworkReceiverStalled",
            expr: format!("virtwork_receiver_message_age_seconds{{{job}}} > {away} {by_server}"),
            lasting: 0,
            severity: "warning",
            summary: "{{ $labels.node }} has heard nothing of a primary for {{ $value | humanizeDuration }}".to_owned(),
            description: "Its receiver gets no message, or there is none.".to_owned(),
            runbook: "Its log says why it cannot connect: the primary is away, its password is another one, or WAL is missing.",
        },
    ]);
    alerts
}
