//! Labels and annotations: those of the config, and what protects the disks.

use crate::config::Config;
use crate::config::fields::{Entries, Field, Involved, Spanned, listed};
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::names::{LABEL_COMPONENT, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME, LABEL_PART_OF};
use crate::value::{AnnotationKey, AnnotationValue, LabelKey, LabelValue};
use std::collections::BTreeMap;

/// All annotations of each sort of object, in the order of their keys.
#[derive(Debug)]
pub struct AnnotationsPlan {
    /// Objects of no other sort.
    pub object: Vec<(String, String)>,
    /// The Services of the primary and the replicas.
    pub service: Vec<(String, String)>,
    /// The database disks.
    pub disk: Vec<(String, String)>,
    /// The templates of VMs, from where they reach the pods.
    pub template: Vec<(String, String)>,
    /// Persistent root disks, which are made of a template, too.
    pub root_disk: Vec<(String, String)>,
}

/// The labels that every object of ours has; Services select by some of them.
const OUR_LABELS: [&str; 5] = [LABEL_NAME, LABEL_INSTANCE, LABEL_COMPONENT, LABEL_PART_OF, LABEL_MANAGED_BY];

/// What CDI reads on a DataVolume and nothing but an annotation can say.
pub(super) const CDI_KEYS: [&str; 4] = [
    "cdi.kubevirt.io/allowClaimAdoption",
    "cdi.kubevirt.io/storage.bind.immediate.requested",
    "cdi.kubevirt.io/storage.pod.retainAfterCompletion",
    "cdi.kubevirt.io/storage.usePopulator",
];

const ARGO_SYNC_OPTIONS: &str = "argocd.argoproj.io/sync-options";

