//! Who may reach the databases beside the pods of the namespace.

use crate::config::Config;
use crate::diagnostic::{Code, Note};
use crate::value::Cidr;

pub(super) fn plan(config: &Config, notes: &mut Vec<Note>) -> Option<Vec<Cidr>> {
    let clients = config.postgresql.or_default().allowed_clients.or_default();
    if !config.network_policy.or(true) {
        if !clients.is_empty() {
            let text = "`postgresql.allowed-clients` has no effect without a NetworkPolicy";
            notes.push(Note::new(Code::AllowedClientsWithoutNetworkPolicy, text));
        }
        return None;
    }
    Some(clients.into_iter().map(|cidr| cidr.value).collect())
}
