//! How far the Services of the databases reach.

use super::IpPlan;
use crate::config::Config;
use crate::config::fields::{Field, Involved, Spanned};
use crate::config::service::Service;
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::value::{Cidr, ServiceType, StandbyMode, TrafficPolicy};
use std::ops::RangeInclusive;

/// The Services of the primary and the replicas.
#[derive(Debug)]
pub struct ServicePlan {
    /// `type`, where it is not the default.
    pub r#type: Option<ServiceType>,
    /// The primary's port on the nodes of the cluster.
    pub node_port: Option<u32>,
    /// The replicas'.
    pub replicas_node_port: Option<u32>,
    /// From where a load balancer takes connections; none: from anywhere.
    pub source_ranges: Vec<Cidr>,
    /// `externalTrafficPolicy`, where it is written.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// What API servers take if nobody tells them otherwise.
const USUAL_NODE_PORTS: RangeInclusive<u32> = 30_000..=32_767;

pub(super) fn plan(
    config: &Config,
    replica_count: u32,
    ip: &IpPlan,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> ServicePlan {
    let service = config.service.or_default();
    match service.r#type.or(ServiceType::ClusterIp) {
        ServiceType::ClusterIp => check_inside(&service, problems),
        exposed @ (ServiceType::NodePort | ServiceType::LoadBalancer) => {
            check_encryption(config, &service, exposed, problems);
            check_ports(config, &service, replica_count, problems, notes);
            check_source_ranges(&service, exposed, ip, problems);
            note_policy(config, &service, exposed, notes);
        }
    }
    ServicePlan {
        r#type: service.r#type.get().copied().filter(|of| *of != ServiceType::ClusterIp),
        node_port: service.node_port.get().copied(),
        replicas_node_port: service.replicas_node_port.get().copied(),
        source_ranges: values(&service.load_balancer_source_ranges),
        traffic_policy: service.external_traffic_policy.get().copied(),
    }
}

/// Whether clients of the databases are encrypted.
pub(super) fn is_encrypted(config: &Config) -> bool {
    super::tls::is_on(config)
}

fn values<T: Clone>(list: &Field<Vec<Spanned<T>>>) -> Vec<T> {
    list.or_default().into_iter().map(|item| item.value).collect()
}

/// Keys of exposed Services, of Services that are not.
fn check_inside(service: &Service, problems: &mut Problems) {
    let is_insecure = service.insecure.get() == Some(&true);
    let keys: [(&dyn Involved, bool); 5] = [
        (&service.node_port, true),
        (&service.replicas_node_port, true),
        (&service.load_balancer_source_ranges, true),
        (&service.external_traffic_policy, true),
        (&service.insecure, is_insecure),
    ];
    for (key, _) in keys.into_iter().filter(|(key, counts)| *counts && !matches!(key.place(), Ok(None))) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "for clients from outside"), (&service.r#type, "which does not let them in")],
            "the Services are reached from inside the cluster alone",
            "remove it, or set `service.type` to `NodePort` or `LoadBalancer`",
        );
    }
}

fn check_encryption(config: &Config, service: &Service, exposed: ServiceType, problems: &mut Problems) {
    let is_insecure = service.insecure.or(false);
    if is_encrypted(config) && is_insecure {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&service.insecure, "allows clear text, of which there is none")],
            "`service.insecure` stands beside `tls`, and every client is encrypted",
            "remove it",
        );
    } else if !is_encrypted(config) && !is_insecure {
        problems.contradiction(
            Code::ExposedWithoutTls,
            &[(&service.r#type, "to clients from outside"), (&service.insecure, "and not in clear")],
            format!("`{}` exposes the databases, and without `tls` their clients talk in clear", exposed.as_str()),
            "write `ClusterIP`; or set `tls` to `true`; or set `service.insecure` to `true` where nobody can listen between the \
             clients and the cluster",
        );
    }
}

fn check_ports(
    config: &Config,
    service: &Service,
    replica_count: u32,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) {
    let standby_mode = config.postgresql.or_default().standby_mode;
    let is_warm = standby_mode.get() == Some(&StandbyMode::Warm);
    if service.replicas_node_port.is_present() && (replica_count == 0 || is_warm) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&service.replicas_node_port, "of no Service"),
                match is_warm {
                    true => (&standby_mode, "standbys that answer no queries have none"),
                    false => (&config.replica_count, "there are none"),
                },
            ],
            "no Service leads to replicas that answer queries",
            "remove `service.replicas-node-port`",
        );
    }
    let ports = [&service.node_port, &service.replicas_node_port];
    if let [Some(primary), Some(replicas)] = ports.map(Field::get)
        && primary == replicas
    {
        problems.contradiction(
            Code::SameNodePort,
            &[(ports[1], "the replicas'"), (ports[0], "is the primary's")],
            format!("both Services would have the port {primary} on the nodes of the cluster"),
            "choose another port for one of them",
        );
    }
    for port in
        ports.into_iter().filter_map(Field::spanned).filter(|port| !USUAL_NODE_PORTS.contains(&port.value))
    {
        let text = format!(
            "`{}` is {}, and API servers take {} to {} unless they are told otherwise",
            port.path,
            port.value,
            USUAL_NODE_PORTS.start(),
            USUAL_NODE_PORTS.end()
        );
        notes.push(Note::new(Code::UnusualNodePort, text));
    }
}

