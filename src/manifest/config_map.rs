//! ConfigMaps: the files of the guests, each once for all VMs; a dashboard; the config of the WAL player.

use super::{job, metadata, monitoring_metadata, player_metadata};
use crate::document::Document;
use crate::guest::Guest;
use crate::plan::{KlioPlan, Plan};
use crate::yaml::{Key, Yaml};
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

/// The dashboard of Grafana, which a sidecar of it finds by the label. Its text is JSON, and a lab's name is plain there.
pub fn dashboard(plan: &Plan) -> Document<'_> {
    let name = plan.names.dashboard();
    let text = include_str!("../../templates/monitoring/dashboard.json").replace("@LAB@", plan.names.lab());
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "ConfigMap",
        "metadata" => monitoring_metadata(plan, &name, Some(("grafana_dashboard", "1"))),
        "data" => Yaml::entries([(Key::from(format!("{name}.json")), text.into())]),
    };
    Document::new("ConfigMap", name, tree)
}

/// The config of Klio's client.
pub fn wal_player<'p>(plan: &'p Plan, player: &'p KlioPlan) -> Document<'p> {
    let config = map! {
        "client" => map! {
            "cluster_name" => player.cluster_name.as_str(),
            "wal" => map! {
                "address" => player.server_address.as_str(),
                "server_cert_path" => format!("{}/{}", job::SERVER_CERTIFICATE, player.server_key),
                "client_cert_path" => format!("{}/tls.crt", job::CLIENT_CERTIFICATE),
                "client_key_path" => format!("{}/tls.key", job::CLIENT_CERTIFICATE),
            },
        },
    };
    let mut text = String::new();
    config.write(&mut text);
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "ConfigMap",
        "metadata" => player_metadata(plan, &plan.annotations.object),
        "data" => map! { job::CONFIG => text },
    };
    Document::new("ConfigMap", plan.names.wal_player(), tree)
}
