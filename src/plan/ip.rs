//! IP families, and what guests with IPv6 cannot learn from KubeVirt.
//!
//! Behind masquerade a guest has IPv4 by DHCP, with the pod's DNS servers and search domains. Of IPv6 KubeVirt's DHCPv6
//! offers the address alone, since 1.7 with DNS servers, never with search domains; it sends no router advertisement,
//! without which there is neither a default route nor, with networkd and NetworkManager, a DHCPv6 client at work
//! (pkg/network/dhcp). So a guest's IPv6 is static, and one without IPv4 has to be told of DNS.

use crate::config::Config;
use crate::config::fields::{Field, Involved, Spanned};
use crate::config::service::Service;
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::names::Names;
use crate::value::{IpFamily, IpFamilyPolicy, Os};

/// The IP families of a lab.
#[derive(Debug)]
pub struct IpPlan {
    /// `ipFamilies` of the Services, where they are written.
    pub families: Vec<IpFamily>,
    /// `ipFamilyPolicy` of the Services, where it is written.
    pub policy: Option<IpFamilyPolicy>,
    /// What the guests have.
    pub guests: GuestFamilies,
    /// DNS servers of the guests; none: what DHCP offers.
    pub dns_servers: Vec<String>,
    /// Search domains of the guests; none: what DHCP offers.
    pub search_domains: Vec<String>,
}

/// The IP families of the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestFamilies {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Both,
}

impl GuestFamilies {
    /// Whether the family is one of them.
    pub fn has(self, family: IpFamily) -> bool {
        match family {
            IpFamily::Ipv4 => self != Self::Ipv6,
            IpFamily::Ipv6 => self != Self::Ipv4,
        }
    }
}

/// The domain of nearly all clusters; KubeVirt assumes it, too.
const CLUSTER_DOMAIN: &str = "cluster.local";

pub(super) fn plan(config: &Config, names: &Names, os: Os, problems: &mut Problems) -> IpPlan {
    let service = config.service.or_default();
    let families = families(&service, problems);
    let policy = policy(&service, &families, problems);
    let guests = match (policy, families.as_slice()) {
        (Some(IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack), _) | (_, [_, _, ..]) => {
            GuestFamilies::Both
        }
        (_, [IpFamily::Ipv6]) => GuestFamilies::Ipv6,
        (_, [IpFamily::Ipv4] | []) => GuestFamilies::Ipv4,
    };
    check_dns(&service, guests, problems);
    IpPlan {
        dns_servers: texts(&service.dns_servers),
        search_domains: search_domains(config, &service, (guests, os), names, problems),
        families,
        policy,
        guests,
    }
}

fn families(service: &Service, problems: &mut Problems) -> Vec<IpFamily> {
    let families = service.ip_families.or_default();
    let twice = families.iter().enumerate().find_map(|(position, family)| {
        Some((family, families[..position].iter().find(|earlier| earlier.value == family.value)?))
    });
    if let Some((family, first)) = twice {
        let message = format!("`{}` is listed twice", family.value.as_str());
        problems.push(
            Diagnostic::new(Code::ConflictingIpFamilies, family.span.clone(), message)
                .mark(first.span.clone(), "first listed here")
                .help("remove one of the two"),
        );
    }
    refuse_empty(&service.ip_families, "leave the key out to get the family of the cluster", problems);
    refuse_empty(&service.dns_servers, "leave the key out to get what DHCP offers", problems);
    refuse_empty(&service.search_domains, "leave the key out to get what DHCP offers", problems);
    families.into_iter().map(|family| family.value).collect()
}

fn refuse_empty<T>(field: &Field<Vec<Spanned<T>>>, help: &str, problems: &mut Problems) {
    if let Some(spanned) = field.spanned().filter(|spanned| spanned.value.is_empty()) {
        let message = format!("`{}` is empty", spanned.path);
        problems.push(Diagnostic::new(Code::NoValue, spanned.span.clone(), message).help(help));
    }
}

/// The API server takes two families with no policy, which is `SingleStack`, as little as with that
/// (pkg/registry/core/service/storage/alloc.go); to one family a dual-stack policy adds the other.
fn policy(service: &Service, families: &[IpFamily], problems: &mut Problems) -> Option<IpFamilyPolicy> {
    let two = families.len() > 1;
    let policy = service.ip_family_policy.get().copied();
    if two && policy == Some(IpFamilyPolicy::SingleStack) {
        problems.contradiction(
            Code::ConflictingIpFamilies,
            &[(&service.ip_family_policy, "room for one family"), (&service.ip_families, "but here are two")],
            "`SingleStack` excludes a second IP family",
            "write `RequireDualStack`, or keep one family",
        );
    }
    let without_policy = two && !service.ip_family_policy.is_present();
    if without_policy { Some(IpFamilyPolicy::RequireDualStack) } else { policy }
}

