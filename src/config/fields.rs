//! Reading a mapping key by key, collecting every fault on the way.

use super::keys::{self, Shape, Whole};
use crate::diagnostic::{Code, Diagnostic, Problems, Span};
use crate::node::{Key, Node, NodeValue, missing_blank_after, no_blank_after_colon};
use crate::value::managed;

/// Something a user can write as the value of a key.
pub trait Value: Sized {
    /// What it looks like, for those who ask before they write it.
    const SHAPE: Shape;
    /// Reads it; reports what is wrong and gives `None` otherwise.
    fn read(node: &Node, problems: &mut Problems) -> Option<Self>;
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place in the source.
    pub span: Span,
    /// The path of its key: `primary.memory`.
    pub path: String,
}

impl<T> Spanned<T> {
    /// The value read from a node.
    fn of(node: &Node, value: T) -> Self {
        Self { value, span: node.span.clone(), path: node.path.clone() }
    }
}

/// What the config says of one key.
#[derive(Debug, Clone, Default)]
pub enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there with a value that was reported as wrong.
    Invalid,
    /// The key is there.
    Given(Spanned<T>),
}

impl<T> Field<T> {
    /// The value, where one was given.
    pub fn get(&self) -> Option<&T> {
        self.spanned().map(|spanned| &spanned.value)
    }

    /// The value with its place.
    pub fn spanned(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(spanned) => Some(spanned),
            _ => None,
        }
    }

    /// Whether the key stands in the config, right or wrong.
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<T: Clone> Field<T> {
    /// The value or a default.
    pub fn or(&self, default: T) -> T {
        self.get().cloned().unwrap_or(default)
    }

    /// This field, or the other where this one is absent.
    pub fn over(&self, base: &Self) -> Self {
        if self.is_present() { self.clone() } else { base.clone() }
    }
}

/// The value of a key is wrong by itself, which the user was told.
#[derive(Debug)]
pub struct AlreadyReported;

/// A key that takes part in a cross-check.
pub trait Involved {
    /// The place of the value; an error when the check must be silent.
    fn place(&self) -> Result<Option<Span>, AlreadyReported>;
}

impl<T> Involved for Field<T> {
    fn place(&self) -> Result<Option<Span>, AlreadyReported> {
        match self {
            Self::Absent => Ok(None),
            Self::Invalid => Err(AlreadyReported),
            Self::Given(spanned) => Ok(Some(spanned.span.clone())),
        }
    }
}

impl<T> Involved for Spanned<T> {
    fn place(&self) -> Result<Option<Span>, AlreadyReported> {
        Ok(Some(self.span.clone()))
    }
}

impl Problems {
    /// Reports a contradiction between keys at the place of each; silent where one of them was reported already.
    pub fn contradiction(
        &mut self,
        code: Code,
        keys: &[(&dyn Involved, &str)],
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let mut marks = Vec::new();
        for (key, label) in keys {
            match key.place() {
                Ok(Some(span)) => marks.push((span, (*label).to_owned())),
                Ok(None) => {}
                Err(AlreadyReported) => return,
            }
        }
        self.push(Diagnostic {
            code,
            message: message.into(),
            marks,
            help: Some(help.into()),
            is_secret: false,
        });
    }
}

/// The keys of one mapping while they are read.
pub struct Fields<'n, 'p> {
    path: &'n str,
    entries: &'n [(Key, Node)],
    problems: &'p mut Problems,
}

impl<'n, 'p> Fields<'n, 'p> {
    /// The keys of a mapping; reports any other node.
    pub fn of(node: &'n Node, problems: &'p mut Problems) -> Option<Self> {
        match &node.value {
            NodeValue::Map(entries) => Some(Self { path: &node.path, entries, problems }),
            _ => {
                problems.push(not_a_mapping(node, "write `key: value` lines; see `gen --print example`"));
                None
            }
        }
    }

