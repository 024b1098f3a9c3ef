//! The files of the guests: what they are called in the ConfigMap, and where they belong.

use crate::names::Role::{self, Client, Node, Primary, Replica, Witness};
use crate::plan::Family::{self, Debian, Rpm};
use crate::plan::{ArchivePlan, Plan, WalPlayerPlan};
use std::borrow::Cow;
use std::fmt::Write as _;

/// What installs the others: it is run from the disk.
pub const INSTALLER: (&str, &str) = ("install.sh", include_str!("../../templates/common/install.sh"));
/// The key of the [list](list).
pub const LIST: &str = "files.txt";
/// The keys of the files that are made from the config.
pub const LAB_ENV: &str = "lab.env";
/// See [`LAB_ENV`].
pub const POSTGRESQL_CONF: &str = "postgresql.conf";

/// The CA of another site: its key, and its place in the guest.
pub const UPSTREAM_CA: (&str, &str) = ("upstream-ca.crt", "/etc/virtwork/upstream-ca.crt");
/// The CA of the archive's store: its key, and its place in the guest.
pub const ARCHIVE_CA: (&str, &str) = ("archive-ca.crt", "/etc/virtwork/archive-ca.crt");

/// A file of `templates/` that reaches the guest word for word.
pub struct File {
    /// The file, word for word.
    pub content: &'static str,
    template: &'static str,
    path: &'static str,
    roles: &'static [Role],
    family: Option<Family>,
}

impl File {
    /// Its key in the ConfigMap: the name of the template.
    pub fn key(&self) -> &'static str {
        self.template.rsplit('/').next().unwrap_or(self.template)
    }
}

macro_rules! files {
    ($($template:literal => $path:literal for $roles:expr, $family:expr;)+) => {
        [$(File {
            content: include_str!(concat!("../../templates/", $template)),
            template: $template,
            path: $path,
            roles: $roles,
            family: $family,
        }),+]
    };
}

/// The roles of a manual lab.
const MANUAL: &[Role] = &[Primary, Replica];
/// The roles of a lab under Patroni.
const PATRONI: &[Role] = &[Node, Witness];

/// Those and of a manual lab.
const BOTH: &[Role] = &[Primary, Replica, Node, Witness];

/// Those and what is no node.
const ALL: &[Role] = &[Primary, Replica, Node, Witness, Client];

/// The roles whose files a lab's ConfigMap has: all of its mode, whether or not there are VMs of each, and of clients where
/// there are some.
pub fn roles(plan: &Plan) -> Vec<Role> {
    let nodes = if plan.failover.patroni().is_some() { PATRONI } else { MANUAL };
    let clients = plan.ledger.as_ref().map(|_| Client);
    nodes.iter().copied().chain(clients).collect()
}

/// The roles of nodes that have a database.
const DATABASES: &[Role] = &[Primary, Replica, Node];

/// The roles that talk to one.
const SPEAKERS: &[Role] = &[Primary, Replica, Node, Client];

/// Files that a lab has for one and the same reason.
struct Part {
    is_wanted: fn(&Plan) -> bool,
    files: &'static [File],
}

/// All parts, in the order in which a reader meets their files.
static PARTS: &[Part] = &[
    Part { is_wanted: |_| true, files: NODES },
    Part { is_wanted: |plan| plan.tls.is_none(), files: IN_CLEAR },
    Part { is_wanted: |plan| plan.tls.is_some(), files: TLS },
    Part { is_wanted: |plan| plan.tls.is_some() && plan.needs_replication_password(), files: PASSWORDS },
    Part { is_wanted: |plan| !plan.needs_replication_password(), files: CLIENT_CERTIFICATES },
    Part { is_wanted: |plan| plan.tls.as_ref().is_some_and(|tls| !tls.is_derived()), files: DATED },
    Part { is_wanted: |plan| plan.tls.is_some(), files: KEYS },
    Part {
        is_wanted: |plan| plan.tls.is_none() && plan.failover.patroni().is_some(),
        files: KEYS_OF_PATRONI,
    },
    Part { is_wanted: |_| true, files: SERVERS },
    Part { is_wanted: |_| true, files: PYTHON },
    Part { is_wanted: has_other_site, files: SITE },
    Part { is_wanted: |plan| plan.chaos.is_some(), files: CHAOS },
    Part { is_wanted: has_player, files: WAL_PLAYER },
    Part { is_wanted: has_monitor, files: MONITOR },
    Part { is_wanted: |plan| plan.metrics().is_some(), files: METRICS },
    Part { is_wanted: |plan| plan.metrics().is_some_and(|metrics| metrics.has_exporter), files: EXPORTER },
    Part { is_wanted: has_ledger, files: LEDGER },
    Part { is_wanted: |plan| plan.archive.is_some(), files: ARCHIVE },
];

