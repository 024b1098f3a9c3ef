//! Who decides which node takes writes, and what that means for the lab's VMs.

use super::release;
use crate::config::Config;
use crate::config::failover::Failover;
use crate::config::fields::{Field, Involved};
use crate::config::guest::Guest;
use crate::config::vm::Matcher;
use crate::diagnostic::{Code, Note, Problems};
use crate::names::{Names, Node, Role};
use crate::value::{
    FailoverMode, NodeName, Os, Packages, PreferenceKind, StandbyMode, SynchronousMethod, Watchdog,
};

/// Who decides which node takes writes.
#[derive(Debug)]
pub enum FailoverPlan {
    /// A person: `virtwork-promote` in a guest, then `primary-node` in the config.
    Manual {
        /// The node that the Service of the primary leads to.
        primary: Node,
    },
    /// Patroni.
    Patroni(PatroniPlan),
}

/// The settings of Patroni and etcd.
#[derive(Debug)]
pub struct PatroniPlan {
    /// Seconds until a leader's lock runs out.
    pub ttl: u32,
    /// Seconds between two looks.
    pub loop_wait: u32,
    /// Seconds for which etcd and PostgreSQL are tried again.
    pub retry_timeout: u32,
    /// What a node does about its watchdog.
    pub watchdog: Watchdog,
    /// The members of etcd.
    pub etcd: Vec<Node>,
}

impl FailoverPlan {
    /// The roles of the lab's VMs, and how many there are of each.
    pub fn roles(&self, replica_count: u32) -> Vec<(Role, u32)> {
        match self {
            Self::Manual { .. } if replica_count == 0 => vec![(Role::Primary, 1)],
            Self::Manual { .. } => vec![(Role::Primary, 1), (Role::Replica, replica_count)],
            Self::Patroni(patroni) => {
                let witnesses = patroni.etcd.iter().filter(|node| node.role == Role::Witness).count();
                let mut roles = vec![(Role::Node, replica_count + 1)];
                roles.extend((witnesses > 0).then_some((Role::Witness, 1)));
                roles
            }
        }
    }

    /// Patroni's settings, where it decides.
    pub fn patroni(&self) -> Option<&PatroniPlan> {
        match self {
            Self::Manual { .. } => None,
            Self::Patroni(patroni) => Some(patroni),
        }
    }
}

/// The image with the newest Patroni, and the driver of the watchdog.
const DEBIAN_13: &str = "quay.io/containerdisks/debian:13";

/// Each node asks each other node's Patroni every few seconds.
const MAX_PATRONI_REPLICAS: u32 = 31;

/// etcd has a majority of three members as soon as two of them are there; more make it slower.
const ETCD_MEMBERS: u32 = 3;

