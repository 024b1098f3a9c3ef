//! Every message has a code, every code a case that is answered with it, and docs/messages.md is made of both.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod cases;
mod pages;

use cases::CaseFile;
use pages::assert_page;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use virtwork_gen::diagnostic::{Code, Section};
use virtwork_gen::secrets::SecretsFile;
use virtwork_gen::{Plan, Source};

/// What is said of files and streams, and what else no text alone is answered with: the code, what was there before, and
/// the command. Each runs in bash, in an empty directory of its own.
const SCENES: &[(Code, &str, &str)] = &[
    (Code::ConfigNotFound, "", "gen lab.yaml"),
    (Code::ConfigNotFound, "", "gen --check"),
    (Code::IgnoredConfig, "echo 'name: db' > gen.yml", "gen"),
    (Code::IgnoredConfig, "echo 'name: db' > lab.yaml", "gen < lab.yaml"),
    (Code::CannotRead, "mkdir labs", "gen labs"),
    (Code::CannotRead, "mkdir gen.secrets.yaml", "gen"),
    (Code::FileTooLarge, "truncate --size 2M disk.img", "gen disk.img"),
    (Code::NotUtf8, r"printf '# gr\xfc\xdfe\nname: db\n' > gen.yaml", "gen"),
    (Code::NotADirectory, "touch out", "gen -o out"),
    (Code::NotADirectory, "", "gen -o -"),
    (
        Code::FileInTheWay,
        "echo 'name: db' > gen.yaml; mkdir out; echo 'kind: Service' > out/service-db-nodes.yaml",
        "gen -o out",
    ),
    (
        Code::DirectoryOfAnotherLab,
        "echo 'name: fast' > fast.yaml; echo 'name: slow' > slow.yaml; gen fast.yaml -o out",
        "gen slow.yaml -o out",
    ),
    (
        Code::FailoverChanged,
        "echo 'name: db' > gen.yaml; gen -o out; \
        echo 'failover: patroni' >> gen.yaml; echo 'guest: {image: \"quay.io/containerdisks/debian:13\"}' >> gen.yaml",
        "gen -o out",
    ),
    (Code::OutputOverInput, "echo 'name: db' > gen.yaml", "gen >> gen.yaml"),
    (
        Code::OutputOverInput,
        "echo 'credentials: {file: out/secret-db-credentials.yaml}' > gen.yaml; \
        echo 'name: db' >> gen.yaml; mkdir out",
        "gen -o out",
    ),
    (Code::StdoutClosed, "", "gen >&-"),
    (Code::CannotWrite, "", "gen > /dev/full"),
    (Code::ObjectTooLarge, "printf 'annotations: {note: \"%0300000d\"}\n' 0 > gen.yaml", "gen"),
    (Code::MissingPasswords, "echo 'name: db' > gen.yaml", "gen -o out --check"),
    (Code::CannotAddPasswords, "echo '{}' > gen.secrets.yaml", "gen"),
    (Code::OtherPasswords, "echo 'name: db' > gen.yaml; gen -o out; rm gen.secrets.yaml", "gen -o out"),
    (Code::NeedsServerSideApply, "printf 'annotations: {note: \"%0100000d\"}\n' 0 > gen.yaml", "gen --check"),
    (Code::StdinNotRead, "echo 'name: db' > gen.yaml; echo 'name: piped' > lab.yaml", "gen < lab.yaml"),
    (Code::PasswordsAdded, "", "gen | oc apply --server-side -f -"),
    (Code::PasswordsInClear, "echo 'name: db' > gen.yaml", "gen -o out"),
    (Code::PasswordsReadableByOthers, "", "gen > bundle.yaml"),
    (Code::PasswordsReadableByOthers, "gen; chmod 644 gen.secrets.yaml", "gen > /dev/null"),
    (
        Code::PasswordsReadableByOthers,
        "echo 'name: db' > gen.yaml; gen -o out; chmod 644 out/secret-db-credentials.yaml",
        "gen -o out",
    ),
    (
        Code::PasswordsChange,
        "echo 'name: db' > gen.yaml; gen -o out; sed -i 's/: ./: x/' gen.secrets.yaml",
        "gen -o out",
    ),
    (
        Code::DiskSpecChanges,
        "echo 'name: db' > gen.yaml; gen -o out; echo 'vm: {data-disk-size: 50Gi}' >> gen.yaml",
        "gen -o out",
    ),
    (
        Code::JobSpecChanges,
        "echo 'database: false' > gen.yaml; echo 'name: db' >> gen.yaml; echo 'wal-player: klio' >> gen.yaml; \
        gen -o out; sed -i 's/: klio/: {target: klio, length: 1000}/' gen.yaml",
        "gen -o out",
    ),
    (
        Code::StaleFilesRemoved,
        "echo 'replica-count: 1' > gen.yaml; gen -o out; echo 'replica-count: 0' > gen.yaml",
        "gen -o out",
    ),
    (
        Code::WaitingForAnotherRun,
        // a lock that goes when the note is there
        "mkdir out; exec 9< out; flock 9; { for n in {1..2000}; do grep -qs note err && break; sleep 0.01; done; flock -u 9; } &",
        "gen -o out",
    ),
];

