//! `guest:` the operating system in the VMs.

use super::fields::{Field, Fields, Spanned, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    ImageReference, Namespace, ObjectName, Os, PackageName, Packages, ProxyUrl, Quantity, RootDisk, SshKey,
    UserName,
};

section! {
    /// The keys of `guest`.
    pub struct Guest {
        /// The containerDisk image of the root disk.
        #[instead_of(data_source)]
        "image" => image: ImageReference {
            default: Literal("quay.io/containerdisks/fedora:44"),
            example: "quay.io/containerdisks/debian:12",
            objects: &["Secret", "ConfigMap", "VirtualMachine"],
            change: Root,
        }
        /// A DataSource of the cluster to clone the root disk from. Needs `os`.
        #[instead_of(image)]
        "data-source" => data_source: DataSource {
            default: Words("none"),
            example: "{name: rhel9, namespace: openshift-virtualization-os-images}",
            with: "os: rhel",
            objects: &["Secret", "ConfigMap", "VirtualMachine"],
            change: Root,
        }
        /// The operating system of the image. Disks of one family (Debian and Ubuntu, or all others) are not for the
        /// other.
        "os" => os: Os {
            default: Words("what the name of the image says"),
            example: "fedora",
            with: "image: \"registry.example.com/golden/lab:1\"",
            objects: &["Secret", "ConfigMap", "VirtualMachine"],
            change: Lab,
        }
        /// Whether the root disk outlives a stop of its VM. One from a data-source always does.
        "root-disk" => root_disk: RootDisk {
            default: Literal("ephemeral"),
            example: "persistent",
            objects: &["VirtualMachine"],
            change: Root,
        }
        /// Size of a persistent root disk.
        "root-disk-size" => root_disk_size: Quantity {
            default: Literal("30Gi"),
            example: "50Gi",
            with: "root-disk: persistent",
            least: Some(("5Gi", "no cloud image fits in less")),
            objects: &["VirtualMachine"],
            change: Root,
        }
        /// Where packages come from: the guest installs what is missing, or never calls its package manager (an
        /// air-gapped lab).
        "packages" => packages: Packages {
            default: Literal("install"),
            example: "preinstalled",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Packages to install beside PostgreSQL.
        "extra-packages" => extra_packages: Vec<Spanned<PackageName>> {
            default: Literal("[]"),
            example: "[sysstat]",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Proxy for the package manager.
        "http-proxy" => http_proxy: ProxyUrl {
            default: Words("none"),
            example: "http://proxy.example.com:3128",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Secret of the cluster to pull the image of an ephemeral root disk with.
        "image-pull-secret" => image_pull_secret: ObjectName {
            default: Words("none"),
            example: "registry-login",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Who may log in.
        "ssh" => ssh: Ssh {}
    }
}

section! {
    /// `guest.data-source`: a boot source of the cluster; a name, or `{name, namespace}`.
    pub struct DataSource or name {
        /// Name of the DataSource.
        "name" => name: ObjectName {
            default: Words("none: it has to be given"),
            example: "rhel9",
            objects: &["Secret", "VirtualMachine"],
            change: Root,
        }
        /// Its namespace.
        "namespace" => namespace: Namespace {
            default: Words("the lab's"),
            example: "openshift-virtualization-os-images",
            with: "name: rhel9",
            objects: &["VirtualMachine"],
            change: Root,
        }
    }
}

section! {
    /// `guest.ssh`: access for people.
    pub struct Ssh {
        /// The user. Needs at least one key.
        "user" => user: UserName {
            default: Words("the image's own user"),
            example: "lab",
            with: "authorized-keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f]",
            objects: &["Secret"],
            change: Root,
        }
        /// Public keys that may log in as that user.
        "authorized-keys" => authorized_keys: Vec<Spanned<SshKey>> {
            default: Literal("[]"),
            example: "[ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f]",
            objects: &["Secret"],
            change: Root,
        }
    }
}
