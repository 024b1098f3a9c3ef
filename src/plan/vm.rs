//! The virtual machine of a role.

use super::{DEFAULT_REPLICA_COUNT, PgbenchPlan, PostgresqlPlan, sizing};
use crate::config::Config;
use crate::config::fields::{Field, Involved, Spanned};
use crate::config::vm::{Matcher, Toleration, Vm};
use crate::diagnostic::{Diagnostic, Problems};
use crate::names::Role;
use crate::value::{
    AccessMode, AntiAffinity, FromText, InstancetypeKind, IoThreadsPolicy, LabelKey, LabelValue, ObjectName,
    PreferenceKind, Quantity, RunStrategy, TaintEffect, TolerationOperator, VolumeMode,
};

/// The shape of the VMs of one role.
#[derive(Debug)]
pub struct VmPlan {
    /// CPUs and memory.
    pub compute: Compute,
    /// Kind and name of a preference.
    pub preference: Option<(PreferenceKind, String)>,
    /// The data disk.
    pub data_disk: DiskPlan,
    /// A disk of its own for the WAL.
    pub wal_disk: Option<DiskPlan>,
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

/// CPUs and memory of a VM.
#[derive(Debug)]
pub enum Compute {
    /// Said here.
    Explicit {
        /// Virtual CPUs.
        cpu_cores: u32,
        /// Memory of the guest.
        memory: Quantity,
    },
    /// Said by an instancetype of the cluster.
    Instancetype(InstancetypeKind, String),
}

/// A database disk.
#[derive(Debug)]
pub struct DiskPlan {
    /// Its size.
    pub size: Quantity,
}

/// A toleration with its keys checked against each other.
#[derive(Debug)]
pub struct TolerationPlan {
    /// Key of the taint.
    pub key: Option<String>,
    /// How the value is compared.
    pub operator: TolerationOperator,
    /// Value of the taint.
    pub value: Option<String>,
    /// Effect of the taint.
    pub effect: Option<TaintEffect>,
    /// Seconds until eviction after all.
    pub toleration_seconds: Option<u32>,
}

/// What the tables and the retained WAL need, with the keys that say so.
pub(super) struct DiskNeeds<'c> {
    config: &'c Config,
    max_slot_wal_keep_size: Field<crate::value::PgSize>,
    data_and_wal: u128,
    data_only: u128,
    wal_only: u128,
}

impl<'c> DiskNeeds<'c> {
    pub(super) fn new(config: &'c Config, pgbench: &PgbenchPlan, postgresql: &PostgresqlPlan) -> Self {
        let retained = postgresql.max_slot_wal_keep_size.max(postgresql.wal_keep_size);
        Self {
            config,
            max_slot_wal_keep_size: config.postgresql.or_default().max_slot_wal_keep_size,
            data_and_wal: sizing::data_and_wal(pgbench.scale, retained),
            data_only: sizing::data_only(pgbench.scale),
            wal_only: sizing::wal_only(retained),
        }
    }

    /// The disk of the given size, checked against `need`, or the default size.
    fn disk(
        &self,
        size: &Field<Quantity>,
        key: &str,
        need: u128,
        holds: (bool, bool),
        problems: &mut Problems,
    ) -> DiskPlan {
        if let Some(given) = size.get()
            && given.bytes() < need
        {
            let least = sizing::in_gib(need);
            let (tables, wal) = holds;
            let mut keys: Vec<(&dyn Involved, &str)> = vec![(size, "too small")];
            if tables {
                keys.push((&self.config.pgbench_scale, "for these tables"));
            }
            if wal {
                keys.push((&self.config.wal_keep_size, "for this WAL"));
                keys.push((&self.max_slot_wal_keep_size, "for the WAL of slots"));
            }
            let content = match holds {
                (true, true) => "the tables and the retained WAL need",
                (true, false) => "the tables need",
                _ => "the retained WAL needs",
            };
            problems.contradiction(
                &keys,
                format!("`{key}` {given} is too small: {content} {least}"),
                format!("raise it to at least {least}, or leave it out"),
            );
        }
        DiskPlan { size: size.or(sizing::round_up(need)) }
    }
}

