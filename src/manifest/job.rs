//! Job: a run of the WAL player.

use super::{player_labels, player_metadata, strings};
use crate::document::Document;
use crate::plan::{ClientPlan, KlioPlan, Plan};
use crate::yaml::Yaml;

/// Key of the client's config in the ConfigMap.
pub(super) const CONFIG: &str = "klio-config.yaml";
/// Where the Secret of the server lies in the pod.
pub(super) const SERVER_CERTIFICATE: &str = "/certs/server";
/// Where the Secret of the client lies.
pub(super) const CLIENT_CERTIFICATE: &str = "/certs/client";
const DATA: &str = "/data";
const CONFIG_DIRECTORY: &str = "/config";
const PROGRAM: &str = "/usr/bin/klio";

/// Makes files of WAL, then sends them: the containers are called as on Klio's page, so that commands from there find
/// them.
pub fn wal_player<'p>(plan: &'p Plan, player: &'p KlioPlan) -> Document<'p> {
    // the player sends whatever it finds, and a run before may have left other files
    let clear = ["/usr/bin/find", DATA, "-mindepth", "1", "-delete"].map(str::to_owned);
    let generate = [
        PROGRAM.to_owned(),
        "wal-player".to_owned(),
        "generate".to_owned(),
        DATA.to_owned(),
        format!("--wal-size={}", player.wal_size),
        format!("--length={}", player.length),
    ];
    let play = [
        PROGRAM.to_owned(),
        "wal-player".to_owned(),
        "play".to_owned(),
        DATA.to_owned(),
        format!("--config={CONFIG_DIRECTORY}/{CONFIG}"),
        format!("--jobs={}", player.jobs),
        format!("--block-size={}", player.block_size),
    ];
    let mounts = list![
        data(),
        read_only("config", CONFIG_DIRECTORY),
        read_only("server-cert", SERVER_CERTIFICATE),
        read_only("client-cert", CLIENT_CERTIFICATE),
    ];
    let tree = map! {
        "apiVersion" => "batch/v1",
        "kind" => "Job",
        "metadata" => player_metadata(plan, &player.job_annotations),
        "spec" => map! {
            "activeDeadlineSeconds" => player.time_limit,
            // a run that failed is looked at, not repeated
            "backoffLimit" => 0,
            "ttlSecondsAfterFinished" => player.delete_after,
            "template" => map! {
                "metadata" => map! {
                    "labels" => player_labels(plan),
                    "annotations" => strings(&plan.annotations.template),
                },
                "spec" => map! {
                    "restartPolicy" => "Never",
                    "automountServiceAccountToken" => false,
                    "imagePullSecrets" =>
                        player.image_pull_secret.as_deref().map(|name| list![map! { "name" => name }]),
                    // no user: OpenShift chooses one, and elsewhere it is the image's
                    "securityContext" => map! {
                        "runAsNonRoot" => true,
                        "fsGroup" => player.fs_group,
                        "seccompProfile" => map! { "type" => "RuntimeDefault" },
                    },
                    "initContainers" => list![
                        container(player, "clear-wals", clear.to_vec(), list![data()]),
                        container(player, "generate-wals", generate.to_vec(), list![data()]),
                    ],
                    "containers" => list![container(player, "play-wals", play.to_vec(), mounts)],
                    "volumes" => volumes(plan, player),
                },
            },
        },
    };
    Document::new("Job", plan.names.wal_player(), tree)
}

fn container<'p>(
    player: &'p KlioPlan,
    name: &'static str,
    command: Vec<String>,
    mounts: Yaml<'p>,
) -> Yaml<'p> {
    map! {
        "name" => name,
        "image" => player.image.as_str(),
        "command" => Yaml::from(command),
        "resources" => map! { "requests" => map! { "cpu" => "500m", "memory" => &player.memory } },
        "securityContext" => map! {
            "allowPrivilegeEscalation" => false,
            "capabilities" => map! { "drop" => list!["ALL"] },
            "readOnlyRootFilesystem" => true,
        },
        "volumeMounts" => mounts,
    }
}

/// A directory of the volume: at its root many file systems have `lost+found`, which is no WAL.
fn data() -> Yaml<'static> {
    map! { "name" => "data", "mountPath" => DATA, "subPath" => "wal" }
}

fn read_only(name: &'static str, path: &'static str) -> Yaml<'static> {
    map! { "name" => name, "mountPath" => path, "readOnly" => true }
}

fn volumes<'p>(plan: &'p Plan, player: &'p KlioPlan) -> Yaml<'p> {
    let own = plan.names.wal_player();
    let client = match &player.client {
        ClientPlan::Issuer { .. } => own.clone(),
        ClientPlan::Secret(name) => name.clone(),
    };
    // a server's Secret has its private key, too
    let certificate = map! { "key" => player.server_key.as_str(), "path" => player.server_key.as_str() };
    list![
        map! { "name" => "data", "persistentVolumeClaim" => map! { "claimName" => own.clone() } },
        map! { "name" => "config", "configMap" => map! { "name" => own } },
        map! {
            "name" => "server-cert",
            "secret" => map! { "secretName" => player.server_secret.as_str(), "items" => list![certificate] },
        },
        map! { "name" => "client-cert", "secret" => map! { "secretName" => client } },
    ]
}
