//! YAML text to a tree in which every node knows its place.
//!
//! The subset is strict on purpose: one document, no anchors, aliases or tags, no duplicate keys. What a
//! plain scalar means is decided by YAML 1.2's core schema, so `no` and `on` are text.

use crate::diagnostic::{Code, Diagnostic, Problems, Span};
use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as EventSpan};

/// A value and its place in the source.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it holds.
    pub value: NodeValue,
    /// Where it stands.
    pub span: Span,
    /// The keys that lead to it: `vm.tolerations[0].key`; empty at the root.
    pub path: String,
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
    if let Some(position) = text.find(|c: char| match c {
        '\n' | '\r' | '\t' => false,
        c => c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'),
    }) {
        let c = text[position..].chars().next().unwrap_or_default();
        problems.push(
            Diagnostic::new(
                Code::CharacterNotAllowed,
                position..position + c.len_utf8(),
                format!("the character `{}` is not allowed", c.escape_unicode()),
            )
            .help("remove it; YAML does not know it"),
        );
        return None;
    }
    let mut reader =
        Reader { text, parser: Parser::new_from_str(text), offsets: Offsets::of(text), problems };
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
        Diagnostic::new(Code::UnsupportedYaml, span, format!("{what} are not supported"))
            .help("write the value out; the config is reviewed as it stands"),
    )
}

/// The end of a closing bracket; a block ends without one, somewhere below its last line.
fn closing(end: &Span) -> Option<usize> {
    (!end.is_empty()).then_some(end.end)
}

