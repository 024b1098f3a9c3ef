//! ConfigMap: the files of the guests, each once for all VMs.

use super::metadata;
use crate::document::Document;
use crate::guest::Guest;
use crate::plan::Plan;
use crate::yaml::Yaml;
use std::borrow::Cow;

/// The scripts, units and settings, attached to every VM as a disk.
pub fn guest<'p>(plan: &'p Plan, guest: &'p Guest) -> Document<'p> {
    let name = plan.names.guest();
    let files = guest.files.iter().map(|(key, content)| {
        let content = match content {
            Cow::Borrowed(script) => Yaml::Script(script),
            Cow::Owned(text) => text.as_str().into(),
        };
        ((*key).into(), content)
    });
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "ConfigMap",
        "metadata" => metadata(plan, &name, None, &plan.annotations.object),
        "data" => Yaml::entries(files),
    };
    Document::new("ConfigMap", name, tree)
}
