//! Services: where writes go, where reads go, and a host name for each VM.

use super::{metadata, monitoring_metadata, selector};
use crate::document::Document;
use crate::names::{
    EXPORTER_PORT, LABEL_NODE, LABEL_ROLE, LEADER_PORT, METRICS_PORT, Node, POSTGRESQL_PORT, Role,
    STANDBYS_PORT,
};
use crate::plan::{FailoverPlan, MetricsPlan, Plan};
use crate::value::StandbyMode;
use crate::yaml::Yaml;

/// The Services of a lab.
pub fn all(plan: &Plan) -> impl Iterator<Item = Document<'_>> {
    std::iter::once(primary(plan))
        .chain(replicas(plan))
        .chain(std::iter::once(nodes(plan)))
        .chain(metrics(plan))
}

/// To the node that takes writes: the one that the config names, or under Patroni any ready one, whose HAProxy leads on.
fn primary(plan: &Plan) -> Document<'_> {
    let name = plan.names.primary_service();
    let on_nodes = plan.service.node_port;
    match &plan.failover {
        FailoverPlan::Manual { primary } => {
            let label = Some((LABEL_NODE, primary.label()));
            database(plan, name, label, Ports { target: POSTGRESQL_PORT, on_nodes })
        }
        FailoverPlan::Patroni(_) => {
            database(plan, name, node_role(), Ports { target: LEADER_PORT, on_nodes })
        }
    }
}

/// To the standbys, where there are some that answer. A selector cannot leave one VM out, so where more than one replica
/// is left beside a promoted one, it is every node.
fn replicas(plan: &Plan) -> Option<Document<'_>> {
    if plan.replica_count == 0 || plan.postgresql.standby_mode == StandbyMode::Warm {
        return None;
    }
    let name = plan.names.replicas_service();
    let role = |role: Role| Some((LABEL_ROLE, role.as_str().to_owned()));
    let (label, target) = match &plan.failover {
        FailoverPlan::Manual { primary: Node { role: Role::Primary, .. } } => {
            (role(Role::Replica), POSTGRESQL_PORT)
        }
        FailoverPlan::Manual { .. } if plan.replica_count == 1 => (role(Role::Primary), POSTGRESQL_PORT),
        FailoverPlan::Manual { .. } => (None, POSTGRESQL_PORT),
        FailoverPlan::Patroni(_) => (node_role(), STANDBYS_PORT),
    };
    Some(database(plan, name, label, Ports { target, on_nodes: plan.service.replicas_node_port }))
}

/// Every VM but the witness.
fn node_role() -> Option<(&'static str, String)> {
    Some((LABEL_ROLE, Role::Node.as_str().to_owned()))
}

/// Where port 5432 of a Service leads, and where it is reached from outside.
struct Ports {
    target: u32,
    on_nodes: Option<u32>,
}

/// Port 5432 of ready VMs, those with a label or all.
fn database<'p>(
    plan: &'p Plan,
    name: String,
    label: Option<(&'static str, String)>,
    ports: Ports,
) -> Document<'p> {
    let label = label.map(|(key, value)| (key.into(), value.into()));
    let target = (ports.target != POSTGRESQL_PORT).then_some(ports.target);
    let ranges = &plan.service.source_ranges;
    let ranges = (!ranges.is_empty()).then(|| Yaml::items(ranges.iter().map(Yaml::from)));
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "Service",
        "metadata" => metadata(plan, &name, None, &plan.annotations.service),
        "spec" => map! {
            "type" => plan.service.r#type,
            "externalTrafficPolicy" => plan.service.traffic_policy,
            "loadBalancerSourceRanges" => ranges,
            "ipFamilies" => families(plan),
            "ipFamilyPolicy" => plan.ip.policy,
            "selector" => selector(plan).with(label.into_iter()),
            "ports" => self::ports(target, ports.on_nodes),
        },
    };
    Document::new("Service", name, tree)
}

/// The VMs' subdomain: a host name for each, ready or not, because nodes that still start have to find each other.
fn nodes(plan: &Plan) -> Document<'_> {
    let name = plan.names.nodes_service();
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "Service",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "spec" => map! {
            "clusterIP" => "None",
            "publishNotReadyAddresses" => true,
            "ipFamilies" => families(plan),
            "ipFamilyPolicy" => plan.ip.policy,
            "selector" => selector(plan),
            "ports" => ports(None, None),
        },
    };
    Document::new("Service", name, tree)
}

/// Each VM with a database by its own address, ready or not: Prometheus asks them one by one, and those in trouble first of
/// all.
fn metrics(plan: &Plan) -> Option<Document<'_>> {
    let metrics = plan.metrics()?;
    let name = plan.names.metrics();
    // a witness has no database
    let label = plan.failover.patroni().and_then(|_| node_role());
    let label = label.map(|(key, value)| (key.into(), value.into()));
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "Service",
        "metadata" => monitoring_metadata(plan, &name, None),
        "spec" => map! {
            "clusterIP" => "None",
            "publishNotReadyAddresses" => true,
            "ipFamilies" => families(plan),
            "ipFamilyPolicy" => plan.ip.policy,
            "selector" => selector(plan).with(label.into_iter()),
            "ports" => Yaml::items(metrics_ports(metrics).map(|(name, port)| map! { "name" => name, "port" => port })),
        },
    };
    Some(Document::new("Service", name, tree))
}

/// Where nodes serve metrics: the names of the ports and their numbers.
pub(super) fn metrics_ports(metrics: &MetricsPlan) -> impl Iterator<Item = (&'static str, u32)> {
    let exporter = metrics.has_exporter.then_some(("postgres-exporter", EXPORTER_PORT));
    std::iter::once(("metrics", METRICS_PORT)).chain(exporter)
}

/// The first is the one of `clusterIP`, which stays as it is for the life of a Service.
fn families(plan: &Plan) -> Option<Yaml<'static>> {
    let families = &plan.ip.families;
    (!families.is_empty()).then(|| Yaml::items(families.iter().map(|family| Yaml::from(*family))))
}

fn ports(target: Option<u32>, on_nodes: Option<u32>) -> Yaml<'static> {
    list![map! {
        "name" => "postgresql",
        "port" => POSTGRESQL_PORT,
        "targetPort" => target,
        "nodePort" => on_nodes,
    }]
}
