//! What a message advises works: each remedy of `snapshots/errors` is typed into its config, and the fault is gone.
//!
//! A literal in backticks after one of [`PHRASES`] is to be typed in the place of what is marked. [`NO_LITERAL`] lists the
//! helps that say what to do otherwise, and why they can do no better.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod cases;

use cases::CaseFile;
use std::collections::BTreeSet;
use std::ops::Range;
use virtwork_gen::diagnostic::Diagnostic;
use virtwork_gen::{Plan, Source};

/// Words of the helps without anything to type, each with the reason.
const NO_LITERAL: &[(&str, &str)] = &[
    ("remove", "taking something away is no text to type"),
    ("leave the key out", "the same"),
    ("leave `archive_mode` out", "the same; which command archives is not known"),
    ("keep ", "which of two was meant is not known"),
    ("write the value out", "the value stands elsewhere"),
    ("write the keys out", "the keys stand elsewhere"),
    ("is a key of", "the line moves to another section"),
    ("stands at the top level", "the line moves there"),
    ("set `guest.os` to", "a key that is not there yet"),
    ("set `guest.image` to", "a key that is not there yet, or stands elsewhere"),
    ("set `postgresql.synchronous.method` to", "the same"),
    ("set `archive.path-style` to", "the same"),
    ("set `tls` to", "a key that is not there yet, or stands elsewhere"),
    ("below `vm`", "the line moves there"),
    ("add ", "a key that is not there yet"),
    ("gen --print example", "nothing like it is known"),
    ("the keys here are", "nothing like it is known"),
    ("choose a key outside", "a name of the user's own"),
    ("another name", "a name of the user's own"),
    ("shorten `name`", "a name of the user's own"),
    ("use letters", "a name of the user's own"),
    ("use lower-case letters", "a name of the user's own"),
    ("use up to", "a name of the user's own"),
    ("with letters, digits", "a name of the user's own"),
    ("name one package", "which package was meant is not known"),
    ("choose a larger one", "the instancetypes of the cluster are not known"),
    ("choose a release", "the image's tags are not known"),
    ("give the VM more", "one of two figures, or neither"),
    ("the same indentation", "where the line belongs is not known"),
    ("`key: value`", "what the mapping should hold is not known"),
    ("give text, a number", "any value of the setting"),
    ("paste one line", "the user's own key"),
    ("write `[a, b]`", "the items cannot be told from the text"),
    ("http://host:port", "the user's own proxy"),
    (": NAME`", "the cluster's own object"),
    ("at the top level of the config", "the line moves there"),
    ("a setting of an extension", "which extension was meant is not known"),
    ("write a number", "any value of the setting"),
    ("ask for ", "one of several figures"),
    ("choose another key", "a name of the user's own"),
    ("paste the whole", "the user's own certificate"),
    ("choose another port", "which ports of the cluster's nodes are free is not known"),
    ("use a store", "keys that are not there yet"),
];

/// An edit of a config: the bytes that are replaced, and what by.
type Edit = (Range<usize>, String);

/// The ways to follow the advice of a message; none where it gives nothing to type.
fn edits(config: &str, diagnostic: &Diagnostic) -> Vec<Edit> {
    let help = diagnostic.help.as_deref().expect("a message without a remedy");
    let mark = diagnostic.marks[0].0.clone();
    let line_end = mark.start + config[mark.start..].find(['\r', '\n']).unwrap_or(config.len() - mark.start);
    // a dash or a colon wants a blank
    let before = if mark.is_empty() { " " } else { "" };
    let at = |place: usize, text: &str| vec![(place..place, text.to_owned())];
    if help.contains("with a blank after the colon") {
        at(mark.end, " ")
    } else if help == "write a blank instead of it" {
        vec![(mark, " ".to_owned())]
    } else if help == "indent with blanks" {
        vec![(mark.clone(), "  ".repeat(mark.len()))]
    } else if help == "close it on the same line" {
        at(line_end, &config[mark.start..=mark.start])
    } else if let Some(bracket) = help.strip_prefix("close it with ") {
        at(line_end, bracket.trim_matches('`'))
    } else if help == "put the value in quotes" {
        let line_start = config[..mark.start].rfind('\n').map_or(0, |line_break| line_break + 1);
        let value = line_start + config[line_start..].find(": ").unwrap() + 2..line_end;
        vec![(value.clone(), format!("\"{}\"", &config[value]))]
    } else {
        let literals = literals(diagnostic, help).into_iter();
        literals.map(|literal| (mark.clone(), format!("{before}{literal}"))).collect()
    }
}

