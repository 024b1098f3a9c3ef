//! Tree to text: the whole quoting and layout policy of the YAML we write.
//!
//! A string stands bare only where no reader of YAML 1.1 or 1.2 can take it for anything else; text of several
//! lines is a `|` block; everything else is double-quoted. serde_yaml leaves `yes`, `12:34` and dates bare and
//! turns a script with one trailing blank into a single escaped line, which is why it does not write for us.

use memchr::memchr_iter;
use std::borrow::Cow;
use std::fmt::Write;

/// A YAML value, which borrows what its maker has already. Mappings keep the order they are written in.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml<'a> {
    /// Nothing: [`map!`](crate::map) and [`list!`](crate::list) leave it out.
    Absent,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A string.
    Text(Cow<'a, str>),
    /// A script of ours, which is known to fit a `|` block.
    Script(&'static str),
    /// A sequence.
    List(Vec<Yaml<'a>>),
    /// A mapping.
    Map(Vec<(Key<'a>, Yaml<'a>)>),
}

/// The key of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Key<'a> {
    /// One of ours, which was found fit to stand bare when the program was compiled.
    Constant(&'static str),
    /// Any other.
    Text(Cow<'a, str>),
}

impl Key<'_> {
    /// A key that every reader takes for a string when it stands bare; any other does not compile in [`map!`](crate::map).
    pub const fn constant(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        assert!(!is_reserved_word(text));
        assert!(bytes[0].is_ascii_alphabetic());
        let mut at = 0;
        while at < bytes.len() {
            assert!(PLAIN[bytes[at] as usize]);
            at += 1;
        }
        Self::Constant(text)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Key<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

/// A mapping in the order of its entries, without those that are absent: `map! { "a" => 1, "b" => None::<i64> }`.
/// Its keys are constants.
#[macro_export]
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::yaml::Yaml::entries(::std::vec![$((const { $crate::yaml::Key::constant($key) }, $crate::yaml::Yaml::from($value))),*])
    };
}

/// A sequence without the items that are absent.
#[macro_export]
macro_rules! list {
    ($($item:expr),* $(,)?) => { $crate::yaml::Yaml::items(::std::vec![$($crate::yaml::Yaml::from($item)),*]) };
}

impl<'a> Yaml<'a> {
    /// A mapping without its absent entries.
    pub fn entries(entries: impl IntoIterator<Item = (Key<'a>, Yaml<'a>)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.retain(|(_, value)| !matches!(value, Self::Absent));
        Self::Map(entries)
    }

    /// A mapping with further entries below its own.
    pub fn with(self, further: impl IntoIterator<Item = (Key<'a>, Yaml<'a>)>) -> Self {
        let Self::Map(mut entries) = self else { return Self::entries(further) };
        entries.extend(further);
        Self::Map(entries)
    }

    /// A sequence without its absent items.
    pub fn items(items: impl IntoIterator<Item = Yaml<'a>>) -> Self {
        let mut items: Vec<_> = items.into_iter().collect();
        items.retain(|item| !matches!(item, Self::Absent));
        Self::List(items)
    }

    /// Writes the value as the root of a document.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Map(entries) if !entries.is_empty() => write_map(entries, 0, false, out),
            Self::List(items) if !items.is_empty() => write_list(items, 0, false, out),
            Self::Text(text) => {
                write_line_scalar(text, out);
                out.push('\n');
            }
            other => other.write_value(0, out),
        }
    }

    /// Writes the value after `key:` or `-`; `indent` is that of the lines below it.
    fn write_value(&self, indent: usize, out: &mut String) {
        match self {
            Self::Absent => out.push_str(" null\n"),
            Self::Bool(value) => out.push_str(if *value { " true\n" } else { " false\n" }),
            Self::Int(value) => {
                out.push(' ');
                out.push_str(&value.to_string());
                out.push('\n');
            }
            Self::Text(text) => {
                out.push(' ');
                write_text(text, indent, out);
            }
            Self::Script(text) => {
                out.push(' ');
                write_lines(text, indent, out);
            }
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Self::List(items) => {
                out.push('\n');
                write_list(items, indent, false, out);
            }
            Self::Map(entries) => {
                out.push('\n');
                write_map(entries, indent, false, out);
            }
        }
    }
}

/// `inline`: the first line continues the `- ` of a list.
fn write_map(entries: &[(Key, Yaml)], indent: usize, mut inline: bool, out: &mut String) {
    for (key, value) in entries {
        if !std::mem::take(&mut inline) {
            push_indent(indent, out);
        }
        match key {
            Key::Constant(text) => out.push_str(text),
            Key::Text(text) => write_key(text, indent, out),
        }
        out.push(':');
        value.write_value(indent + 2, out);
    }
}

fn write_key(text: &str, indent: usize, out: &mut String) {
    let start = out.len();
    write_line_scalar(text, out);
    // readers look for the colon no further than 1024 characters; past that a key needs a mark of its own
    if out.len() - start > 1000 {
        out.insert_str(start, "? ");
        out.push('\n');
        push_indent(indent, out);
    }
}

fn write_list(items: &[Yaml], indent: usize, mut inline: bool, out: &mut String) {
    for item in items {
        if !std::mem::take(&mut inline) {
            push_indent(indent, out);
        }
        out.push('-');
        match item {
            Yaml::Map(entries) if !entries.is_empty() => {
                out.push(' ');
                write_map(entries, indent + 2, true, out);
            }
            Yaml::List(nested) if !nested.is_empty() => {
                out.push(' ');
                write_list(nested, indent + 2, true, out);
            }
            other => other.write_value(indent + 2, out),
        }
    }
}