/// What gen says, whole, and the code in it.
#[derive(Debug)]
struct Message {
    level: String,
    code: String,
    text: String,
}

/// The messages in what a case or a scene is answered with. One without a code is none.
fn messages(place: &str, text: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let uncoded = ["error:", "note:", "warning:"].iter().find(|level| line.starts_with(*level));
        assert_eq!(uncoded, None, "{place}: a message without a code: {line}");
        let head = line.split_once("]: ").and_then(|(head, _)| head.split_once('['));
        if let Some((level, code)) = head.filter(|(level, _)| ["error", "note"].contains(level)) {
            messages.push(Message { level: level.to_owned(), code: code.to_owned(), text: line.to_owned() });
            is_open = level == "error";
        } else if line.is_empty() {
            is_open = false;
        } else if let Some(message) = messages.last_mut().filter(|_| is_open) {
            write!(message.text, "\n{line}").unwrap();
        }
    }
    messages
}

/// What a scene is answered with, on standard error.
fn played(number: usize, before: &str, command: &str) -> String {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("messages-{number}"));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    let script = format!(
        "umask 022; gen() {{ \"$GEN\" \"$@\"; }}; oc() {{ cat; }}\n\
         {{ :; {before}\n}} > /dev/null 2>&1\n\
         {{ {command}\n}} 2> err\n\
         cat err >&2"
    );
    let mut bash = Command::new("timeout");
    bash.args(["60", "bash", "-c", &script]).env("GEN", env!("CARGO_BIN_EXE_gen")).current_dir(&place);
    let output = bash.stdin(Stdio::null()).output().unwrap();
    fs::remove_dir_all(&place).unwrap();
    String::from_utf8(output.stderr).unwrap()
}

/// A message that was seen.
struct Example {
    /// The command that it answers; none: a config or a secrets file.
    command: Option<&'static str>,
    /// Whether the case is about this message, and does not merely show it beside others.
    is_subject: bool,
    message: Message,
}

/// The messages of all cases and scenes, the clearest first: those that a case is about, and the shortest of them.
fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for (case, answer) in answers_to_configs().chain(answers_to_secrets_files()) {
        let messages = messages(&case, &answer);
        let is_subject = messages.len() == 1;
        let example = |message| Example { command: None, is_subject, message };
        examples.extend(messages.into_iter().map(example));
    }
    for (number, (code, before, command)) in SCENES.iter().enumerate() {
        let answer = played(number, before, command);
        let example = |message: Message| {
            let is_subject = message.code == code.name();
            Example { command: Some(*command), is_subject, message }
        };
        let seen: Vec<_> = messages(command, &answer).into_iter().map(example).collect();
        assert!(
            seen.iter().any(|example| example.is_subject),
            "`{command}` is not answered with {code}: {answer}"
        );
        examples.extend(seen);
    }
    examples.sort_by_key(|example| (!example.is_subject, example.message.text.len()));
    examples
}

