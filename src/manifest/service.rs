//! Services: the primary, the replicas, and a host name for each VM.

use super::{metadata, selector};
use crate::document::Document;
use crate::names::{POSTGRESQL_PORT, Role};
use crate::plan::Plan;
use crate::yaml::Yaml;

/// The Services of a lab.
pub fn all(plan: &Plan) -> impl Iterator<Item = Document<'_>> {
    let replicas = (plan.replica_count > 0).then(|| database(plan, Role::Replica));
    std::iter::once(database(plan, Role::Primary)).chain(replicas).chain(std::iter::once(nodes(plan)))
}

/// Port 5432 of the ready VMs of a role. It selects by the role a VM was created with and cannot follow a failover
/// inside the guests.
fn database(plan: &Plan, role: Role) -> Document<'_> {
    let name = match role {
        Role::Primary => plan.names.primary_service(),
        Role::Replica => plan.names.replicas_service(),
    };
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "Service",
        "metadata" => metadata(plan, &name, None, &plan.annotations.service),
        "spec" => map! {
            "ipFamilies" => families(plan),
            "ipFamilyPolicy" => plan.ip.policy,
            "selector" => selector(plan, Some(role)),
            "ports" => ports(),
        },
    };
    Document::new("Service", name, tree)
}

/// The VMs' subdomain: a host name for each, ready or not, because a replica must find a primary that still starts.
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
            "selector" => selector(plan, None),
            "ports" => ports(),
        },
    };
    Document::new("Service", name, tree)
}

/// The first is the one of `clusterIP`, which stays as it is for the life of a Service.
fn families(plan: &Plan) -> Option<Yaml<'static>> {
    let families = &plan.ip.families;
    (!families.is_empty()).then(|| Yaml::items(families.iter().map(|family| Yaml::from(*family))))
}

fn ports() -> Yaml<'static> {
    list![map! { "name" => "postgresql", "port" => POSTGRESQL_PORT }]
}