pub(super) fn plan(role: Role, config: &Config, needs: &DiskNeeds, problems: &mut Problems) -> VmPlan {
    let base = config.vm.or_default();
    let own = match role {
        Role::Primary => config.primary.or_default(),
        Role::Replica => config.replica.or_default(),
    };
    for section in [&base, &own] {
        check_compute(section, problems);
    }
    let vm = own.over(&base);
    check_preference(&vm, problems);
    let idle = role == Role::Replica && config.replica_count.or(DEFAULT_REPLICA_COUNT) == 0;
    let mut ignored = Problems::default();
    let size_problems = if idle { &mut ignored } else { &mut *problems };
    let has_wal_disk = vm.wal_disk_size.is_present();
    let data_need = if has_wal_disk { needs.data_only } else { needs.data_and_wal };
    let data_disk =
        needs.disk(&vm.data_disk_size, "data-disk-size", data_need, (true, !has_wal_disk), size_problems);
    let wal_disk = has_wal_disk.then(|| {
        needs.disk(&vm.wal_disk_size, "wal-disk-size", needs.wal_only, (false, true), size_problems)
    });
    VmPlan {
        compute: compute(&vm, problems),
        preference: matcher(&vm.preference, "preference", PreferenceKind::Cluster, problems),
        data_disk,
        wal_disk,
        storage_class: vm.storage_class.get().map(ToString::to_string),
        access_modes: access_modes(&vm.access_modes, problems),
        volume_mode: vm.volume_mode.get().copied(),
        node_selector: pairs(&vm.node_selector),
        tolerations: vm.tolerations.or_default().iter().map(|t| toleration(t, problems)).collect(),
        anti_affinity: vm.anti_affinity.or(AntiAffinity::Preferred),
        run_strategy: vm.run_strategy.or(RunStrategy::Always),
        dedicated_io_thread: vm.dedicated_io_thread.get().copied(),
        block_multiqueue: vm.block_multiqueue.get().copied(),
        network_multiqueue: vm.network_multiqueue.get().copied(),
        io_threads_policy: vm.io_threads_policy.get().copied(),
    }
}

/// One section must not ask for an instancetype and for explicit CPUs or memory: KubeVirt refuses both together.
fn check_compute(section: &Vm, problems: &mut Problems) {
    let explicit = section.cpu_cores.is_present() || section.memory.is_present();
    if section.instancetype.is_present() && explicit {
        problems.contradiction(
            &[
                (&section.instancetype, "sets CPUs and memory"),
                (&section.cpu_cores, "set again"),
                (&section.memory, "set again"),
            ],
            "an instancetype excludes `cpu-cores` and `memory`",
            "keep the instancetype, or `cpu-cores` and `memory`",
        );
    }
}

/// What KubeVirt's instancetype webhook refuses of the instancetypes and preferences that every cluster has
/// (`common-instancetypes`): memory below what the preference requires, and a second I/O threads policy.
fn check_preference(vm: &Vm, problems: &mut Problems) {
    let cluster_wide = |kind: Option<bool>| kind.unwrap_or(true);
    if let Some(preference) = vm.preference.get()
        && let Some(name) = preference.name.get()
        && cluster_wide(preference.kind.get().map(|kind| *kind == PreferenceKind::Cluster))
    {
        let (least_cpu_cores, least_mib) = required_by_preference(name.as_str());
        let (cpu_cores, memory) = match vm.instancetype.get().map(|instancetype| &instancetype.name) {
            None => explicit_compute(vm),
            // of the larger ones and of a site's own we do not know enough
            Some(name) => match name.get().map(ObjectName::as_str) {
                Some("u1.nano") => (1, Quantity::mib(512)),
                Some("u1.micro") => (1, Quantity::mib(1024)),
                Some("u1.small") => (1, Quantity::mib(2048)),
                Some("u1.medium") => (1, Quantity::mib(4096)),
                _ => (u32::MAX, Quantity::gib(1 << 20)),
            },
        };
        if memory.bytes() < least_mib << 20 || cpu_cores < least_cpu_cores {
            problems.contradiction(
                &[
                    (&vm.preference, "this preference"),
                    (&vm.instancetype, "its CPUs and memory"),
                    (&vm.memory, "its memory"),
                    (&vm.cpu_cores, "its CPUs"),
                ],
                format!("the preference `{name}` requires {least_cpu_cores} CPUs and {least_mib}Mi of memory at least"),
                "give the VM more, or leave the preference out; KubeVirt refuses it otherwise",
            );
        }
    }
    if let Some(instancetype) = vm.instancetype.get()
        && let Some(name) = instancetype.name.get()
        && cluster_wide(instancetype.kind.get().map(|kind| *kind == InstancetypeKind::Cluster))
        && (name.as_str().starts_with("cx1.") || name.as_str().starts_with("d1."))
        && vm.io_threads_policy.is_present()
    {
        problems.contradiction(
            &[(&vm.io_threads_policy, "set again"), (&vm.instancetype, "sets a policy itself")],
            format!("the instancetype `{name}` excludes `io-threads-policy`"),
            "remove `io-threads-policy`, or choose an instancetype without one",
        );
    }
}

