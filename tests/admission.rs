//! What a cluster would refuse, change or lose, and what it would not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use serde_yaml::Value;
use std::fs;
use std::path::PathBuf;
use virtwork_gen::plan::Plan;
use virtwork_gen::plan::instancetypes::{COMMON_INSTANCETYPES, INSTANCETYPES, PREFERENCES};
use virtwork_gen::{Passwords, Source, generate, sink};

fn source(config: &str) -> Source {
    Source::new("gen.yaml", config)
}

/// The message a config is answered with; empty: it is accepted.
fn refusal(config: &str) -> String {
    Plan::new(&source(config)).err().map(|report| report.render(false)).unwrap_or_default()
}

fn notes(config: &str) -> Vec<String> {
    let plan = Plan::new(&source(config)).unwrap_or_else(|report| panic!("{}", report.render(false)));
    plan.notes.into_iter().map(|note| note.text).collect()
}

/// The objects of a config as a YAML reader sees them.
fn objects(config: &str) -> Vec<Value> {
    let passwords =
        Passwords::new("one-password", "another-one").unwrap().with_ca_seed("seed of all the keys").unwrap();
    let bundle = generate(&source(config), Some(&passwords)).unwrap();
    let mut stream = Vec::new();
    sink::stream(&bundle, &mut stream).unwrap();
    let stream = String::from_utf8(stream).unwrap();
    stream.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect()
}

fn annotation<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object["metadata"]["annotations"][key].as_str()
}

fn of_kind<'v>(objects: &'v [Value], kind: &str) -> Vec<&'v Value> {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

#[test]
fn disks_stay_protected_whatever_the_annotations_say() {
    const ARGO: &str = "argocd.argoproj.io/sync-options";
    for (given, kept, is_noted) in [
        ("SkipDryRunOnMissingResource=true", ",SkipDryRunOnMissingResource=true", false),
        (" Delete=false , Prune=false ,ServerSideApply=true,", ",ServerSideApply=true", false),
        ("Prune=true, Validate=false", ",Validate=false", true),
        ("Prune=confirm,Delete=confirm", "", true),
        ("prune=TRUE,Force=true,Replace=true", "", true),
        ("", "", false),
    ] {
        let config = format!("annotations: {{{ARGO}: \"{given}\"}}\n");
        let objects = objects(&config);
        for disk in of_kind(&objects, "DataVolume") {
            assert_eq!(annotation(disk, ARGO), Some(&*format!("Prune=false,Delete=false{kept}")), "{given}");
        }
        for vm in of_kind(&objects, "VirtualMachine") {
            assert_eq!(annotation(vm, ARGO), Some(given), "other objects have what the config says");
        }
        assert_eq!(notes(&config).iter().any(|note| note.contains(ARGO)), is_noted, "{given}");
    }
    for (key, value, kept) in [
        ("kustomize.toolkit.fluxcd.io/prune", "enabled", "disabled"),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled", "disabled"),
        ("helm.sh/resource-policy", "delete", "keep"),
    ] {
        let config = format!("annotations: {{{key}: {value}}}\n");
        for disk in of_kind(&objects(&config), "DataVolume") {
            assert_eq!(annotation(disk, key), Some(kept));
        }
        assert_eq!(notes(&config).iter().any(|note| note.contains(key)), value != kept);
    }
}

#[test]
fn annotations_reach_pods_and_root_disks_but_not_those_of_one_object() {
    let objects = objects(
        "annotations:\n  team: a\n  sidecar.istio.io/inject: \"false\"\n  argocd.argoproj.io/sync-wave: \"1\"\n  \
         k8s.v1.cni.cncf.io/networks: x\n  seccomp.security.alpha.kubernetes.io/pod: unconfined\n  \
         cdi.kubevirt.io/storage.bind.immediate.requested: \"\"\n\
         guest: {root-disk: persistent}\n",
    );
    let keys = |object: &Value| -> Vec<String> {
        let annotations = object["metadata"]["annotations"].as_mapping().unwrap();
        annotations.keys().map(|key| key.as_str().unwrap().to_owned()).collect()
    };
    for vm in of_kind(&objects, "VirtualMachine") {
        let general = ["argocd.argoproj.io/sync-wave", "k8s.v1.cni.cncf.io/networks"];
        assert!(general.iter().all(|key| keys(vm).iter().any(|k| k == key)));
        assert!(annotation(vm, "cdi.kubevirt.io/storage.bind.immediate.requested").is_none());
        assert_eq!(keys(&vm["spec"]["template"]), ["sidecar.istio.io/inject", "team"]);
        assert_eq!(
            keys(&vm["spec"]["dataVolumeTemplates"][0]),
            ["cdi.kubevirt.io/storage.bind.immediate.requested", "sidecar.istio.io/inject", "team"]
        );
    }
    for disk in of_kind(&objects, "DataVolume") {
        assert_eq!(annotation(disk, "cdi.kubevirt.io/storage.bind.immediate.requested"), Some(""));
    }
}

