//! A config with every key, made of the table of keys.

use super::fields::listed;
use super::keys::{Fallback, Key, Shape, keys};

const INTRODUCTION: &str = "\
# A config of virtwork-gen with every key. A key that is commented out stands with its default, or with an example
# where it has none. Sizes like 256MB are PostgreSQL's, sizes like 10Gi are Kubernetes's; both count in 1024s.
";

/// The keys that people change; all others are commented out.
const HEADLINE: [&str; 3] = ["replica-count", "wal-keep-size", "pgbench-scale"];

/// A default that needs no words.
const NONE: &str = "none";

/// Columns of the text.
const WIDTH: usize = 120;

/// Columns of a key with its value, where they are short.
const KEY_WIDTH: usize = 38;

/// The config of `gen --print example`.
pub fn example() -> String {
    let mut out = INTRODUCTION.to_owned();
    let is_plain = |key: &&Key| !matches!(key.shape, Shape::Section(..));
    out.push('\n');
    keys().iter().filter(is_plain).for_each(|key| write(&mut out, key, 0));
    for section in keys().iter().filter(|key| !is_plain(key)) {
        out.push('\n');
        write(&mut out, section, 0);
    }
    out
}

fn write(out: &mut String, key: &Key, depth: usize) {
    let mark = if depth == 0 && HEADLINE.contains(&key.name) { "" } else { "#" };
    let indent = "  ".repeat(depth);
    match key.shape {
        // one with an example is short
        Shape::Section(keys, _) if key.example.is_empty() => {
            add_line(out, &format!("#{indent}{}:", key.name), key.about);
            keys.iter().for_each(|key| write(out, key, depth + 1));
        }
        _ => {
            let value = match key.default {
                // an empty list or mapping shows nothing
                Fallback::Literal(literal) if !["{}", "[]"].contains(&literal) => literal,
                _ => key.example,
            };
            add_line(out, &format!("{mark}{indent}{}: {value}", key.name), &comment(key));
        }
    }
}

/// What a key means, and what its example does not show.
fn comment(key: &Key) -> String {
    let mut text = key.about.to_owned();
    match key.shape {
        Shape::Words(words) if words.len() > 1 => {
            text.push_str(&format!(" {}.", listed(words).replace('`', "").replace(" and ", " or ")));
        }
        Shape::Section(keys, Some(_)) => text.push_str(&format!(" Or {}.", nested(keys))),
        Shape::List(Shape::Section(keys, _)) => {
            text.push_str(&format!(" Of each: {}.", nested(keys)));
        }
        _ => {}
    }
    let rivals: Vec<_> = key.rivals().collect();
    if !rivals.is_empty() {
        text.push_str(&format!(" Not with {}.", rivals.join(" or ")));
    }
    if let Fallback::Words(words) = key.default
        && !["", NONE].contains(&words)
    {
        text.push_str(&format!(" Default: {words}."));
    }
    text
}

/// The keys of a section without their values: `{a, b: {c, d}}`.
fn nested(keys: &[Key]) -> String {
    let named = keys.iter().map(|key| match key.shape {
        Shape::Section(keys, _) => format!("{}: {}", key.name, nested(keys)),
        _ => key.name.to_owned(),
    });
    format!("{{{}}}", named.collect::<Vec<_>>().join(", "))
}

/// A key with its comment beside it, on as many lines as that takes.
fn add_line(out: &mut String, key: &str, comment: &str) {
    let width = KEY_WIDTH.max(key.len() + 2);
    // beside a long value there is no room
    let (first, width) = if width > WIDTH / 2 {
        out.push_str(key);
        out.push('\n');
        ("#".to_owned(), KEY_WIDTH)
    } else {
        (key.to_owned(), width)
    };
    let mut line = format!("{first:width$}#");
    for word in comment.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = format!("{:width$}#", "#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push('\n');
}
