//! CPUs and memory: said by the config, or by an instancetype and a preference of the cluster.

use crate::config::fields::{Field, Spanned};
use crate::config::vm::{Matcher, Vm};
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::plan::instancetypes::{self, COMMON_INSTANCETYPES, Preference};
use crate::plan::needs::Needs;
use crate::plan::sizing;
use crate::value::{FromText, InstancetypeKind, ObjectName, PreferenceKind, Quantity};

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

/// One section must not ask for an instancetype and for explicit CPUs or memory: KubeVirt refuses both together.
pub(super) fn check_section(section: &Field<Vm>, problems: &mut Problems) {
    let Some(Spanned { value: section, path, .. }) = section.spanned() else { return };
    let explicit = section.cpu_cores.is_present() || section.memory.is_present();
    if section.instancetype.is_present() && explicit {
        problems.contradiction(
            Code::ExclusiveKeys,
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
pub(super) fn check_preference(vm: &Vm, needs: &Needs, problems: &mut Problems, notes: &mut Vec<Note>) {
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
        None => Some((vm.cpu_cores.or(needs.usual_cpus), vm.memory.or(needs.default_memory()).bytes() >> 20)),
    };
    if let (Some(preference), Some((cpus, mib))) = (preference, compute) {
        let Preference { name, cpus: least_cpus, mib: least_mib, .. } = preference;
        if mib < u128::from(*least_mib) || cpus < *least_cpus {
            problems.contradiction(
                Code::PreferenceNotMet,
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
            let text = format!("the preference `{name}` is for Windows, the guests are Linux");
            notes.push(Note::new(Code::WindowsPreference, text));
        }
    }
    let Some(instancetype) = instancetype else { return };
    let name = instancetype.name;
    if u128::from(instancetype.mib) << 20 < needs.memory {
        problems.contradiction(
            Code::MemoryTooSmall,
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
            Code::ExclusiveKeys,
            &[(&vm.io_threads_policy, "set again"), (&vm.instancetype, "sets a policy itself")],
            format!("the instancetype `{name}` excludes `io-threads-policy`"),
            "remove `io-threads-policy`, or choose an instancetype without one",
        );
    }
}

pub(super) fn plan(vm: &Vm, needs: &Needs, problems: &mut Problems) -> Compute {
    if let Some((kind, name)) = matcher(&vm.instancetype, "instancetype", InstancetypeKind::Cluster, problems)
    {
        return Compute::Instancetype(kind, name);
    }
    let memory = vm.memory.or(needs.default_memory());
    if let Some(given) = vm.memory.spanned()
        && given.value.bytes() < sizing::LEAST_MEMORY
    {
        let message = format!("`{}` {memory} is too little", given.path);
        problems.push(Diagnostic::new(Code::MemoryTooSmall, given.span.clone(), message).help(format!(
            "give the guest at least `1Gi`; {} and the package manager need it",
            needs.instead.map_or("PostgreSQL", |instead| instead.name)
        )));
    } else if memory.bytes() < needs.memory {
        let path = vm.memory.spanned().map_or("vm.memory", |given| &given.path);
        let least = Quantity::mib(u64::try_from(needs.memory.div_ceil(1 << 20)).unwrap_or(u64::MAX));
        problems.contradiction(
            Code::MemoryTooSmall,
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
    Compute::Explicit { cpu_cores: vm.cpu_cores.or(needs.usual_cpus), memory }
}

pub(super) fn preference(vm: &Vm, problems: &mut Problems) -> Option<(PreferenceKind, String)> {
    matcher(&vm.preference, "preference", PreferenceKind::Cluster, problems)
}

fn matcher<Kind: Copy + FromText>(
    field: &Field<Matcher<Kind>>,
    key: &str,
    default_kind: Kind,
    problems: &mut Problems,
) -> Option<(Kind, String)> {
    let spanned = field.spanned()?;
    if !spanned.value.name.is_present() {
        let message = format!("`{}` has no `name`", spanned.path);
        problems.push(
            Diagnostic::new(Code::MissingKey, spanned.span.clone(), message)
                .help(format!("write `{key}: NAME`, or `{key}: {{name: NAME, kind: {}}}`", Kind::EXAMPLE)),
        );
    }
    let name = spanned.value.name.get()?.to_string();
    Some((spanned.value.kind.or(default_kind), name))
}
