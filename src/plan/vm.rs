//! The virtual machine of a role.

mod compute;
mod disks;
mod scheduling;

pub use compute::Compute;
pub use scheduling::TolerationPlan;

use super::needs::Needs;
use crate::config::Config;
use crate::config::fields::{Field, Spanned};
use crate::config::vm::Vm;
use crate::diagnostic::{Code, Note, Problems};
use crate::names::Role;
use crate::value::{
    AccessMode, AntiAffinity, IoThreadsPolicy, PreferenceKind, Quantity, RunStrategy, VolumeMode,
};

/// The shape of the VMs of one role.
#[derive(Debug)]
pub struct VmPlan {
    /// CPUs and memory.
    pub compute: Compute,
    /// Kind and name of a preference.
    pub preference: Option<(PreferenceKind, String)>,
    /// Size of the data disk.
    pub data_disk: Quantity,
    /// Size of a disk of its own for the WAL.
    pub wal_disk: Option<Quantity>,
    /// StorageClass of its disks; the cluster's default when absent.
    pub storage_class: Option<String>,
    /// Access modes of its disks; the storage profile's when absent.
    pub access_modes: Vec<AccessMode>,
    /// Volume mode of its disks; the storage profile's when absent.
    pub volume_mode: Option<VolumeMode>,
    /// Labels a node must have.
    pub node_selector: Vec<(String, String)>,
    /// Taints it tolerates.
    pub tolerations: Vec<TolerationPlan>,
    /// Whether VMs of the lab may share a node.
    pub anti_affinity: AntiAffinity,
    /// When it runs.
    pub run_strategy: RunStrategy,
    /// An I/O thread for each database disk.
    pub dedicated_io_thread: Option<bool>,
    /// A queue for each CPU on block devices.
    pub block_multiqueue: Option<bool>,
    /// A queue for each CPU on the network interface.
    pub network_multiqueue: Option<bool>,
    /// How disks share I/O threads.
    pub io_threads_policy: Option<IoThreadsPolicy>,
}

pub(super) fn plan(
    config: &Config,
    role: Role,
    needs: &Needs,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> VmPlan {
    let of_client = config.client.spanned().map_or(Field::Absent, |section| {
        let Spanned { value, span, path } = section.clone();
        Field::Given(Spanned { value: value.vm, span, path })
    });
    let own = match role {
        Role::Primary => &config.primary,
        Role::Replica => &config.replica,
        Role::Node => &Field::Absent,
        Role::Witness => &config.witness,
        Role::Client => &of_client,
    };
    for section in [&config.vm, own] {
        compute::check_section(section, problems);
    }
    let base = config.vm.or_default();
    let (base, needs) = match role {
        Role::Primary | Role::Replica | Role::Node => (base, needs),
        Role::Witness => (shape_without_database(base), &needs.of_witness()),
        Role::Client => (shape_without_database(base), &needs.of_client()),
    };
    let vm = own.or_default().over(&base);
    if needs.instead.is_some() && vm.wal_disk_size.is_present() {
        let role = role.as_str();
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&vm.wal_disk_size, "for no WAL")],
            format!("the {role} has no database, and so no WAL"),
            format!("remove `{role}.wal-disk-size`"),
        );
    }
    compute::check_preference(&vm, needs, problems, notes);
    VmPlan {
        compute: compute::plan(&vm, needs, problems),
        preference: compute::preference(&vm, problems),
        data_disk: needs.data_disk(&vm, problems),
        wal_disk: needs.wal_disk(&vm, problems),
        storage_class: vm.storage_class.get().map(ToString::to_string),
        access_modes: disks::access_modes(&vm.access_modes, problems, notes),
        volume_mode: vm.volume_mode.get().copied(),
        node_selector: scheduling::node_selector(&vm),
        tolerations: scheduling::tolerations(&vm, problems),
        anti_affinity: vm.anti_affinity.or(AntiAffinity::Preferred),
        run_strategy: vm.run_strategy.or(RunStrategy::Always),
        dedicated_io_thread: vm.dedicated_io_thread.get().copied(),
        block_multiqueue: vm.block_multiqueue.get().copied(),
        network_multiqueue: vm.network_multiqueue.get().copied(),
        io_threads_policy: vm.io_threads_policy.get().copied(),
    }
}

/// What a VM without database takes from `vm`: where it runs and what its disks are, not how large the nodes with databases are.
fn shape_without_database(base: Vm) -> Vm {
    Vm {
        storage_class: base.storage_class,
        access_modes: base.access_modes,
        volume_mode: base.volume_mode,
        node_selector: base.node_selector,
        tolerations: base.tolerations,
        anti_affinity: base.anti_affinity,
        run_strategy: base.run_strategy,
        ..Vm::default()
    }
}