#[test]
fn annotations_and_labels_fit_into_each_object() {
    let annotations = |bytes: usize| format!("annotations: {{a: \"{}\"}}\n", "x".repeat(bytes));
    let services = |bytes: usize| format!("service: {{annotations: {{b: \"{}\"}}}}\n", "x".repeat(bytes));
    assert_eq!(refusal(&annotations(240_000)), "");
    assert!(refusal(&annotations(262_144 - 100)).contains("bytes of annotations"), "ours come on top");
    assert_eq!(refusal(&(annotations(1000) + &services(230_000))), "");
    assert!(refusal(&(annotations(130_000) + &services(130_000))).contains("bytes of annotations"));
    // stored as six bytes each
    assert!(refusal(&annotations(70_000).replace('x', "<")).contains("labels and annotations take"));
    let value = "x".repeat(63);
    let labels = |count: usize| -> String {
        let lines = (0..count).map(|n| format!("  example.com/l{n}: {value}\n"));
        format!("labels:\n{}", lines.collect::<String>())
    };
    assert_eq!(refusal(&labels(1000)), "");
    assert!(refusal(&labels(4000)).contains("labels and annotations take"));
    assert!(notes(&annotations(100_000)).iter().any(|note| note.contains("--server-side")));
    assert!(notes(&annotations(1000)).is_empty());
}

#[test]
fn what_clusters_take_is_accepted() {
    let sha512 = "0123456789abcdef".repeat(8);
    for config in [
        "guest: {image: \"registry.example.com/golden/pg:10\", os: debian, packages: preinstalled}",
        "guest: {image: \"registry.example.com/golden/debian:10\"}",
        "guest: {image: \"registry.example.com:5000/ubuntu:20.04-7\", os: rhel}",
        &format!("guest: {{image: \"quay.io/containerdisks/fedora@sha512:{sha512}\"}}"),
        &format!("guest: {{image: \"quay.io/containerdisks/fedora:42@sha512:{sha512}\"}}"),
        "guest: {image: \"[2001:db8::1]:5000/golden/fedora:42\"}",
        "guest: {image: \"[2001:db8::1]/golden/fedora:42\"}",
        "labels: {app.kubernetes.io/version: \"17\", app.kubernetes.io/created-by: me}",
        "annotations: {cdi.kubevirt.io/storage.usePopulator: \"false\"}",
        "vm: {access-modes: [ReadWriteOncePod]}",
        "annotations: {3d: x, example.com/1: x, on: x}",
        "labels: {123: x}",
    ] {
        assert_eq!(refusal(config), "", "{config}");
    }
    for config in [
        "guest: {image: \"quay.io/containerdisks/debian:10\"}",
        "guest: {image: \"mirror.example.com/containerdisks/ubuntu:20.04@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}",
        "guest: {image: \"registry.redhat.io/rhel8/rhel-guest-image:8.10\"}",
    ] {
        assert!(refusal(config).contains("is too old"), "{config}");
    }
}

#[test]
fn a_lab_in_two_namespaces_has_two_sets_of_machines() {
    let uuids = |config: &str| -> Vec<Value> {
        let objects = objects(config);
        let vms = of_kind(&objects, "VirtualMachine");
        vms.iter().map(|vm| vm["spec"]["template"]["spec"]["domain"]["firmware"]["uuid"].clone()).collect()
    };
    let [nowhere, here, there] = ["", "namespace: here\n", "namespace: there\n"].map(uuids);
    assert!(nowhere.iter().chain(&here).all(|uuid| !there.contains(uuid)));
    assert!(nowhere.iter().all(|uuid| !here.contains(uuid)));
    assert_eq!(uuids("namespace: here\n"), here);
}

