//! The operating system in the VMs.

use super::archive::{self, ArchivePlan};
use super::monitoring::EXPORTER_PACKAGE;
use super::release::{DEFAULT_IMAGE, infer_os, release_of};
use super::tls;
use crate::config::Config;
use crate::config::fields::{Involved, Spanned};
use crate::config::guest::Guest;
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::value::{ArchiveTool, FromText, ImageReference, Os, Packages, Quantity, RootDisk, one_of};

/// What runs in the VMs.
#[derive(Debug)]
pub struct GuestPlan {
    /// The distribution.
    pub os: Os,
    /// Its family.
    pub family: Family,
    /// The root disk.
    pub root: RootPlan,
    /// Packages that the guest installs where they are missing; none: the package manager is never called.
    pub packages: Vec<String>,
    /// The same for a witness.
    pub witness_packages: Vec<String>,
    /// The same for a client.
    pub client_packages: Vec<String>,
    /// Proxy for the package manager.
    pub http_proxy: Option<String>,
    /// A user beside the image's default one.
    pub user: Option<String>,
    /// Public keys of that user, or of the default one.
    pub authorized_keys: Vec<String>,
}

/// Distributions that share package names, paths and units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Fedora, CentOS Stream, RHEL, AlmaLinux.
    Rpm,
    /// Debian, Ubuntu.
    Debian,
}

/// The root disk of a VM.
#[derive(Debug)]
pub enum RootPlan {
    /// A containerDisk.
    ContainerDisk {
        /// The image.
        image: String,
        /// Secret to pull it with.
        pull_secret: Option<String>,
    },
    /// A DataVolume imported from a containerDisk image.
    Registry {
        /// The image.
        image: String,
        /// Size of the disk.
        size: Quantity,
    },
    /// A DataVolume cloned from a DataSource.
    DataSource {
        /// Name of the DataSource.
        name: String,
        /// Its namespace.
        namespace: Option<String>,
        /// Size of the disk.
        size: Quantity,
    },
}

const DEFAULT_ROOT_DISK_GIB: u64 = 30;

/// The smallest root disk that the cloud images of all families fit in.
const LEAST_ROOT_DISK: u128 = 5 << 30;

impl Family {
    fn of(os: Os) -> Self {
        match os {
            Os::Fedora | Os::CentosStream | Os::Rhel | Os::Almalinux => Self::Rpm,
            Os::Debian | Os::Ubuntu => Self::Debian,
        }
    }

    /// What `virtwork-chaos` needs. (The module for netem is of the kernel that runs: the guest sees to it.)
    fn traffic_control(self) -> &'static str {
        match self {
            Self::Rpm => "iproute-tc",
            Self::Debian => "iproute2",
        }
    }

    /// What the scripts need. On RPM, pgbench comes with `postgresql-contrib`.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Rpm => &["postgresql-server", "postgresql-contrib", "qemu-guest-agent"],
            Self::Debian => &["postgresql", "qemu-guest-agent"],
        }
    }
}

impl Family {
    /// What a client needs: psql, and libpq with it.
    fn client_packages(self) -> &'static [&'static str] {
        match self {
            Self::Rpm => &["postgresql", "qemu-guest-agent"],
            Self::Debian => &["postgresql-client", "qemu-guest-agent"],
        }
    }
}

impl GuestPlan {
    /// What an archive takes, where packages are installed at all.
    pub(super) fn install_too(&mut self, archive: &ArchivePlan) {
        if self.packages.is_empty() {
            return;
        }
        let barman = [archive::barman(self.family)];
        let tool: &[&str] = if archive.tool == ArchiveTool::BarmanCloud { &barman } else { &[] };
        for package in tool.iter().chain(archive.packages()) {
            if !self.packages.iter().any(|other| other == package) {
                self.packages.push((*package).to_owned());
            }
        }
    }
}

/// What nodes under Patroni need beside that, where packages are known.
/// (`python3-etcd` is what Patroni talks to etcd with; its package is content with any other of its kind.)
const PATRONI_PACKAGES: [&str; 6] =
    ["patroni", "python3-etcd", "etcd-server", "etcd-client", "haproxy", "openssl"];

/// What makes certificates, and looks at them.
const OPENSSL: &str = "openssl";

/// What a witness needs: etcd, and what makes its certificates.
const WITNESS_PACKAGES: [&str; 4] = ["etcd-server", "etcd-client", "openssl", "qemu-guest-agent"];

