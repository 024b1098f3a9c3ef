//! `vm:`, and `primary:` and `replica:` over it: the shape of the virtual machines.

use super::fields::{Entries, Field, Fields, Spanned, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    AccessMode, AntiAffinity, FromText, InstancetypeKind, IoThreadsPolicy, LabelKey, LabelValue, ObjectName,
    PreferenceKind, Quantity, RunStrategy, TaintEffect, TolerationOperator, VolumeMode,
};

section! {
    /// The keys of `vm`, `primary` and `replica`.
    pub struct Vm {
        /// Virtual CPUs of each VM.
        #[whole(1..=512, "CPUs", "virtual CPUs of one VM; KubeVirt's machine type ends at 512")]
        #[instead_of(instancetype)]
        "cpu-cores" => cpu_cores: u32 {
            default: Literal("2"),
            example: "4",
            also: &["cpu", "cpus", "cores"],
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Memory of each guest.
        #[instead_of(instancetype)]
        "memory" => memory: Quantity {
            default: Words("2Gi, more where many replicas or clients need it"),
            example: "4Gi",
            also: &["ram"],
            least: Some(("1Gi", "PostgreSQL and the package manager need it")),
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// An instancetype of the cluster, which says CPUs and memory.
        #[instead_of(cpu_cores, memory)]
        "instancetype" => instancetype: Matcher<InstancetypeKind> {
            default: Words("none"),
            example: "u1.medium",
            objects: &["VirtualMachine"],
            change: Instancetype,
        }
        /// A preference of the cluster. In `primary` and `replica` it goes with its instancetype.
        #[goes_with(instancetype)]
        "preference" => preference: Matcher<PreferenceKind> {
            default: Words("none"),
            example: "fedora",
            objects: &["VirtualMachine"],
            change: Instancetype,
        }
        /// Size of the data disk.
        "data-disk-size" => data_disk_size: Quantity {
            default: Words("what scale and retained WAL need, rounded up to 10, 20, 50, 100, 200 or 500Gi and so on"),
            example: "50Gi",
            also: &["disk-size"],
            objects: &["DataVolume"],
            change: Disks,
        }
        /// Size of a disk of its own for the WAL, which is on the data disk otherwise. For new nodes only.
        "wal-disk-size" => wal_disk_size: Quantity {
            default: Words("none"),
            example: "30Gi",
            objects: &["ConfigMap", "DataVolume", "VirtualMachine"],
            change: Nodes,
        }
        /// StorageClass of the disks.
        "storage-class" => storage_class: ObjectName {
            default: Words("the cluster's"),
            example: "fast",
            objects: &["DataVolume"],
            change: Disks,
        }
        /// Access modes of the disks. Live migration needs `ReadWriteMany`.
        "access-modes" => access_modes: Vec<Spanned<AccessMode>> {
            default: Words("the storage profile's"),
            example: "[ReadWriteMany]",
            objects: &["DataVolume"],
            change: Disks,
        }
        /// Volume mode of the disks.
        "volume-mode" => volume_mode: VolumeMode {
            default: Words("the storage profile's"),
            example: "Block",
            objects: &["DataVolume"],
            change: Disks,
        }
        /// Labels that a node must have.
        "node-selector" => node_selector: Entries<LabelKey, LabelValue> {
            default: Literal("{}"),
            example: "{example.com/disks: nvme}",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Taints that the VMs tolerate.
        "tolerations" => tolerations: Vec<Spanned<Toleration>> {
            default: Literal("[]"),
            example: "[{key: example.com/databases, operator: Exists}]",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Whether VMs of the lab keep away from each other's nodes.
        "anti-affinity" => anti_affinity: AntiAffinity {
            default: Literal("preferred"),
            example: "required",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// When the VMs run. With `Manual`, virtctl starts and stops them.
        "run-strategy" => run_strategy: RunStrategy {
            default: Literal("Always"),
            example: "Manual",
            objects: &["VirtualMachine"],
            change: Stopped,
        }
        /// An I/O thread of its own for each database disk.
        "dedicated-io-thread" => dedicated_io_thread: bool {
            default: Words("KubeVirt's"),
            example: "true",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// A queue for each CPU on disks.
        "block-multiqueue" => block_multiqueue: bool {
            default: Words("KubeVirt's"),
            example: "true",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// A queue for each CPU on the network interface.
        "network-multiqueue" => network_multiqueue: bool {
            default: Words("KubeVirt's"),
            example: "true",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// How disks share I/O threads.
        "io-threads-policy" => io_threads_policy: IoThreadsPolicy {
            default: Words("KubeVirt's"),
            example: "shared",
            objects: &["VirtualMachine"],
            change: Restart,
        }
    }
}

section! {
    /// A reference to an instancetype or preference: a name, or `{name, kind}`.
    pub struct Matcher<Kind> or name {
        /// Name of the object.
        "name" => name: ObjectName {
            default: Words("none: it has to be given"),
            example: "database",
            objects: &["VirtualMachine"],
            change: Instancetype,
        }
        /// Its kind: of the cluster, or of the namespace.
        "kind" => kind: Kind {
            default: Literal(Kind::WORDS[0]),
            example: Kind::WORDS[1],
            with: "name: database",
            objects: &["VirtualMachine"],
            change: Instancetype,
        }
    }
}

section! {
    /// An item of `tolerations`.
    pub struct Toleration {
        /// Key of the taint.
        "key" => key: LabelKey {
            default: Words("every taint, with `operator: Exists`"),
            example: "example.com/databases",
            with: "operator: Exists",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Whether the value has to be the taint's, or only the key.
        "operator" => operator: TolerationOperator {
            default: Literal("Equal"),
            example: "Exists",
            with: "key: example.com/databases",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Value of the taint.
        "value" => value: LabelValue {
            default: Words("empty"),
            example: "nvme",
            with: "key: example.com/disks",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Effect of the taint.
        "effect" => effect: TaintEffect {
            default: Words("every effect"),
            example: "NoExecute",
            with: "key: example.com/databases",
            objects: &["VirtualMachine"],
            change: Restart,
        }
        /// Seconds until a `NoExecute` taint evicts the VM after all.
        #[whole(0..=31_536_000, "seconds", "seconds, at most a year")]
        "toleration-seconds" => toleration_seconds: u32 {
            default: Words("never"),
            example: "60",
            with: "key: example.com/databases, effect: NoExecute",
            objects: &["VirtualMachine"],
            change: Restart,
        }
    }
}
