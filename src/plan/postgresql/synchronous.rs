//! Which standbys a commit waits for.

use super::parameters::Settings;
use crate::config::Config;
use crate::config::fields::Involved;
use crate::diagnostic::{Code, Note, Problems};
use crate::value::{SynchronousCommit, SynchronousMethod};

/// What a commit waits for.
#[derive(Debug)]
pub struct SynchronousPlan {
    /// Which standbys.
    pub method: SynchronousMethod,
    /// How many of them.
    pub count: u32,
    /// What they have to have done.
    pub commit: SynchronousCommit,
}

pub(super) fn plan(
    config: &Config,
    replicas: u32,
    is_patroni: bool,
    settings: &Settings,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Option<SynchronousPlan> {
    let field = config.postgresql.or_default().synchronous;
    let section = &field.spanned()?.value;
    let count = section.count.or(1);
    if count > replicas {
        let given: &dyn Involved = if section.count.is_present() { &section.count } else { &field };
        problems.contradiction(
            Code::TooFewStandbys,
            &[(given, "standbys for each commit"), (&config.replica_count, "of these")],
            format!(
                "a commit would wait for {count} {}, and the lab has {replicas}: it would never end",
                if count == 1 { "standby" } else { "standbys" }
            ),
            match replicas {
                0 => "remove `postgresql.synchronous`, or ask for replicas".to_owned(),
                _ => format!(
                    "set `postgresql.synchronous.count` to at most `{replicas}`, or raise `replica-count`"
                ),
            },
        );
    } else if !is_patroni {
        let too_few = match count {
            1 => "no replica streams".to_owned(),
            _ => format!("fewer than {count} of {replicas} replicas stream"),
        };
        let text = format!("commits wait while {too_few}; docs/operations.md says how to write without them");
        notes.push(Note::new(Code::CommitsWait, text));
    }
    problems_with_settings(&field, settings, problems);
    Some(SynchronousPlan {
        method: section.method.or(SynchronousMethod::Any),
        count,
        commit: section.commit.or(SynchronousCommit::On),
    })
}

fn problems_with_settings(field: &dyn Involved, settings: &Settings, problems: &mut Problems) {
    if settings.get("synchronous_commit").is_some() {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(&settings.place("synchronous_commit"), "set again"), (field, "says what commits wait for")],
            "`postgresql.synchronous` sets `synchronous_commit`",
            "write it as `postgresql.synchronous.commit`, and remove it from `postgresql.parameters`",
        );
    }
}
