//! `kustomization.yaml` of a directory.

use crate::bundle::Document;
use crate::yaml::Yaml;

/// Lists the files of the directory.
pub fn kustomization(resources: Vec<String>) -> Document {
    let tree = map! {
        "apiVersion" => "kustomize.config.k8s.io/v1beta1",
        "kind" => "Kustomization",
        "resources" => Yaml::from(resources),
    };
    Document::new("Kustomization", "kustomization".to_owned(), tree)
}