pub(super) fn plan(
    config: &Config,
    replica_count: u32,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> FailoverPlan {
    let section = config.failover.or_default();
    match mode(&section) {
        FailoverMode::Manual => {
            check_patroni_keys(&section, problems);
            FailoverPlan::Manual { primary: primary_node(config, replica_count, problems, notes) }
        }
        FailoverMode::Patroni => {
            check_lab(config, replica_count, problems);
            check_guest(config, problems);
            FailoverPlan::Patroni(patroni(config, &section, replica_count, problems))
        }
    }
}

fn mode(section: &Failover) -> FailoverMode {
    section.mode.or(FailoverMode::Manual)
}

fn primary_node(config: &Config, replica_count: u32, problems: &mut Problems, notes: &mut Vec<Note>) -> Node {
    let primary = Node { role: Role::Primary, index: 0 };
    let given = config.primary_node.get().map(NodeName::as_str);
    let Some(number) = given.and_then(|name| name.strip_prefix("replica-")) else { return primary };
    let Some(index) = number.parse().ok().filter(|index| *index < replica_count) else {
        problems.contradiction(
            Code::NoSuchNode,
            &[(&config.primary_node, "not in the lab"), (&config.replica_count, "of this many replicas")],
            format!("the lab has no replica {number}, so it cannot be the primary"),
            match replica_count {
                0 => "write `primary-0`, or leave the key out".to_owned(),
                _ => format!("write `primary-0`, or a replica up to `replica-{}`", replica_count - 1),
            },
        );
        return primary;
    };
    // warm standbys have no Service
    let is_warm = config.postgresql.or_default().standby_mode.get() == Some(&StandbyMode::Warm);
    if replica_count > 1 && !is_warm {
        let text = format!(
            "the Service of the replicas leads to every node while `primary-node` is `replica-{index}`, also to that one: \
             selectors cannot leave a VM out; clients that must not write ask for `target_session_attrs=standby`"
        );
        notes.push(Note::new(Code::ReplicasServiceHasPrimary, text));
    }
    Node { role: Role::Replica, index }
}

/// What only Patroni reads. `witness` may stay: it is for when there is one.
fn check_patroni_keys(section: &Failover, problems: &mut Problems) {
    let manual = (&section.mode as &dyn Involved, "a person promotes");
    for key in [&section.ttl as &dyn Involved, &section.loop_wait, &section.retry_timeout, &section.watchdog]
    {
        if !matches!(key.place(), Ok(None)) {
            problems.contradiction(
                Code::KeyWithoutEffect,
                &[(key, "for Patroni"), manual],
                "only Patroni reads this, and `failover` is `manual`",
                "remove it, or set `failover` to `patroni`",
            );
        }
    }
}

fn check_lab(config: &Config, replica_count: u32, problems: &mut Problems) {
    if replica_count == 0 || replica_count > MAX_PATRONI_REPLICAS {
        problems.contradiction(
            Code::ReplicasForPatroni,
            &[(&config.replica_count, "replicas"), (&config.failover, "under Patroni")],
            format!("a lab under Patroni has 1 to {MAX_PATRONI_REPLICAS} replicas"),
            match replica_count {
                0 => "set `replica-count` to at least `1`: with nobody to take over there is no failover",
                _ => "ask for fewer, or set `failover` to `manual`: each node asks every other one all the time",
            },
        );
    }
    for (key, help) in [
        (&config.primary as &dyn Involved, "write it below `vm`"),
        (&config.replica, "write it below `vm`"),
        (&config.primary_node, "remove it: the Services follow the leader"),
    ] {
        if !matches!(key.place(), Ok(None)) {
            problems.contradiction(
                Code::KeyWithoutEffect,
                &[(key, "of no node"), (&config.failover, "because of this")],
                "under Patroni all nodes are alike, and any of them may lead",
                help,
            );
        }
    }
}

/// Where Patroni, etcd and HAProxy come from.
fn check_guest(config: &Config, problems: &mut Problems) {
    let guest = config.guest.or_default();
    if guest.packages.get() == Some(&Packages::Preinstalled) {
        return;
    }
    // what is not known is told elsewhere
    let Some(os) = release::os(&guest) else { return };
    let too_old = release::release(&guest).is_some_and(|(os, release)| match os {
        Os::Debian => ["11", "bullseye"].contains(&release),
        Os::Ubuntu => ["22.04", "jammy"].contains(&release),
        _ => false,
    });
    let keys: [(&dyn Involved, &str); 4] = [
        (&config.failover, "needs Patroni, etcd and HAProxy"),
        (&guest.image, "which this has not in its repositories"),
        (&guest.data_source, "which this has not in its repositories"),
        (&guest.os, "which this has not in its repositories"),
    ];
    if too_old || !matches!(os, Os::Debian | Os::Ubuntu) {
        let name = os.as_str();
        let why = if too_old { "releases of that age have" } else { "its repositories have" };
        problems.contradiction(
            Code::NoPatroniPackages,
            &keys,
            format!("`failover: patroni` cannot be installed on this `{name}` image: {why} no fitting Patroni and etcd"),
            format!(
                "set `guest.image` to `{DEBIAN_13}` or `quay.io/containerdisks/ubuntu:24.04`{}; or use a golden image that \
                 has patroni, etcd and haproxy, and set `guest.packages` to `preinstalled`",
                instead(&guest)
            ),
        );
    }
}

/// What has to go where another image comes.
fn instead(guest: &Guest) -> &'static str {
    match (guest.data_source.is_present(), guest.os.is_present()) {
        (true, _) => " in place of `guest.data-source` and `guest.os`",
        (false, true) => " and remove `guest.os`",
        (false, false) => "",
    }
}

fn patroni(config: &Config, section: &Failover, replica_count: u32, problems: &mut Problems) -> PatroniPlan {
    let ttl = section.ttl.or(30);
    let (loop_wait, retry_timeout) = timing(section, ttl);
    let sum = loop_wait + 2 * retry_timeout;
    if sum > ttl {
        problems.contradiction(
            Code::PatroniTiming,
            &[
                (&section.ttl, "runs out"),
                (&section.loop_wait, "before this"),
                (&section.retry_timeout, "and twice this are over"),
            ],
            format!(
                "`failover.ttl` {ttl} is shorter than `loop-wait` and twice `retry-timeout`, {sum} seconds"
            ),
            format!("raise `failover.ttl` to at least `{}`, or shorten the others", least_ttl(section, ttl)),
        );
    }
    let guest = config.guest.or_default();
    let release = release::release(&guest);
    check_quorum(config, release, problems);
    let nodes = (0..ETCD_MEMBERS.min(replica_count + 1)).map(|index| Node { role: Role::Node, index });
    let witness = (replica_count < 2).then_some(Node { role: Role::Witness, index: 0 });
    PatroniPlan {
        ttl,
        loop_wait,
        retry_timeout,
        watchdog: watchdog(config, section, release, problems),
        etcd: nodes.chain(witness).collect(),
    }
}

