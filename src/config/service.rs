//! `service:` the Services in front of the databases, and the IP families of both.

use super::fields::{Entries, Field, Fields, Spanned, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    AnnotationKey, AnnotationValue, Cidr, DomainName, IpAddress, IpFamily, IpFamilyPolicy, ServiceType,
    TrafficPolicy,
};

section! {
    /// The keys of `service`.
    pub struct Service {
        /// Type of `<name>-primary` and `<name>-replicas`. Exposed at once; from their next start on, the guests know that another
        /// site may take over.
        "type" => r#type: ServiceType {
            default: Words("`ClusterIP`: inside the cluster"),
            example: "LoadBalancer",
            with: "insecure: true",
            objects: &["ConfigMap", "Service"],
            change: Restart,
        }
        /// Port of `<name>-primary` on each node of the cluster, with `NodePort` and `LoadBalancer`.
        #[whole(1..=65_535, "a port", "most API servers take 30000 to 32767 and refuse the rest")]
        "node-port" => node_port: u32 {
            default: Words("the cluster chooses one"),
            example: "30432",
            with: "type: NodePort, insecure: true",
            objects: &["Service"],
            change: Apply,
        }
        /// The same of `<name>-replicas`.
        #[whole(1..=65_535, "a port", "most API servers take 30000 to 32767 and refuse the rest")]
        "replicas-node-port" => replicas_node_port: u32 {
            default: Words("the cluster chooses one"),
            example: "30433",
            with: "type: NodePort, insecure: true",
            objects: &["Service"],
            change: Apply,
        }
        /// Addresses from which a `LoadBalancer` takes connections, where the cloud's can tell them apart.
        "load-balancer-source-ranges" => load_balancer_source_ranges: Vec<Spanned<Cidr>> {
            default: Words("any address"),
            example: "[198.51.100.0/24]",
            with: "type: LoadBalancer, insecure: true",
            also: &["source-ranges"],
            objects: &["Service"],
            change: Apply,
        }
        /// What an exposed Service does with clients from outside: `Cluster` leads them on from any node of the cluster, with
        /// that node's address, `Local` only from one that has such a VM, with their own.
        "external-traffic-policy" => external_traffic_policy: TrafficPolicy {
            default: Words("`Cluster`, which is Kubernetes' own"),
            example: "Local",
            with: "type: LoadBalancer, insecure: true",
            objects: &["Service"],
            change: Apply,
        }
        /// Whether the databases may be exposed without TLS: then passwords are safe from who listens, and rows are not.
        "insecure" => insecure: bool {
            default: Words("`false`: exposing takes `tls`"),
            example: "true",
            with: "type: LoadBalancer",
            objects: &["ConfigMap", "Service"],
            change: Restart,
        }
        /// Annotations of those two, over those of every object.
        "annotations" => annotations: Entries<AnnotationKey, AnnotationValue> {
            default: Literal("{}"),
            example: "{example.com/load-balancer: internal}",
            objects: &["Service"],
            change: Apply,
        }
        /// IP families of all Services, the first one first, and of the guests. `[IPv6]` is for pods that have no IPv4;
        /// pods with both need both.
        "ip-families" => ip_families: Vec<Spanned<IpFamily>> {
            default: Words("of Services the cluster's, of guests IPv4, or both with a dual-stack `ip-family-policy`"),
            example: "[IPv4, IPv6]",
            objects: &["Secret", "Service", "VirtualMachine"],
            change: Families,
        }
        /// How many IP families the Services have. With `PreferDualStack` and `RequireDualStack` the guests have both.
        "ip-family-policy" => ip_family_policy: IpFamilyPolicy {
            default: Words("`RequireDualStack` with two `ip-families`, else one family"),
            example: "PreferDualStack",
            objects: &["Secret", "Service", "VirtualMachine"],
            change: Families,
        }
        /// DNS servers of guests with IPv6. IPv6 alone needs them: the address of the cluster's DNS.
        "dns-servers" => dns_servers: Vec<Spanned<IpAddress>> {
            default: Words("what DHCP offers, which is nothing without IPv4"),
            example: "[\"fd00:10:96::a\"]",
            with: "ip-families: [IPv4, IPv6]",
            objects: &["Secret"],
            change: Root,
        }
        /// Domains in which such guests look for each other's names.
        "search-domains" => search_domains: Vec<Spanned<DomainName>> {
            default: Words("what DHCP offers; with IPv6 alone, and with `dns-servers` on RHEL and its kin, those of a \
                            pod of `namespace`, below `cluster.local`"),
            example: "[db-nodes.lab.svc.example.com, lab.svc.example.com]",
            with: "ip-families: [IPv4, IPv6], dns-servers: [\"fd00:10:96::a\"]",
            objects: &["Secret"],
            change: Root,
        }
    }
}
