//! YAML text to a tree in which every node knows its place.
//!
//! The subset is strict on purpose: one document, no anchors, aliases or tags, no duplicate keys. What a
//! plain scalar means is decided by YAML 1.2's core schema, so `no` and `on` are text.

use crate::diagnostic::{Diagnostic, Problems, Span};
use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as EventSpan};

/// A value and its place in the source.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it holds.
    pub value: NodeValue,
    /// Where it stands.
    pub span: Span,
}

/// The content of a [`Node`].
#[derive(Debug, Clone)]
pub enum NodeValue {
    /// A string: quoted, a block scalar, or plain text that is nothing else in YAML 1.2.
    Text(String),
    /// A plain scalar that YAML 1.2 reads as a number, as it was typed.
    Number(String),
    /// A plain `true` or `false`.
    Bool(bool),
    /// Nothing at all, `~` or `null`.
    Null,
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the text.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key's text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Node {
    /// The kind of the value in words for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Text(_) => "text",
            NodeValue::Number(_) => "a number",
            NodeValue::Bool(_) => "true or false",
            NodeValue::Null => "null",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }
}

/// Deeper nesting than any config needs; a bound keeps hostile input from exhausting the stack.
const MAX_DEPTH: usize = 16;

/// Reads one YAML document. An empty text is an empty mapping. `None`: the text cannot be read at all.
pub fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    if let Some(position) =
        text.find(|c: char| c == '\0' || (c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
    {
        let c = text[position..].chars().next().unwrap_or_default();
        problems.push(
            Diagnostic::new(
                position..position + c.len_utf8(),
                format!("control character `{}`", c.escape_debug()),
            )
            .help("remove it; YAML does not allow it"),
        );
        return None;
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), offsets: Offsets::of(text), problems };
    reader.document().map_err(|fault| reader.problems.push(*fault)).ok()
}

/// Positions of the parser, counted in characters, as byte offsets.
struct Offsets {
    /// Byte offset of each character and of the end; empty when all characters are single bytes.
    bytes: Vec<usize>,
    len: usize,
}

impl Offsets {
    fn of(text: &str) -> Self {
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
        };
        Self { bytes, len: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        let byte = if self.bytes.is_empty() { Some(character) } else { self.bytes.get(character).copied() };
        byte.unwrap_or(self.len).min(self.len)
    }

    fn span(&self, span: EventSpan) -> Span {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

type Fault = Box<Diagnostic>;

fn unsupported(span: Span, what: &str) -> Fault {
    Box::new(
        Diagnostic::new(span, format!("{what} are not supported"))
            .help("write the value out; the config is reviewed as it stands"),
    )
}

struct Reader<'a, 'p> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    offsets: Offsets,
    problems: &'p mut Problems,
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.offsets.span(span))),
            Some(Err(error)) => {
                let at = self.offsets.byte(error.marker().index());
                if error.info().contains("unknown anchor") {
                    return Err(unsupported(at..at, "YAML aliases"));
                }
                Err(Box::new(Diagnostic::new(at..at, "this is not valid YAML").label(error.info()).help(
                    "check the indentation, colons, quotes and brackets on this line and the one above it",
                )))
            }
            None => Ok((Event::StreamEnd, self.offsets.len..self.offsets.len)),
        }
    }

    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, span) => {
                    return Ok(root.unwrap_or(Node { value: NodeValue::Map(Vec::new()), span }));
                }
                (Event::DocumentStart(_), span) if root.is_some() => {
                    return Err(Box::new(
                        Diagnostic::new(span, "a second YAML document")
                            .help("keep one document in this file; run gen once for each config"),
                    ));
                }
                (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
                (event, span) => {
                    let node = self.node(event, span, 0)?;
                    // `---` alone or a file of comments: an empty config, not a null one
                    root = Some(match node.value {
                        NodeValue::Null if node.span.is_empty() => {
                            Node { value: NodeValue::Map(Vec::new()), ..node }
                        }
                        _ => node,
                    });
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::new(span, "nested too deeply")
                    .help("no key of a config nests this deep; see `gen --print example`"),
            ));
        }
        match event {
            Event::Alias(_) => Err(unsupported(span, "YAML aliases")),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(unsupported(span, "YAML tags")),
            Event::Scalar(_, _, 1.., _) | Event::SequenceStart(1.., _) | Event::MappingStart(1.., _) => {
                Err(unsupported(span, "YAML anchors"))
            }
            Event::Scalar(text, ScalarStyle::Plain, _, _) => Ok(Node { value: plain(&text), span }),
            Event::Scalar(text, _, _, _) => Ok(Node { value: NodeValue::Text(text.into_owned()), span }),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => {
                            let span = span.start..items.last().map_or(end.end, |n: &Node| n.span.end);
                            return Ok(Node { value: NodeValue::List(items), span });
                        }
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.mapping(span, depth),
            _ => Err(Box::new(Diagnostic::new(span, "this is not valid YAML"))),
        }
    }

    fn mapping(&mut self, span: Span, depth: usize) -> Result<Node, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut places = BTreeMap::new();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                let span = span.start..entries.last().map_or(key_span.end, |(_, n)| n.span.end);
                return Ok(Node { value: NodeValue::Map(entries), span });
            }
            let key = match self.node(event, key_span, depth + 1)? {
                Node { value: NodeValue::Text(text) | NodeValue::Number(text), span } => Key { text, span },
                Node { value: NodeValue::Bool(value), span } => Key { text: value.to_string(), span },
                Node { span, .. } => {
                    return Err(Box::new(
                        Diagnostic::new(span, "a key must be text").help("write `key: value`"),
                    ));
                }
            };
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if let Some(first) = places.get(&key.text) {
                self.problems.push(
                    Diagnostic::new(key.span, format!("duplicate key `{}`", key.text.escape_debug()))
                        .mark(Span::clone(first), "first given here")
                        .help("remove one of the two"),
                );
            } else {
                places.insert(key.text.clone(), key.span.clone());
                entries.push((key, value));
            }
        }
    }
}

/// A plain scalar by YAML 1.2's core schema.
fn plain(text: &str) -> NodeValue {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        _ if is_number(text) => NodeValue::Number(text.to_owned()),
        _ => NodeValue::Text(text.to_owned()),
    }
}

/// Whether YAML 1.2's core schema reads a plain scalar as an integer or a float.
fn is_number(text: &str) -> bool {
    let digits = |s: &str, of: fn(&u8) -> bool| !s.is_empty() && s.as_bytes().iter().all(of);
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, u8::is_ascii_hexdigit);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, |b| matches!(b, b'0'..=b'7'));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    all(whole)
        && all(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| digits(e, u8::is_ascii_digit))
}