/// The cases by name, with what gen says of them.
fn answers_to_configs() -> impl Iterator<Item = (String, String)> {
    CaseFile::all().into_iter().flat_map(|file| {
        file.cases.into_iter().map(move |case| {
            let answer = match Plan::new(&Source::new("gen.yaml", case.input)) {
                Ok(plan) => plan.notes.iter().map(|note| format!("{note}\n")).collect(),
                Err(report) => report.render(false),
            };
            (file.path.join(case.name).display().to_string(), answer)
        })
    })
}

fn answers_to_secrets_files() -> impl Iterator<Item = (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/secrets");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    paths.sort();
    paths.into_iter().map(|path| {
        let name = path.display().to_string();
        let source = Source::new("gen.secrets.yaml", fs::read_to_string(path).unwrap());
        let report = SecretsFile::read(&source).err().unwrap_or_else(|| panic!("{name} is accepted"));
        (name, report.render(false))
    })
}

#[test]
fn every_code_has_a_case_and_every_case_a_code() {
    let examples = examples();
    let said: BTreeSet<_> = examples.iter().map(|example| example.message.code.as_str()).collect();
    let known: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
    let unsaid: Vec<_> = known.difference(&said).collect();
    assert!(unsaid.is_empty(), "nothing is answered with {unsaid:?}");
    for Message { level, code, text } in examples.iter().map(|example| &example.message) {
        let known = Code::ALL.iter().find(|known| known.name() == code);
        let section = known.unwrap_or_else(|| panic!("no such code: {text}")).section();
        assert_eq!(section == Section::Notes, level == "note", "{text}");
    }
    assert_page("messages.md", &document(&examples), "messages");
}

#[test]
fn a_code_is_called_like_its_variant_and_explained_in_sentences() {
    for code in Code::ALL {
        let variant = format!("{code:?}");
        let hyphenated = variant.chars().fold(String::new(), |name, c| match c.is_uppercase() {
            true if name.is_empty() => name + &c.to_lowercase().to_string(),
            true => format!("{name}-{}", c.to_lowercase()),
            false => format!("{name}{c}"),
        });
        assert_eq!(code.name(), hyphenated);
        assert!(
            code.about().ends_with(['.', '?']) && code.about().starts_with(|c: char| !c.is_lowercase()),
            "{code}"
        );
    }
}

#[test]
fn a_message_without_a_code_is_noticed() {
    let messages =
        messages("probe", "note[one]: a\nerror[two]: b\n --> c\n\nerror[three]: d\n\ngen.yaml: 2 errors\n");
    let texts: Vec<_> = messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["note[one]: a", "error[two]: b\n --> c", "error[three]: d"]);
    std::panic::catch_unwind(|| self::messages("probe", "error: e\n")).unwrap_err();
}

// docs/messages.md

const INTRODUCTION: &str = "\
# The messages

Each message begins with its code: `error[disk-too-small]: …`, `note[passwords-added]: …`. An error ends the run
with exit status 2; a note is advice on what goes on all the same. Words of messages change, codes stay: they are what to
search for, and what scripts may rely on.

This page is made of the table in [src/diagnostic/code.rs](../src/diagnostic/code.rs), and shows for each code one
message of the [cases](../snapshots/README.md) that the tests hold it to.
";

fn document(examples: &[Example]) -> String {
    let mut out = INTRODUCTION.to_owned();
    for section in Section::ALL {
        write!(out, "\n## {}\n", section.heading()).unwrap();
        for code in Code::ALL.iter().filter(|code| code.section() == *section) {
            let example = examples.iter().find(|example| example.message.code == code.name()).unwrap();
            let command = example.command.map(|command| format!("$ {command}\n")).unwrap_or_default();
            let text = &example.message.text;
            write!(out, "\n### `{code}`\n\n{}\n\n```\n{command}{text}\n```\n", code.about()).unwrap();
        }
    }
    out
}
