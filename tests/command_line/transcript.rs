//! A test as a transcript of a terminal: the files that lie there, what is typed, what is shown, what has changed.
//!
//! What is typed is a line for bash, in which `gen` is the program. In an expected text `…` stands for any text.
//! What is not said must not be: a line succeeds, and shows, writes and removes nothing but what its test says.

use similar::TextDiff;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use virtwork_gen::diagnostic::Code;

const GEN: &str = env!("CARGO_BIN_EXE_gen");
pub const SECRETS: &str = "replication-password: \"not-a-secret-1\"\nclient-password: \"not-a-secret-2\"\n";
/// Finds the passwords of [`SECRETS`], as they are and in base64.
pub const GREP: &str = "grep -l -e not-a-secret -e bm90LWEtc2VjcmV0";

/// A lab without passwords.
pub const KEYLESS: &str = "name: db\ncredentials: {existing-secret: mine}\n";

/// A directory of one test.
pub struct Place(PathBuf);

/// Nothing but a directory, named after the line of the test that asks for it.
#[track_caller]
pub fn empty() -> Place {
    let test = Location::caller();
    let name = Path::new(test.file()).file_stem().unwrap().display();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", test.line()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    Place(path)
}

/// A gen.yaml, and beside it the passwords, which only their owner can read.
#[track_caller]
pub fn lab(config: &str) -> Place {
    let place = empty();
    place.file("gen.yaml", config).file("gen.secrets.yaml", SECRETS).sh("chmod 600 gen.secrets.yaml");
    place
}

/// A file of the goldens.
pub fn golden(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/bundles").join(name)).unwrap()
}

/// A line for bash, and what is expected of it.
#[derive(Default)]
#[must_use]
pub struct Run {
    line: String,
    status: i32,
    stdout: String,
    stderr: String,
    written: Vec<String>,
    removed: Vec<String>,
}

pub fn bash(line: impl Into<String>) -> Run {
    Run { line: line.into(), ..Run::default() }
}

impl<T: Into<String>> From<T> for Run {
    fn from(line: T) -> Self {
        bash(line)
    }
}

impl Run {
    pub fn fails(self, status: i32) -> Self {
        Self { status, ..self }
    }

    /// Fails with an error that has no place in a text, framed as such errors are.
    pub fn refuses(self, code: Code, message: &str, help: &str) -> Self {
        self.fails(2).stderr(&format!("error[{code}]: {message}\n |\n = help: {help}\n\n"))
    }

    pub fn stdout(self, expected: &str) -> Self {
        Self { stdout: unindented(expected), ..self }
    }

    pub fn stderr(self, expected: &str) -> Self {
        Self { stderr: unindented(expected), ..self }
    }

    /// Files, and directories (`name/`), that are new, changed, or written anew with the bytes that they had.
    pub fn writes<T: Into<String>>(self, names: impl IntoIterator<Item = T>) -> Self {
        Self { written: names.into_iter().map(Into::into).collect(), ..self }
    }

    pub fn removes<T: Into<String>>(self, names: impl IntoIterator<Item = T>) -> Self {
        Self { removed: names.into_iter().map(Into::into).collect(), ..self }
    }
}

impl Place {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file, with the directories above it.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Prepares something, with any output and files.
    #[track_caller]
    pub fn sh(&self, line: &str) -> &Self {
        let output = self.bash(line);
        assert!(output.status.success(), "$ {line}\n{output:?}");
        self
    }

    /// Types a line, and asserts what is expected of it.
    #[track_caller]
    pub fn run(&self, run: impl Into<Run>) -> &Self {
        passed(self.judge(&run.into()));
        self
    }

    fn judge(&self, run: &Run) -> Result<(), String> {
        let before = self.files();
        let output = self.bash(&run.line);
        let after = self.files();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let written: Vec<_> = after.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
        let removed: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
        let parts = [
            ("status", format!("exit status: {}", run.status), output.status.to_string()),
            ("standard output", filled(&run.stdout, &stdout), stdout),
            ("standard error", filled(&run.stderr, &stderr), stderr),
            ("written", named(&run.written, &written), lines(&written)),
            ("removed", named(&run.removed, &removed), lines(&removed)),
        ];
        let expected: String = parts.iter().map(|(part, text, _)| format!("[{part}]\n{text}\n")).collect();
        let came: String = parts.iter().map(|(part, _, text)| format!("[{part}]\n{text}\n")).collect();
        same(&format!("$ {}", run.line), &expected, &came)
    }