/// Whether another site may follow this one, or be followed by it. One that takes over leaves its mark in the archive.
fn has_other_site(plan: &Plan) -> bool {
    plan.upstream.is_some() || plan.service.r#type.is_some() || plan.archive.is_some()
}

fn has_ledger(plan: &Plan) -> bool {
    plan.ledger.is_some()
}

fn has_player(plan: &Plan) -> bool {
    plan.wal_player.as_ref().and_then(WalPlayerPlan::replication).is_some()
}

fn has_monitor(plan: &Plan) -> bool {
    plan.monitoring.is_some()
}

/// What every lab has: what happens at boot, then what it calls.
static NODES: &[File] = &files! {
    "manual/virtwork-primary-setup.service" => "/etc/systemd/system/virtwork-setup.service" for &[Primary], None;
    "manual/virtwork-db-replication-setup.sh" => "/usr/local/sbin/virtwork-db-replication-setup.sh" for &[Primary], None;
    "manual/virtwork-replica-setup.service" => "/etc/systemd/system/virtwork-setup.service" for &[Replica], None;
    "manual/virtwork-db-replica-setup.sh" => "/usr/local/sbin/virtwork-db-replica-setup.sh" for &[Replica], None;
    "manual/setup.sh" => "/usr/local/lib/virtwork/setup.sh" for MANUAL, None;
    "common/database.sh" => "/usr/local/lib/virtwork/database.sh" for DATABASES, None;
    "manual/clone.sh" => "/usr/local/lib/virtwork/clone.sh" for MANUAL, None;
    "manual/standby.sh" => "/usr/local/lib/virtwork/standby.sh" for MANUAL, None;
    "manual/peers.sh" => "/usr/local/lib/virtwork/peers.sh" for MANUAL, None;
    "patroni/virtwork-node-setup.service" => "/etc/systemd/system/virtwork-setup.service" for &[Node], None;
    "patroni/virtwork-witness-setup.service" => "/etc/systemd/system/virtwork-setup.service" for &[Witness], None;
    "patroni/virtwork-patroni-setup.sh" => "/usr/local/sbin/virtwork-patroni-setup.sh" for PATRONI, None;
    "patroni/tls.py" => "/usr/local/lib/virtwork/tls.py" for PATRONI, None;
    "patroni/patroni-config.py" => "/usr/local/lib/virtwork/patroni-config.py" for &[Node], None;
    "patroni/virtwork-etcd.service" => "/etc/systemd/system/virtwork-etcd.service" for PATRONI, None;
    "patroni/virtwork-etcd.py" => "/usr/local/sbin/virtwork-etcd.py" for PATRONI, None;
    "patroni/virtwork-patroni.service" => "/etc/systemd/system/virtwork-patroni.service" for &[Node], None;
    "patroni/virtwork-postgres.sh" => "/usr/local/sbin/virtwork-postgres.sh" for &[Node], None;
    "patroni/virtwork-rejoin.py" => "/usr/local/sbin/virtwork-rejoin.py" for &[Node], None;
    "patroni/virtwork-haproxy.service" => "/etc/systemd/system/virtwork-haproxy.service" for &[Node], None;
    "patroni/virtwork-haproxy.sh" => "/usr/local/sbin/virtwork-haproxy.sh" for &[Node], None;
    "patroni/virtwork-patroni-watch.service" => "/etc/systemd/system/virtwork-patroni-watch.service" for &[Node], None;
    "patroni/virtwork-patroni-watch.sh" => "/usr/local/sbin/virtwork-patroni-watch.sh" for &[Node], None;
    "patroni/virtwork-patroni-status.sh" => "/usr/local/sbin/virtwork-status" for PATRONI, None;
    "common/node.sh" => "/usr/local/lib/virtwork/node.sh" for ALL, None;
    "common/wal.sh" => "/usr/local/lib/virtwork/wal.sh" for MANUAL, None;
    "common/disks.sh" => "/usr/local/lib/virtwork/disks.sh" for ALL, None;
    "common/lib.sh" => "/usr/local/lib/virtwork/lib.sh" for ALL, None;
    "rpm/family.sh" => "/usr/local/lib/virtwork/family.sh" for ALL, Some(Rpm);
    "debian/family.sh" => "/usr/local/lib/virtwork/family.sh" for ALL, Some(Debian);
    "debian/createcluster.conf" => "/etc/postgresql-common/createcluster.d/virtwork.conf" for BOTH, Some(Debian);
};

