//! ServiceMonitor: how Prometheus finds the nodes.

use super::monitoring_metadata;
use super::service::metrics_ports;
use crate::document::Document;
use crate::names::{LABEL_COMPONENT, LABEL_INSTANCE, MONITORING_COMPONENT};
use crate::plan::{MetricsPlan, Plan};
use crate::yaml::Yaml;

/// The ports of the Service of the same name. `job` and `endpoint`, by which the rules select, are then the names of
/// Service and port.
pub fn metrics<'p>(plan: &'p Plan, metrics: &'p MetricsPlan) -> Document<'p> {
    let name = plan.names.metrics();
    let endpoints = metrics_ports(metrics).map(|(port, _)| {
        map! { "port" => port, "interval" => "5s", "scrapeTimeout" => "4s" }
    });
    let tree = map! {
        "apiVersion" => "monitoring.coreos.com/v1",
        "kind" => "ServiceMonitor",
        "metadata" => monitoring_metadata(plan, &name, None),
        "spec" => map! {
            "selector" => map! {
                "matchLabels" => map! { LABEL_INSTANCE => plan.names.lab(), LABEL_COMPONENT => MONITORING_COMPONENT },
            },
            "endpoints" => Yaml::items(endpoints),
        },
    };
    Document::new("ServiceMonitor", name, tree)
}
