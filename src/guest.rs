//! User-data: the files that cloud-init drops, and the units it starts without waiting for them.

mod files;
mod settings;

use crate::names::Role;
use crate::plan::{Family, Plan};
use crate::value::IpFamilyPolicy;
use crate::yaml::Yaml;

/// How deep the lines of user-data stand in their Secret: below `stringData` and `userdata`.
const USER_DATA_INDENT: usize = 4;

/// The user-data of a role, as the lines of its block in the Secret: one text for all its VMs. What differs between
/// them comes from the VM's host name.
pub fn user_data(plan: &Plan, role: Role) -> String {
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
        ("/etc/virtwork/lab.env", settings::lab_env(plan, role)),
        ("/etc/virtwork/postgresql.conf", settings::postgresql_conf(plan)),
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
    lines
}

/// What is done first at every boot, before the files are written. runcmd comes last, some seconds later.
fn bootcmd(family: Family) -> Yaml<'static> {
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

fn file(path: &'static str, permissions: &'static str, content: Yaml<'static>) -> Yaml<'static> {
    map! { "path" => path, "permissions" => permissions, "content" => content }
}

/// Network data, where the default of the image does not do.
///
/// The guests name each other by single labels, completed from the search domains that KubeVirt's DHCP offers.
/// systemd-networkd (Debian, Ubuntu) ignores those unless told; NetworkManager takes them.
pub fn network_data(plan: &Plan) -> Option<String> {
    if plan.guest.family != Family::Debian {
        return None;
    }
    let dual_stack = matches!(
        plan.ip_family_policy,
        Some(IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack)
    );
    let tree = map! {
        "version" => 2,
        "ethernets" => map! {
            "pod" => map! {
                "match" => map! { "name" => "e*" },
                "dhcp4" => true,
                "dhcp4-overrides" => map! { "use-domains" => true },
                // netplan refuses the file where the two overrides differ (networkd has one setting for both)
                "dhcp6" => dual_stack.then_some(true),
                "dhcp6-overrides" => dual_stack.then(|| map! { "use-domains" => true }),
            },
        },
    };
    let mut text = String::new();
    tree.write(&mut text);
    Some(text)
}
