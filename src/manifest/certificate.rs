//! Certificate: what the WAL player shows to a Klio server, and what the servers of a lab show to their clients.

use super::{labels, metadata, player_labels, player_metadata};
use crate::document::Document;
use crate::plan::{CertificatePlan, ClientPlan, IssuerPlan, KlioPlan, Plan};
use crate::yaml::Yaml;

/// The client's certificate, where an issuer makes it. cert-manager leaves the Secret behind when the Certificate goes,
/// so that has labels to be found by.
pub fn wal_player<'p>(plan: &'p Plan, player: &'p KlioPlan) -> Option<Document<'p>> {
    let ClientPlan::Issuer { kind, name } = &player.client else { return None };
    let tree = map! {
        "apiVersion" => "cert-manager.io/v1",
        "kind" => "Certificate",
        "metadata" => player_metadata(plan, &plan.annotations.object),
        "spec" => map! {
            // who is allowed to send WAL of the cluster
            "commonName" => format!("klio@{}", player.cluster_name),
            "secretName" => plan.names.wal_player(),
            "secretTemplate" => map! { "labels" => player_labels(plan) },
            "usages" => list!["client auth"],
            "issuerRef" => map! { "name" => name.as_str(), "kind" => *kind, "group" => "cert-manager.io" },
        },
    };
    Some(Document::new("Certificate", plan.names.wal_player(), tree))
}

/// Those of the lab, where cert-manager makes them: one for all servers, and one for the role `replicator`.
pub fn tls(plan: &Plan) -> impl Iterator<Item = Document<'_>> {
    let issuer = plan.tls.as_ref().and_then(|tls| match &tls.source {
        CertificatePlan::CertManager(issuer) => Some((tls, issuer)),
        CertificatePlan::Derived | CertificatePlan::Secret { .. } => None,
    });
    issuer.into_iter().flat_map(|(tls, issuer)| {
        let replicator = tls
            .has_client_certificates
            .then(|| lab_certificate(plan, plan.names.replicator_tls(), issuer, Some("replicator")));
        std::iter::once(lab_certificate(plan, plan.names.tls(), issuer, None)).chain(replicator)
    })
}

/// That of a role, or of the servers.
fn lab_certificate<'p>(
    plan: &'p Plan,
    name: String,
    issuer: &'p IssuerPlan,
    role: Option<&'static str>,
) -> Document<'p> {
    let hours = |days: Option<u32>| days.map(|days| format!("{}h", days * 24));
    let names = |names: &'p [String]| {
        let is_wanted = role.is_none() && !names.is_empty();
        is_wanted.then(|| Yaml::items(names.iter().map(|name| Yaml::from(name.as_str()))))
    };
    let tree = map! {
        "apiVersion" => "cert-manager.io/v1",
        "kind" => "Certificate",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "spec" => map! {
            // issuers such as Vault's sign none without
            "commonName" => role.map_or_else(|| plan.names.primary_service(), str::to_owned),
            "dnsNames" => names(&issuer.dns_names),
            "ipAddresses" => names(&issuer.addresses),
            "duration" => hours(issuer.duration),
            "renewBefore" => hours(issuer.renew_before),
            "secretName" => name.clone(),
            "secretTemplate" => map! { "labels" => labels(plan, None) },
            "usages" => list!["digital signature", if role.is_some() { "client auth" } else { "server auth" }],
            // a new key for each certificate, as newer versions of cert-manager do anyway
            "privateKey" => map! { "algorithm" => "ECDSA", "size" => 256, "rotationPolicy" => "Always" },
            "issuerRef" => map! { "name" => issuer.name.as_str(), "kind" => issuer.kind, "group" => "cert-manager.io" },
        },
    };
    Document::new("Certificate", name, tree)
}