/// `loop-wait` and `retry-timeout`, whose defaults follow `ttl`.
fn timing(section: &Failover, ttl: u32) -> (u32, u32) {
    let loop_wait = section.loop_wait.or((ttl / 3).min(10));
    (loop_wait, section.retry_timeout.or((ttl.saturating_sub(loop_wait) / 2).clamp(3, 10)))
}

/// The next `ttl` that is long enough, also for the defaults that grow with it.
fn least_ttl(section: &Failover, ttl: u32) -> u32 {
    let (loop_wait, retry_timeout) = timing(section, ttl);
    match loop_wait + 2 * retry_timeout {
        sum if sum > ttl => least_ttl(section, sum),
        _ => ttl,
    }
}

/// Debian 12's kernel for clouds has no i6300esb, and KubeVirt refuses it on other architectures than amd64.
fn watchdog(
    config: &Config,
    section: &Failover,
    release: Option<(Os, &str)>,
    problems: &mut Problems,
) -> Watchdog {
    let guest = config.guest.or_default();
    let preference = config.vm.or_default().preference;
    let given = section.watchdog.get().copied();
    let is_of_cluster = |preference: &&Matcher<_>| preference.kind.get() != Some(&PreferenceKind::Namespaced);
    let name = preference.get().filter(is_of_cluster).and_then(|preference| preference.name.get());
    let has_none = name.is_some_and(|name| {
        [".arm64", ".s390x"].iter().any(|architecture| name.as_str().ends_with(architecture))
    });
    let has_driver = match release {
        Some((Os::Debian, "13" | "trixie")) => Some(true),
        Some((Os::Debian, "12" | "bookworm")) => Some(false),
        _ => None,
    };
    if has_none && !matches!(given, None | Some(Watchdog::Off)) {
        problems.contradiction(
            Code::NoWatchdog,
            &[(&section.watchdog, "is for amd64"), (&preference, "is for another architecture")],
            "KubeVirt has the watchdog i6300esb on amd64 alone",
            "write `off`",
        );
    } else if has_driver == Some(false) && given == Some(Watchdog::Required) {
        problems.contradiction(
            Code::NoWatchdog,
            &[(&section.watchdog, "without it no node leads"), (&guest.image, "has no driver of it")],
            "the kernel of Debian 12's cloud images has no driver of the watchdog",
            format!("write `automatic`, or set `guest.image` to `{DEBIAN_13}`{}", instead(&guest)),
        );
    }
    given.unwrap_or(match (has_none, has_driver) {
        (true, _) => Watchdog::Off,
        (false, Some(true)) => Watchdog::Required,
        (false, _) => Watchdog::Automatic,
    })
}

/// `any` is Patroni's quorum commit, which is new in Patroni 4.
fn check_quorum(config: &Config, release: Option<(Os, &str)>, problems: &mut Problems) {
    let synchronous = config.postgresql.or_default().synchronous;
    let method: Field<SynchronousMethod> =
        synchronous.spanned().map_or(Field::Absent, |section| section.value.method.clone());
    let is_any = synchronous.is_present() && method.or(SynchronousMethod::Any) == SynchronousMethod::Any;
    let is_old = matches!(release, Some((Os::Debian, "12" | "bookworm") | (Os::Ubuntu, "24.04" | "noble")));
    if is_any && is_old {
        let guest = config.guest.or_default();
        problems.contradiction(
            Code::PatroniTooOld,
            &[
                (&synchronous, "any of the standbys"),
                (&config.failover, "is for Patroni 4"),
                (&guest.image, "and this has Patroni 3"),
            ],
            "`postgresql.synchronous` with the method `any` needs Patroni 4",
            format!(
                "set `postgresql.synchronous.method` to `first`, or `guest.image` to `{DEBIAN_13}`{}",
                instead(&guest)
            ),
        );
    }
}

impl Node {
    /// Its VM and host name.
    pub fn vm(self, names: &Names) -> String {
        names.vm(self.role, self.index)
    }
}
