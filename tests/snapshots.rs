//! Goldens: each bundle byte by byte, each error message as a user reads it.
//!
//! `snapshots/bundles/<case>/gen.yaml` (none: built-in defaults) beside the `bundle.yaml` it makes, and
//! `snapshots/errors/<case>.yaml` beside the `<case>.txt` that it is answered with. They are plain files, so that
//! other readers (`tests/check`) judge them too. After a change that is meant:
//! `UPDATE_SNAPSHOTS=1 cargo test --test snapshots`, and review the difference.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use similar::TextDiff;
use std::fs;
use std::path::{Path, PathBuf};
use virtwork_gen::secrets::SecretsFile;
use virtwork_gen::{Passwords, Plan, Source, generate, sink};

fn snapshots(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(folder)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn config(path: &Path) -> Source {
    if path.exists() {
        Source::new("gen.yaml", fs::read_to_string(path).unwrap())
    } else {
        Source::built_in_defaults()
    }
}

/// The passwords of a case, or those that all share.
fn passwords(case: &Path) -> Passwords {
    let own = case.join("passwords.yaml");
    let path = if own.exists() { own } else { case.with_file_name("passwords.yaml") };
    let source = Source::new("passwords.yaml", fs::read_to_string(path).unwrap());
    SecretsFile::read(&source).unwrap().passwords().unwrap()
}

/// Compares with the golden, or renews it; gives the difference.
fn difference(golden: &Path, actual: &str) -> Option<String> {
    let expected = fs::read_to_string(golden).unwrap_or_default();
    if expected == actual {
        return None;
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(golden, actual).unwrap();
        return None;
    }
    let name = golden.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
    let diff = TextDiff::from_lines(&expected, actual);
    Some(diff.unified_diff().header(&name, "what gen makes now").to_string())
}

fn assert_none_differ(differences: Vec<String>) {
    assert!(
        differences.is_empty(),
        "{}\n{} snapshots differ; if that is meant: UPDATE_SNAPSHOTS=1 cargo test --test snapshots",
        differences.join("\n"),
        differences.len()
    );
}

#[test]
fn a_config_makes_the_bundle_that_was_reviewed() {
    let mut differences = Vec::new();
    for case in entries(&snapshots("bundles")).into_iter().filter(|path| path.is_dir()) {
        let bundle = generate(&config(&case.join("gen.yaml")), Some(&passwords(&case)))
            .unwrap_or_else(|report| panic!("{}: {}", case.display(), report.render(false)));
        let mut bytes = Vec::new();
        sink::stream(&bundle, &mut bytes).unwrap();
        differences.extend(difference(&case.join("bundle.yaml"), &String::from_utf8(bytes).unwrap()));
    }
    assert_none_differ(differences);
}

#[test]
fn a_bad_config_gets_the_message_that_was_reviewed() {
    let (cases, messages): (Vec<_>, Vec<_>) = entries(&snapshots("errors"))
        .into_iter()
        .partition(|path| path.extension().is_some_and(|e| e == "yaml"));
    for message in &messages {
        assert!(
            message.with_extension("yaml").exists(),
            "{}: a message without its config",
            message.display()
        );
    }
    let mut differences = Vec::new();
    for case in cases {
        differences.extend(match Plan::new(&config(&case)) {
            Ok(_) => Some(format!("{} is accepted", case.display())),
            Err(report) => difference(&case.with_extension("txt"), &report.render(false)),
        });
    }
    assert_none_differ(differences);
}

/// The same for the secrets file, whose messages must not show what it holds.
#[test]
fn a_bad_secrets_file_gets_a_message_without_its_passwords() {
    let mut differences = Vec::new();
    for case in
        entries(&snapshots("secrets")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "yaml"))
    {
        let source = Source::new("gen.secrets.yaml", fs::read_to_string(&case).unwrap());
        differences.extend(match SecretsFile::read(&source).map_err(|report| report.render(false)) {
            Ok(_) => Some(format!("{} is accepted", case.display())),
            Err(message) if message.contains("hunter2") => {
                Some(format!("{} shows it: {message}", case.display()))
            }
            Err(message) => difference(&case.with_extension("txt"), &message),
        });
    }
    assert_none_differ(differences);
}
