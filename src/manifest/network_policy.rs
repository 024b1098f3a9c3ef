//! NetworkPolicy: who may reach the databases.

use super::{Annotations, metadata, selector};
use crate::bundle::Document;
use crate::names::POSTGRESQL_PORT;
use crate::plan::Plan;
use crate::value::Cidr;
use crate::yaml::Yaml;

/// PostgreSQL from the namespace's pods and the given addresses; SSH from anywhere, because `virtctl ssh` comes from
/// KubeVirt's own namespace.
pub fn database(plan: &Plan, allowed_clients: &[Cidr]) -> Document {
    let name = plan.names.lab().to_owned();
    let pods = map! { "podSelector" => map! {} };
    let blocks = allowed_clients.iter().map(|cidr| map! { "ipBlock" => map! { "cidr" => cidr } });
    let tree = map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "NetworkPolicy",
        "metadata" => metadata(plan, &name, None, Annotations::default()),
        "spec" => map! {
            "podSelector" => map! { "matchLabels" => selector(plan, None) },
            "policyTypes" => list!["Ingress"],
            "ingress" => list![
                map! {
                    "from" => Yaml::items(std::iter::once(pods).chain(blocks)),
                    "ports" => list![map! { "port" => POSTGRESQL_PORT }],
                },
                map! { "ports" => list![map! { "port" => 22 }] },
            ],
        },
    };
    Document::new("NetworkPolicy", name, tree)
}
