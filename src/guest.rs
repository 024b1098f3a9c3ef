//! What the guests are given: files on a disk, and user-data that has them installed at every boot.

mod files;
mod settings;
mod template;

use crate::diagnostic::{Code, Report};
use crate::names::Role;
use crate::plan::{ArchivePlan, Family, Plan};
use crate::value::IpFamily;
use minijinja::context;
use minijinja::value::Value;
use std::borrow::Cow;
use template::{Renderer, Template, template};

const USER_DATA: Template = template!("user-data.yaml");
/// For netplan, which Debian and Ubuntu have cloud-init hand it to.
const NETWORK_DATA: Template = template!("network-data.yaml");
/// For cloud-init's own writers of NetworkManager's and sysconfig's files.
const RPM_NETWORK_DATA: Template = template!("rpm/network-data.yaml");

/// What the guests read, made from the config. All that can fail has happened.
pub struct Guest {
    /// The files, for all roles: key and content, in the order in which a reader meets them.
    pub files: Vec<(&'static str, Cow<'static, str>)>,
    /// The user-data of each role: one text for all its VMs. What differs between them comes from the VM's host name.
    pub user_data: Vec<(Role, String)>,
    /// Network data, where the family [needs it](needs_network_data).
    pub network_data: Option<String>,
}

impl Guest {
    /// The guests of a plan.
    ///
    /// # Errors
    /// A value that cannot stand in its file.
    pub fn new(plan: &Plan) -> Result<Self, Report> {
        let renderer = Renderer::new();
        let roles: Vec<Role> = plan.machines.iter().map(|machines| machines.role).collect();
        let made = || -> Result<Self, String> {
            let network_data = needs_network_data(plan)
                .then(|| renderer.render(network_data_template(plan), network_data(plan)))
                .transpose()?;
            let user_data =
                renderer.render_each(&USER_DATA, roles.iter().map(|role| user_data(plan, *role)))?;
            Ok(Self {
                user_data: roles.into_iter().zip(user_data).collect(),
                files: files(plan, &renderer)?,
                network_data,
            })
        };
        let refused = |fault| {
            Report::failure(Code::CharacterNotAllowed, plan.names.lab(), fault, "remove it from the config")
        };
        made().map_err(refused)
    }
}

fn files(plan: &Plan, renderer: &Renderer) -> Result<Vec<(&'static str, Cow<'static, str>)>, String> {
    let (installer, script) = files::INSTALLER;
    let mut all = vec![
        (installer, script.into()),
        (files::LIST, files::list(plan).into()),
        (files::LAB_ENV, settings::env(plan, renderer)?.into()),
        (files::POSTGRESQL_CONF, settings::postgresql_conf(plan, renderer)?.into()),
    ];
    let ca = plan.upstream.as_ref().and_then(|upstream| upstream.ca.clone());
    all.extend(ca.map(|ca| (files::UPSTREAM_CA.0, ca.into())));
    let ca = plan.archive.as_ref().and_then(ArchivePlan::store).and_then(|store| store.ca.clone());
    all.extend(ca.map(|ca| (files::ARCHIVE_CA.0, ca.into())));
    all.extend(files::of(plan).map(|file| (file.key(), files::content(plan, file))));
    Ok(all)
}

/// What fills the holes of [`USER_DATA`].
fn user_data(plan: &Plan, role: Role) -> Value {
    context! {
        is_debian => plan.guest.family == Family::Debian,
        install_unit => format!("virtwork-install@{}.service", role.as_str()),
        user => plan.guest.user.clone(),
        authorized_keys => plan.guest.authorized_keys.clone(),
    }
}

/// Whether the default of the image's network does not do.
///
/// The guests name each other by single labels, completed from the search domains that KubeVirt's DHCP offers.
/// systemd-networkd (Debian, Ubuntu) ignores those unless told; NetworkManager takes them. IPv6 is static with both.
pub fn needs_network_data(plan: &Plan) -> bool {
    plan.guest.family == Family::Debian || plan.ip.guests.has(IpFamily::Ipv6)
}

