//! NetworkPolicy: who may reach the databases, and their clients.

use super::service::metrics_ports;
use super::{client_selector, metadata, selector};
use crate::document::Document;
use crate::names::{
    ETCD_CLIENT_PORT, ETCD_PEER_PORT, LEADER_PORT, POSTGRESQL_PORT, READINESS_PORT, STANDBYS_PORT,
};
use crate::plan::{FailoverPlan, Plan};
use crate::value::Cidr;
use crate::yaml::Yaml;

/// PostgreSQL from the namespace's pods and the given addresses; what nodes ask each other from the lab's own pods; metrics
/// from pods of all namespaces, because Prometheus is in one whose name and labels each cluster chooses, and they hold
/// nothing but names of nodes and figures; SSH from anywhere, because `virtctl ssh` comes from KubeVirt's own namespace. The readiness probe needs no rule: what comes
/// from the pod's own node is always let in.
pub fn database<'p>(plan: &'p Plan, allowed_clients: &[Cidr]) -> Document<'p> {
    let name = plan.names.lab().to_owned();
    let pods = map! { "podSelector" => map! {} };
    let blocks = allowed_clients.iter().map(|cidr| map! { "ipBlock" => map! { "cidr" => cidr } });
    let (clients, nodes): (&[u32], &[u32]) = match &plan.failover {
        FailoverPlan::Manual { .. } => (&[POSTGRESQL_PORT], &[READINESS_PORT]),
        // a Service leads to the ports of HAProxy, and pods are reached by what it leads to
        FailoverPlan::Patroni(_) => (
            &[POSTGRESQL_PORT, LEADER_PORT, STANDBYS_PORT],
            &[READINESS_PORT, ETCD_CLIENT_PORT, ETCD_PEER_PORT],
        ),
    };
    let lab = map! { "podSelector" => map! { "matchLabels" => selector(plan) } };
    let metrics = plan.metrics().map(|metrics| {
        let numbers: Vec<_> = metrics_ports(metrics).map(|(_, port)| port).collect();
        map! { "from" => list![map! { "namespaceSelector" => map! {} }], "ports" => ports(&numbers) }
    });
    let tree = map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "NetworkPolicy",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "spec" => map! {
            "podSelector" => map! { "matchLabels" => selector(plan) },
            "policyTypes" => list!["Ingress"],
            "ingress" => list![
                map! {
                    "from" => Yaml::items(std::iter::once(pods).chain(blocks)),
                    "ports" => ports(clients),
                },
                map! { "from" => list![lab], "ports" => ports(nodes) },
                metrics,
                map! { "ports" => ports(&[22]) },
            ],
        },
    };
    Document::new("NetworkPolicy", name, tree)
}

/// Nobody has to reach a client but its people.
pub fn client(plan: &Plan) -> Document<'_> {
    let name = plan.names.client_policy();
    let tree = map! {
        "apiVersion" => "networking.k8s.io/v1",
        "kind" => "NetworkPolicy",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "spec" => map! {
            "podSelector" => map! { "matchLabels" => client_selector(plan) },
            "policyTypes" => list!["Ingress"],
            "ingress" => list![map! { "ports" => ports(&[22]) }],
        },
    };
    Document::new("NetworkPolicy", name, tree)
}

/// The protocol is the default, but written: the list is replaced as a whole, so without it a client-side apply finds a
/// difference for ever, and a later server-side apply a conflict.
fn ports(ports: &[u32]) -> Yaml<'static> {
    Yaml::items(ports.iter().map(|port| map! { "protocol" => "TCP", "port" => *port }))
}
