//! The virtual machine of a role.

use super::instancetypes::{self, COMMON_INSTANCETYPES, Preference};
use super::postgresql::{LEAST_WAL_SENDERS, PostgresqlPlan, SHARED_BUFFERS, SIZING};
use super::{PgbenchPlan, sizing};
use crate::config::Config;
use crate::config::fields::{Entries, Field, Involved, Spanned};
use crate::config::pgbench::Pgbench;
use crate::config::postgresql::Postgresql;
use crate::config::vm::{Matcher, Toleration, Vm};
use crate::diagnostic::{Diagnostic, Problems};
use crate::value::{
    AccessMode, AntiAffinity, FromText, InstancetypeKind, IoThreadsPolicy, LabelKey, LabelValue, ObjectName,
    ParameterName, ParameterValue, PreferenceKind, Quantity, RunStrategy, TaintEffect, TolerationOperator,
    VolumeMode,
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

/// What tables, WAL and connections need, with the keys that say so.
pub(super) struct Needs<'c> {
    config: &'c Config,
    postgresql: Postgresql,
    pgbench: Pgbench,
    /// Whether there are so many replicas that they raise the default of the slots' cap.
    replicas_set_cap: bool,
    /// `postgresql.parameters`, where one of them takes part.
    settings: Field<Entries<ParameterName, ParameterValue>>,
    data_and_wal: u128,
    data_only: u128,
    wal_only: u128,
    memory: u128,
    /// The same with PostgreSQL's own buffers and locks: the user's must not order a larger VM by themselves.
    memory_by_default: u128,
}

impl<'c> Needs<'c> {
    pub(super) fn new(config: &'c Config, pgbench: &PgbenchPlan, postgresql: &PostgresqlPlan) -> Self {
        let wal = sizing::Wal {
            max_wal_size: postgresql.max_wal_size,
            retained: postgresql.max_slot_wal_keep_size.max(postgresql.wal_keep_size),
        };
        let shared = &postgresql.shared_memory;
        let settings = match postgresql.parameters.iter().any(|(name, _)| SIZING.contains(&name.as_str())) {
            true => config.postgresql.or_default().parameters,
            false => Field::Absent,
        };
        let section = config.postgresql.or_default();
        let replicas_set_cap =
            postgresql.max_wal_senders > LEAST_WAL_SENDERS && !section.max_slot_wal_keep_size.is_present();
        Self {
            config,
            postgresql: section,
            pgbench: config.pgbench.or_default(),
            replicas_set_cap,
            settings,
            data_and_wal: sizing::data_and_wal(pgbench.scale, wal),
            data_only: sizing::data_only(pgbench.scale),
            wal_only: sizing::wal_only(wal),
            memory: shared.guest(postgresql.shared_buffers),
            memory_by_default: sizing::SharedMemory::of(shared.processes).guest(SHARED_BUFFERS),
        }
    }

    /// The memory by default: 2 GiB, or what many replicas or clients need.
    fn default_memory(&self) -> Quantity {
        Quantity::gib(u64::try_from(self.memory_by_default.div_ceil(1 << 30)).unwrap_or(u64::MAX).max(2))
    }