/// The VM webhook of KubeVirt 1.9 refused the same 419 of all pairs: 230 for their memory, 189 for their CPUs.
#[test]
fn the_pairs_that_kubevirt_refuses_are_refused() {
    let mut refused = 0;
    for instancetype in &INSTANCETYPES {
        for preference in &PREFERENCES {
            let config =
                format!("vm: {{instancetype: {}, preference: {}}}", instancetype.name, preference.name);
            refused += usize::from(refusal(&config).contains("requires at least"));
        }
        let alone = refusal(&format!("vm: {{instancetype: {}}}", instancetype.name));
        assert!(alone.is_empty() || instancetype.mib < 1024 && alone.contains("the lab needs"), "{alone}");
    }
    assert_eq!((INSTANCETYPES.len() * PREFERENCES.len(), refused), (3510, 419));
}

/// `VIRTWORK_INSTANCETYPES=DIR cargo test --test admission -- --ignored`; DIR holds the bundles of a release of
/// kubevirt/common-instancetypes.
#[test]
#[ignore = "needs VIRTWORK_INSTANCETYPES, the directory of the bundles of common-instancetypes"]
fn the_figures_are_those_of_common_instancetypes() {
    let directory = PathBuf::from(std::env::var_os("VIRTWORK_INSTANCETYPES").unwrap());
    let read = |name: &str| -> Vec<(String, Value)> {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        assert!(
            text.contains(&format!("common-instancetypes-version: {COMMON_INSTANCETYPES}\n")),
            "another version"
        );
        let documents =
            text.split("\n---\n").map(|document| serde_yaml::from_str::<Value>(document).unwrap());
        let mut named: Vec<_> = documents
            .filter(|document| !document.is_null())
            .map(|document| {
                (document["metadata"]["name"].as_str().unwrap().to_owned(), document["spec"].clone())
            })
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        named
    };
    let mib = |quantity: &Value| -> u32 {
        let text = quantity.as_str().unwrap_or("0Mi");
        let (number, unit) = text.split_at(text.len() - 2);
        (number.parse::<f64>().unwrap() * if unit == "Gi" { 1024.0 } else { 1.0 }) as u32
    };
    let cpus = |value: &Value| u32::try_from(value["guest"].as_u64().unwrap_or(0)).unwrap();
    let instancetypes = read("common-clusterinstancetypes-bundle.yaml");
    let preferences = read("common-clusterpreferences-bundle.yaml");
    assert_eq!((instancetypes.len(), preferences.len()), (INSTANCETYPES.len(), PREFERENCES.len()));
    for ((name, spec), ours) in instancetypes.iter().zip(&INSTANCETYPES) {
        let policy = !spec["ioThreadsPolicy"].is_null();
        assert_eq!(
            (name.as_str(), cpus(&spec["cpu"]), mib(&spec["memory"]["guest"]), policy),
            (ours.name, ours.cpus, ours.mib, ours.sets_io_threads_policy)
        );
        assert!(ours.cpus.is_power_of_two(), "{name}: spreading has to be checked by itself now");
    }
    for ((name, spec), ours) in preferences.iter().zip(&PREFERENCES) {
        let (requirements, cpu) = (&spec["requirements"], &spec["cpu"]);
        let for_linux = spec["annotations"]["vm.kubevirt.io/os"] != "windows";
        assert_eq!(
            (name.as_str(), cpus(&requirements["cpu"]), mib(&requirements["memory"]["guest"]), for_linux),
            (ours.name, ours.cpus, ours.mib, ours.is_for_linux)
        );
        match cpu["preferredCPUTopology"].as_str() {
            None | Some("sockets") => {}
            Some("spread") => {
                assert_eq!(cpu["spreadOptions"]["across"], "SocketsCoresThreads", "{name}");
                let multiple = 2 * cpu["spreadOptions"]["ratio"].as_u64().unwrap_or(2);
                assert!(multiple.is_power_of_two() && u64::from(ours.cpus) >= multiple, "{name}");
            }
            Some(other) => panic!("{name}: {other}"),
        }
    }
}

/// Only `enabled` has Flux make an object anew.
#[test]
fn a_flux_force_that_is_off_is_accepted() {
    for value in ["disabled", "Disabled", "x"] {
        let force = format!("{{kustomize.toolkit.fluxcd.io/force: {value}}}");
        assert!(notes(&format!("labels: {force}\nannotations: {force}\n")).is_empty(), "{value}");
    }
}
