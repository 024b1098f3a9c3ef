//! `guest:` the operating system in the VMs.

use super::fields::{Field, Fields, Spanned, Value, short_form};
use super::section;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    ImageReference, Namespace, ObjectName, Os, PackageName, Packages, ProxyUrl, Quantity, RootDisk, SshKey,
    UserName,
};

/// The keys of `guest`.
#[derive(Debug, Clone, Default)]
pub struct Guest {
    /// A containerDisk image.
    pub image: Field<ImageReference>,
    /// A DataSource to clone the root disk from.
    pub data_source: Field<DataSource>,
    /// The operating system of the image.
    pub os: Field<Os>,
    /// Whether the root disk outlives a stop.
    pub root_disk: Field<RootDisk>,
    /// Size of a persistent root disk.
    pub root_disk_size: Field<Quantity>,
    /// Where packages come from.
    pub packages: Field<Packages>,
    /// Packages to install beside PostgreSQL.
    pub extra_packages: Field<Vec<Spanned<PackageName>>>,
    /// Proxy for the package manager.
    pub http_proxy: Field<ProxyUrl>,
    /// Secret to pull the image with.
    pub image_pull_secret: Field<ObjectName>,
    /// Who may log in.
    pub ssh: Field<Ssh>,
}

section!(Guest, |fields| Self {
    image: fields.value("image"),
    data_source: fields.value("data-source"),
    os: fields.value("os"),
    root_disk: fields.value("root-disk"),
    root_disk_size: fields.value("root-disk-size"),
    packages: fields.value("packages"),
    extra_packages: fields.value("extra-packages"),
    http_proxy: fields.value("http-proxy"),
    image_pull_secret: fields.value("image-pull-secret"),
    ssh: fields.value("ssh"),
});

/// `guest.data-source`: a boot source of the cluster; a name, or `{name, namespace}`.
#[derive(Debug, Clone, Default)]
pub struct DataSource {
    /// Name of the DataSource.
    pub name: Field<ObjectName>,
    /// Its namespace; the lab's when absent.
    pub namespace: Field<Namespace>,
}

impl Value for DataSource {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let Some(name) = short_form(node, problems) {
            return name.map(|name| Self { name, namespace: Field::Absent });
        }
        let mut fields = Fields::of(node, problems)?;
        let source = Self { name: fields.value("name"), namespace: fields.value("namespace") };
        fields.finish();
        Some(source)
    }
}

/// `guest.ssh`: access for people.
#[derive(Debug, Clone, Default)]
pub struct Ssh {
    /// The user; the image's default user when absent.
    pub user: Field<UserName>,
    /// Public keys that may log in as that user.
    pub authorized_keys: Field<Vec<Spanned<SshKey>>>,
}

section!(Ssh, |fields| Self { user: fields.value("user"), authorized_keys: fields.value("authorized-keys") });
