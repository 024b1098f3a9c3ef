//! Reading a mapping key by key, collecting every fault on the way.

use crate::diagnostic::{Diagnostic, Problems, Span};
use crate::node::{Key, Node, NodeValue};
use std::ops::RangeInclusive;

/// Something a user can write as the value of a key.
pub trait Value: Sized {
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
        self.push(Diagnostic { message: message.into(), marks, help: Some(help.into()), is_secret: false });
    }
}

/// The keys of one mapping while they are read.
pub struct Fields<'n, 'p> {
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'n, 'p> Fields<'n, 'p> {
    /// The keys of a mapping; reports any other node.
    pub fn of(node: &'n Node, problems: &'p mut Problems) -> Option<Self> {
        match &node.value {
            NodeValue::Map(entries) => Some(Self { entries, known: Vec::new(), problems }),
            _ => {
                problems.push(
                    Diagnostic::new(node.span.clone(), format!("expected a mapping, found {}", node.kind()))
                        .help("write `key: value` lines; see `gen --print example`"),
                );
                None
            }
        }
    }

    /// Reads the value of a key.
    pub fn value<T: Value>(&mut self, key: &'static str) -> Field<T> {
        self.value_with(key, T::read)
    }

    /// Reads a whole number within bounds; `reason` says why the bounds are what they are.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<u32>, reason: &str) -> Field<u32> {
        self.value_with(key, |node, problems| {
            let number = whole_number(node, problems)?;
            if number < 0 || !u32::try_from(number).is_ok_and(|n| bounds.contains(&n)) {
                problems.push(
                    Diagnostic::new(
                        node.span.clone(),
                        format!("`{key}` must be between {} and {}", bounds.start(), bounds.end()),
                    )
                    .help(reason),
                );
                return None;
            }
            u32::try_from(number).ok()
        })
    }

    fn value_with<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &mut Problems) -> Option<T>,
    ) -> Field<T> {
        self.known.push(key);
        let Some((key, node)) = self.entries.iter().find(|(k, _)| k.text == key) else {
            return Field::Absent;
        };
        if matches!(node.value, NodeValue::Null) {
            self.problems.push(
                Diagnostic::new(key.span.clone(), format!("`{}` has no value", key.text))
                    .help("give it a value, or remove the key to get the default"),
            );
            return Field::Invalid;
        }
        match read(node, self.problems) {
            Some(value) => Field::Given(Spanned { value, span: node.span.clone() }),
            None => Field::Invalid,
        }
    }

    fn at_root(&self) -> bool {
        self.known.contains(&"pgbench-scale")
    }

    /// Reports every key that was never asked for.
    pub fn finish(self) {
        for (key, _) in self.entries.iter().filter(|(k, _)| !self.known.contains(&k.text.as_str())) {
            let text = key.text.escape_debug();
            let unknown = Diagnostic::new(key.span.clone(), format!("unknown key `{text}`"));
            let hyphenated = key.text.replace('_', "-");
            self.problems.push(if self.known.contains(&hyphenated.as_str()) {
                unknown.help(format!("keys are written with hyphens: `{hyphenated}`"))
            } else if let Some(section) = self.at_root().then(|| section_of(&hyphenated)).flatten() {
                unknown.help(format!("`{hyphenated}` is a key of `{section}`"))
            } else if let Some((_, meant)) =
                SYNONYMS.iter().find(|(slip, meant)| *slip == hyphenated && self.known.contains(meant))
            {
                unknown.help(format!("did you mean `{meant}`?"))
            } else if let Some(near) = nearest(&hyphenated, &self.known) {
                unknown.help(format!("did you mean `{near}`?"))
            } else {
                unknown.help(format!("the keys here are {}", listed(&self.known)))
            });
        }
    }
}

/// What people write for a key at the top level.
const SYNONYMS: [(&str, &str); 4] = [
    ("replicas", "replica-count"),
    ("scale", "pgbench-scale"),
    ("wal-keep", "wal-keep-size"),
    ("wal-keep-segments", "wal-keep-size"),
];

