//! `service:` the Services in front of the databases, and the IP families of both.

use super::fields::{Entries, Field, Fields, Spanned, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    AnnotationKey, AnnotationValue, DomainName, IpAddress, IpFamily, IpFamilyPolicy, ServiceType,
};

section! {
    /// The keys of `service`.
    pub struct Service {
        /// Type of `<name>-primary` and `<name>-replicas`.
        "type" => r#type: ServiceType {
            default: Literal("ClusterIP"),
            example: "ClusterIP",
            change: Apply,
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
