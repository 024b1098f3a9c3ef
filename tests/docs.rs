//! The documents: their links lead somewhere, their configs are accepted, their command lines are understood.
//!
//! A config stands in a block that begins with ```` ```yaml config ````; other YAML is not read. A command line of `gen`
//! counts in a block of `sh` and in a code span.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use virtwork_gen::{Passwords, Source, generate};

/// A front page is read to its end.
const MAX_README_LINES: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages, by their paths in the repository.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| Path::new("docs").join(name)).filter(|page| is_page(page));
    ["README.md".into(), "CHANGELOG.md".into()].into_iter().chain(docs).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn text(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// A page's fenced blocks, each with what stands behind its opening fence; and its other lines.
fn blocks(text: &str) -> (Vec<(String, String)>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((indent, kind)) = line.split_once("```").filter(|(before, _)| before.trim().is_empty())
        else {
            prose.extend([line, "\n"]);
            continue;
        };
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let body = inside.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line))).collect();
        blocks.push((kind.to_owned(), body));
    }
    (blocks, prose)
}

/// Where the links of a page lead: what stands in the parentheses of `[…](…)`.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// The anchors that GitHub gives to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in blocks(text).1.lines().filter(|line| line.starts_with('#')) {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let further = (1..).map(|number| format!("{anchor}-{number}"));
        let new = std::iter::once(anchor.clone()).chain(further).find(|anchor| !anchors.contains(anchor));
        anchors.extend(new);
    }
    anchors
}

/// The file of the repository that a link leads to, without its anchor; `None` outside of it.
fn target(page: &Path, link: &str) -> Option<PathBuf> {
    let path = link.split('#').next().unwrap_or_default();
    let mut target = if path.is_empty() { page.to_owned() } else { page.with_file_name("") };
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::ParentDir => target.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(target)
}

/// The links of a page that lead nowhere. Other sites are not asked.
fn broken_links(page: &Path, text: &str) -> Vec<String> {
    let prose = blocks(text).1;
    let is_broken = |link: &&str| {
        let exists = |target: &PathBuf| target == page || root().join(target).exists();
        let Some(target) = target(page, link).filter(exists) else { return true };
        link.split_once('#').is_some_and(|(_, anchor)| {
            let there = if target == page { text.to_owned() } else { self::text(&target) };
            !anchors(&there).contains(anchor)
        })
    };
    links(&prose).filter(|link| !link.contains("://")).filter(is_broken).map(str::to_owned).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        assert_eq!(broken_links(&page, &text(&page)), [""; 0], "{}", page.display());
    }
}

#[test]
fn a_broken_link_is_found() {
    let page = "# Start\n## Start\n## What `gen` does, at last\n\
                [a](#start) [b](#start-1) [c](#what-gen-does-at-last) [d](../src/lib.rs) [e](tests.md#stages)\n\
                [f](https://example.com/x.md#y) [g](../README.md) ![h](lab.svg)\n\
                ```sh\n# No heading\n[i](no-link.md)\n```\n\
                [j](#no-heading) [k](missing.md) [l](../README.md#missing) [m](../../outside.md) [n](#start-2)\n";
    let broken = broken_links(Path::new("docs/probe.md"), page);
    assert_eq!(broken, ["#no-heading", "missing.md", "../README.md#missing", "../../outside.md", "#start-2"]);
}

#[test]
fn every_page_is_reached_from_the_front_page() {
    let mut reached = BTreeSet::new();
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(page) = next.pop() {
        if is_page(&page) && reached.insert(page.clone()) {
            let text = text(&page);
            next.extend(
                links(&text).filter(|link| !link.contains("://")).filter_map(|link| target(&page, link)),
            );
        }
    }
    let unreached: Vec<_> = pages().into_iter().filter(|page| !reached.contains(page)).collect();
    assert_eq!(unreached, [""; 0].map(PathBuf::from));
}

#[test]
fn the_front_page_is_short() {
    let lines = text(Path::new("README.md")).lines().count();
    assert!(lines <= MAX_README_LINES, "{lines} lines, {MAX_README_LINES} are allowed");
}

/// The blocks of a kind, with their pages.
fn blocks_of(kind: &str) -> Vec<(PathBuf, String)> {
    let blocks = pages().into_iter().flat_map(|page| {
        let blocks = blocks(&text(&page)).0.into_iter();
        blocks.map(move |(kind, body)| (page.clone(), kind, body))
    });
    blocks.filter(|(_, of, _)| of == kind).map(|(page, _, body)| (page, body)).collect()
}

#[test]
fn every_config_is_accepted() {
    let passwords =
        Passwords::new("replicate me", "measure me").unwrap().with_ca_seed("trust me, and them").unwrap();
    let configs = blocks_of("yaml config");
    assert!(configs.iter().any(|(page, _)| page == Path::new("README.md")), "the front page shows no config");
    for (page, config) in configs {
        let source = Source::new(format!("a config in {}", page.display()), config);
        if let Err(report) = generate(&source, Some(&passwords)) {
            panic!("{}", report.render(false));
        }
    }
}

/// The arguments of each `gen` of a line of shell.
fn command_lines(line: &str) -> Vec<Vec<&str>> {
    let code = line.split(" #").next().unwrap_or_default();
    let commands = code.split(['|', ';', '&', '(', ')']).map(|command| command.split_whitespace());
    commands
        .filter_map(|mut words| (words.next() == Some("gen")).then_some(words))
        .map(|words| words.take_while(|word| !word.starts_with(['>', '<'])).collect())
        .collect()
}

/// The program itself says what it understands: with `--help` behind them it reads the arguments and does nothing.
fn is_understood(arguments: &[&str]) -> bool {
    let program = env!("CARGO_BIN_EXE_gen");
    Command::new(program).args(arguments).arg("--help").output().unwrap().status.success()
}

#[test]
fn every_command_line_is_understood() {
    let mut seen = BTreeSet::new();
    for page in pages() {
        let (blocks, prose) = blocks(&text(&page));
        let shell = blocks.into_iter().filter(|(kind, _)| kind == "sh").map(|(_, body)| body);
        let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
        for line in shell.chain(spans).flat_map(|code| code.lines().map(str::to_owned).collect::<Vec<_>>()) {
            for arguments in command_lines(&line) {
                assert!(is_understood(&arguments), "{}: `{line}`", page.display());
                seen.insert(arguments.join(" "));
            }
        }
    }
    for expected in ["-o out/", "-o out/ --check", "--print example"] {
        assert!(seen.contains(expected), "no page shows `gen {expected}`: {seen:?}");
    }
    assert!(!is_understood(&["--outptu", "out/"]) && !is_understood(&["--print", "exmaple"]));
}
