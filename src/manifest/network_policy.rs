//! NetworkPolicy: who may reach the databases.

use super::{metadata, selector};
use crate::document::Document;
use crate::names::POSTGRESQL_PORT;
use crate::plan::Plan;
use crate::value::Cidr;
use crate::yaml::Yaml;

/// PostgreSQL from the namespace's pods and the given addresses; SSH from anywhere, because `virtctl ssh` comes from
/// KubeVirt's own namespace. The readiness probe needs no rule: what comes from the pod's own node is always let in.
pub fn database<'p>(plan: &'p Plan, allowed_clients: &[Cidr]) -> Document<'p> {
    let name = plan.names.lab().to_owned();
    let pods = map! { "podSelector" => map! {} };
    let blocks = allowed_clients.iter().map(|cidr| map! { "ipBlock" => map! { "cidr" => cidr } });
    let tree = map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "NetworkPolicy",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "spec" => map! {
            "podSelector" => map! { "matchLabels" => selector(plan, None) },
            "policyTypes" => list!["Ingress"],
            "ingress" => list![
                map! {
                    "from" => Yaml::items(std::iter::once(pods).chain(blocks)),
                    "ports" => port(POSTGRESQL_PORT),
                },
                map! { "ports" => port(22) },
            ],
        },
    };
    Document::new("NetworkPolicy", name, tree)
}

/// The protocol is the default, but written: the list is replaced as a whole, so without it a client-side apply finds a
/// difference for ever, and a later server-side apply a conflict.
fn port(port: u32) -> Yaml<'static> {
    list![map! { "protocol" => "TCP", "port" => port }]
}