    /// Reads the value of a key.
    pub fn value<T: Value>(&mut self, key: &'static str) -> Field<T> {
        self.value_with(key, T::read)
    }

    /// Reads a whole number within bounds.
    pub fn integer(&mut self, key: &'static str, whole: &Whole) -> Field<u32> {
        self.value_with(key, |node, problems| {
            let number = whole_number(node, whole, problems)?;
            let within = u32::try_from(number).ok().filter(|number| whole.bounds.contains(number));
            if within.is_none() {
                let (least, most) = (whole.bounds.start(), whole.bounds.end());
                problems.push(
                    Diagnostic::new(
                        Code::OutOfBounds,
                        node.span.clone(),
                        format!("`{}` must be between {least} and {most}", node.path),
                    )
                    .help(whole.reason),
                );
            }
            within
        })
    }

    fn value_with<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &mut Problems) -> Option<T>,
    ) -> Field<T> {
        let Some((key, node)) = self.entries.iter().find(|(k, _)| k.text == key) else {
            return Field::Absent;
        };
        if matches!(node.value, NodeValue::Null) {
            self.problems.push(
                Diagnostic::new(Code::NoValue, key.span.clone(), format!("`{}` has no value", node.path))
                    .help("give it a value, or remove the key to get the default"),
            );
            return Field::Invalid;
        }
        match read(node, self.problems) {
            Some(value) => Field::Given(Spanned::of(node, value)),
            None => Field::Invalid,
        }
    }

    /// Reports every key that is none of the section's.
    pub fn finish(self, keys: &[keys::Key]) {
        for (key, node) in self.entries.iter().filter(|(k, _)| keys.iter().all(|key| key.name != k.text)) {
            // in braces too: `vm:{memory: 4Gi}` is the key `vm:{memory`
            let has_brace = key.text.contains(":{");
            if let Some(blank) = missing_blank(&key.text, &key.span)
                .filter(|_| has_brace || matches!(node.value, NodeValue::Null))
            {
                self.problems.push(blank);
                continue;
            }
            let path = node.path.escape_debug();
            self.problems.push(
                Diagnostic::new(Code::UnknownKey, key.span.clone(), format!("unknown key `{path}`"))
                    .help(meant_by(&key.text, self.path, keys)),
            );
        }
    }
}

/// What to write for a key that a section does not have.
fn meant_by(typed: &str, path: &str, keys: &[keys::Key]) -> String {
    let hyphenated = typed.replace('_', "-");
    let known: Vec<_> = keys.iter().map(|key| key.name).collect();
    let elsewhere = keys::sections_of(&hyphenated);
    if known.contains(&hyphenated.as_str()) {
        format!("keys are written with hyphens: `{hyphenated}`")
    } else if let Some(key) = keys.iter().find(|key| key.also.contains(&hyphenated.as_str())) {
        format!("did you mean `{}`?", key.name)
    } else if elsewhere == [""] && !path.is_empty() {
        format!("`{hyphenated}` stands at the top level")
    } else if let Some(reason) = own_setting(typed, path).and_then(|setting| managed(&setting)) {
        format!("remove it: {reason}")
    } else if !elsewhere.is_empty() && !elsewhere.contains(&"") && !elsewhere.contains(&path) {
        format!("`{hyphenated}` is a key of {}", listed(&elsewhere))
    } else if let Some(setting) = own_setting(typed, path) {
        format!("a setting of PostgreSQL is a key of `postgresql.parameters`: `{setting}`")
    } else if let Some(near) = nearest(&hyphenated, &known) {
        format!("did you mean `{near}`?")
    } else if typed == "<<" {
        "YAML merges are not supported; write the keys out".to_owned()
    } else if known.len() <= FEW_KEYS {
        format!("the keys here are {}", listed(&known))
    } else {
        "there is none like it; `gen --print example` shows every key".to_owned()
    }
}

/// As many keys as a message lists.
const FEW_KEYS: usize = 4;

