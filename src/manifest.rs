//! The objects: one pure builder for each, named by what it builds.

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

/// `metadata` of an object. `annotations` stand before those of the user, who may override them.
fn metadata(plan: &Plan, name: &str, role: Option<Role>, annotations: &[(String, String)]) -> Yaml {
    let mut merged: Vec<(String, String)> = plan.annotations.clone();
    for (key, value) in annotations {
        if !merged.iter().any(|(known, _)| known == key) {
            merged.push((key.clone(), value.clone()));
        }
    }
    merged.sort();
    map! {
        "name" => name.to_owned(),
        "namespace" => plan.namespace.clone(),
        "labels" => labels(plan, role),
        "annotations" => (!merged.is_empty()).then(|| strings(&merged)),
    }
}

/// The labels of every object, of the VMs' pods and of their disks.
fn labels(plan: &Plan, role: Option<Role>) -> Yaml {
    let mut labels = vec![
        (LABEL_NAME.to_owned(), "postgresql".to_owned()),
        (LABEL_INSTANCE.to_owned(), plan.names.lab().to_owned()),
        (LABEL_COMPONENT.to_owned(), COMPONENT.to_owned()),
        (LABEL_PART_OF.to_owned(), "virtwork".to_owned()),
        (LABEL_MANAGED_BY.to_owned(), "virtwork-gen".to_owned()),
    ];
    labels.extend(role.map(|role| (LABEL_ROLE.to_owned(), role.as_str().to_owned())));
    labels.extend(plan.labels.iter().cloned());
    strings(&labels)
}

/// What selects the VMs of the lab, or those of a role, and nothing of another lab in the namespace.
fn selector(plan: &Plan, role: Option<Role>) -> Yaml {
    map! {
        LABEL_INSTANCE => plan.names.lab().to_owned(),
        LABEL_COMPONENT => COMPONENT,
        LABEL_ROLE => role.map(Role::as_str),
    }
}

/// A mapping of strings.
fn strings(pairs: &[(String, String)]) -> Yaml {
    Yaml::entries(pairs.iter().map(|(key, value)| (key.clone().into(), value.clone().into())))
}