/// What keeps a database disk, whatever the config says.
const PROTECTION: [(&str, &str); 4] = [
    // Argo CD must neither prune nor delete a disk with data
    (ARGO_SYNC_OPTIONS, "Prune=false,Delete=false"),
    // CDI before 1.58 may delete a finished DataVolume, which GitOps tools then make again and again
    ("cdi.kubevirt.io/storage.deleteAfterCompletion", "false"),
    ("helm.sh/resource-policy", "keep"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// Annotations that make a GitOps tool delete an object and create it anew.
const RECREATING: [&str; 4] = [
    // a hook is deleted before it is created again, which is at every sync
    "argocd.argoproj.io/hook",
    "argocd.argoproj.io/hook-delete-policy",
    "helm.sh/hook",
    "helm.sh/hook-delete-policy",
];

/// With the value `enabled`, in either case, Flux does so where an immutable field changed, such as the size of a disk.
pub(super) const FLUX_FORCE: &str = "kustomize.toolkit.fluxcd.io/force";

/// Whose annotations speak of the one object they stand on. On a pod or a volume they would do something else: choose
/// an address or a seccomp profile, or have a GitOps tool take the pod for its own.
const OF_ONE_OBJECT: [&str; 11] = [
    "argoproj.io",
    "cilium.io",
    "cncf.io",
    "crio.io",
    "fluxcd.io",
    "helm.sh",
    "k8s.io",
    "kubernetes.io",
    "openshift.io",
    "ovn.org",
    "projectcalico.org",
];

/// The API server refuses 256 KiB; KubeVirt, CDI and Multus add theirs to pods and volumes.
const MAX_ANNOTATIONS: usize = 240 << 10;

/// The API server refuses an object of 1.5 MiB. A VM with a persistent root holds its labels and annotations three
/// times.
const MAX_METADATA: usize = 384 << 10;

/// `oc apply` without `--server-side` writes an object, its annotations included, into one more annotation; our
/// ConfigMap has up to 100 KiB of files.
const MAX_CLIENT_SIDE: usize = 64 << 10;

/// Whether a key stands below one of the domains.
fn is_below(key: &str, domains: &[&str]) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    domains
        .iter()
        .any(|domain| prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

pub(super) fn labels(
    field: &Field<Entries<LabelKey, LabelValue>>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let entries = field.or_default().0;
    for (key, value) in &entries {
        let text = key.value.as_str();
        if OUR_LABELS.contains(&text) {
            let message = format!("the label `{text}` is set by gen");
            problems.push(Diagnostic::new(Code::ReservedMetadata, key.span.clone(), message).help(
                "choose another key; `name`, `instance`, `component`, `part-of` and `managed-by` are taken",
            ));
        } else {
            check_key("label", key, text, value.value.as_str(), problems);
        }
    }
    entries.into_iter().map(|(key, value)| (key.value.to_string(), value.value.to_string())).collect()
}

/// What neither a label nor an annotation may be called.
fn check_key<K>(what: &str, key: &Spanned<K>, text: &str, value: &str, problems: &mut Problems) {
    let forces = text == FLUX_FORCE && value.eq_ignore_ascii_case("enabled");
    let (code, message, help) = if forces || RECREATING.contains(&text) {
        let message = format!("the {what} `{text}` would have disks deleted and made anew");
        (Code::MetadataDeletesDisks, message, "remove it".to_owned())
    } else if text.starts_with("virtwork/") || is_below(text, &["kubevirt.io"]) {
        let outside = "choose a key outside `virtwork/` and `kubevirt.io/`";
        let help = match text.split_once('/') {
            Some(("cdi.kubevirt.io", _)) => {
                format!("{outside}; of CDI's, {} are for annotations", listed(&CDI_KEYS))
            }
            _ => outside.to_owned(),
        };
        (Code::ReservedMetadata, format!("the {what} `{text}` is set by gen or by KubeVirt"), help)
    } else if text == "kubectl.kubernetes.io/last-applied-configuration" {
        let message = format!("the {what} `{text}` belongs to `kubectl apply`");
        (Code::ReservedMetadata, message, "remove it".to_owned())
    } else {
        return;
    };
    problems.push(Diagnostic::new(code, key.span.clone(), message).help(help));
}

pub(super) fn annotations(
    config: &Config,
    labels: &[(String, String)],
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> AnnotationsPlan {
    let of_services = config.service.or_default().annotations;
    let (cdi, object): (Map, Map) = checked(&config.annotations, problems)
        .into_iter()
        .partition(|(key, _)| CDI_KEYS.contains(&key.as_str()));
    let mut template = object.clone();
    template.retain(|key, _| !is_below(key, &OF_ONE_OBJECT));
    let over = |base: &Map, more: Map| -> Map { base.clone().into_iter().chain(more).collect() };
    let service = over(&object, checked(&of_services, problems));
    let root_disk = over(&template, cdi.clone());
    let disk = if config.database.or(true) { protected(over(&object, cdi), notes) } else { Map::new() };

    let keys: [(&dyn Involved, &str); 3] = [
        (&config.annotations, "these annotations"),
        (&of_services, "and these"),
        (&config.labels, "with these labels"),
    ];
    let size = |map: &Map| map.iter().map(|(key, value)| key.len() + value.len()).sum();
    let largest: usize = [&service, &disk].into_iter().map(size).max().unwrap_or(0);
    let labels = labels.iter().map(|(key, value)| stored(key, value));
    let stored: usize = object.iter().map(|(key, value)| stored(key, value)).chain(labels).sum();
    if largest > MAX_ANNOTATIONS {
        problems.contradiction(
            Code::ObjectTooLarge,
            &keys[..2],
            format!("an object would have {largest} bytes of annotations"),
            format!(
                "keep them under {MAX_ANNOTATIONS}; the API server refuses 262144, and KubeVirt and CDI add some"
            ),
        );
    } else if stored > MAX_METADATA {
        problems.contradiction(
            Code::ObjectTooLarge,
            &[keys[0], keys[2]],
            format!("labels and annotations take {stored} bytes of an object"),
            format!(
                "keep them under {MAX_METADATA}; a VM holds them three times, and 1.5 MiB is all it may have"
            ),
        );
    } else if largest > MAX_CLIENT_SIDE {
        let text = format!(
            "an object has {largest} bytes of annotations: apply with `--server-side`, because a client-side apply \
             copies each object into one more annotation"
        );
        notes.push(Note::new(Code::NeedsServerSideApply, text));
    }
    let list = |map: Map| map.into_iter().collect();
    AnnotationsPlan {
        object: list(object),
        service: list(service),
        disk: list(disk),
        template: list(template),
        root_disk: list(root_disk),
    }
}

type Map = BTreeMap<String, String>;

fn checked(field: &Field<Entries<AnnotationKey, AnnotationValue>>, problems: &mut Problems) -> Map {
    let entries = field.or_default().0;
    for (key, value) in &entries {
        let text = key.value.as_str();
        if !CDI_KEYS.contains(&text) {
            check_key("annotation", key, text, value.value.as_str(), problems);
        }
    }
    entries.into_iter().map(|(key, value)| (key.value.to_string(), value.value.to_string())).collect()
}

/// The annotations of a disk with what protects it. Of the user's sync options those stay that do not decide about its
/// life: `Prune=confirm` would let it go, `Force=true` and `Replace=true` make it anew.
fn protected(mut annotations: Map, notes: &mut Vec<Note>) -> Map {
    for (key, protection) in PROTECTION {
        let given = annotations.remove(key);
        let mut value = protection.to_owned();
        let mut differs = given.as_ref().is_some_and(|given| given != protection);
        if let Some(given) = given
            && key == ARGO_SYNC_OPTIONS
        {
            differs = false;
            for option in given.split(',').map(str::trim).filter(|option| !option.is_empty()) {
                let name = option.split('=').next().unwrap_or(option).trim();
                if !["prune", "delete", "force", "replace"].contains(&name.to_ascii_lowercase().as_str()) {
                    value.push(',');
                    value.push_str(option);
                } else if !protection.split(',').any(|ours| ours == option) {
                    differs = true;
                }
            }
        }
        if differs {
            let text = format!("the database disks keep the annotation `{key}: {value}`");
            notes.push(Note::new(Code::DiskProtectionKept, text));
        }
        annotations.insert(key.to_owned(), value);
    }
    annotations
}

/// Bytes of a label or annotation in an object as it is stored: JSON, with the key once more among the managed fields.
fn stored(key: &str, value: &str) -> usize {
    let json = |text: &str| -> usize {
        let escaped = |c: char| match c {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
            c => c.len_utf8(),
        };
        text.chars().map(escaped).sum()
    };
    2 * key.len() + json(value) + r#""":"","f:":{},"#.len()
}