fn check_source_ranges(service: &Service, exposed: ServiceType, ip: &IpPlan, problems: &mut Problems) {
    let ranges = &service.load_balancer_source_ranges;
    if exposed != ServiceType::LoadBalancer && ranges.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(ranges, "of a load balancer"), (&service.r#type, "and this is none")],
            "only a load balancer goes by `service.load-balancer-source-ranges`",
            "remove it and name the clients in `postgresql.allowed-clients`, or set `service.type` to `LoadBalancer`",
        );
        return;
    }
    let Some(list) = ranges.spanned() else { return };
    if list.value.is_empty() {
        let message = format!("`{}` is empty", list.path);
        problems.push(
            Diagnostic::new(Code::NoValue, list.span.clone(), message)
                .help("leave the key out to let any address in"),
        );
    }
    for (position, range) in list.value.iter().enumerate() {
        if let Some(first) = list.value[..position].iter().find(|earlier| earlier.value == range.value) {
            let message = format!("`{}` is listed twice", range.value);
            problems.push(
                Diagnostic::new(Code::ExclusiveKeys, range.span.clone(), message)
                    .mark(first.span.clone(), "first listed here")
                    .help("remove one of the two"),
            );
        }
        let family = range.value.family();
        if !ip.guests.has(family) {
            problems.contradiction(
                Code::OfAnotherIpFamily,
                &[(range, "nobody comes from there"), (&service.ip_families, "the families of the Services")],
                format!("`{}` is {}, which the Services do not have", range.value, family.as_str()),
                "remove it, or list both families in `service.ip-families`",
            );
        }
    }
}

/// The policy judges by the address that a packet has when it reaches the pod.
fn note_policy(config: &Config, service: &Service, exposed: ServiceType, notes: &mut Vec<Note>) {
    let clients = config.postgresql.or_default().allowed_clients.or_default();
    if !config.network_policy.or(true) {
        return;
    }
    let policy = service.external_traffic_policy.or(TrafficPolicy::Cluster);
    if !clients.is_empty() {
        let ranges = service.load_balancer_source_ranges.or_default();
        let meet = |range: &Cidr| clients.iter().any(|client| client.value.meets(range));
        if policy == TrafficPolicy::Local
            && !ranges.is_empty()
            && !ranges.iter().any(|range| meet(&range.value))
        {
            let text = "the load balancer lets in `service.load-balancer-source-ranges`, the NetworkPolicy \
                        `postgresql.allowed-clients`, and no address is in both";
            notes.push(Note::new(Code::NobodyInBothLists, text));
        }
        return;
    }
    let whose = match policy {
        TrafficPolicy::Cluster => {
            "which without `external-traffic-policy: Local` are those of the cluster's nodes, or of the load balancer"
        }
        TrafficPolicy::Local => "which keep their own address",
    };
    let text = format!(
        "`service.type: {}` exposes the databases, and the NetworkPolicy lets in nobody from outside: name the addresses of \
         clients in `postgresql.allowed-clients`, {whose}",
        exposed.as_str()
    );
    notes.push(Note::new(Code::ExposedToNobody, text));
}
