//! The objects: one pure builder for each, named by what it builds.

pub mod config_map;
pub mod data_volume;
pub mod kustomization;
pub mod network_policy;
pub mod secret;
pub mod service;
pub mod virtual_machine;

use crate::names::{
    COMPONENT, LABEL_COMPONENT, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME, LABEL_PART_OF, LABEL_ROLE, Role,
};
use crate::plan::Plan;
use crate::yaml::Yaml;

/// `metadata` of an object with the annotations of its sort.
fn metadata(plan: &Plan, name: &str, role: Option<Role>, annotations: &[(String, String)]) -> Yaml {
    map! {
        "name" => name.to_owned(),
        "namespace" => plan.namespace.clone(),
        "labels" => labels(plan, role),
        "annotations" => strings(annotations),
    }
}

/// The labels of every object, of the VMs' pods and of their disks.
fn labels(plan: &Plan, role: Option<Role>) -> Yaml {
    let ours: [(&'static str, Yaml); 6] = [
        (LABEL_NAME, "postgresql".into()),
        (LABEL_INSTANCE, plan.names.lab().to_owned().into()),
        (LABEL_COMPONENT, COMPONENT.into()),
        (LABEL_PART_OF, "virtwork".into()),
        (LABEL_MANAGED_BY, "virtwork-gen".into()),
        (LABEL_ROLE, role.map(Role::as_str).into()),
    ];
    let ours = ours.into_iter().map(|(key, value)| (key.into(), value));
    let theirs = plan.labels.iter().map(|(key, value)| (key.clone().into(), value.clone().into()));
    Yaml::entries(ours.chain(theirs))
}

/// What selects the VMs of the lab, or those of a role, and nothing of another lab in the namespace.
fn selector(plan: &Plan, role: Option<Role>) -> Yaml {
    map! {
        LABEL_INSTANCE => plan.names.lab().to_owned(),
        LABEL_COMPONENT => COMPONENT,
        LABEL_ROLE => role.map(Role::as_str),
    }
}

/// A mapping of strings, where there are any.
fn strings(pairs: &[(String, String)]) -> Option<Yaml> {
    let entries = pairs.iter().map(|(key, value)| (key.clone().into(), value.clone().into()));
    (!pairs.is_empty()).then(|| Yaml::entries(entries))
}