/// CPUs and MiB that a preference of `common-instancetypes` requires.
fn required_by_preference(name: &str) -> (u32, u128) {
    if name.ends_with(".dpdk") {
        return (8, 1536);
    }
    if name.ends_with(".realtime") {
        return (4, 4096);
    }
    match name.split('.').next().unwrap_or("") {
        "rhel" if name.starts_with("rhel.7") => (1, 1024),
        "rhel" | "centos" => (1, 1536),
        "fedora" | "ubuntu" | "sles" | "opensuse" => (1, 2048),
        "oraclelinux" => (2, 4096),
        _ => (1, 0),
    }
}

/// Less than this and the guest's package manager or PostgreSQL runs out of memory.
const LEAST_MEMORY: u128 = 1 << 30;

fn compute(vm: &Vm, problems: &mut Problems) -> Compute {
    if let Some((kind, name)) = matcher(&vm.instancetype, "instancetype", InstancetypeKind::Cluster, problems)
    {
        return Compute::Instancetype(kind, name);
    }
    if let Some(memory) = vm.memory.spanned()
        && memory.value.bytes() < LEAST_MEMORY
    {
        problems.push(
            Diagnostic::new(memory.span.clone(), format!("`memory` {} is too little", memory.value))
                .help("give the guest at least `1Gi`; PostgreSQL and the package manager need it"),
        );
    }
    let (cpu_cores, memory) = explicit_compute(vm);
    Compute::Explicit { cpu_cores, memory }
}

fn explicit_compute(vm: &Vm) -> (u32, Quantity) {
    (vm.cpu_cores.or(2), vm.memory.or(Quantity::gib(2)))
}

fn matcher<Kind: Copy + FromText>(
    field: &Field<Matcher<Kind>>,
    key: &str,
    default_kind: Kind,
    problems: &mut Problems,
) -> Option<(Kind, String)> {
    let spanned = field.spanned()?;
    if !spanned.value.name.is_present() {
        problems.push(
            Diagnostic::new(spanned.span.clone(), format!("`{key}` has no `name`"))
                .help(format!("write `{key}: NAME`, or `{key}: {{name: NAME, kind: {}}}`", Kind::EXAMPLE)),
        );
    }
    let name = spanned.value.name.get()?.to_string();
    Some((spanned.value.kind.or(default_kind), name))
}

fn access_modes(field: &Field<Vec<Spanned<AccessMode>>>, problems: &mut Problems) -> Vec<AccessMode> {
    let modes = field.or_default();
    for (position, mode) in modes.iter().enumerate() {
        if let Some(first) = modes[..position].iter().find(|earlier| earlier.value == mode.value) {
            problems.push(
                Diagnostic::new(mode.span.clone(), format!("`{}` is listed twice", mode.value.as_str()))
                    .mark(first.span.clone(), "first listed here")
                    .help("remove one of the two"),
            );
        }
    }
    if let (Some(spanned), 0) = (field.spanned(), modes.len()) {
        problems.push(
            Diagnostic::new(spanned.span.clone(), "`access-modes` is empty")
                .help("leave the key out to get what the storage profile says"),
        );
    }
    modes.into_iter().map(|mode| mode.value).collect()
}

fn pairs(field: &Field<crate::config::fields::Entries<LabelKey, LabelValue>>) -> Vec<(String, String)> {
    field.or_default().0.iter().map(|(k, v)| (k.value.to_string(), v.value.to_string())).collect()
}

/// The API server's rules for tolerations (`ValidateTolerations`); it would refuse the pod, long after the VM.
fn toleration(item: &Spanned<Toleration>, problems: &mut Problems) -> TolerationPlan {
    let toleration = &item.value;
    let operator = toleration.operator.or(TolerationOperator::Equal);
    if operator == TolerationOperator::Exists
        && toleration.value.get().is_some_and(|v| !v.as_str().is_empty())
    {
        problems.contradiction(
            &[(&toleration.value, "a value"), (&toleration.operator, "that `Exists` does not compare")],
            "a toleration with `operator: Exists` has no `value`",
            "remove `value`, or write `operator: Equal`",
        );
    }
    if operator == TolerationOperator::Equal && !toleration.key.is_present() {
        problems.push(
            Diagnostic::new(item.span.clone(), "a toleration without `key` must have `operator: Exists`")
                .help("add `key`, or `operator: Exists` to tolerate every taint"),
        );
    }
    if toleration.toleration_seconds.is_present() && toleration.effect.get() != Some(&TaintEffect::NoExecute)
    {
        problems.contradiction(
            &[
                (&toleration.toleration_seconds, "only for `NoExecute`"),
                (&toleration.effect, "another effect"),
            ],
            "`toleration-seconds` needs `effect: NoExecute`",
            "remove `toleration-seconds`, or write `effect: NoExecute`",
        );
    }
    TolerationPlan {
        key: toleration.key.get().map(ToString::to_string),
        operator,
        value: toleration.value.get().map(ToString::to_string),
        effect: toleration.effect.get().copied(),
        toleration_seconds: toleration.toleration_seconds.get().copied(),
    }
}