fn network_data_template(plan: &Plan) -> &'static Template {
    match plan.guest.family {
        Family::Debian => &NETWORK_DATA,
        Family::Rpm => &RPM_NETWORK_DATA,
    }
}

/// What fills the holes of [`NETWORK_DATA`] and [`RPM_NETWORK_DATA`].
fn network_data(plan: &Plan) -> Value {
    context! {
        ipv4 => plan.ip.guests.has(IpFamily::Ipv4),
        ipv6 => plan.ip.guests.has(IpFamily::Ipv6),
        dns_servers => plan.ip.dns_servers.clone(),
        search_domains => plan.ip.search_domains.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::WalPlayerPlan;
    use crate::source::Source;
    use std::collections::BTreeSet;

    #[test]
    fn a_template_uses_what_it_is_given_and_nothing_else() {
        let plan = Plan::new(&Source::built_in_defaults()).unwrap();
        let patroni = "failover: patroni\nguest: {image: \"quay.io/containerdisks/debian:13\"}\n";
        let patroni = Plan::new(&Source::new("gen.yaml", patroni)).unwrap();
        let player = Plan::new(&Source::new("gen.yaml", "wal-player: replication\n")).unwrap();
        let player = player.wal_player.as_ref().and_then(WalPlayerPlan::replication).unwrap();
        let chaos = Plan::new(&Source::new("gen.yaml", "chaos-network: {latency: 80ms}\n")).unwrap();
        let load = Plan::new(&Source::new("gen.yaml", "pgbench: {read-replicas: 2}\n")).unwrap();
        let monitored = Plan::new(&Source::new("gen.yaml", "monitoring: {}\n")).unwrap();
        let client = Plan::new(&Source::new("gen.yaml", "client: {count: 1}\n")).unwrap();
        let standby = "upstream: {host: db.example.com, sslmode: disable}\n";
        let standby = Plan::new(&Source::new("gen.yaml", standby)).unwrap();
        let tls = Plan::new(&Source::new("gen.yaml", "tls: true\n")).unwrap();
        let archived = "archive: {type: s3, bucket: backups, existing-secret: keys}\nrestore: {from: other, latest: true}\n";
        let archived = Plan::new(&Source::new("gen.yaml", archived)).unwrap().archive.unwrap();
        for (template, holes) in [
            (settings::TLS_ENV, settings::tls_env(&tls, tls.tls.as_ref().unwrap())),
            (settings::ARCHIVE_ENV, settings::archive_env(&archived)),
            (settings::RESTORE_ENV, settings::restore_env(archived.restore.as_ref().unwrap())),
            (settings::CLIENT_ENV, settings::client_env(&client, client.ledger.as_ref().unwrap())),
            (settings::UPSTREAM_ENV, settings::upstream_env(&standby, standby.upstream.as_ref().unwrap())),
            (NETWORK_DATA, network_data(&plan)),
            (RPM_NETWORK_DATA, network_data(&plan)),
            (USER_DATA, user_data(&plan, Role::Primary)),
            (settings::LAB_ENV, settings::lab_env(&plan)),
            (settings::PATRONI_ENV, settings::patroni_env(&patroni, patroni.failover.patroni().unwrap())),
            (settings::CHAOS_ENV, settings::chaos_env(chaos.chaos.as_ref().unwrap())),
            (settings::LOAD_ENV, settings::load_env(load.pgbench.shaped.as_ref().unwrap())),
            (settings::WAL_PLAYER_ENV, settings::wal_player_env(player)),
            (settings::MONITORING_ENV, settings::monitoring_env(monitored.monitoring.as_ref().unwrap())),
            (settings::POSTGRESQL_CONF, settings::managed_settings(&plan)),
        ] {
            let given: BTreeSet<_> = holes.try_iter().unwrap().map(|name| name.to_string()).collect();
            assert_eq!(template.variables(), given, "{}", template.name);
        }
    }
}
