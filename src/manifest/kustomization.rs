//! `kustomization.yaml` of a directory, and what kustomize has to know of VirtualMachines.

use crate::document::Document;
use crate::yaml::Yaml;

const KUSTOMIZATION: &str = "kustomization";
const CONFIGURATION: &str = "kustomizeconfig";

/// Whether a file name without `.yaml` is that of one of these two.
pub fn is_name(stem: &str) -> bool {
    stem == KUSTOMIZATION || stem == CONFIGURATION
}

/// The list of the directory's files, and the configuration that goes with it.
pub fn files(resources: Vec<String>) -> [Document<'static>; 2] {
    let kustomization = map! {
        "apiVersion" => "kustomize.config.k8s.io/v1beta1",
        "kind" => "Kustomization",
        "configurations" => list![format!("{CONFIGURATION}.yaml")],
        "resources" => Yaml::from(resources),
    };
    [(KUSTOMIZATION, kustomization), (CONFIGURATION, configuration())]
        .map(|(name, tree)| Document::new("Kustomization", name.to_owned(), tree))
}

/// kustomize knows the fields of Deployments, not of VirtualMachines. Overlays inherit this: the Secret of the passwords
/// may come from a `secretGenerator`, whose names end with a hash, and labels that go into the Services' selectors reach
/// the pods, too. No other name is mapped on purpose: with `namePrefix` VMs would start that look for each other by the
/// names in their files, which kustomize cannot change.
fn configuration() -> Yaml<'static> {
    let template_labels = || {
        list![map! {
            "kind" => "VirtualMachine",
            "path" => "spec/template/metadata/labels",
            "create" => true,
        }]
    };
    map! {
        "nameReference" => list![map! {
            "kind" => "Secret",
            "version" => "v1",
            "fieldSpecs" => list![map! {
                "kind" => "VirtualMachine",
                "path" => "spec/template/spec/volumes/secret/secretName",
            }],
        }],
        "commonLabels" => template_labels(),
        "templateLabels" => template_labels(),
    }
}
