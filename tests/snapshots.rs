//! Goldens: each bundle byte by byte, each message as a user reads it. `snapshots/README.md` says what lies where.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test snapshots`, or `cargo insta review`, and review
//! the difference.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod cases;
mod goldens;

use cases::{Case, CaseFile, EXPECTATION};
use goldens::{renews, show_difference};
use insta::{Settings, assert_binary_snapshot, assert_snapshot, glob};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use virtwork_gen::diagnostic::{Diagnostic, Span};
use virtwork_gen::secrets::SecretsFile;
use virtwork_gen::{Bundle, Passwords, Plan, Source, sink};

/// The command that renews what is meant to change.
const RENEWAL: &str = "INSTA_UPDATE=always cargo test --test snapshots";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Has insta keep a golden in the folder of its input, under the bare name that the assertion gives it.
fn beside(input: &Path) -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(input.parent().unwrap());
    settings.set_prepend_module_to_snapshot(false);
    settings.remove_snapshot_suffix();
    settings.set_omit_expression(true);
    settings
}

/// The config of a bundle. An empty file stands for none at all: built-in defaults.
fn config(path: &Path) -> Source {
    match read(path) {
        text if text.is_empty() => Source::built_in_defaults(),
        text => Source::new("gen.yaml", text),
    }
}

/// The passwords of a case, or those that all share.
fn passwords(case: &Path, plan: &Plan) -> Passwords {
    let own = case.join("passwords.yaml");
    let path = if own.exists() { own } else { case.with_file_name("passwords.yaml") };
    SecretsFile::read(&Source::new("passwords.yaml", read(&path))).unwrap().passwords(plan).unwrap()
}

#[test]
fn a_config_makes_the_bundle_that_was_reviewed() {
    renews();
    glob!("../snapshots/bundles", "*/gen.yaml", |path| {
        let case = path.parent().unwrap();
        let refused = |report| -> Bundle { panic!("{}: {report}", path.display()) };
        let bundle = Plan::new(&config(path)).map_or_else(refused, |plan| {
            let passwords = passwords(case, &plan);
            Bundle::new(plan, Some(&passwords)).unwrap_or_else(refused)
        });
        let mut bytes = Vec::new();
        sink::stream(&bundle, &mut bytes).unwrap();
        let golden = case.join("bundle.snap.yaml");
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        show_difference(&golden, &expected, std::str::from_utf8(&bytes).unwrap());
        beside(path).bind(|| assert_binary_snapshot!("bundle.yaml", bytes));
    });
}

/// The pair of docs/two-sites.md, whose files people read.
#[test]
fn the_files_of_each_site_are_what_its_config_says() {
    let renews = renews();
    glob!("../snapshots/two-sites", "*/gen.yaml", |path| {
        let mut gen_out = Command::new(env!("CARGO_BIN_EXE_gen"));
        gen_out.args(["-o", "out"]).current_dir(path.parent().unwrap());
        if !renews {
            gen_out.arg("--check");
        }
        let output = gen_out.output().unwrap();
        assert!(output.status.success(), "{}\n{RENEWAL}", String::from_utf8_lossy(&output.stderr));
    });
}

/// Compares a message with `<case>.snap` beside the input.
fn assert_message(path: &Path, message: &str) {
    let case = path.file_stem().unwrap().to_str().unwrap();
    beside(path).bind(|| assert_snapshot!(case, message));
}

/// The messages of the secrets file must not show what it holds.
#[test]
fn a_bad_secrets_file_gets_a_message_without_its_passwords() {
    renews();
    glob!("../snapshots/secrets", "*.yaml", |path| {
        let report = SecretsFile::read(&Source::new("gen.secrets.yaml", read(path)))
            .err()
            .unwrap_or_else(|| panic!("{} is accepted", path.display()));
        let message = report.render(false);
        assert!(!message.contains("hunter2"), "{} shows it: {message}", path.display());
        assert_message(path, &message);
    });
}

/// What messages look like: the few of `snapshots/errors` that a reader would not picture from their words.
#[test]
fn a_message_looks_as_it_was_reviewed() {
    renews();
    glob!("../snapshots/renderings", "*.yaml", |path| {
        let report = Plan::new(&Source::new("gen.yaml", read(path)))
            .err()
            .unwrap_or_else(|| panic!("{} is accepted", path.display()));
        assert_message(path, &report.render(false));
    });
}

/// What a case says of a place: columns from 1, the end excluded, and lines where they are others than `line`.
fn place(input: &str, span: &Span, line: usize) -> String {
    let position = |offset: usize| {
        let before = &input[..offset];
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        (before.matches('\n').count(), column)
    };
    let (start, end) = (position(span.start), position(span.end));
    let start_line = if start.0 == line { String::new() } else { format!("{}:", start.0 + 1) };
    let to = match end {
        _ if end == start => String::new(),
        (line, column) if line == start.0 => format!("-{column}"),
        (line, column) => format!("-{}:{column}", line + 1),
    };
    format!("{start_line}{}{to}", start.1)
}