fn push_indent(indent: usize, out: &mut String) {
    const BLANKS: &str = "                                ";
    let mut left = indent;
    while left > 0 {
        let step = left.min(BLANKS.len());
        out.push_str(&BLANKS[..step]);
        left -= step;
    }
}

fn write_text(text: &str, indent: usize, out: &mut String) {
    // most are bare, and a bare text has one line
    if is_bare(text) {
        out.push_str(text);
        out.push('\n');
    } else if !write_block(text, indent, out) {
        write_quoted(text, out);
        out.push('\n');
    }
}

/// Writes a `|` block, or nothing and `false`: where the text has one line, or where a block would not carry it
/// unchanged, without a trailing blank in our output and without an indentation indicator, which people misread.
fn write_block(text: &str, indent: usize, out: &mut String) -> bool {
    let fits = text.contains('\n') && fits_block(text);
    if fits {
        write_lines(text, indent, out);
    }
    fits
}

/// Whether a block carries the text.
pub(crate) fn fits_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let ends_well = |line: &str| !line.starts_with('\t') && !line.ends_with([' ', '\t']);
    !body.is_empty()
        && !body.starts_with(['\n', ' '])
        && !body.ends_with('\n')
        && is_printable(body)
        && body.split('\n').all(ends_well)
}

/// Writes a `|` block of a text that [fits one](fits_block).
fn write_lines(text: &str, indent: usize, out: &mut String) {
    out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
    let mut start = 0;
    for end in memchr_iter(b'\n', text.as_bytes()).chain((!text.ends_with('\n')).then_some(text.len())) {
        if end > start {
            push_indent(indent, out);
            out.push_str(&text[start..end]);
        }
        out.push('\n');
        start = end + 1;
    }
}

/// A text as it stands on a line, bare or in double quotes.
pub(crate) fn line_scalar(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_line_scalar(text, &mut out);
    out
}

fn write_line_scalar(text: &str, out: &mut String) {
    if is_bare(text) {
        out.push_str(text);
    } else {
        write_quoted(text, out);
    }
}

/// Whether lines need no escape. Scripts are ASCII: the fold over their bytes has no branch, so it is vectorised.
fn is_printable(lines: &str) -> bool {
    let ascii = |ok, byte: u8| ok & (matches!(byte, b' '..=b'~') | matches!(byte, b'\t' | b'\n'));
    lines.bytes().fold(true, ascii) || lines.chars().all(|c| matches!(c, '\t' | '\n') || !needs_escape(c))
}

/// Whether the text is provably a string to every reader when it stands bare.
///
/// Numbers, dates, base-60 numbers, IP and MAC addresses begin with a digit or a sign, so those are quoted,
/// but for Kubernetes quantities (`10Gi`), which no schema reads as a number.
fn is_bare(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else { return false };
    if first.is_ascii_digit() {
        return is_binary_quantity(bytes);
    }
    if !(first.is_ascii_alphabetic() || *first == b'/') || text.len() > 1024 {
        return false;
    }
    let plain = |byte: &u8| PLAIN[usize::from(*byte)];
    // `: ` and a final `:` make a key, ` #` a comment
    let joins =
        |pair: &[u8]| matches!(pair, [b':' | b' ', next] if next.is_ascii_alphanumeric() || *next == b'/');
    let inside = bytes.iter().fold(true, |all, byte| all & plain(byte))
        || (bytes.windows(2).all(|pair| plain(&pair[0]) || joins(pair)) && bytes.last().is_some_and(plain));
    inside && !is_reserved_word(text)
}

/// Bytes that mean nothing anywhere inside a bare string.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'-' | b'_' | b'.' | b'/' | b'@' | b'+' | b'=' | b',');
        byte += 1;
    }
    table
};

fn is_binary_quantity(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    matches!(&bytes[digits..], [b'K' | b'M' | b'G' | b'T' | b'P' | b'E', b'i'])
}

/// Words that YAML 1.1 or 1.2 readers take for a boolean or for nothing.
const fn is_reserved_word(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let [b't' | b'f' | b'y' | b'n' | b'o' | b'T' | b'F' | b'Y' | b'N' | b'O', ..] = text.as_bytes() else {
        return false;
    };
    let mut at = 0;
    while text.len() <= 5 && at < WORDS.len() {
        if WORDS[at].eq_ignore_ascii_case(text) {
            return true;
        }
        at += 1;
    }
    false
}

/// Characters that one reader or another refuses or changes outside an escape: controls, the other line breaks
/// of Unicode, the byte-order mark, non-characters, and formatting characters that hide what a review shows.
pub(crate) fn needs_escape(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fff0}'..='\u{ffff}' => true,
        _ => c as u32 & 0xfffe == 0xfffe,
    }
}

fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if needs_escape(c) => {
                let code = c as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl<'a> From<&'a str> for Yaml<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Yaml<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<bool> for Yaml<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Yaml<'_> {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<i32> for Yaml<'_> {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<i64> for Yaml<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl<'a, T: Into<Yaml<'a>>> From<Option<T>> for Yaml<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

impl<'a, T: Into<Yaml<'a>>> From<Vec<T>> for Yaml<'a> {
    fn from(items: Vec<T>) -> Self {
        Self::items(items.into_iter().map(Into::into))
    }
}
