//! The objects: one pure builder for each, named by what it builds.

pub mod certificate;
pub mod config_map;
pub mod data_volume;
pub mod job;
pub mod kustomization;
pub mod network_policy;
pub mod persistent_volume_claim;
pub mod prometheus_rule;
pub mod secret;
pub mod service;
pub mod service_monitor;
pub mod virtual_machine;

use crate::names::{
    CLIENT_COMPONENT, COMPONENT, LABEL_COMPONENT, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME, LABEL_NODE,
    LABEL_PART_OF, LABEL_ROLE, MONITORING_COMPONENT, Node, PLAYER_COMPONENT, Role,
};
use crate::plan::Plan;
use crate::yaml::{Key, Yaml};

/// `metadata` of an object with the annotations of its sort.
fn metadata<'p>(
    plan: &'p Plan,
    name: &str,
    node: Option<Node>,
    annotations: &'p [(String, String)],
) -> Yaml<'p> {
    map! {
        "name" => name.to_owned(),
        "namespace" => plan.namespace.as_deref(),
        "labels" => labels(plan, node),
        "annotations" => strings(annotations),
    }
}

/// `metadata` of an object of the WAL player; all have one name.
fn player_metadata<'p>(plan: &'p Plan, annotations: &'p [(String, String)]) -> Yaml<'p> {
    map! {
        "name" => plan.names.wal_player(),
        "namespace" => plan.namespace.as_deref(),
        "labels" => player_labels(plan),
        "annotations" => strings(annotations),
    }
}

/// `metadata` of what tells Prometheus and Grafana about the lab, with a label of its own where they look for one. A label of
/// the config that is called so stands in its place.
fn monitoring_metadata<'p>(
    plan: &'p Plan,
    name: &str,
    label: Option<(&'static str, &'static str)>,
) -> Yaml<'p> {
    let labels = labels_of(plan, "postgresql", MONITORING_COMPONENT, None);
    let further = label.filter(|(key, _)| plan.labels.iter().all(|(own, _)| own != key));
    let further = further.map(|(key, value)| (key.into(), value.into()));
    map! {
        "name" => name.to_owned(),
        "namespace" => plan.namespace.as_deref(),
        "labels" => labels.with(further),
        "annotations" => strings(&plan.annotations.object),
    }
}

/// The labels of every object, of the VMs' pods and of their disks.
fn labels(plan: &Plan, node: Option<Node>) -> Yaml<'_> {
    match node {
        // no Service and no policy of the databases selects it
        Some(Node { role: Role::Client, .. }) => labels_of(plan, "virtwork-ledger", CLIENT_COMPONENT, node),
        _ => labels_of(plan, "postgresql", COMPONENT, node),
    }
}

/// The labels of the WAL player, whose pod no Service and no policy of the databases selects.
fn player_labels(plan: &Plan) -> Yaml<'_> {
    labels_of(plan, "klio", PLAYER_COMPONENT, None)
}

fn labels_of<'p>(
    plan: &'p Plan,
    name: &'static str,
    component: &'static str,
    node: Option<Node>,
) -> Yaml<'p> {
    let ours = map! {
        LABEL_NAME => name,
        LABEL_INSTANCE => plan.names.lab(),
        LABEL_COMPONENT => component,
        LABEL_PART_OF => "virtwork",
        LABEL_MANAGED_BY => "virtwork-gen",
        LABEL_ROLE => node.map(|node| node.role.as_str()),
        LABEL_NODE => node.map(Node::label),
    };
    ours.with(entries(&plan.labels))
}

/// What selects the VMs of the lab, and nothing of another lab in the namespace.
fn selector(plan: &Plan) -> Yaml<'_> {
    map! { LABEL_INSTANCE => plan.names.lab(), LABEL_COMPONENT => COMPONENT }
}

/// What selects the clients of the lab.
fn client_selector(plan: &Plan) -> Yaml<'_> {
    map! { LABEL_INSTANCE => plan.names.lab(), LABEL_COMPONENT => CLIENT_COMPONENT }
}

/// A mapping of strings, where there are any.
fn strings(pairs: &[(String, String)]) -> Option<Yaml<'_>> {
    (!pairs.is_empty()).then(|| Yaml::entries(entries(pairs)))
}

fn entries(pairs: &[(String, String)]) -> impl Iterator<Item = (Key<'_>, Yaml<'_>)> {
    pairs.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()))
}