/// The section a key belongs to, for those that are looked for at the top level.
fn section_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "clients" | "threads" | "duration" | "rate" | "protocol" | "partitions" => "pgbench",
        "max-slot-wal-keep-size" | "parameters" | "allowed-clients" => "postgresql",
        "image" | "data-source" | "os" | "root-disk" | "root-disk-size" | "packages" | "extra-packages"
        | "http-proxy" | "image-pull-secret" | "ssh" => "guest",
        "cpu-cores"
        | "memory"
        | "instancetype"
        | "preference"
        | "data-disk-size"
        | "wal-disk-size"
        | "storage-class"
        | "access-modes"
        | "volume-mode"
        | "node-selector"
        | "tolerations"
        | "anti-affinity"
        | "run-strategy"
        | "dedicated-io-thread"
        | "block-multiqueue"
        | "network-multiqueue"
        | "io-threads-policy" => "vm",
        "ip-family-policy" => "service",
        "file" | "existing-secret" => "credentials",
        _ => return None,
    })
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

fn whole_number(node: &Node, problems: &mut Problems) -> Option<i64> {
    let fault = match &node.value {
        NodeValue::Number(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0')) {
                // beyond i64 it is out of every range we have
                return Some(text.parse().unwrap_or(i64::MAX));
            }
            Diagnostic::new(node.span.clone(), format!("expected a whole number, found `{text}`"))
                .help("write it in plain decimal digits, such as `10`")
        }
        NodeValue::Text(text) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
            Diagnostic::new(node.span.clone(), "expected a number, found quoted text")
                .help(format!("remove the quotes: `{text}`"))
        }
        _ => Diagnostic::new(node.span.clone(), format!("expected a whole number, found {}", node.kind()))
            .help("write it in plain decimal digits, such as `10`"),
    };
    problems.push(fault);
    None
}

impl Value for bool {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let NodeValue::Bool(value) = node.value {
            return Some(value);
        }
        let meant = match &node.value {
            NodeValue::Text(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => Some("true"),
                "no" | "off" | "n" | "false" => Some("false"),
                _ => None,
            },
            _ => None,
        };
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`? YAML 1.2 reads this as text"),
            None => "write `true` or `false` without quotes".to_owned(),
        };
        problems.push(
            Diagnostic::new(node.span.clone(), format!("expected `true` or `false`, found {}", node.kind()))
                .help(help),
        );
        None
    }
}

impl Value for String {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let help = match &node.value {
            NodeValue::Text(text) => return Some(text.clone()),
            NodeValue::Number(text) => format!("if text is meant, quote it: `\"{text}\"`"),
            NodeValue::Bool(value) => format!("if text is meant, quote it: `\"{value}\"`"),
            _ => "write text, in quotes where it holds special characters".to_owned(),
        };
        problems.push(
            Diagnostic::new(node.span.clone(), format!("expected text, found {}", node.kind())).help(help),
        );
        None
    }
}

impl<T: Value> Value for Vec<Spanned<T>> {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let NodeValue::List(items) = &node.value else {
            problems.push(
                Diagnostic::new(node.span.clone(), format!("expected a list, found {}", node.kind()))
                    .help("write `[a, b]`, or one `- item` on each line"),
            );
            return None;
        };
        let read: Vec<_> = items
            .iter()
            .filter_map(|item| Some(Spanned { value: T::read(item, problems)?, span: item.span.clone() }))
            .collect();
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
    Some(name.map(|value| Field::Given(Spanned { value, span: node.span.clone() })))
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
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let NodeValue::Map(entries) = &node.value else {
            problems.push(
                Diagnostic::new(node.span.clone(), format!("expected a mapping, found {}", node.kind()))
                    .help("write `key: value` lines, or `{}` for none"),
            );
            return None;
        };
        let read: Vec<_> = entries
            .iter()
            .filter_map(|(key, node)| {
                let name = Node { value: NodeValue::Text(key.text.clone()), span: key.span.clone() };
                let key = K::read(&name, problems);
                let value = V::read(node, problems);
                Some((
                    Spanned { value: key?, span: name.span },
                    Spanned { value: value?, span: node.span.clone() },
                ))
            })
            .collect();
        // what could be read is checked further; the run fails all the same
        Some(Self(read))
    }
}
