//! VirtualMachine: one node of the lab.

use super::{data_volume, labels, metadata, selector, strings};
use crate::document::Document;
use crate::guest;
use crate::names::{
    ARCHIVE_DISK, DATA_DISK, ETCD_CLIENT_PORT, Node, READINESS_PATH, READINESS_PORT, REPLICATOR_TLS_DISK,
    Role, TLS_DISK, WAL_DISK, disk as disk_name,
};
use crate::plan::{ArchivePlan, Compute, CredentialsPlan, Plan, RootPlan, TolerationPlan, VmPlan};
use crate::value::{AntiAffinity, Watchdog};
use crate::yaml::Yaml;
use uuid::Uuid;

/// The namespace of the VMs' firmware UUIDs: random once, a constant since.
const FIRMWARE_NAMESPACE: Uuid = Uuid::from_u128(0x7c1e_5a3d_2f84_4b0e_9a56_d1c8_3e07_b9f2);

/// A fast shutdown with an unresponsive standby took a minute; a checkpoint on slow storage takes longer.
const TERMINATION_GRACE_PERIOD_SECONDS: u32 = 300;

/// The VM of a node.
pub fn vm<'p>(plan: &'p Plan, vm: &'p VmPlan, node: Node) -> Document<'p> {
    let name = node.vm(&plan.names);
    let instancetype = match &vm.compute {
        Compute::Instancetype(kind, name) => Some(map! { "kind" => *kind, "name" => name.as_str() }),
        Compute::Explicit { .. } => None,
    };
    let preference =
        vm.preference.as_ref().map(|(kind, name)| map! { "kind" => *kind, "name" => name.as_str() });
    let tree = map! {
        "apiVersion" => "kubevirt.io/v1",
        "kind" => "VirtualMachine",
        "metadata" => metadata(plan, &name, Some(node), &plan.annotations.object),
        "spec" => map! {
            "runStrategy" => vm.run_strategy,
            "instancetype" => instancetype,
            "preference" => preference,
            "dataVolumeTemplates" => root_data_volume(plan, vm, node, &name).map(|template| list![template]),
            "template" => map! {
                // only these labels reach the pod, which Services and the NetworkPolicy select
                "metadata" => map! {
                    "labels" => labels(plan, Some(node)),
                    "annotations" => strings(&plan.annotations.template),
                },
                "spec" => map! {
                    "hostname" => name.clone(),
                    "subdomain" => plan.names.nodes_service(),
                    "evictionStrategy" => "LiveMigrateIfPossible",
                    "terminationGracePeriodSeconds" => TERMINATION_GRACE_PERIOD_SECONDS,
                    "nodeSelector" => strings(&vm.node_selector),
                    "affinity" => affinity(plan, vm.anti_affinity),
                    "tolerations" => (!vm.tolerations.is_empty())
                        .then(|| Yaml::items(vm.tolerations.iter().map(toleration))),
                    "domain" => domain(plan, vm, node, &name),
                    // The guest says whether it is usable: an open port 5432 says nothing of a standby without a
                    // primary. No livenessProbe: it is a power cut.
                    "readinessProbe" => readiness_probe(plan, node.role),
                    "networks" => list![map! { "name" => "default", "pod" => map! {} }],
                    "volumes" => volumes(plan, vm, node.role, &name),
                },
            },
        },
    };
    Document::new("VirtualMachine", name, tree)
}

fn readiness_probe(plan: &Plan, role: Role) -> Yaml<'static> {
    let is_https = plan.failover.patroni().is_some() && role != Role::Client;
    let http_get = map! {
        "path" => READINESS_PATH,
        "port" => READINESS_PORT,
        // nobody checks the certificate
        "scheme" => is_https.then_some("HTTPS"),
    };
    let (http_get, tcp_socket) = match role {
        Role::Witness => (None, Some(map! { "port" => ETCD_CLIENT_PORT })),
        // whether the ledger runs, and not what it says of the database
        Role::Primary | Role::Replica | Role::Node | Role::Client => (Some(http_get), None),
    };
    map! {
        "httpGet" => http_get,
        "tcpSocket" => tcp_socket,
        // with the default of ten seconds the replicas find their primary that much later
        "periodSeconds" => 5,
        // the default of one second is too short for a guest under load
        "timeoutSeconds" => 5,
    }
}