    /// The keys behind the need for WAL.
    fn wal_keys(&self) -> [(&dyn Involved, &'static str); 3] {
        let slots: (&dyn Involved, _) = match self.replicas_set_cap {
            true => (&self.config.replica_count, "for the WAL of their slots"),
            false => (&self.postgresql.max_slot_wal_keep_size, "for the WAL of slots"),
        };
        [(&self.config.wal_keep_size, "for this WAL"), slots, (&self.settings, "with these settings")]
    }

    fn data_disk(&self, vm: &Vm, problems: &mut Problems) -> Quantity {
        let tables = (&self.config.pgbench_scale as &dyn Involved, "for these tables");
        if vm.wal_disk_size.is_present() {
            disk(&vm.data_disk_size, self.data_only, "the tables need", &[tables], problems)
        } else {
            let [keep, slots, settings] = self.wal_keys();
            let holds = "the tables and the retained WAL need";
            let keys = [tables, keep, slots, settings];
            disk(&vm.data_disk_size, self.data_and_wal, holds, &keys, problems)
        }
    }

    fn wal_disk(&self, vm: &Vm, problems: &mut Problems) -> Option<Quantity> {
        let need = self.wal_only;
        vm.wal_disk_size
            .is_present()
            .then(|| disk(&vm.wal_disk_size, need, "the retained WAL needs", &self.wal_keys(), problems))
    }
}

/// The size of a disk, checked against `need` bytes, or the default size.
fn disk(
    size: &Field<Quantity>,
    need: u128,
    holds: &str,
    because: &[(&dyn Involved, &str)],
    problems: &mut Problems,
) -> Quantity {
    if let Some(given) = size.spanned()
        && given.value.bytes() < need
    {
        let least = sizing::in_gib(need);
        let keys: Vec<_> =
            std::iter::once((size as &dyn Involved, "too small")).chain(because.iter().copied()).collect();
        problems.contradiction(
            &keys,
            format!("`{}` {} is too small: {holds} {least}", given.path, given.value),
            // CDI refuses another size of a disk that is there (docs/changes.md)
            format!("raise it to at least `{least}`, or leave it out; where the disk is there already, make a lab of another name"),
        );
    }
    size.or(sizing::round_up(need))
}

pub(super) fn plan(
    own: &Field<Vm>,
    config: &Config,
    needs: &Needs,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) -> VmPlan {
    let base = config.vm.or_default();
    for section in [&config.vm, own] {
        check_compute(section, problems);
    }
    let vm = own.or_default().over(&base);
    check_preference(&vm, needs, problems, notes);
    VmPlan {
        compute: compute(&vm, needs, problems),
        preference: matcher(&vm.preference, "preference", PreferenceKind::Cluster, problems),
        data_disk: needs.data_disk(&vm, problems),
        wal_disk: needs.wal_disk(&vm, problems),
        storage_class: vm.storage_class.get().map(ToString::to_string),
        access_modes: access_modes(&vm.access_modes, problems, notes),
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
fn check_compute(section: &Field<Vm>, problems: &mut Problems) {
    let Some(Spanned { value: section, path, .. }) = section.spanned() else { return };
    let explicit = section.cpu_cores.is_present() || section.memory.is_present();
    if section.instancetype.is_present() && explicit {
        problems.contradiction(
            &[
                (&section.instancetype, "sets CPUs and memory"),
                (&section.cpu_cores, "set again"),
                (&section.memory, "set again"),
            ],
            format!("`{path}.instancetype` excludes `{path}.cpu-cores` and `{path}.memory`"),
            "keep the instancetype, or the CPUs and the memory",
        );
    }
}

/// What KubeVirt's VM webhook refuses of the instancetypes and preferences that every cluster has: less than the preference
/// requires, CPUs that it cannot spread, and a second I/O threads policy.
fn check_preference(vm: &Vm, needs: &Needs, problems: &mut Problems, notes: &mut Vec<String>) {
    let of_cluster = |name: &Field<ObjectName>, is_namespaced: bool| {
        if is_namespaced { None } else { name.get().map(ToString::to_string) }
    };
    let instancetype = vm.instancetype.get().and_then(|instancetype| {
        of_cluster(&instancetype.name, instancetype.kind.get() == Some(&InstancetypeKind::Namespaced))
    });
    let preference = vm.preference.get().and_then(|preference| {
        of_cluster(&preference.name, preference.kind.get() == Some(&PreferenceKind::Namespaced))
    });
    let instancetype = instancetype.as_deref().and_then(instancetypes::instancetype);
    let preference = preference.as_deref().and_then(instancetypes::preference);
    let compute = match instancetype {
        Some(instancetype) => Some((instancetype.cpus, u128::from(instancetype.mib))),
        None if vm.instancetype.is_present() => None,
        None => {
            Some((vm.cpu_cores.or(DEFAULT_CPU_CORES), vm.memory.or(needs.default_memory()).bytes() >> 20))
        }
    };
    if let (Some(preference), Some((cpus, mib))) = (preference, compute) {
        let Preference { name, cpus: least_cpus, mib: least_mib, .. } = preference;
        if mib < u128::from(*least_mib) || cpus < *least_cpus {
            problems.contradiction(
                &[
                    (&vm.preference, "this preference"),
                    (&vm.instancetype, "its CPUs and memory"),
                    (&vm.memory, "its memory"),
                    (&vm.cpu_cores, "its CPUs"),
                ],
                format!(
                    "the preference `{name}` requires at least {least_cpus} {} and {least_mib}Mi of memory, \
                     but the VM has {cpus} and {mib}Mi",
                    if *least_cpus == 1 { "CPU" } else { "CPUs" }
                ),
                format!(
                    "give the VM more, or leave the preference out; KubeVirt refuses it otherwise \
                     (common-instancetypes {COMMON_INSTANCETYPES})"
                ),
            );
        }
        if !preference.is_for_linux {
            note_once(notes, format!("the preference `{name}` is for Windows, the guests are Linux"));
        }
    }
    let Some(instancetype) = instancetype else { return };
    let name = instancetype.name;
    if u128::from(instancetype.mib) << 20 < needs.memory {
        problems.contradiction(
            &[(&vm.instancetype, "too little memory")],
            format!(
                "the instancetype `{name}` has {}Mi of memory, the lab needs {}Mi",
                instancetype.mib,
                needs.memory >> 20
            ),
            "choose a larger one",
        );
    }
    if instancetype.sets_io_threads_policy && vm.io_threads_policy.is_present() {
        problems.contradiction(
            &[(&vm.io_threads_policy, "set again"), (&vm.instancetype, "sets a policy itself")],
            format!("the instancetype `{name}` excludes `io-threads-policy`"),
            "remove `io-threads-policy`, or choose an instancetype without one",
        );
    }
}

/// Adds a note that the other role may have added.
fn note_once(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

const DEFAULT_CPU_CORES: u32 = 2;

fn compute(vm: &Vm, needs: &Needs, problems: &mut Problems) -> Compute {
    if let Some((kind, name)) = matcher(&vm.instancetype, "instancetype", InstancetypeKind::Cluster, problems)
    {
        return Compute::Instancetype(kind, name);
    }
    let memory = vm.memory.or(needs.default_memory());
    if let Some(given) = vm.memory.spanned()
        && given.value.bytes() < sizing::LEAST_MEMORY
    {
        problems.push(
            Diagnostic::new(given.span.clone(), format!("`{}` {memory} is too little", given.path))
                .help("give the guest at least `1Gi`; PostgreSQL and the package manager need it"),
        );
    } else if memory.bytes() < needs.memory {
        let path = vm.memory.spanned().map_or("vm.memory", |given| &given.path);
        let least = Quantity::mib(u64::try_from(needs.memory.div_ceil(1 << 20)).unwrap_or(u64::MAX));
        problems.contradiction(
            &[
                (&vm.memory, "too little"),
                (&needs.config.replica_count, "for the WAL senders of these"),
                (&needs.pgbench.clients, "for the connections of these"),
                (&needs.settings, "with these settings"),
            ],
            format!("`{path}` {memory} is too little: the lab needs at least {least}"),
            format!("set `{path}` to at least `{least}`"),
        );
    }
    Compute::Explicit { cpu_cores: vm.cpu_cores.or(DEFAULT_CPU_CORES), memory }
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
            Diagnostic::new(spanned.span.clone(), format!("`{}` has no `name`", spanned.path))
                .help(format!("write `{key}: NAME`, or `{key}: {{name: NAME, kind: {}}}`", Kind::EXAMPLE)),
        );
    }
    let name = spanned.value.name.get()?.to_string();
    Some((spanned.value.kind.or(default_kind), name))
}

fn access_modes(
    field: &Field<Vec<Spanned<AccessMode>>>,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) -> Vec<AccessMode> {
    let modes = field.or_default();
    let twice = modes.iter().enumerate().find_map(|(position, mode)| {
        Some((mode, modes[..position].iter().find(|earlier| earlier.value == mode.value)?))
    });
    if let Some((mode, first)) = twice {
        problems.push(
            Diagnostic::new(mode.span.clone(), format!("`{}` is listed twice", mode.value.as_str()))
                .mark(first.span.clone(), "first listed here")
                .help("remove one of the two"),
        );
    }
    if let (Some(spanned), 0) = (field.spanned(), modes.len()) {
        problems.push(
            Diagnostic::new(spanned.span.clone(), format!("`{}` is empty", spanned.path))
                .help("leave the key out to get what the storage profile says"),
        );
    }
    if let Some(alone) = modes.iter().find(|mode| mode.value == AccessMode::ReadWriteOncePod) {
        if let Some(other) = modes.iter().find(|mode| mode.value != alone.value) {
            problems.contradiction(
                &[(alone, "one pod alone"), (other, "and more")],
                "`ReadWriteOncePod` excludes other access modes",
                "keep one of the two",
            );
        }
        note_once(
            notes,
            "`ReadWriteOncePod` needs CDI 1.58 or newer, and excludes live migration".to_owned(),
        );
    }
    modes.into_iter().map(|mode| mode.value).collect()
}

fn pairs(field: &Field<Entries<LabelKey, LabelValue>>) -> Vec<(String, String)> {
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
            format!("`{}.toleration-seconds` needs `effect: NoExecute`", item.path),
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