/// Who may connect, in clear.
static IN_CLEAR: &[File] = &files! {
    "common/pg_hba.conf" => "/etc/virtwork/pg_hba.conf" for DATABASES, None;
};

/// What TLS takes.
static TLS: &[File] = &files! {
    "tls/tls.sh" => "/usr/local/lib/virtwork/tls.sh" for ALL, None;
    "tls/certificates.py" => "/usr/local/lib/virtwork/certificates.py" for SPEAKERS, None;
    "tls/virtwork-ca" => "/usr/local/sbin/virtwork-ca" for SPEAKERS, None;
};

/// Who may connect by TLS, with a password each.
static PASSWORDS: &[File] = &files! {
    "tls/passwords/pg_hba.conf" => "/etc/virtwork/pg_hba.conf" for DATABASES, None;
};

/// The same where the role `replicator` has none.
static CLIENT_CERTIFICATES: &[File] = &files! {
    "tls/certificates/pg_hba.conf" => "/etc/virtwork/pg_hba.conf" for DATABASES, None;
};

/// What tells of certificates that come to their end.
static DATED: &[File] = &files! {
    "tls/virtwork-certificates.service" => "/etc/systemd/system/virtwork-certificates.service" for SPEAKERS, None;
    "tls/virtwork-certificates.timer" => "/etc/systemd/system/virtwork-certificates.timer" for SPEAKERS, None;
};

/// What derives keys from the credentials, and puts them where they belong.
static KEYS: &[File] = &files! {
    "common/pki.py" => "/usr/local/lib/virtwork/pki.py" for ALL, None;
};

/// The same, for etcd and Patroni alone.
static KEYS_OF_PATRONI: &[File] = &files! {
    "common/pki.py" => "/usr/local/lib/virtwork/pki.py" for PATRONI, None;
};

/// What runs the servers, and what watches them.
static SERVERS: &[File] = &files! {
    "rpm/postgresql.service.d-virtwork.conf" => "/etc/systemd/system/postgresql.service.d/virtwork.conf" for MANUAL, Some(Rpm);
    "debian/postgresql.service" => "/usr/local/share/virtwork/postgresql.service" for MANUAL, Some(Debian);
    "manual/virtwork-server-start.sh" => "/usr/local/sbin/virtwork-server-start.sh" for MANUAL, None;
    "manual/virtwork-ready.socket" => "/etc/systemd/system/virtwork-ready.socket" for MANUAL, None;
    "manual/virtwork-ready.service" => "/etc/systemd/system/virtwork-ready@.service" for MANUAL, None;
    "manual/virtwork-ready.sh" => "/usr/local/sbin/virtwork-ready.sh" for MANUAL, None;
    "common/virtwork-database.service" => "/etc/systemd/system/virtwork-database.service" for DATABASES, None;
    "common/virtwork-database.py" => "/usr/local/sbin/virtwork-database.py" for DATABASES, None;
    "manual/virtwork-watch.service" => "/etc/systemd/system/virtwork-watch.service" for MANUAL, None;
    "manual/virtwork-watch.sh" => "/usr/local/sbin/virtwork-watch.sh" for MANUAL, None;
    "manual/virtwork-promote" => "/usr/local/sbin/virtwork-promote" for MANUAL, None;
    "manual/virtwork-rejoin" => "/usr/local/sbin/virtwork-rejoin" for MANUAL, None;
    "manual/virtwork-status" => "/usr/local/sbin/virtwork-status" for MANUAL, None;
};

/// What programs in Python share; the second those that talk to PostgreSQL.
static PYTHON: &[File] = &files! {
    "common/lab.py" => "/usr/local/lib/virtwork/lab.py" for ALL, None;
    "common/libpq.py" => "/usr/local/lib/virtwork/libpq.py" for SPEAKERS, None;
};