/// What resets a node on which Patroni hangs, so that it cannot go on taking writes beside the next leader.
fn watchdog(plan: &Plan, role: Role) -> Option<Yaml<'static>> {
    let has_one = role == Role::Node
        && plan.failover.patroni().is_some_and(|patroni| patroni.watchdog != Watchdog::Off);
    has_one.then(|| map! { "name" => "watchdog", "i6300esb" => map! { "action" => "reset" } })
}

fn domain<'p>(plan: &Plan, vm: &'p VmPlan, node: Node, name: &str) -> Yaml<'p> {
    let (cpu, memory) = match &vm.compute {
        // CPUs are hot-plugged as sockets
        Compute::Explicit { cpu_cores, memory } => (
            Some(map! { "sockets" => *cpu_cores, "cores" => 1, "threads" => 1 }),
            Some(map! { "guest" => memory }),
        ),
        Compute::Instancetype(..) => (None, None),
    };
    let disk = |name: &'static str| map! { "name" => name, "disk" => map! { "bus" => "virtio" } };
    // the guest finds these by their serial, /dev/disk/by-id/virtio-<serial>
    let database_disk = |name: &'static str| {
        map! {
            "name" => name,
            "serial" => name,
            "disk" => map! { "bus" => "virtio" },
            "dedicatedIOThread" => vm.dedicated_io_thread,
        }
    };
    let files = |name: &'static str| {
        map! {
            "name" => name,
            "serial" => name,
            "disk" => map! { "bus" => "virtio", "readonly" => true },
        }
    };
    let (certificates, of_replicator) = certificates(plan, node.role);
    map! {
        "cpu" => cpu,
        "memory" => memory,
        "firmware" => map! { "uuid" => firmware_uuid(plan, name).to_string() },
        "ioThreadsPolicy" => vm.io_threads_policy,
        "devices" => map! {
            "disks" => list![
                disk("root"),
                disk("cloudinit"),
                files("guest"),
                files("credentials"),
                certificates.map(|_| files(TLS_DISK)),
                of_replicator.map(|_| files(REPLICATOR_TLS_DISK)),
                archive_keys(plan, node.role).map(|_| files(ARCHIVE_DISK)),
                database_disk(DATA_DISK),
                vm.wal_disk.as_ref().map(|_| database_disk(WAL_DISK)),
            ],
            "blockMultiQueue" => vm.block_multiqueue,
            "interfaces" => list![map! { "name" => "default", "masquerade" => map! {} }],
            "networkInterfaceMultiqueue" => vm.network_multiqueue,
            "rng" => map! {},
            "watchdog" => watchdog(plan, node.role),
        },
    }
}

/// The Secrets with certificates that a VM has as disks: a witness has no server, and a client is no replica.
fn certificates(plan: &Plan, role: Role) -> (Option<String>, Option<String>) {
    let (servers, replicator) = plan.tls.as_ref().map(|tls| tls.secrets(&plan.names)).unwrap_or_default();
    match role {
        Role::Witness => (None, None),
        Role::Client => (servers, None),
        Role::Primary | Role::Replica | Role::Node => (servers, replicator),
    }
}

/// cloud-init's instance-id: a random one would make every new VM object a new instance. Monitoring and licences tell
/// machines apart by it, so the same lab in two namespaces has two, where the config says the namespace.
fn firmware_uuid(plan: &Plan, name: &str) -> Uuid {
    let name = match &plan.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    Uuid::new_v5(&FIRMWARE_NAMESPACE, name.as_bytes())
}