fn check_dns(service: &Service, guests: GuestFamilies, problems: &mut Problems) {
    let (servers, domains) = (&service.dns_servers, &service.search_domains);
    match guests {
        GuestFamilies::Ipv4 => {
            for (present, key) in [(servers.is_present(), servers as _), (domains.is_present(), domains as _)]
            {
                if present {
                    problems.contradiction(
                        Code::KeyWithoutEffect,
                        &[(key, "nothing uses these"), (&service.ip_families, "because of this")],
                        "guests with IPv4 alone get their DNS by DHCP",
                        "remove the key, or list both families in `service.ip-families`",
                    );
                }
            }
        }
        GuestFamilies::Both => {
            let domains = domains.spanned().filter(|domains| !domains.value.is_empty());
            if let (Some(domains), false) = (domains, servers.is_present()) {
                // cloud-init 22.4 takes none without servers
                let message = "`service.search-domains` stands without DNS servers";
                problems.push(
                    Diagnostic::new(Code::MissingKey, domains.span.clone(), message)
                        .help("add `service.dns-servers` with the address of the cluster's DNS"),
                );
            }
        }
        GuestFamilies::Ipv6 => {
            for server in servers.or_default().iter().filter(|server| !guests.has(server.value.family())) {
                let message = format!("guests with IPv6 alone cannot ask {}", server.value);
                problems.contradiction(
                    Code::OfAnotherIpFamily,
                    &[(server, "an IPv4 address"), (&service.ip_families, "the guests' family")],
                    message,
                    "remove it, and name the cluster's DNS by its IPv6 address",
                );
            }
            if let (Some(families), false) = (service.ip_families.spanned(), servers.is_present()) {
                let message = "guests with IPv6 alone need `service.dns-servers`: no DHCP tells them of one";
                problems.push(Diagnostic::new(Code::MissingKey, families.span.clone(), message).help(
                    "add it with the address of the cluster's DNS, the IP of the Service `kube-dns` in `kube-system`, or \
                     `dns-default` in `openshift-dns`; where pods have IPv4, too, list both families",
                ));
            }
        }
    }
}

/// Those of the config; for guests whom DHCP tells of none otherwise those that it would offer, the subdomain's first.
fn search_domains(
    config: &Config,
    service: &Service,
    (guests, os): (GuestFamilies, Os),
    names: &Names,
    problems: &mut Problems,
) -> Vec<String> {
    let untold: Option<(&dyn Involved, _)> = match guests {
        GuestFamilies::Ipv6 => {
            Some((&service.ip_families, "guests with IPv6 alone need `namespace`: KubeVirt tells them no"))
        }
        GuestFamilies::Both if !service.dns_servers.or_default().is_empty() && loses_domains_of_dhcp(os) => {
            Some((
                &service.dns_servers,
                "guests with these need `namespace`: cloud-init would have them forget DHCP's",
            ))
        }
        GuestFamilies::Both | GuestFamilies::Ipv4 => None,
    };
    let Some((because, message)) = untold.filter(|_| !service.search_domains.is_present()) else {
        return texts(&service.search_domains);
    };
    let Some(namespace) = config.namespace.get() else {
        if let (Ok(Some(span)), false) = (because.place(), config.namespace.is_present()) {
            let message = format!("{message} search domains, in which they find each other's names");
            problems.push(Diagnostic::new(Code::MissingKey, span, message).help(format!(
                "add `namespace`; where the cluster's domain is not `{CLUSTER_DOMAIN}`, also `service.search-domains`"
            )));
        }
        return Vec::new();
    };
    vec![
        format!("{}.{namespace}.svc.{CLUSTER_DOMAIN}", names.nodes_service()),
        format!("{namespace}.svc.{CLUSTER_DOMAIN}"),
        format!("svc.{CLUSTER_DOMAIN}"),
        CLUSTER_DOMAIN.to_owned(),
    ]
}

/// With a DNS server in network data, cloud-init's writer of sysconfig's files has NetworkManager leave DNS alone, and writes
/// a resolv.conf of its own (cloudinit/net/sysconfig.py). Fedora has no such files any more.
fn loses_domains_of_dhcp(os: Os) -> bool {
    matches!(os, Os::CentosStream | Os::Rhel | Os::Almalinux)
}

fn texts<T: ToString + Clone>(field: &Field<Vec<Spanned<T>>>) -> Vec<String> {
    field.or_default().iter().map(|item| item.value.to_string()).collect()
}
