//! What settings do to a lab: those that stop it, and those that need something of the guest.

use super::parameters::Settings;
use crate::config::fields::Spanned;
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::source::one_line;
use crate::value::{Meaning, ParameterValue};

/// Switches that no lab survives when they are on.
const NEVER_ON: &[(&str, &str)] = &[
    ("zero_damaged_pages", "it destroys damaged data for good"),
    ("ignore_checksum_failure", "it hides damaged data, and copies it on"),
    ("ignore_invalid_pages", "it hides damaged data, and copies it on"),
    ("ignore_system_indexes", "it is for the repair of a single server"),
    ("db_user_namespace", "the lab's roles could not log in"),
    ("bonjour", "the guests' PostgreSQL is built without it"),
];

/// Settings with which the data may not outlive a crash: some measure with them, and should know.
const UNSAFE: &[(&str, bool)] = &[("fsync", false), ("full_page_writes", false), ("data_sync_retry", true)];

/// Libraries that come with PostgreSQL in both families.
const CONTRIB: &[&str] = &[
    "auth_delay",
    "auto_explain",
    "passwordcheck",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_trgm",
    "pgrowlocks",
    "pgstattuple",
];

/// Locales that every guest has.
const LOCALES: &[&str] = &["C", "POSIX", "C.UTF-8", "C.utf8"];

/// What no setting may do to a lab, and what people should know of those they chose.
pub(super) fn check(settings: &Settings, problems: &mut Problems, notes: &mut Vec<Note>) {
    check_switches(settings, problems, notes);
    check_archive(settings, problems);
    note_needs(settings, notes);
    if let Some((value, Meaning::Word("minimal"))) = settings.get("wal_level") {
        let message = "replicas cannot follow with `wal_level` minimal";
        problems.push(
            Diagnostic::new(Code::SettingBreaksLab, value.span.clone(), message)
                .help("write `logical`, or leave it out for `replica`"),
        );
    }
}

fn check_switches(settings: &Settings, problems: &mut Problems, notes: &mut Vec<Note>) {
    let mut refuse = |value: &Spanned<ParameterValue>, message: String, help: &str| {
        problems.push(Diagnostic::new(Code::SettingBreaksLab, value.span.clone(), message).help(help));
    };
    for (name, reason) in NEVER_ON {
        if let Some((value, Meaning::Bool(true))) = settings.get(name) {
            refuse(value, format!("`{name}` must stay off: {reason}"), "remove it");
        }
    }
    if let Some((value, Meaning::Word("on"))) = settings.get("huge_pages") {
        let message = "with `huge_pages` on the server does not start: the guests reserve none";
        refuse(value, message.to_owned(), "write `try`, which is the default");
    }
    if settings.is("logging_collector", &Meaning::Bool(true))
        && let Some((value, _)) = settings.get("log_filename").filter(|(value, _)| value.value.0.is_empty())
    {
        let message = "without a `log_filename` the server does not start: `logging_collector` opens a file";
        refuse(value, message.to_owned(), "write it like `postgresql-%a.log`, or remove it for the default");
    }
    // libpqwalreceiver is looked for there
    if let Some(value) = settings.text("dynamic_library_path")
        && !value.value.0.split(':').any(|directory| directory == "$libdir")
    {
        let message = "without `$libdir` in `dynamic_library_path` replicas cannot stream";
        refuse(value, message.to_owned(), &format!("write `$libdir:{}`", one_line(&value.value.0)));
    }
    for (name, value) in UNSAFE {
        if settings.is(name, &Meaning::Bool(*value)) {
            let value = if *value { "on" } else { "off" };
            let text =
                format!("with `{name}` {value} a node that loses power may come back with damaged data");
            notes.push(Note::new(Code::DataAtRisk, text));
        }
    }
}

fn check_archive(settings: &Settings, problems: &mut Problems) {
    // a shell runs blanks with success and archives nothing
    let command = settings.text("archive_command").filter(|value| !value.value.0.trim().is_empty());
    let library = settings.text("archive_library");
    if let (Some(command), Some(library)) = (command, library) {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(command, "either a command"), (library, "or a library")],
            "`archive_command` and `archive_library` exclude each other",
            "keep one of the two; from PostgreSQL 16 on nothing is archived with both, and the WAL fills the disk",
        );
    }
    let mode = settings.0.iter().find(|((name, _), _)| name.value.as_str() == "archive_mode");
    let Some(((mode, _), Meaning::Word("on" | "always"))) = mode else { return };
    if command.is_none() && library.is_none() {
        let message = "`archive_mode` without an `archive_command` fills the disk with WAL";
        problems.push(
            Diagnostic::new(Code::NothingIsArchived, mode.span.clone(), message)
                .help("add `archive_command`, or leave `archive_mode` out"),
        );
    }
    // an archive module that is not configured is asked again for ever (basic_archive_configured)
    if let (Some(library), None) = (library, command)
        && library.value.0.trim_start_matches("$libdir/") == "basic_archive"
        && settings.text("basic_archive.archive_directory").is_none()
    {
        let message = "`basic_archive` without a directory archives nothing, and WAL fills the disk";
        problems.push(
            Diagnostic::new(Code::NothingIsArchived, library.span.clone(), message)
                .help("add `basic_archive.archive_directory`, or leave `archive_mode` out"),
        );
    }
}

/// Notes what the guest must have for a setting: libraries that are preloaded, locales.
fn note_needs(settings: &Settings, notes: &mut Vec<Note>) {
    let mut note = |text: String| notes.push(Note::new(Code::GuestMustHave, text));
    for (name, fate) in [
        ("shared_preload_libraries", "the server does not start"),
        ("session_preload_libraries", "nobody can connect"),
        ("local_preload_libraries", "nobody can connect"),
    ] {
        let Some(value) = settings.text(name) else { continue };
        // from $libdir/plugins, where no package puts any
        let is_local = name.starts_with("local");
        let libraries = value.value.0.split(',');
        let libraries = libraries.map(|name| name.trim().trim_matches('"').trim_start_matches("$libdir/"));
        let others: Vec<_> =
            libraries.filter(|name| !name.is_empty() && (is_local || !CONTRIB.contains(name))).collect();
        if !others.is_empty() {
            note(format!(
                "`{name}`: {fate} unless the guest has `{}`; name the package in `extra-packages`, or use an image \
                 that has it",
                one_line(&others.join("`, `"))
            ));
        }
    }
    for name in ["lc_messages", "lc_monetary", "lc_numeric", "lc_time"] {
        if let Some(value) = settings.text(name)
            && !LOCALES.contains(&value.value.0.as_str())
        {
            let locale = one_line(&value.value.0);
            note(format!("`{name}`: the server does not start unless the guest has the locale `{locale}`"));
        }
    }
    for ((name, value), meaning) in &settings.0 {
        let what = match meaning {
            Meaning::TimeZone => "knows the time zone",
            Meaning::Abbreviations => "has the time zone abbreviations",
            _ => continue,
        };
        let (name, value) = (name.value.as_str(), one_line(&value.value.0));
        note(format!("`{name}`: the server does not start unless the guest {what} `{value}`"));
    }
    if settings.is("logging_collector", &Meaning::Bool(true))
        && let Some(directory) = settings.text("log_directory").filter(|value| value.value.0.starts_with('/'))
    {
        note(format!(
            "`log_directory`: the server does not start unless `postgres` may write into `{}` in the guest",
            one_line(&directory.value.0)
        ));
    }
}
