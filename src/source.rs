//! A text and the name it is known by in messages.

use crate::yaml::needs_escape;

/// The text of a config or secrets file.
#[derive(Debug, Clone)]
pub struct Source {
    /// What messages call it: a path as the user typed it, `<stdin>` or `<built-in defaults>`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source of the given name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The empty config: every key at its default.
    pub fn built_in_defaults() -> Self {
        Self::new("<built-in defaults>", "")
    }

    /// Whether its name is that of an open stream, `<(…)` of a shell among them, and not of a file that lasts.
    pub fn is_stream(&self) -> bool {
        matches!(self.name.as_str(), "<stdin>" | "/dev/stdin")
            || ["/dev/fd/", "/proc/self/fd/"].iter().any(|folder| self.name.starts_with(folder))
    }

    /// What the header of the bundle says of the source: a file without its directory, because the same config must
    /// give the same bytes wherever it is read from. Control characters are escaped; it stands in a comment.
    pub fn origin(&self) -> String {
        match self.name.as_str() {
            _ if self.is_stream() => "standard input; edit its source, not this".to_owned(),
            "<built-in defaults>" => "its built-in defaults; change them in gen.yaml, not here".to_owned(),
            path => {
                format!("{}; edit that, not this", one_line(path.rsplit('/').next().unwrap_or(path)))
            }
        }
    }
}

/// A text of the user for a message or a comment: what breaks lines or hides itself is escaped.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if needs_escape(c) { line.extend(c.escape_unicode()) } else { line.push(c) }
    }
    line
}
