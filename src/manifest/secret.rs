//! Secrets: the passwords, and the user-data of each role.

use super::metadata;
use crate::document::Document;
use crate::guest::Guest;
use crate::names::{CA_SEED_KEY, CLIENT_KEY, REPLICATION_KEY, Role};
use crate::plan::Plan;
use crate::secrets::Passwords;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The passwords, attached to every VM as a disk.
pub fn credentials<'p>(plan: &'p Plan, passwords: &Passwords) -> Document<'p> {
    let name = plan.names.credentials();
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "Secret",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "data" => map! {
            REPLICATION_KEY => passwords
                .replication()
                .filter(|_| plan.needs_replication_password())
                .map(|password| STANDARD.encode(password)),
            CLIENT_KEY => STANDARD.encode(passwords.client()),
            CA_SEED_KEY => passwords.ca_seed().filter(|_| plan.needs_ca_seed()).map(|seed| STANDARD.encode(seed)),
        },
    };
    Document::new("Secret", name, tree).with_passwords()
}

/// The user-data of a role, and the network data where the guest's family needs it. Inline user-data ends at 2048
/// bytes; a Secret at 1 MiB.
pub fn cloudinit<'p>(plan: &'p Plan, guest: &'p Guest, role: Role, user_data: &'p str) -> Document<'p> {
    let name = plan.names.cloudinit(role);
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "Secret",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "stringData" => map! {
            "userdata" => user_data,
            "networkdata" => guest.network_data.as_deref(),
        },
    };
    Document::new("Secret", name, tree)
}
