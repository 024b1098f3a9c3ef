//! User-data: the files that cloud-init drops, and the units it starts without waiting for them.

mod files;
mod settings;
mod template;

use crate::diagnostic::Report;
use crate::names::Role;
use crate::plan::{Family, Plan};
use crate::value::IpFamilyPolicy;
use crate::yaml::Yaml;
use minijinja::context;
use minijinja::value::Value;
use template::{Renderer, Template, template};

const NETWORK_DATA: Template = template!("network-data.yaml");

/// How deep the lines of user-data stand in their Secret: below `stringData` and `userdata`.
const USER_DATA_INDENT: usize = 4;

/// What the guests read, made from the config. All that can fail has happened.
pub struct Guest {
    /// The user-data of each role, as the lines of its block in the Secret: one text for all its VMs. What differs
    /// between them comes from the VM's host name.
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
        let roles: &[Role] =
            if plan.replica_count == 0 { &[Role::Primary] } else { &[Role::Primary, Role::Replica] };
        let made = || -> Result<Self, String> {
            let network_data = needs_network_data(plan)
                .then(|| renderer.render(&NETWORK_DATA, network_data(plan)))
                .transpose()?;
            let user_data = roles.iter().map(|role| Ok((*role, user_data(plan, *role, &renderer)?)));
            Ok(Self { user_data: user_data.collect::<Result<_, String>>()?, network_data })
        };
        made().map_err(|fault| Report::failure(plan.names.lab(), fault, "remove it from the config"))
    }
}

fn user_data(plan: &Plan, role: Role, renderer: &Renderer) -> Result<String, String> {
    let users = plan.guest.user.as_ref().map(|user| {
        list![
            "default",
            map! {
                "name" => user.clone(),
                "shell" => "/bin/bash",
                "sudo" => "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd" => true,
                "ssh_authorized_keys" => plan.guest.authorized_keys.clone(),
            },
        ]
    });
    let default_keys = plan.guest.user.is_none() && !plan.guest.authorized_keys.is_empty();
    let generated = [
        ("/etc/virtwork/lab.env", renderer.render(&settings::LAB_ENV, settings::lab_env(plan, role))?),
        ("/etc/virtwork/postgresql.conf", settings::postgresql_conf(plan, renderer)?),
    ];
    let generated = generated.into_iter().map(|(path, content)| file(path, "0644", content.into()));
    let verbatim =
        files::of(role, plan.guest.family).map(|f| file(f.path, f.permissions(), Yaml::Script(f.content)));
    let tree = map! {
        "bootcmd" => bootcmd(plan.guest.family),
        "ssh_authorized_keys" => default_keys.then(|| plan.guest.authorized_keys.clone()),
        "users" => users,
        "write_files" => Yaml::items(generated.chain(verbatim)),
        "runcmd" => list![
            "systemctl daemon-reload",
            "systemctl enable virtwork-setup.service virtwork-refresh.service",
            "sync",
            "systemctl start --no-block virtwork-setup.service",
        ],
    };
    let comment = match role {
        Role::Primary => {
            "# PostgreSQL primary under pgbench load. The work is done by virtwork-setup.service at every boot."
        }
        Role::Replica => "# PostgreSQL replica. The work is done by virtwork-setup.service at every boot.",
    };
    let mut lines = String::new();
    tree.write_nested(&["#cloud-config", comment], USER_DATA_INDENT, &mut lines);
    Ok(lines)
}

/// What is done first at every boot, before the files are written. runcmd comes last, some seconds later.
fn bootcmd(family: Family) -> Yaml {
    // an image with PostgreSQL starts a cluster of its own, which the set-up would have to wait for
    let stop_clusters: &[&'static str] = match family {
        Family::Debian => &[
            "ln -sfn /dev/null /etc/systemd/system/postgresql@.service",
            "systemctl stop --no-block 'postgresql@*.service'",
        ],
        Family::Rpm => &[],
    };
    // As soon as the files are there (cloud-init's first stage) and the package manager is configured (its second).
    // What runcmd does again is for an image on which this finds no systemd.
    let start = "systemd-run --quiet --no-block --collect \
                 --property='After=cloud-init.service cloud-init-network.service cloud-config.service' \
                 sh -c 'systemctl daemon-reload && \
                 systemctl enable --quiet virtwork-setup.service virtwork-refresh.service && \
                 systemctl start --no-block virtwork-setup.service'";
    Yaml::items(stop_clusters.iter().chain([&start]).map(|command| Yaml::from(*command)))
}

fn file(path: &'static str, permissions: &'static str, content: Yaml) -> Yaml {
    map! { "path" => path, "permissions" => permissions, "content" => content }
}

/// Whether the default of the image's network does not do.
///
/// The guests name each other by single labels, completed from the search domains that KubeVirt's DHCP offers.
/// systemd-networkd (Debian, Ubuntu) ignores those unless told; NetworkManager takes them.
pub fn needs_network_data(plan: &Plan) -> bool {
    plan.guest.family == Family::Debian
}

/// What fills the holes of [`NETWORK_DATA`].
fn network_data(plan: &Plan) -> Value {
    let policy = plan.ip_family_policy;
    context! {
        dual_stack => matches!(policy, Some(IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use std::collections::BTreeSet;

    #[test]
    fn a_template_uses_what_it_is_given_and_nothing_else() {
        let plan = Plan::new(&Source::built_in_defaults()).unwrap();
        for (template, holes) in [
            (NETWORK_DATA, network_data(&plan)),
            (settings::LAB_ENV, settings::lab_env(&plan, Role::Primary)),
            (settings::POSTGRESQL_CONF, settings::managed_settings(&plan)),
        ] {
            let given: BTreeSet<_> = holes.try_iter().unwrap().map(|name| name.to_string()).collect();
            assert_eq!(template.variables(), given, "{}", template.name);
        }
    }
}
