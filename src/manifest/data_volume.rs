//! DataVolumes: the database disks, which outlive their VMs.

use super::metadata;
use crate::document::Document;
use crate::names::{self, DATA_DISK, Node, WAL_DISK};
use crate::plan::{Plan, VmPlan};
use crate::value::Quantity;
use crate::yaml::Yaml;

/// The data disk of a VM, and its WAL disk where it has one.
pub fn disks<'p>(plan: &'p Plan, vm: &'p VmPlan, node: Node) -> impl Iterator<Item = Document<'p>> {
    let data = (DATA_DISK, &vm.data_disk);
    let wal = vm.wal_disk.as_ref().map(|size| (WAL_DISK, size));
    std::iter::once(data).chain(wal).map(move |(disk, size)| {
        let name = names::disk(&node.vm(&plan.names), disk);
        blank(plan, vm, node, name, size)
    })
}

fn blank<'p>(plan: &'p Plan, vm: &'p VmPlan, node: Node, name: String, size: &Quantity) -> Document<'p> {
    let tree = map! {
        "apiVersion" => "cdi.kubevirt.io/v1beta1",
        "kind" => "DataVolume",
        "metadata" => metadata(plan, &name, Some(node), &plan.annotations.disk),
        "spec" => map! {
            "source" => map! { "blank" => map! {} },
            "storage" => storage(vm, size),
        },
    };
    Document::new("DataVolume", name, tree)
}

/// `storage` of a DataVolume; what the config leaves open is the storage profile's choice.
pub(super) fn storage<'p>(vm: &'p VmPlan, size: &Quantity) -> Yaml<'p> {
    let modes = &vm.access_modes;
    map! {
        "resources" => map! { "requests" => map! { "storage" => size } },
        "storageClassName" => vm.storage_class.as_deref(),
        "accessModes" => (!modes.is_empty()).then(|| Yaml::items(modes.iter().map(|mode| (*mode).into()))),
        "volumeMode" => vm.volume_mode,
    }
}
