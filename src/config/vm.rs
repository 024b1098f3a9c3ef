//! `vm:`, and `primary:` and `replica:` over it: the shape of the virtual machines.

use super::fields::{Entries, Field, Fields, Spanned, Value, short_form};
use super::section;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    AccessMode, AntiAffinity, InstancetypeKind, IoThreadsPolicy, LabelKey, LabelValue, ObjectName,
    PreferenceKind, Quantity, RunStrategy, TaintEffect, TolerationOperator, VolumeMode,
};

/// The keys of `vm`, `primary` and `replica`.
#[derive(Debug, Clone, Default)]
pub struct Vm {
    /// Virtual CPUs.
    pub cpu_cores: Field<u32>,
    /// Memory of the guest.
    pub memory: Field<Quantity>,
    /// An instancetype instead of CPUs and memory.
    pub instancetype: Field<Matcher<InstancetypeKind>>,
    /// A preference.
    pub preference: Field<Matcher<PreferenceKind>>,
    /// Size of the data disk.
    pub data_disk_size: Field<Quantity>,
    /// Size of a disk of its own for the WAL.
    pub wal_disk_size: Field<Quantity>,
    /// StorageClass of the VM's disks.
    pub storage_class: Field<ObjectName>,
    /// Access modes of the VM's disks.
    pub access_modes: Field<Vec<Spanned<AccessMode>>>,
    /// Volume mode of the VM's disks.
    pub volume_mode: Field<VolumeMode>,
    /// Labels a node must have.
    pub node_selector: Field<Entries<LabelKey, LabelValue>>,
    /// Taints the VM tolerates.
    pub tolerations: Field<Vec<Spanned<Toleration>>>,
    /// Whether VMs of the lab may share a node.
    pub anti_affinity: Field<AntiAffinity>,
    /// When the VM runs.
    pub run_strategy: Field<RunStrategy>,
    /// A thread of its own for each database disk.
    pub dedicated_io_thread: Field<bool>,
    /// A queue for each CPU on block devices.
    pub block_multiqueue: Field<bool>,
    /// A queue for each CPU on the network interface.
    pub network_multiqueue: Field<bool>,
    /// How disks share I/O threads.
    pub io_threads_policy: Field<IoThreadsPolicy>,
}

section!(Vm, |fields| Self {
    cpu_cores: fields.integer(
        "cpu-cores",
        1..=512,
        "virtual CPUs of one VM; KubeVirt's machine type ends at 512"
    ),
    memory: fields.value("memory"),
    instancetype: fields.value("instancetype"),
    preference: fields.value("preference"),
    data_disk_size: fields.value("data-disk-size"),
    wal_disk_size: fields.value("wal-disk-size"),
    storage_class: fields.value("storage-class"),
    access_modes: fields.value("access-modes"),
    volume_mode: fields.value("volume-mode"),
    node_selector: fields.value("node-selector"),
    tolerations: fields.value("tolerations"),
    anti_affinity: fields.value("anti-affinity"),
    run_strategy: fields.value("run-strategy"),
    dedicated_io_thread: fields.value("dedicated-io-thread"),
    block_multiqueue: fields.value("block-multiqueue"),
    network_multiqueue: fields.value("network-multiqueue"),
    io_threads_policy: fields.value("io-threads-policy"),
});

impl Vm {
    /// These keys over those of `base`, key by key; lists and maps replace.
    ///
    /// An instancetype and explicit CPUs or memory exclude each other, so one of them here drops the other
    /// kind of `base`; a preference goes with the instancetype it came with.
    pub fn over(&self, base: &Self) -> Self {
        let mut base = base.clone();
        if self.instancetype.is_present() {
            base.cpu_cores = Field::Absent;
            base.memory = Field::Absent;
            base.preference = Field::Absent;
        }
        if (self.cpu_cores.is_present() || self.memory.is_present()) && base.instancetype.is_present() {
            base.instancetype = Field::Absent;
            base.preference = Field::Absent;
        }
        Self {
            cpu_cores: self.cpu_cores.over(&base.cpu_cores),
            memory: self.memory.over(&base.memory),
            instancetype: self.instancetype.over(&base.instancetype),
            preference: self.preference.over(&base.preference),
            data_disk_size: self.data_disk_size.over(&base.data_disk_size),
            wal_disk_size: self.wal_disk_size.over(&base.wal_disk_size),
            storage_class: self.storage_class.over(&base.storage_class),
            access_modes: self.access_modes.over(&base.access_modes),
            volume_mode: self.volume_mode.over(&base.volume_mode),
            node_selector: self.node_selector.over(&base.node_selector),
            tolerations: self.tolerations.over(&base.tolerations),
            anti_affinity: self.anti_affinity.over(&base.anti_affinity),
            run_strategy: self.run_strategy.over(&base.run_strategy),
            dedicated_io_thread: self.dedicated_io_thread.over(&base.dedicated_io_thread),
            block_multiqueue: self.block_multiqueue.over(&base.block_multiqueue),
            network_multiqueue: self.network_multiqueue.over(&base.network_multiqueue),
            io_threads_policy: self.io_threads_policy.over(&base.io_threads_policy),
        }
    }
}

/// A reference to an instancetype or preference: a name, or `{name, kind}`.
#[derive(Debug, Clone)]
pub struct Matcher<Kind> {
    /// Name of the object.
    pub name: Field<ObjectName>,
    /// Its kind; the cluster-wide one when absent, as in KubeVirt.
    pub kind: Field<Kind>,
}

impl<Kind: Value> Value for Matcher<Kind> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let Some(name) = short_form(node, problems) {
            return name.map(|name| Self { name, kind: Field::Absent });
        }
        let mut fields = Fields::of(node, problems)?;
        let matcher = Self { name: fields.value("name"), kind: fields.value("kind") };
        fields.finish();
        Some(matcher)
    }
}

/// An item of `tolerations`.
#[derive(Debug, Clone, Default)]
pub struct Toleration {
    /// Key of the taint; every taint when absent.
    pub key: Field<LabelKey>,
    /// How the value is compared.
    pub operator: Field<TolerationOperator>,
    /// Value of the taint.
    pub value: Field<LabelValue>,
    /// Effect of the taint; every effect when absent.
    pub effect: Field<TaintEffect>,
    /// Seconds until a `NoExecute` taint evicts after all.
    pub toleration_seconds: Field<u32>,
}

section!(Toleration, |fields| Self {
    key: fields.value("key"),
    operator: fields.value("operator"),
    value: fields.value("value"),
    effect: fields.value("effect"),
    toleration_seconds: fields.integer("toleration-seconds", 0..=31_536_000, "seconds, at most a year"),
});
