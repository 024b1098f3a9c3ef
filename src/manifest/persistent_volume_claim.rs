//! PersistentVolumeClaim: the volume on which the WAL player makes its files.

use super::player_metadata;
use crate::document::Document;
use crate::plan::{KlioPlan, Plan};

/// The volume of the WAL player. It is of one pod, so one node's.
pub fn wal_player<'p>(plan: &'p Plan, player: &'p KlioPlan) -> Document<'p> {
    let tree = map! {
        "apiVersion" => "v1",
        "kind" => "PersistentVolumeClaim",
        "metadata" => player_metadata(plan, &plan.annotations.object),
        "spec" => map! {
            "accessModes" => list!["ReadWriteOnce"],
            "resources" => map! { "requests" => map! { "storage" => &player.volume } },
            "storageClassName" => player.storage_class.as_deref(),
        },
    };
    Document::new("PersistentVolumeClaim", plan.names.wal_player(), tree)
}