/// The lines of a case that expect this fault, below the given line.
fn expectations(input: &str, fault: &Diagnostic, line: usize) -> String {
    let mut principal = fault.marks.iter().take(1).map(|(span, _)| place(input, span, line));
    let mut words =
        vec![format!("{} error[{}]: {}", principal.next().unwrap_or_default(), fault.code, fault.message)];
    for (number, (span, label)) in fault.marks.iter().enumerate() {
        if number > 0 || !label.is_empty() {
            words.push(format!("{} label: {label}", place(input, span, line)));
        }
    }
    words.extend(fault.help.iter().map(|help| format!("help: {help}")));
    words.extend(fault.is_secret.then(|| "concealed".to_owned()));
    words.iter().map(|words| expectation(words)).collect()
}

fn expectation(words: &str) -> String {
    assert!(!words.contains('\n'), "a message of several lines: {words}");
    format!("{EXPECTATION} {}\n", words.trim())
}

/// The body of a case with what gen says of it now, each message below the line that it points to.
fn answered(case: &Case) -> String {
    let lines: Vec<_> = case.lines().collect();
    let mut without_place = String::new();
    let mut below = vec![String::new(); lines.len()];
    match Plan::new(&Source::new("gen.yaml", &*case.input)) {
        Ok(plan) => {
            assert!(!plan.notes.is_empty(), "`{}` is accepted without a word", case.name);
            without_place.extend(plan.notes.iter().map(|note| expectation(&note.to_string())));
        }
        Err(report) => {
            for fault in report.diagnostics() {
                match fault.marks.first() {
                    Some((span, _)) => {
                        let line = case.input[..span.start].matches('\n').count().min(lines.len() - 1);
                        below[line] += &expectations(&case.input, fault, line);
                    }
                    None => without_place += &expectations(&case.input, fault, 0),
                }
            }
        }
    }
    lines.iter().zip(below).fold(without_place, |body, (line, messages)| format!("{body}{line}\n{messages}"))
}

#[test]
fn a_config_gets_the_messages_that_were_reviewed() {
    let renews = renews();
    let mut differences = 0;
    let mut names = BTreeSet::new();
    for file in CaseFile::all() {
        let path = file.path.display();
        assert!(!file.cases.is_empty(), "{path}: no case begins with `--- name ---`");
        let is_comment = |line: &str| line.is_empty() || line.starts_with("# ");
        assert!(file.introduction.lines().all(is_comment), "{path}: a line above the first case");
        let mut cases = Vec::new();
        for case in &file.cases {
            assert!(names.insert(case.name.clone()), "{path}: another case is called `{}`", case.name);
            let body = answered(case);
            differences += usize::from(body != case.body);
            show_difference(&file.path.join(&case.name), &case.body, &body);
            cases.push(format!("{}{body}", case.title));
        }
        if renews {
            fs::write(&file.path, format!("{}{}", file.introduction, cases.join("\n"))).unwrap();
        }
    }
    assert!(renews || differences == 0, "cases that differ: {differences}; if that is meant: {RENEWAL}");
}

/// A golden whose case is gone, and a file that is neither, would be judged by nobody.
#[test]
fn no_file_is_without_a_case() {
    let is_golden_of = |golden: &Path, input: &str| golden.with_file_name(input).exists();
    let mut strays = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots"));
    strays.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let subject = folder.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap();
        let belongs = match (subject, name.split_once('.').unwrap()) {
            ("snapshots", _) => name == "README.md",
            ("snapshots/bundles", _) => name == "passwords.yaml",
            ("snapshots/readme", _) => name == "gen.yaml",
            // gen itself removes what is no longer part of a directory
            (site, _) if site.starts_with("snapshots/two-sites/") => {
                name == "gen.yaml" || site.ends_with("/out")
            }
            ("snapshots/errors", (_, extension)) => extension == "yaml",
            ("snapshots/renderings" | "snapshots/secrets", (case, extension)) => {
                extension == "yaml" || extension == "snap" && is_golden_of(path, &format!("{case}.yaml"))
            }
            _ => {
                let is_known =
                    ["gen.yaml", "passwords.yaml", "bundle.snap", "bundle.snap.yaml"].contains(&name);
                is_known && is_golden_of(path, "gen.yaml")
            }
        };
        // what insta leaves for review
        !belongs && !name.contains(".snap.new")
    });
    assert!(strays.is_empty(), "no case for {strays:#?}");
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
