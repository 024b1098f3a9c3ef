//! Certificate: what the WAL player shows to a Klio server.

use super::{player_labels, player_metadata};
use crate::document::Document;
use crate::plan::{ClientPlan, KlioPlan, Plan};

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
