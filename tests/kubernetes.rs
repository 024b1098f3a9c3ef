//! Kubernetes' own types judge the goldens: what they do not know, or read otherwise, is lost or changed on the way
//! through them.
//!
//! DataVolumes and VirtualMachines have no types there, only parts of them; `tests/check` judges the rest by strict schemas.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Affinity, ConfigMap, PersistentVolumeClaim, Secret, Service, Toleration, VolumeResourceRequirements,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::{Serialize, de::DeserializeOwned};
use serde_yaml::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Reads a value as `T` and writes it back: nothing may be lost or changed.
fn judge<T: DeserializeOwned + Serialize>(value: &Value) -> Result<(), String> {
    let typed: T = serde_yaml::from_value(value.clone()).map_err(|error| error.to_string())?;
    let back = serde_yaml::to_value(&typed).unwrap();
    let text = |value| serde_yaml::to_string(value).unwrap();
    if back == *value { Ok(()) } else { Err(format!("{}is read as\n{}", text(value), text(&back))) }
}

/// A part of an object whose kind has no type; it need not be there.
fn judge_part<T: DeserializeOwned + Serialize>(part: &Value) -> Result<(), String> {
    if part.is_null() { Ok(()) } else { judge::<T>(part) }
}

fn judge_object(object: &Value) -> Result<(), String> {
    match object["kind"].as_str().unwrap_or_default() {
        "Secret" => judge::<Secret>(object),
        "ConfigMap" => judge::<ConfigMap>(object),
        "Service" => judge::<Service>(object),
        "NetworkPolicy" => judge::<NetworkPolicy>(object),
        "PersistentVolumeClaim" => judge::<PersistentVolumeClaim>(object),
        "Job" => judge::<Job>(object),
        // the rest is cert-manager's
        "Certificate" => judge::<ObjectMeta>(&object["metadata"]),
        // the rest is of the Prometheus Operator
        "ServiceMonitor" | "PrometheusRule" => judge::<ObjectMeta>(&object["metadata"]),
        "DataVolume" => judge_data_volume(object),
        "VirtualMachine" => {
            let template = &object["spec"]["template"];
            judge::<ObjectMeta>(&object["metadata"])?;
            judge::<ObjectMeta>(&template["metadata"])?;
            judge_part::<Affinity>(&template["spec"]["affinity"])?;
            judge_part::<Vec<Toleration>>(&template["spec"]["tolerations"])?;
            let disks = object["spec"]["dataVolumeTemplates"].as_sequence();
            disks.into_iter().flatten().try_for_each(judge_data_volume)
        }
        kind => Err(format!("nobody judges the kind `{kind}`")),
    }
}

fn judge_data_volume(object: &Value) -> Result<(), String> {
    judge::<ObjectMeta>(&object["metadata"])?;
    judge::<VolumeResourceRequirements>(&object["spec"]["storage"]["resources"])
}

/// The text of each golden, by its case.
fn goldens() -> BTreeMap<String, String> {
    let bundles = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/bundles");
    let cases =
        fs::read_dir(bundles).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let named = cases.map(|case| {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(case.join("bundle.snap.yaml")).unwrap())
    });
    named.collect()
}

/// The kinds of a bundle, and what its objects are not read as.
fn judged(bundle: &str) -> (BTreeSet<String>, Vec<String>) {
    let objects: Vec<Value> =
        bundle.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect();
    let kinds = objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    (kinds, objects.iter().filter_map(|object| judge_object(object).err()).collect())
}

#[test]
fn kubernetes_reads_every_golden_as_it_stands() {
    let mut kinds = BTreeSet::new();
    for (case, bundle) in goldens() {
        let (found, faults) = judged(&bundle);
        assert!(faults.is_empty(), "{case}:\n{}", faults.join("\n"));
        kinds.extend(found);
    }
    let of_database = ["Secret", "ConfigMap", "Service", "NetworkPolicy", "DataVolume", "VirtualMachine"];
    let optional = ["PersistentVolumeClaim", "Certificate", "Job", "ServiceMonitor", "PrometheusRule"];
    for kind in of_database.into_iter().chain(optional) {
        assert!(kinds.contains(kind), "no golden has a {kind}");
    }
}

/// A judge that takes everything proves nothing.
#[test]
fn what_kubernetes_reads_otherwise_is_caught() {
    let goldens = goldens();
    for (case, written, instead) in [
        // a Service
        ("every-key", "      port: 5432\n---", "      targetPrt: 5432\n      port: 5432\n---"),
        ("every-key", "      port: 5432\n---", "      port: \"5432\"\n---"),
        ("every-key", "clusterIP: None", "clusterIp: None"),
        ("every-key", "apiVersion: v1\nkind: Service", "apiVersion: v2\nkind: Service"),
        // a NetworkPolicy
        ("every-key", "- podSelector:", "- podSelektor:"),
        // Secrets
        ("every-key", "\nstringData:", "\nstringdata:"),
        ("three-keys", "\ndata:\n", "\ndata:\n  text: \"not base64\"\n"),
        // parts of DataVolumes and VirtualMachines
        ("every-key", "cost-centre: \"4711\"", "cost-centre: 4711"),
        ("every-key", "      requests:", "      request:"),
        ("every-key", "tolerationSeconds: 600", "toleration-seconds: 600"),
        ("every-key", "topologyKey:", "topology:"),
        // the WAL player's
        ("klio", "kind: PersistentVolumeClaim", "kind: PersistentVolumeKlaim"),
        ("klio", "accessModes:", "accessmodes:"),
        ("klio", "activeDeadlineSeconds: 7200", "activeDeadlineSeconds: 2h"),
        ("klio", "restartPolicy:", "restart:"),
        ("klio", "- \"--jobs=8\"", "- 8"),
        ("persistent-root", "kind: VirtualMachine\n", "kind: VirtualMachin\n"),
    ] {
        let bundle = &goldens[case];
        assert!(bundle.contains(written), "{case} has no {written:?}");
        let (_, faults) = judged(&bundle.replace(written, instead));
        assert!(!faults.is_empty(), "{case}: {instead:?} is taken for {written:?}");
    }
}