/// Another site beside a lab.
static SITE: &[File] = &files! {
    "manual/site.sh" => "/usr/local/lib/virtwork/site.sh" for MANUAL, None;
    "patroni/patroni-site.sh" => "/usr/local/lib/virtwork/patroni-site.sh" for &[Node], None;
    "common/yield.sql" => "/usr/local/lib/virtwork/yield.sql" for DATABASES, None;
    "patroni/virtwork-promote.sh" => "/usr/local/sbin/virtwork-promote" for &[Node], None;
};

/// Where the programs of a manual lab begin their own work, and so where they learn of another site.
static BEGINNINGS: &[(&str, &str)] = &[
    ("virtwork-db-replication-setup.sh", "\nset_up\n"),
    ("virtwork-db-replica-setup.sh", "\nset_up\n"),
    ("virtwork-watch.sh", "\nmain\n"),
    ("virtwork-promote", "\nmain\n"),
    ("virtwork-rejoin", "\nmain\n"),
    ("virtwork-ready.sh", "\nmain\n"),
    ("virtwork-status", "\nown\n"),
    ("virtwork-server-start.sh", "\ncase $1 in\n  before)"),
];

/// What stands there in labs that have one. In others the programs are word for word those of `templates/`.
const SOURCES_SITE: &str = "
# What differs beside another site.
# shellcheck source=templates/manual/site.sh
. /usr/local/lib/virtwork/site.sh
";

/// The content of a file in a plan's lab.
pub fn content(plan: &Plan, file: &File) -> Cow<'static, str> {
    let beginning = BEGINNINGS.iter().find(|(key, _)| *key == file.key() && has_other_site(plan));
    let place = beginning.and_then(|(_, text)| file.content.rfind(text));
    place.map_or(file.content.into(), |place| {
        let (before, after) = file.content.split_at(place);
        [before, SOURCES_SITE, after].concat().into()
    })
}

/// A bad network, when the config or somebody asks for it.
static CHAOS: &[File] = &files! {
    "chaos/virtwork-chaos.py" => "/usr/local/sbin/virtwork-chaos" for DATABASES, None;
    "chaos/virtwork-chaos-kernel.sh" => "/usr/local/sbin/virtwork-chaos-kernel.sh" for DATABASES, None;
    "chaos/virtwork-chaos.service" => "/etc/systemd/system/virtwork-chaos.service" for DATABASES, None;
    "chaos/virtwork-database.service.d-chaos.conf" =>
        "/etc/systemd/system/virtwork-database.service.d/chaos.conf" for DATABASES, None;
};

/// The lab's own WAL player.
static WAL_PLAYER: &[File] = &files! {
    "player/virtwork-wal-player.py" => "/usr/local/sbin/virtwork-wal-player" for DATABASES, None;
    "player/virtwork-wal-player.service" => "/etc/systemd/system/virtwork-wal-player.service" for DATABASES, None;
    "player/virtwork-database.service.d-wal-player.conf" =>
        "/etc/systemd/system/virtwork-database.service.d/wal-player.conf" for DATABASES, None;
};

/// The sampler of replication.
static MONITOR: &[File] = &files! {
    "monitoring/virtwork-monitor.py" => "/usr/local/sbin/virtwork-monitor" for DATABASES, None;
    "monitoring/virtwork-monitor.service" => "/etc/systemd/system/virtwork-monitor.service" for DATABASES, None;
    "monitoring/virtwork-database.service.d-monitor.conf" =>
        "/etc/systemd/system/virtwork-database.service.d/monitor.conf" for DATABASES, None;
};

/// What serves Prometheus.
static METRICS: &[File] = &files! {
    "monitoring/virtwork-monitor.socket" => "/etc/systemd/system/virtwork-monitor.socket" for DATABASES, None;
    "monitoring/virtwork-monitor.service.d-metrics.conf" =>
        "/etc/systemd/system/virtwork-monitor.service.d/metrics.conf" for DATABASES, None;
};

/// The distribution's exporter, under a unit that takes the place of its own.
static EXPORTER: &[File] = &files! {
    "monitoring/prometheus-postgres-exporter.service" =>
        "/etc/systemd/system/prometheus-postgres-exporter.service" for DATABASES, None;
    "monitoring/virtwork-database.service.d-exporter.conf" =>
        "/etc/systemd/system/virtwork-database.service.d/exporter.conf" for DATABASES, None;
};