/// A node that should be a mapping and is not.
fn not_a_mapping(node: &Node, help: &str) -> Diagnostic {
    let blank = match &node.value {
        NodeValue::Text(text) => missing_blank(text, &node.span),
        _ => None,
    };
    blank.unwrap_or_else(|| {
        let message = format!("expected a mapping, found {}", node.kind());
        Diagnostic::new(Code::WrongType, node.span.clone(), message).help(help)
    })
}

/// A key and its value that YAML takes for one word. The message does not show them: the value may be a password.
fn missing_blank(text: &str, span: &Span) -> Option<Diagnostic> {
    // the text of a plain scalar stands in the source as it is
    missing_blank_after(text)
        .filter(|_| span.len() == text.len())
        .map(|colon| no_blank_after_colon(span.start + colon))
}

/// The same where such a key could be meant for the servers.
fn own_setting(typed: &str, path: &str) -> Option<String> {
    setting_of(typed).filter(|_| ["", "postgresql"].contains(&path))
}

/// The PostgreSQL setting that a key is called like, in either spelling.
fn setting_of(key: &str) -> Option<String> {
    let spelt = key.to_ascii_lowercase().replace('-', "_");
    crate::value::Setting::is_known(&spelt).then_some(spelt)
}

/// The candidate a slip of the finger away from what was typed.
pub fn nearest<'c>(typed: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let score =
        |candidate: &&str| strsim::jaro_winkler(&typed.to_ascii_lowercase(), &candidate.to_ascii_lowercase());
    let best = candidates.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.85).then_some(best)
}

/// The literals in backticks, as a list for a message.
pub fn listed(literals: &[&str]) -> String {
    let quoted: Vec<_> = literals.iter().map(|literal| format!("`{literal}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn whole_number(node: &Node, whole: &Whole, problems: &mut Problems) -> Option<i64> {
    let reason = whole.reason;
    let fault = match &node.value {
        NodeValue::Number(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0')) {
                // beyond i64 it is out of every range we have
                return Some(text.parse().unwrap_or(i64::MAX));
            }
            let help = match in_decimal(text) {
                Some(number) => format!("write it in plain decimal digits: `{number}`"),
                None => format!("write it in plain decimal digits, such as `10`: {reason}"),
            };
            let message = format!("expected a whole number, found `{text}`");
            Diagnostic::new(Code::NotAWholeNumber, node.span.clone(), message).help(help)
        }
        NodeValue::Text(text) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
            Diagnostic::new(Code::WrongType, node.span.clone(), "expected a number, found quoted text")
                .help(format!("remove the quotes: `{text}`"))
        }
        value => {
            let length = match (value, whole.unit) {
                (NodeValue::Text(text), "seconds") => seconds(text),
                (NodeValue::Text(text), "days") => {
                    seconds(text).filter(|seconds| seconds % DAY == 0).map(|seconds| seconds / DAY)
                }
                _ => None,
            };
            let help = match length.filter(|length| whole.bounds.contains(length)) {
                Some(length) => format!("it counts {}: write `{length}`", whole.unit),
                None => format!("write it in plain decimal digits, such as `10`: {reason}"),
            };
            let message = format!("expected a whole number, found {}", node.kind());
            Diagnostic::new(Code::WrongType, node.span.clone(), message).help(help)
        }
    };
    problems.push(fault);
    None
}

const DAY: u32 = 86_400;

/// The seconds of a time such as `5m`.
fn seconds(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u32 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "s" | "sec" | "seconds" => 1,
        "m" | "min" | "minutes" => 60,
        "h" | "hours" => 3600,
        "d" | "days" => DAY,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A whole number that was written with another base, a sign, a fraction or an exponent.
fn in_decimal(text: &str) -> Option<i64> {
    let radix =
        |prefix, radix| text.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, radix).ok());
    radix("0x", 16).or_else(|| radix("0o", 8)).unwrap_or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    })
}