pub(super) fn plan(
    config: &Config,
    is_patroni: bool,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> GuestPlan {
    let guest = config.guest.or_default();
    let os = os(&guest, problems);
    if let Some(image) = guest.image.spanned() {
        check_release(image, problems);
    }
    let family = Family::of(os);
    let preinstalled = guest.packages.get() == Some(&Packages::Preinstalled);
    if preinstalled {
        for (present, keys) in [
            (
                guest.extra_packages.is_present(),
                [
                    (&guest.extra_packages as _, "nothing installs these"),
                    (&guest.packages as _, "because of this"),
                ],
            ),
            (
                guest.http_proxy.is_present(),
                [(&guest.http_proxy as _, "nothing uses it"), (&guest.packages as _, "because of this")],
            ),
        ] {
            if present {
                problems.contradiction(
                    Code::KeyWithoutEffect,
                    &keys,
                    "`guest.packages` is `preinstalled`: nothing calls the package manager",
                    "remove the key, or set `guest.packages` to `install`",
                );
            }
        }
    } else if os == Os::Rhel {
        notes.push(Note::new(
            Code::SubscriptionNeeded,
            "RHEL guests install packages only with a subscription; without one use a golden image and \
             `packages: preinstalled`",
        ));
    }
    let extra = guest.extra_packages.or_default().into_iter().map(|package| package.value.to_string());
    let extra: Vec<_> = extra.collect();
    let packages = |needed: &[&str]| -> Vec<String> {
        if preinstalled {
            return Vec::new();
        }
        let mut packages: Vec<String> = needed.iter().map(ToString::to_string).collect();
        for package in &extra {
            if !packages.contains(package) {
                packages.push(package.clone());
            }
        }
        packages
    };
    let (of_patroni, of_witness): (&[&str], &[&str]) =
        if is_patroni { (&PATRONI_PACKAGES, &WITNESS_PACKAGES) } else { (&[], &[]) };
    let traffic_control = [family.traffic_control()];
    let of_chaos: &[&str] = if config.chaos_network.is_present() { &traffic_control } else { &[] };
    // what tells SELinux that the upstream's port is PostgreSQL's, too
    let is_other_port = config.upstream.or_default().port.or(5432) != 5432;
    let of_upstream: &[&str] = match family {
        Family::Rpm if is_other_port => &["policycoreutils-python-utils"],
        _ => &[],
    };
    let of_tls: &[&str] = if tls::is_on(config) { &[OPENSSL] } else { &[] };
    let exporter = config.monitoring.or_default().postgres_exporter.or(false);
    let of_exporter: &[&str] = if exporter { &[EXPORTER_PACKAGE] } else { &[] };
    let (user, authorized_keys) = ssh(&guest, problems);
    GuestPlan {
        os,
        family,
        root: root(&guest, problems),
        packages: packages(&distinct(&[
            family.packages(),
            of_patroni,
            of_chaos,
            of_exporter,
            of_tls,
            of_upstream,
        ])),
        witness_packages: packages(of_witness),
        client_packages: packages(&distinct(&[family.client_packages(), of_tls])),
        http_proxy: guest.http_proxy.get().map(ToString::to_string),
        user,
        authorized_keys,
    }
}

/// Each package once.
fn distinct(lists: &[&[&'static str]]) -> Vec<&'static str> {
    let mut all = Vec::new();
    for package in lists.iter().copied().flatten().copied() {
        if !all.contains(&package) {
            all.push(package);
        }
    }
    all
}

fn os(guest: &Guest, problems: &mut Problems) -> Os {
    if let Some(os) = guest.os.get() {
        return *os;
    }
    if guest.os.is_present() {
        return Os::Fedora;
    }
    if let Some(source) = guest.data_source.spanned() {
        problems.push(
            Diagnostic::new(
                Code::UnknownOs,
                source.span.clone(),
                "`guest.data-source` needs `guest.os`: a DataSource does not tell its system",
            )
            .help(format!("set `guest.os` to {}", one_of(Os::WORDS))),
        );
        return Os::Fedora;
    }
    let image = guest.image.get().map_or(DEFAULT_IMAGE, ImageReference::as_str);
    infer_os(image).unwrap_or_else(|| {
        if let Some(image) = guest.image.spanned() {
            problems.push(
                Diagnostic::new(
                    Code::UnknownOs,
                    image.span.clone(),
                    format!("the operating system of `{}` is not known", image.value),
                )
                .help(format!("set `guest.os` to {}", one_of(Os::WORDS))),
            );
        }
        Os::Fedora
    })
}

/// Releases whose PostgreSQL is older than 13 or whose systemd is older than 244, by the tags of their images.
const TOO_OLD: [(Os, &[&str]); 5] = [
    (Os::CentosStream, &["8"]),
    (Os::Rhel, &["7", "8"]),
    (Os::Almalinux, &["8"]),
    (Os::Debian, &["9", "10", "stretch", "buster"]),
    (Os::Ubuntu, &["16.04", "18.04", "20.04", "xenial", "bionic", "focal"]),
];

fn check_release(image: &Spanned<ImageReference>, problems: &mut Problems) {
    let Some((os, release)) = release_of(image.value.as_str()) else { return };
    // 33 has PostgreSQL 12
    let is_old_fedora = os == Os::Fedora && release.parse().is_ok_and(|release: u32| release < 34);
    if is_old_fedora || TOO_OLD.iter().any(|(old, releases)| *old == os && releases.contains(&release)) {
        let message = format!("`{}` is too old", image.value);
        problems.push(Diagnostic::new(Code::ReleaseTooOld, image.span.clone(), message).help(
            "choose a release with PostgreSQL 13 or newer: Fedora 34, RHEL and its likes 9, Debian 11, Ubuntu 22.04",
        ));
    }
}

fn root(guest: &Guest, problems: &mut Problems) -> RootPlan {
    if guest.data_source.is_present() {
        if guest.image.is_present() {
            problems.contradiction(
                Code::ExclusiveKeys,
                &[(&guest.image, "either an image"), (&guest.data_source, "or a DataSource")],
                "`guest` names two root disks",
                "keep `guest.image` or `guest.data-source`",
            );
        }
        if guest.root_disk.get() == Some(&RootDisk::Ephemeral) {
            problems.contradiction(
                Code::ExclusiveKeys,
                &[
                    (&guest.root_disk, "a containerDisk"),
                    (&guest.data_source, "but this is cloned to a volume"),
                ],
                "a root disk from a `guest.data-source` is persistent",
                "remove `guest.root-disk`, or use `guest.image`",
            );
        }
    }
    let persistent = guest.data_source.is_present() || guest.root_disk.get() == Some(&RootDisk::Persistent);
    if !persistent && guest.root_disk_size.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&guest.root_disk_size, "the size of no disk"), (&guest.root_disk, "because of this")],
            "an ephemeral root disk has the size of its image",
            "remove `guest.root-disk-size`, or set `guest.root-disk` to `persistent`",
        );
    }
    if persistent && guest.image_pull_secret.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&guest.image_pull_secret, "CDI does not use it"), (&guest.root_disk, "for a persistent root"), (&guest.data_source, "for a clone")],
            "`guest.image-pull-secret` is for an ephemeral root disk",
            "remove it; for a private registry set `imagePullSecrets` in the CDI resource, or use a `guest.data-source`",
        );
    }
    if let Some(size) = guest.root_disk_size.spanned()
        && size.value.bytes() < LEAST_ROOT_DISK
    {
        let message = format!("`guest.root-disk-size` {} is too small", size.value);
        problems.push(
            Diagnostic::new(Code::DiskTooSmall, size.span.clone(), message)
                .help("give it at least `5Gi`, or the size of the image where that is larger"),
        );
    }
    let size = guest.root_disk_size.or(Quantity::gib(DEFAULT_ROOT_DISK_GIB));
    let image = guest.image.get().map_or(DEFAULT_IMAGE, ImageReference::as_str).to_owned();
    if let Some(source) = guest.data_source.spanned() {
        if !source.value.name.is_present() {
            problems.push(
                Diagnostic::new(Code::MissingKey, source.span.clone(), "`guest.data-source` has no `name`").help(
                    "add `name`, and `namespace` where it is not the lab's: `openshift-virtualization-os-images`",
                ),
            );
        }
        RootPlan::DataSource {
            name: source.value.name.get().map(ToString::to_string).unwrap_or_default(),
            namespace: source.value.namespace.get().map(ToString::to_string),
            size,
        }
    } else if persistent {
        RootPlan::Registry { image, size }
    } else {
        RootPlan::ContainerDisk { image, pull_secret: guest.image_pull_secret.get().map(ToString::to_string) }
    }
}

fn ssh(guest: &Guest, problems: &mut Problems) -> (Option<String>, Vec<String>) {
    let ssh = guest.ssh.or_default();
    let keys = ssh.authorized_keys.or_default();
    if let Some(user) = ssh.user.spanned()
        && keys.is_empty()
        && ssh.authorized_keys.place().is_ok()
    {
        let message = format!("nobody could log in as `{}`", user.value);
        problems.push(
            Diagnostic::new(Code::UserWithoutKey, user.span.clone(), message)
                .help("add `guest.ssh.authorized-keys` with at least one public key"),
        );
    }
    (ssh.user.get().map(ToString::to_string), keys.into_iter().map(|key| key.value.to_string()).collect())
}