/// Phrases of the helps after which a literal, or several to choose from, stands in backticks.
const PHRASES: &[&str] = &[
    "did you mean ",
    "hyphens: ",
    "that is ",
    "write ",
    "write at most ",
    "digits: ",
    "blank: ",
    "quotes: ",
    "quote it: ",
    "write it like ",
    "such as ",
    "as a list: ",
    "at least ",
    "at most ",
];

/// Literals that show a form, or stand in another place than the one that is marked.
const FORMS: &[&str] = &[
    "address/prefix",
    "registry/path:tag",
    "http://host:port",
    "name",
    "example.com/name",
    "key: value",
    "[a, b]",
    "preference: NAME",
    "ssh-ed25519 AAAA… user@host",
    "operator: Equal",
    "effect: NoExecute",
];

fn literals(diagnostic: &Diagnostic, help: &str) -> Vec<String> {
    if let Some((_, bounds)) = diagnostic.message.split_once(" must be between ") {
        return bounds.split(" and ").map(str::to_owned).collect();
    }
    let mut found = Vec::new();
    for phrase in PHRASES {
        for (at, _) in help.match_indices(&format!("{phrase}`")) {
            let mut rest = &help[at + phrase.len()..];
            while let Some((literal, after)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
                if *phrase == "did you mean " || !FORMS.contains(&literal) {
                    found.push(literal.to_owned());
                }
                rest = after.strip_prefix(", ").or_else(|| after.strip_prefix(" or ")).unwrap_or("");
            }
        }
    }
    found
}

fn edited(config: &str, edits: &mut [Edit]) -> String {
    edits.sort_by_key(|(place, _)| place.start);
    let mut text = config.to_owned();
    for (place, replacement) in edits.iter().rev() {
        text.replace_range(place.clone(), replacement);
    }
    text
}

fn faults(config: &str) -> Vec<Diagnostic> {
    match Plan::new(&Source::new("gen.yaml", config)) {
        Ok(_) => Vec::new(),
        Err(report) => report.diagnostics().to_vec(),
    }
}

fn messages(faults: &[Diagnostic]) -> Vec<&str> {
    faults.iter().map(|fault| fault.message.as_str()).collect()
}

#[test]
fn a_remedy_that_is_typed_back_works() {
    let mut failures = Vec::new();
    let mut listed = BTreeSet::new();
    let files = CaseFile::all();
    for (path, case) in files.iter().flat_map(|file| file.cases.iter().map(|case| (&file.path, case))) {
        let (name, config) = (path.join(&case.name).display().to_string(), case.input.as_str());
        let found = faults(config);
        let mut first_of_each = Vec::new();
        for fault in &found {
            let edits = edits(config, fault);
            for edit in &edits {
                let left = faults(&edited(config, std::slice::from_mut(&mut edit.clone())));
                let is_new = |message: &&str| !messages(&found).contains(message);
                if left.len() >= found.len() || messages(&left).iter().any(is_new) {
                    failures.push(format!(
                        "{name}: `{}` for `{}` leaves {:?}",
                        edit.1,
                        fault.message,
                        messages(&left)
                    ));
                }
            }
            let help = fault.help.as_deref().unwrap_or_default();
            match (edits.into_iter().next(), NO_LITERAL.iter().find(|(words, _)| help.contains(words))) {
                (Some(edit), _) => first_of_each.push(edit),
                (None, Some((words, _))) => drop(listed.insert(*words)),
                (None, None) => failures.push(format!("{name}: nothing to type, and not listed: `{help}`")),
            }
        }
        if first_of_each.len() == found.len() {
            let left = faults(&edited(config, &mut first_of_each));
            if !left.is_empty() {
                failures.push(format!("{name}: all remedies together leave {:?}", messages(&left)));
            }
        }
    }
    let stale = NO_LITERAL.iter().filter(|(words, _)| !listed.contains(words));
    failures.extend(stale.map(|(words, _)| format!("no message says `{words}`")));
    assert!(failures.is_empty(), "{}\n{} remedies do not work", failures.join("\n"), failures.len());
}