impl Value for bool {
    const SHAPE: Shape = Shape::Flag;

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let NodeValue::Bool(value) = node.value {
            return Some(value);
        }
        let meant = match &node.value {
            NodeValue::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "false" => None,
                "yes" | "on" | "y" => Some("true"),
                "no" | "off" | "n" => Some("false"),
                _ => None,
            },
            _ => None,
        };
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`? YAML 1.2 reads this as text"),
            None => match &node.value {
                NodeValue::Text(text) if matches!(&*text.to_ascii_lowercase(), "true" | "false") => {
                    format!("remove the quotes: `{}`", text.to_ascii_lowercase())
                }
                _ => "write `true` or `false` without quotes".to_owned(),
            },
        };
        let message = format!("expected `true` or `false`, found {}", node.kind());
        problems.push(Diagnostic::new(Code::WrongType, node.span.clone(), message).help(help));
        None
    }
}

impl Value for String {
    const SHAPE: Shape = Shape::Text("text");

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let help = match &node.value {
            NodeValue::Text(text) => return Some(text.clone()),
            NodeValue::Number(text) => format!("if text is meant, quote it: `\"{text}\"`"),
            NodeValue::Bool(value) => format!("if text is meant, quote it: `\"{value}\"`"),
            _ => "write text, in quotes where it holds special characters".to_owned(),
        };
        let message = format!("expected text, found {}", node.kind());
        problems.push(Diagnostic::new(Code::WrongType, node.span.clone(), message).help(help));
        None
    }
}

impl<T: Value> Value for Vec<Spanned<T>> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let NodeValue::List(items) = &node.value else {
            let help = match &node.value {
                // what means the same between brackets
                NodeValue::Text(text)
                    if text.len() <= 60
                        && text.chars().all(|c| c.is_ascii_alphanumeric() || "./:_, -".contains(c))
                        && !text.starts_with('-') =>
                {
                    format!("write it as a list: `[{text}]`")
                }
                _ => "write `[a, b]`, or one `- item` on each line".to_owned(),
            };
            let is_secret = matches!(&node.value, NodeValue::Text(text) if text.contains("PRIVATE KEY"));
            let message = format!("expected a list, found {}", node.kind());
            let fault = Diagnostic::new(Code::WrongType, node.span.clone(), message).help(help);
            problems.push(Diagnostic { is_secret, ..fault });
            return None;
        };
        let read: Vec<_> =
            items.iter().filter_map(|item| Some(Spanned::of(item, T::read(item, problems)?))).collect();
        (read.len() == items.len()).then_some(read)
    }
}

/// A section that may be written as nothing but its name: `Some` when it is not a mapping, with the name inside when
/// that could be read.
pub fn short_form<T: Value>(node: &Node, problems: &mut Problems) -> Option<Option<Field<T>>> {
    if matches!(node.value, NodeValue::Map(_)) {
        return None;
    }
    let name = T::read(node, problems);
    Some(name.map(|value| Field::Given(Spanned::of(node, value))))
}

/// A mapping whose keys the user chooses, in the order of the text.
#[derive(Debug, Clone)]
pub struct Entries<K, V>(pub Vec<(Spanned<K>, Spanned<V>)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Value, V: Value> Value for Entries<K, V> {
    const SHAPE: Shape = Shape::Entries(&K::SHAPE, &V::SHAPE);

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let NodeValue::Map(entries) = &node.value else {
            problems.push(not_a_mapping(node, "write `key: value` lines, or `{}` for none"));
            return None;
        };
        let read: Vec<_> = entries
            .iter()
            .filter_map(|(key, node)| {
                let name = Node {
                    value: NodeValue::Text(key.text.clone()),
                    span: key.span.clone(),
                    path: node.path.clone(),
                };
                let key = K::read(&name, problems);
                let value = V::read(node, problems);
                Some((Spanned::of(&name, key?), Spanned::of(node, value?)))
            })
            .collect();
        // what could be read is checked further; the run fails all the same
        Some(Self(read))
    }
}