fn volumes<'p>(plan: &'p Plan, vm: &VmPlan, role: Role, name: &str) -> Yaml<'p> {
    let root = match &plan.guest.root {
        RootPlan::ContainerDisk { image, pull_secret } => map! {
            "name" => "root",
            "containerDisk" => map! { "image" => image.as_str(), "imagePullSecret" => pull_secret.as_deref() },
        },
        RootPlan::Registry { .. } | RootPlan::DataSource { .. } => map! {
            "name" => "root",
            "dataVolume" => map! { "name" => disk_name(name, "root") },
        },
    };
    let secret = || map! { "name" => plan.names.cloudinit(role) };
    let cloudinit = map! {
        "name" => "cloudinit",
        "cloudInitNoCloud" => map! {
            "secretRef" => secret(),
            "networkDataSecretRef" => guest::needs_network_data(plan).then(secret),
        },
    };
    // a label of its own: cloud-init takes a disk called `cidata` for its own
    let guest = map! { "name" => plan.names.guest(), "volumeLabel" => "virtwork" };
    let credentials = match &plan.credentials {
        CredentialsPlan::File(_) => plan.names.credentials().into(),
        CredentialsPlan::ExistingSecret { name, .. } => Yaml::from(name.as_str()),
    };
    let (certificates, of_replicator) = certificates(plan, role);
    let secret_disk = |disk: &'static str, name: String| {
        map! { "name" => disk, "secret" => map! { "secretName" => name } }
    };
    let database_disk = |disk: &'static str| {
        map! { "name" => disk, "dataVolume" => map! { "name" => disk_name(name, disk) } }
    };
    list![
        root,
        cloudinit,
        map! { "name" => "guest", "configMap" => guest },
        map! { "name" => "credentials", "secret" => map! { "secretName" => credentials } },
        certificates.map(|name| secret_disk(TLS_DISK, name)),
        of_replicator.map(|name| secret_disk(REPLICATOR_TLS_DISK, name)),
        archive_keys(plan, role)
            .map(|secret| map! { "name" => ARCHIVE_DISK, "secret" => map! { "secretName" => secret } }),
        database_disk(DATA_DISK),
        vm.wal_disk.as_ref().map(|_| database_disk(WAL_DISK)),
    ]
}

/// The Secret with the keys of the archive's store, for nodes that have a database.
fn archive_keys(plan: &Plan, role: Role) -> Option<&str> {
    let store = plan.archive.as_ref().and_then(ArchivePlan::store)?;
    (!matches!(role, Role::Witness | Role::Client)).then_some(&store.secret)
}

/// A persistent root disk is the VM's own and goes with it.
fn root_data_volume<'p>(plan: &'p Plan, vm: &'p VmPlan, node: Node, name: &str) -> Option<Yaml<'p>> {
    let (source, source_ref, size) = match &plan.guest.root {
        RootPlan::ContainerDisk { .. } => return None,
        RootPlan::Registry { image, size } => {
            let registry = map! { "url" => format!("docker://{image}"), "pullMethod" => "node" };
            (Some(map! { "registry" => registry }), None, size)
        }
        RootPlan::DataSource { name, namespace, size } => {
            let reference =
                map! { "kind" => "DataSource", "name" => name.as_str(), "namespace" => namespace.as_deref() };
            (None, Some(reference), size)
        }
    };
    Some(map! {
        "metadata" => map! {
            "name" => disk_name(name, "root"),
            "labels" => labels(plan, Some(node)),
            "annotations" => strings(&plan.annotations.root_disk),
        },
        "spec" => map! {
            "source" => source,
            "sourceRef" => source_ref,
            "storage" => data_volume::storage(vm, size),
        },
    })
}

fn affinity(plan: &Plan, anti_affinity: AntiAffinity) -> Option<Yaml<'_>> {
    // a pair on one node measures no network
    let term = || {
        map! {
            "labelSelector" => map! { "matchLabels" => selector(plan) },
            "topologyKey" => "kubernetes.io/hostname",
        }
    };
    let rule = match anti_affinity {
        AntiAffinity::None => return None,
        AntiAffinity::Preferred => map! {
            "preferredDuringSchedulingIgnoredDuringExecution" =>
                list![map! { "weight" => 100, "podAffinityTerm" => term() }],
        },
        AntiAffinity::Required => map! { "requiredDuringSchedulingIgnoredDuringExecution" => list![term()] },
    };
    Some(map! { "podAntiAffinity" => rule })
}

fn toleration(toleration: &TolerationPlan) -> Yaml<'_> {
    map! {
        "key" => toleration.key.as_deref(),
        "operator" => toleration.operator,
        "value" => toleration.value.as_deref(),
        "effect" => toleration.effect,
        "tolerationSeconds" => toleration.toleration_seconds,
    }
}