    /// Asserts what a file holds.
    #[track_caller]
    pub fn reads(&self, name: &str, expected: &str) -> &Self {
        let text = self.read(name);
        passed(same(name, &filled(expected, &text), &text));
        self
    }

    /// Asserts that nobody but its owner can do anything with a file.
    #[track_caller]
    pub fn is_private(&self, name: &str) -> &Self {
        assert_eq!(fs::metadata(self.path(name)).unwrap().mode() & 0o777, 0o600, "the mode of {name}");
        self
    }

    /// The program without a shell, for what needs its process.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(GEN);
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn bash(&self, line: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        let mut bash = Command::new("bash");
        bash.env("PATH", format!("{}:{path}", Path::new(GEN).parent().unwrap().display()));
        // a pipe fails as the program in it does
        bash.args(["-o", "pipefail", "-c", line]).current_dir(&self.0).stdin(Stdio::null()).output().unwrap()
    }

    /// Every file with its bytes, every directory (`name/`), and what else tells that somebody wrote there.
    pub fn files(&self) -> BTreeMap<String, (Vec<u8>, String)> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                let mut name = path.strip_prefix(&self.0).unwrap().display().to_string();
                let metadata = path.symlink_metadata().unwrap();
                let mut trace = format!("{:o} {:?}", metadata.mode(), path.read_link().ok());
                if metadata.is_dir() {
                    name.push('/');
                    directories.push(path.clone());
                } else {
                    trace += &format!(" {} {:?}", metadata.ino(), metadata.modified().unwrap());
                }
                let bytes = if metadata.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
                files.insert(name, (bytes, trace));
            }
        }
        files
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn same(what: &str, expected: &str, came: &str) -> Result<(), String> {
    if expected == came {
        return Ok(());
    }
    let diff = TextDiff::from_lines(expected, came);
    Err(format!("{what}\n{}", diff.unified_diff().header("expected", "came")))
}

#[track_caller]
fn passed(judgement: Result<(), String>) {
    if let Err(difference) = judgement {
        panic!("{difference}");
    }
}

/// The names that each pattern stands for, and the patterns that stand for none.
fn named(patterns: &[String], names: &[&String]) -> String {
    let mut all = Vec::new();
    for pattern in patterns {
        let count = all.len();
        all.extend(names.iter().copied().filter(|name| filled(pattern, name) == **name));
        if all.len() == count {
            all.push(pattern);
        }
    }
    all.sort();
    all.dedup();
    lines(&all)
}

fn lines(names: &[&String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

/// An expected text with what each `…` in it stands for; it equals the text that came where it fits.
fn filled(expected: &str, came: &str) -> String {
    let mut parts = expected.split('…').peekable();
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut rest = came.strip_prefix(&filled).unwrap_or(came);
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let found = if is_last { rest.strip_suffix(part).map(str::len) } else { rest.find(part) };
        let (skipped, behind) = found.map_or(("…", rest), |at| (&rest[..at], &rest[at + part.len()..]));
        filled.extend([skipped, part]);
        rest = behind;
    }
    filled
}

/// A text of several lines without the indentation that it has in a test; any other as it is.
fn unindented(text: &str) -> String {
    let Some(text) = text.strip_prefix('\n') else { return text.to_owned() };
    let indent = text.len() - text.trim_start_matches(' ').len();
    let lines: Vec<_> = text.split('\n').map(|line| line.get(indent..).unwrap_or_default()).collect();
    lines.join("\n")
}

#[test]
fn what_is_not_said_must_not_be() {
    let fits = |run: Run| empty().file("old", "").judge(&run).is_ok();
    let all = "echo a b; echo c >&2; rm old; touch new; exit 3";
    assert!(fits(bash(all).fails(3).stdout("a…\n").stderr("…").writes(["n…"]).removes(["old"])));
    let same_bytes = "cp old new; mv new old";
    for line in
        ["exit 3", "echo a", "echo a >&2", "touch new", "mkdir new", "rm old", "chmod 0 old", same_bytes]
    {
        assert!(!fits(bash(line)), "{line}");
    }
    assert!(!fits(bash("true").fails(3)));
    assert!(!fits(bash("echo a b").stdout("a…c\n")));
    assert!(!fits(bash("true").writes(["…"])));
    assert!(!fits(bash("true").removes(["old"])));
}
