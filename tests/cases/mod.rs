//! The cases of `snapshots/errors`, many in a file; `snapshots/README.md` describes the format.

use std::fs;
use std::path::{Path, PathBuf};

/// What expectations begin with.
pub const EXPECTATION: &str = "#^";

/// A file of cases of one subject.
pub struct CaseFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What stands above the first case.
    pub introduction: String,
    /// Its cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// A config with the messages that it is expected to be answered with.
pub struct Case {
    /// The line that it begins with: `--- name ---`.
    pub title: String,
    /// The lines below that, expectations among them.
    pub body: String,
    /// Its name.
    pub name: String,
    /// The config.
    pub input: String,
}

impl CaseFile {
    /// Every file of cases, in the order of the names.
    pub fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/errors");
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(Self::read).collect()
    }

    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let mut file = Self { path, introduction: String::new(), cases: Vec::new() };
        for line in text.split_inclusive('\n') {
            if line.starts_with("--- ") && line.ends_with(" ---\n") {
                let (title, body) = (line.to_owned(), String::new());
                file.cases.push(Case { title, body, name: String::new(), input: String::new() });
            } else {
                file.cases.last_mut().map_or(&mut file.introduction, |case| &mut case.body).push_str(line);
            }
        }
        for case in &mut file.cases {
            // the blank line that sets the next case apart
            case.body.truncate(case.body.trim_end_matches('\n').len());
            case.body.push('\n');
            let name = case.title.trim_start_matches("--- ").trim_end_matches(" ---\n");
            let input: String = case.lines().map(|line| format!("{line}\n")).collect();
            match name.strip_suffix(" (escaped)") {
                Some(name) => (case.name, case.input) = (name.to_owned(), unescaped(&input)),
                None => (case.name, case.input) = (name.to_owned(), input),
            }
        }
        file
    }
}

impl Case {
    /// The lines of the config as the file has them, without the expectations.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.body.lines().filter(|line| !line.starts_with(EXPECTATION))
    }
}

/// A text with what an editor would hide or lose: `\t`, `\r`, `\u{…}`, `\\`, and a last line that ends with `\` instead of
/// a line break.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (character, after) = match after.split_at(1) {
            ("t", after) => (Some('\t'), after),
            ("r", after) => (Some('\r'), after),
            ("\\", after) => (Some('\\'), after),
            ("\n", "") => (None, ""),
            ("u", after) => {
                let (digits, after) = after.strip_prefix('{').unwrap().split_once('}').unwrap();
                (char::from_u32(u32::from_str_radix(digits, 16).unwrap()), after)
            }
            (other, _) => panic!("`\\{other}` in an escaped case"),
        };
        out.extend(character);
        rest = after;
    }
    out + rest
}