/// The ledger of what the database acknowledged.
static LEDGER: &[File] = &files! {
    "client/virtwork-client-setup.service" => "/etc/systemd/system/virtwork-setup.service" for &[Client], None;
    "client/virtwork-client-setup.sh" => "/usr/local/sbin/virtwork-client-setup.sh" for &[Client], None;
    "client/virtwork-ledger.service" => "/etc/systemd/system/virtwork-ledger.service" for &[Client], None;
    "client/virtwork-ledger.py" => "/usr/local/sbin/virtwork-ledger" for &[Client], None;
};

/// Archiving, base backups, and what is made from them.
static ARCHIVE: &[File] = &files! {
    "archive/archive.sh" => "/usr/local/lib/virtwork/archive.sh" for DATABASES, None;
    "archive/store.py" => "/usr/local/lib/virtwork/store.py" for DATABASES, None;
    "archive/virtwork-archive-command.sh" => "/usr/local/sbin/virtwork-archive-command" for DATABASES, None;
    "archive/virtwork-archive.py" => "/usr/local/sbin/virtwork-archive" for DATABASES, None;
    "archive/virtwork-archive.service" => "/etc/systemd/system/virtwork-archive.service" for DATABASES, None;
    "archive/virtwork-archive-backup.service" => "/etc/systemd/system/virtwork-archive-backup.service" for DATABASES, None;
    "archive/virtwork-archive-backup.timer" => "/etc/systemd/system/virtwork-archive-backup.timer" for DATABASES, None;
    "archive/virtwork-archive-check.service" => "/etc/systemd/system/virtwork-archive-check.service" for DATABASES, None;
    "archive/virtwork-archive-check.timer" => "/etc/systemd/system/virtwork-archive-check.timer" for DATABASES, None;
    "archive/virtwork-site-mark.py" => "/usr/local/sbin/virtwork-site-mark" for DATABASES, None;
};

/// The files of a plan's lab.
pub fn of(plan: &Plan) -> impl Iterator<Item = &'static File> {
    let (family, roles) = (plan.guest.family, roles(plan));
    let parts = PARTS.iter().filter(|part| (part.is_wanted)(plan));
    parts.flat_map(|part| part.files).filter(move |file| {
        file.family.is_none_or(|wanted| wanted == family)
            && roles.iter().any(|role| file.roles.contains(role))
    })
}

/// What the installer goes by, a line for each file: its role, mode, key and place. What lies in `sbin` is run, the rest
/// is read.
pub fn list(plan: &Plan) -> String {
    let roles = roles(plan);
    let mut list = String::from("# role mode key path\n");
    for key in [LAB_ENV, POSTGRESQL_CONF] {
        let _ = writeln!(list, "all 0644 {key} /etc/virtwork/{key}");
    }
    if plan.upstream.as_ref().is_some_and(|upstream| upstream.ca.is_some()) {
        let (key, path) = UPSTREAM_CA;
        let _ = writeln!(list, "all 0644 {key} {path}");
    }
    if has_archive_ca(plan) {
        let (key, path) = ARCHIVE_CA;
        let _ = writeln!(list, "all 0644 {key} {path}");
    }
    for file in of(plan) {
        let mode = if file.path.starts_with("/usr/local/sbin/") { "0755" } else { "0644" };
        let (all, each): (&[&str], Vec<_>) = (&["all"], names(file.roles, &roles));
        let lines = if each.len() == roles.len() { all } else { &each };
        for role in lines {
            let _ = writeln!(list, "{role} {mode} {} {}", file.key(), file.path);
        }
    }
    list
}

fn has_archive_ca(plan: &Plan) -> bool {
    plan.archive.as_ref().and_then(ArchivePlan::store).is_some_and(|store| store.ca.is_some())
}

