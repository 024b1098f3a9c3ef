//! Who may reach the databases beside the pods of the namespace.

use super::IpPlan;
use crate::config::Config;
use crate::diagnostic::{Code, Note};
use crate::value::Cidr;

pub(super) fn plan(config: &Config, ip: &IpPlan, notes: &mut Vec<Note>) -> Option<Vec<Cidr>> {
    let clients = config.postgresql.or_default().allowed_clients.or_default();
    if !config.network_policy.or(true) {
        if !clients.is_empty() {
            let text = "`postgresql.allowed-clients` has no effect without a NetworkPolicy";
            notes.push(Note::new(Code::AllowedClientsWithoutNetworkPolicy, text));
        }
        return None;
    }
    if let Some(cidr) = clients.iter().find(|cidr| !ip.guests.has(cidr.value.family())) {
        let text = format!(
            "`postgresql.allowed-clients` has {}, and the guests have no {}: `service.ip-families: [IPv4, IPv6]` \
             gives them both",
            cidr.value,
            cidr.value.family().as_str()
        );
        notes.push(Note::new(Code::AllowedClientsOfAnotherFamily, text));
    }
    Some(clients.into_iter().map(|cidr| cidr.value).collect())
}
