//! The prefix of every name, and whether the longest still fits.

use crate::config::Config;
use crate::diagnostic::{Code, Problems};
use crate::names::{DATA_DISK, MAX_NAME, Names, Role, disk};
use crate::value::LabName;

const DEFAULT_NAME: &str = "virtwork-database-replication";

pub(super) fn plan(config: &Config, roles: &[(Role, u32)], problems: &mut Problems) -> Names {
    let lab = config.name.get().map_or(DEFAULT_NAME, LabName::as_str);
    let names = Names::new(lab);
    let disks = roles.iter().map(|(role, count)| disk(&names.vm(*role, count - 1), DATA_DISK));
    let longest = disks.chain([names.replicas_service()]).max_by_key(String::len).unwrap_or_default();
    if longest.len() > MAX_NAME {
        let room = MAX_NAME - (longest.len() - lab.len());
        problems.contradiction(
            Code::NameTooLong,
            &[
                (&config.name, "the prefix of every name"),
                (&config.replica_count, "the replicas' number is part of their names"),
            ],
            format!(
                "`name` is too long: `{longest}` would have {} characters, {MAX_NAME} are allowed",
                longest.len()
            ),
            format!("shorten `name` to at most {room} characters"),
        );
    }
    names
}