/// The names of those of `roles` that a file is for.
fn names(of_file: &[Role], roles: &[Role]) -> Vec<&'static str> {
    roles.iter().filter(|role| of_file.contains(role)).map(|role| role.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use std::collections::BTreeSet;

    fn all() -> impl Iterator<Item = &'static File> {
        PARTS.iter().flat_map(|part| part.files)
    }

    #[test]
    fn every_script_fits_a_block() {
        for file in all() {
            assert!(crate::yaml::fits_block(file.content), "{}", file.path);
        }
        assert!(crate::yaml::fits_block(INSTALLER.1));
    }

    #[test]
    fn every_program_has_one_beginning() {
        for (key, text) in BEGINNINGS {
            let file = all().find(|file| file.key() == *key).unwrap();
            assert_eq!(file.content.matches(text).count(), 1, "{key}");
        }
    }

    /// What a program has when it begins its own work: itself, and all that it sources.
    fn composed(path: &str, seen: &mut BTreeSet<&'static str>) -> String {
        let mut text = String::new();
        for file in all().filter(|file| file.path == path) {
            if seen.insert(file.template) {
                text += file.content;
                let sourced = file.content.lines().filter_map(|line| line.trim_start().strip_prefix(". "));
                text.extend(sourced.map(|path| composed(path, seen)));
            }
        }
        text
    }

    #[test]
    fn what_stands_in_front_of_a_function_finds_it() {
        let site = all().find(|file| file.key() == "site.sh").unwrap().content;
        let programs: Vec<_> = BEGINNINGS
            .iter()
            .map(|(key, _)| {
                composed(all().find(|file| file.key() == *key).unwrap().path, &mut BTreeSet::new())
            })
            .collect();
        let kept: Vec<_> = site
            .lines()
            .filter_map(|line| {
                let line = line.trim_start();
                line.strip_prefix("if ").unwrap_or(line).strip_prefix("keep ")
            })
            .map(|rest| rest.split([';', ' ']).next().unwrap())
            .collect();
        assert!(kept.len() > 20, "{kept:?}");
        for name in kept {
            let definition = format!("\n{name}() {{\n");
            assert!(programs.iter().any(|program| program.contains(&definition)), "nothing has {name}");
            let own = format!("{name}() {{");
            assert!(site.lines().any(|line| line.trim_start() == own), "nothing takes the place of {name}");
        }
    }

    #[test]
    fn verdicts_that_are_judged_anew_are_given() {
        let content = |key| all().find(|file| file.key() == key).unwrap().content;
        for verdict in
            ["keep it has WAL up to ", "keep it is on timeline ", "wait the primary has only just started"]
        {
            for key in ["standby.sh", "site.sh"] {
                assert!(content(key).contains(verdict), "{key}: {verdict}");
            }
        }
    }

    #[test]
    fn each_file_has_a_key_of_its_own_that_a_config_map_takes() {
        let images = ["fedora:44", "debian:13"];
        for (image, failover) in images.into_iter().flat_map(|image| [(image, "manual"), (image, "patroni")])
        {
            let config = format!(
                "failover: {failover}\ntls: {{existing-secret: tls}}\nchaos-network: {{}}\nwal-player: replication\nmonitoring: {{metrics: true}}\n\
                 client: {{count: 1}}\n\
                 guest: {{image: \"quay.io/containerdisks/{image}\", packages: preinstalled}}\n"
            );
            let plan = Plan::new(&Source::new("gen.yaml", &config)).unwrap();
            let mut keys = BTreeSet::new();
            for key in of(&plan).map(File::key).chain([INSTALLER.0, LIST, LAB_ENV, POSTGRESQL_CONF]) {
                assert!(keys.insert(key), "{key} twice");
                assert!(
                    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn no_role_has_two_files_in_one_place() {
        let images = ["fedora:44", "debian:13"];
        let certificates = ["false", "true", "{client-certificates: true}", "{cert-manager: ca}"];
        for ((image, failover), tls) in images
            .into_iter()
            .flat_map(|image| [(image, "manual"), (image, "patroni")])
            .flat_map(|lab| certificates.map(|tls| (lab, tls)))
        {
            let config = format!(
                "failover: {failover}\ntls: {tls}\nchaos-network: {{}}\nwal-player: replication\nclient: {{count: 1}}\n\
                 monitoring: {{metrics: true}}\n\
                 guest: {{image: \"quay.io/containerdisks/{image}\", packages: preinstalled}}\n"
            );
            let plan = Plan::new(&Source::new("gen.yaml", &config)).unwrap();
            for role in roles(&plan) {
                let mut paths = BTreeSet::new();
                for file in of(&plan).filter(|file| file.roles.contains(&role)) {
                    assert!(paths.insert(file.path), "{}", file.path);
                }
            }
        }
    }
}