struct Reader<'a, 'p> {
    text: &'a str,
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
                Err(self.all_but_last(syntax_faults(self.text, at, error.info())))
            }
            None => Ok((Event::StreamEnd, self.offsets.len..self.offsets.len)),
        }
    }

    /// Reports all faults but the last, which ends the reading.
    fn all_but_last(&mut self, mut faults: Vec<Diagnostic>) -> Fault {
        let last = faults.pop().unwrap_or_else(|| not_yaml(self.text.len(), ""));
        faults.into_iter().for_each(|fault| self.problems.push(fault));
        Box::new(last)
    }

    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, span) => {
                    let empty = || Node { value: NodeValue::Map(Vec::new()), span, path: String::new() };
                    return Ok(root.unwrap_or_else(empty));
                }
                (Event::DocumentStart(_), span) if root.is_some() => {
                    return Err(Box::new(
                        Diagnostic::new(Code::UnsupportedYaml, span, "a second YAML document")
                            .help("keep one document in this file; run gen once for each config"),
                    ));
                }
                (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
                (event, span) => {
                    let node = self.node(event, span, String::new(), 0)?;
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

    fn node(&mut self, event: Event<'a>, span: Span, path: String, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::new(Code::UnsupportedYaml, span, "nested too deeply")
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
            Event::Scalar(_, ScalarStyle::Plain, _, _) if is_folded_mapping(&self.text[span.clone()]) => {
                Err(self.all_but_last(missing_blanks(self.text, span.end)))
            }
            Event::Scalar(text, ScalarStyle::Plain, _, _) => Ok(Node { value: plain(&text), span, path }),
            Event::Scalar(text, _, _, _) => {
                Ok(Node { value: NodeValue::Text(text.into_owned()), span, path })
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => {
                            let last = items.last().map_or(end.end, |n: &Node| n.span.end);
                            let span = span.start..closing(&end).unwrap_or(last);
                            return Ok(Node { value: NodeValue::List(items), span, path });
                        }
                        (event, span) => {
                            let path = format!("{path}[{}]", items.len());
                            items.push(self.node(event, span, path, depth + 1)?);
                        }
                    }
                }
            }
            Event::MappingStart(..) => self.mapping(span, path, depth),
            _ => Err(Box::new(Diagnostic::new(Code::YamlSyntax, span, "this is not valid YAML"))),
        }
    }

    fn mapping(&mut self, span: Span, path: String, depth: usize) -> Result<Node, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut places = BTreeMap::new();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                let last = entries.last().map_or(key_span.end, |(_, n)| n.span.end);
                let span = span.start..closing(&key_span).unwrap_or(last);
                return Ok(Node { value: NodeValue::Map(entries), span, path });
            }
            let key = match self.node(event, key_span, String::new(), depth + 1)? {
                Node { value: NodeValue::Text(text) | NodeValue::Number(text), span, .. } => {
                    Key { text, span }
                }
                Node { value: NodeValue::Bool(value), span, .. } => Key { text: value.to_string(), span },
                Node { span, .. } => {
                    return Err(Box::new(
                        Diagnostic::new(Code::UnsupportedYaml, span, "a key must be text")
                            .help("write `key: value`"),
                    ));
                }
            };
            let (event, value_span) = self.next()?;
            let value_path = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
            let value = self.node(event, value_span, value_path, depth + 1)?;
            if let Some(first) = places.get(&key.text) {
                let message = format!("duplicate key `{}`", key.text.escape_debug());
                self.problems.push(
                    Diagnostic::new(Code::DuplicateKey, key.span, message)
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

/// What is wrong with a text that the parser stopped at: its own words name neither the fault nor always the line.
///
/// The text may be a secrets file's, so that no message shows what it holds.
fn syntax_faults(text: &str, at: usize, info: &str) -> Vec<Diagnostic> {
    let line_start = text[..at].rfind('\n').map_or(0, |line_break| line_break + 1);
    let line = text[line_start..].lines().next().unwrap_or("");
    let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
    // YAML 1.2 allows it, the parser does not; it stops behind it, or at the key in front of it
    let colon = text[..at].trim_end_matches([' ', '\t']).len();
    for end in [colon, line_start + line.find(":\t").map_or(0, |colon| colon + 1)] {
        let gap = text[end..].len() - text[end..].trim_start_matches([' ', '\t']).len();
        if text[..end].ends_with(':') && text[end..end + gap].contains('\t') {
            return vec![
                Diagnostic::new(Code::TabForBlanks, end..end + gap, "a tab after the colon")
                    .help("write a blank instead of it"),
            ];
        }
    }
    if info.contains("tab") {
        let tabs =
            if line[..indentation].contains('\t') { line_start..line_start + indentation } else { at..at };
        return vec![
            Diagnostic::new(Code::TabForBlanks, tabs, "a tab in the indentation").help("indent with blanks"),
        ];
    }
    if info.contains("escape") {
        return vec![
            not_yaml(at, info).help(r"in double quotes write `\\` for a backslash, or use single quotes"),
        ];
    }
    if info.contains("quoted scalar") {
        return vec![
            Diagnostic::new(Code::NotClosed, at..at, "a quote that is not closed")
                .help("close it on the same line"),
        ];
    }
    let blanks = missing_blanks(text, at);
    if !blanks.is_empty() {
        return blanks;
    }
    if let Some((bracket, closing)) = unclosed_bracket(&text[..at]) {
        return vec![
            Diagnostic::new(Code::NotClosed, bracket..bracket + 1, "a bracket that is not closed")
                .help(format!("close it with `{closing}`")),
        ];
    }
    if info.contains("unexpected character") {
        return vec![
            Diagnostic::new(Code::ValueNeedsQuotes, at..at + 1, "no value begins with this character")
                .help("put the value in quotes"),
        ];
    }
    if info.contains("mapping values") && text[line_start..at].contains(": ") {
        return vec![
            Diagnostic::new(Code::ValueNeedsQuotes, at..at + 1, "a second colon in one line")
                .help("put the value in quotes"),
        ];
    }
    if ["mapping values", "expected key", "indentation", "'-'", "document start"]
        .iter()
        .any(|words| info.contains(words))
    {
        let line = line_start + indentation..line_start + line.len();
        let message = "this line is not indented like those it belongs to";
        return vec![
            Diagnostic::new(Code::WrongIndentation, line, message)
                .help("give all keys of a mapping, and all items of a list, the same indentation"),
        ];
    }
    vec![not_yaml(at, info)]
}

fn not_yaml(at: usize, info: &str) -> Diagnostic {
    Diagnostic::new(Code::YamlSyntax, at..at, "this is not valid YAML")
        .label(info)
        .help("check the indentation, colons, quotes and brackets on this line and the one above it")
}

/// `key:value` on the line of `at` or on those right above it: YAML reads such lines as one text and stumbles over the
/// first good one.
fn missing_blanks(text: &str, at: usize) -> Vec<Diagnostic> {
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    let mut faults = Vec::new();
    let mut start = end;
    for line in text[..end].split_inclusive('\n').rev() {
        start -= line.len();
        let content = line.trim_start_matches([' ', '-']);
        match missing_blank_after(content) {
            Some(colon) => {
                faults.push(no_blank_after_colon(start + (line.len() - content.len()) + colon));
            }
            // above the line itself, up to the last that is not like this
            None if start <= at && at <= start + line.len() => {}
            None if line.trim().is_empty() || line.trim_start().starts_with('#') => {}
            None => break,
        }
    }
    faults.reverse();
    faults
}

/// Whether a plain scalar has several lines, each like `key:value`, which YAML folds into one text.
fn is_folded_mapping(text: &str) -> bool {
    text.contains('\n') && text.lines().all(|line| missing_blank_after(line.trim_start()).is_some())
}

/// The end of the colon in a text like `key:value`, unless it is that of a URL.
pub(crate) fn missing_blank_after(text: &str) -> Option<usize> {
    let (key, value) = text.split_once(':')?;
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    (is_key && !value.starts_with(|c: char| c == '/' || c.is_whitespace()) && !value.is_empty())
        .then_some(key.len() + 1)
}

/// The fault of a colon that ends at `end` and is followed by a value at once.
pub(crate) fn no_blank_after_colon(end: usize) -> Diagnostic {
    Diagnostic::new(Code::NoBlankAfterColon, end - 1..end, "no blank after the colon")
        .help("write `key: value`, with a blank after the colon")
}

/// The last bracket that is still open at the end of a text, and what closes it.
fn unclosed_bracket(text: &str) -> Option<(usize, char)> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('#'), '\n') => quote = None,
            (Some(end), c) if end == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if matches!(before, ' ' | '[' | '{' | ',') => quote = Some(c),
            (None, '#') if before.is_whitespace() => quote = Some('#'),
            (None, '[') if matches!(before, ' ' | '[' | '{' | ',') => open.push((at, ']')),
            (None, '{') if matches!(before, ' ' | '[' | '{' | ',') => open.push((at, '}')),
            (None, ']' | '}') => {
                open.pop();
            }
            _ => {}
        }
        before = if c == '\n' { ' ' } else { c };
    }
    open.pop()
}

/// A plain scalar by YAML 1.2's core schema.
pub(crate) fn plain(text: &str) -> NodeValue {
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
