//! What is wrong with an input, where, and how to mend it.

mod code;

pub use code::{Code, Section};

use crate::source::{Source, one_line};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// A range of bytes in a [`Source`].
pub type Span = Range<usize>;

/// One fault of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// What is wrong; lower case, no full stop, backticks round literals.
    pub message: String,
    /// Where, with a few words each; the first is the principal place. Empty when no place applies.
    pub marks: Vec<(Span, String)>,
    /// How to mend it.
    pub help: Option<String>,
    /// Whether the principal place holds a secret: the report shows asterisks there.
    pub is_secret: bool,
}

impl Diagnostic {
    /// A fault at one place.
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        let marks = vec![(span, String::new())];
        Self { code, message: message.into(), marks, help: None, is_secret: false }
    }

    /// Words for the principal place.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(first) = self.marks.first_mut() {
            first.1 = label.into();
        }
        self
    }

    /// One more place.
    pub fn mark(mut self, span: Span, label: impl Into<String>) -> Self {
        self.marks.push((span, label.into()));
        self
    }

    /// The remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Advice on an input that is taken, or on what a run does.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Its kind.
    pub code: Code,
    /// What it says; lower case, no full stop, backticks round literals.
    pub text: String,
}

impl Note {
    /// A note.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// The note as a line for a terminal.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "note[{}]: {}", self.code, self.text)
    }
}

/// The faults found so far in one source.
#[derive(Debug, Default)]
pub struct Problems(Vec<Diagnostic>);

impl Problems {
    /// Adds a fault.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        // the shape of `vm` is checked once for each role; nobody reads a thousand faults
        if self.0.len() < 1000 && !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }

    /// Takes back the fault that was added last.
    pub fn pop(&mut self) -> Option<Diagnostic> {
        self.0.pop()
    }

    /// Ends the collection: the faults as a [`Report`] in the order of the text, or the value.
    pub fn or<T>(mut self, source: &Source, value: Option<T>) -> Result<T, Report> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort_by_key(|d| d.marks.first().map_or(0, |m| m.0.start));
                Err(Report { source: source.clone(), diagnostics: self.0, is_failure: false })
            }
        }
    }
}

/// All faults of one source, ready to be shown.
#[derive(Debug)]
pub struct Report {
    source: Source,
    diagnostics: Vec<Diagnostic>,
    /// Not the fault of a text, but of files, streams or the system.
    is_failure: bool,
}

/// Faults that a report shows; the rest is counted.
const MAX_SHOWN: usize = 50;

impl Report {
    /// A fault that has no place in a text: a file that cannot be read, for instance.
    pub fn failure(code: Code, name: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        let fault = Diagnostic {
            code,
            message: message.into(),
            marks: Vec::new(),
            help: Some(help.into()),
            is_secret: false,
        };
        Self { source: Source::new(name, ""), diagnostics: vec![fault], is_failure: true }
    }

    /// The faults.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The report as text for a terminal: each fault with `file:line:column`, the source line and the remedy.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let text = self.concealed_text();
        let mut out = String::new();
        for diagnostic in self.diagnostics.iter().take(MAX_SHOWN) {
            let title = Level::ERROR.primary_title(diagnostic.message.as_str()).id(diagnostic.code.name());
            let mut group = Group::with_title(title);
            if !diagnostic.marks.is_empty() {
                let mut snippet = Snippet::source(text.as_str()).path(self.source.name.as_str());
                for (position, (span, label)) in diagnostic.marks.iter().enumerate() {
                    let kind = if position == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                    let label = (!label.is_empty()).then_some(label.as_str());
                    snippet = snippet.annotation(kind.span(span.clone()).label(label));
                }
                group = group.element(snippet);
            }
            if let Some(help) = &diagnostic.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            out.push_str(&renderer.render(&[group]));
            out.push_str("\n\n");
        }
        if self.is_failure {
            return out;
        }
        let count = self.diagnostics.len();
        let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
        let shown =
            if count > MAX_SHOWN { format!(", the first {MAX_SHOWN} of them above") } else { String::new() };
        out.push_str(&format!("{}: {errors}{shown}; nothing was written\n", one_line(&self.source.name)));
        out
    }

    /// The source with asterisks in place of secrets, as many bytes as before.
    fn concealed_text(&self) -> String {
        let mut text = self.source.text.clone();
        let secrets = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_secret);
        for (span, _) in secrets.filter_map(|diagnostic| diagnostic.marks.first()) {
            let hidden: String =
                text[span.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
            text.replace_range(span.clone(), &hidden);
        }
        // C1 controls are commands to a terminal; the stand-in has as many bytes
        text.replace(|c: char| ('\u{80}'..='\u{9f}').contains(&c), "\u{b7}")
    }
}

/// The report as text without colour.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Report {}
