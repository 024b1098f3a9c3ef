//! User-data: the files that cloud-init drops, and the units it starts without waiting for them.

mod files;
mod settings;

use crate::names::Role;
use crate::plan::{Family, Plan};
use crate::value::IpFamilyPolicy;
use crate::yaml::Yaml;

/// The user-data of a role: one text for all its VMs. What differs between them comes from the VM's host name.
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
        files::of(role, plan.guest.family).map(|f| file(f.path, f.permissions(), f.content.into()));
    let tree = map! {
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
    let mut text = String::from("#cloud-config\n");
    text.push_str(match role {
        Role::Primary => "# PostgreSQL primary under pgbench load.",
        Role::Replica => "# PostgreSQL replica.",
    });
    text.push_str(" The work is done by virtwork-setup.service at every boot.\n");
    tree.write(&mut text);
    text
}

fn file(path: &'static str, permissions: &'static str, content: Yaml) -> Yaml {
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
