//! What PostgreSQL 13 to 18 know of each of their settings: which there are, and what their values mean.
//!
//! `settings.tsv` holds a row for each setting, as real servers describe it (`tests/settings`). It stays text: a
//! config has a handful of settings, so a binary search costs less than a table would at every start.

use super::hook::{self, elements};
use super::meaning::Meaning;
use super::number::{self, Fault, Unit};
use super::{Refusal, one_of, shortened, unknown_word};
use crate::config::fields::{listed, nearest};
use crate::diagnostic::Code;
use std::ops::RangeInclusive;

/// Major versions of PostgreSQL.
pub type Majors = RangeInclusive<u8>;

/// Those that the guests can have.
pub const MAJORS: Majors = 13..=18;

const TABLE: &str = include_str!("settings.tsv");

/// A setting of PostgreSQL in some of its majors.
#[derive(Debug, Clone)]
pub struct Setting {
    name: &'static str,
    majors: Majors,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Bool,
    Number {
        is_whole: bool,
        unit: Option<Unit>,
        least: f64,
        most: f64,
    },
    /// One of some words.
    Enum(Vec<&'static str>),
    /// Some of some words, with commas between them.
    List(Vec<&'static str>),
    Text {
        may_be_empty: bool,
    },
    /// What the server only shows.
    ReadOnly,
    /// What only sessions set.
    Session,
}

impl Setting {
    /// What a value means to a server of one of these majors, the newest that takes it.
    ///
    /// # Errors
    /// Where none of them takes it, or none has such a setting.
    pub fn read(name: &str, text: &str, majors: &Majors) -> Result<Meaning, SettingFault> {
        let forms: Vec<_> = lines_of(name).filter_map(Self::from_line).collect();
        let (Some(first), Some(last)) = (forms.first(), forms.last()) else {
            return Err(SettingFault::Name(unknown(name, majors)));
        };
        if matches!(last.kind, Kind::ReadOnly | Kind::Session) {
            return Err(SettingFault::Name(last.fixed()));
        }
        let mut here = forms.iter().rev().filter(|form| form.is_in(majors));
        let Some(newest) = here.next() else {
            let known = *first.majors.start()..=*last.majors.end();
            return Err(SettingFault::Name(Refusal::new(
                Code::SettingOfAnotherVersion,
                format!(
                    "`{name}` is a setting of PostgreSQL {}, the guest has {}",
                    written(&known),
                    written(majors)
                ),
                "remove it, or choose an image with that PostgreSQL",
            )));
        };
        newest
            .meaning(text)
            .or_else(|refusal| here.find_map(|form| form.meaning(text).ok()).ok_or(refusal))
            .map_err(|refusal| {
                // another major takes it: say which this is
                let elsewhere = forms.iter().any(|form| form.meaning(text).is_ok());
                let place =
                    if elsewhere { format!(" in PostgreSQL {}", written(majors)) } else { String::new() };
                SettingFault::Value(Refusal { message: refusal.message + &place, ..refusal })
            })
    }

    /// Whether any of the majors has a setting of that name that a config can set.
    pub fn is_known(name: &str) -> bool {
        let mut forms = lines_of(name).filter_map(Self::from_line);
        forms.any(|form| !matches!(form.kind, Kind::ReadOnly | Kind::Session))
    }

    fn from_line(line: &'static str) -> Option<Self> {
        let mut columns = line.split('\t');
        let name = columns.next()?;
        let (first, last) = columns.next()?.split_once('-')?;
        let majors = first.parse().ok()?..=last.parse().ok()?;
        let kind = columns.next()?;
        let mut column = || columns.next().unwrap_or("");
        let (unit, least, most, words) = (column(), column(), column(), column());
        let number = |is_whole| {
            let (least, most) = (least.parse().ok()?, most.parse().ok()?);
            Some(Kind::Number { is_whole, unit: Unit::named(unit), least, most })
        };
        let kind = match kind {
            "bool" => Kind::Bool,
            "integer" => number(true)?,
            "real" => number(false)?,
            "enum" => Kind::Enum(words.split(',').collect()),
            "list" => Kind::List(words.split(',').collect()),
            "text" => Kind::Text { may_be_empty: least.is_empty() },
            "read-only" => Kind::ReadOnly,
            "session" => Kind::Session,
            _ => return None,
        };
        Some(Self { name, majors, kind })
    }

    fn is_in(&self, majors: &Majors) -> bool {
        self.majors.start() <= majors.end() && majors.start() <= self.majors.end()
    }

    /// Why no config can set it.
    fn fixed(&self) -> Refusal {
        let (rule, help) = match self.kind {
            Kind::ReadOnly => ("is read-only", "remove it"),
            _ => (
                "belongs to a session, not to the server",
                "remove it, or set it in the session that needs it",
            ),
        };
        Refusal::new(Code::SettingNotConfigurable, format!("`{}` {rule}", self.name), help)
    }

    fn meaning(&self, text: &str) -> Result<Meaning, Refusal> {
        let name = self.name;
        match &self.kind {
            Kind::Bool => boolean(text).map(Meaning::Bool).ok_or_else(|| {
                self.refusal(Code::SettingValueRefused, text, "is on or off", "write `on` or `off`")
            }),
            &Kind::Number { is_whole, unit, least, most } => {
                let number = number::parse(text, unit, is_whole)
                    .map_err(|fault| self.no_number(text, &fault, unit))?;
                if let Some((rule, nearest)) = gap(name, number) {
                    let help = format!("write `{}`", in_unit(nearest, unit));
                    return Err(self.refusal(Code::SettingOutOfBounds, text, rule, &help));
                }
                if (least..=most).contains(&number) {
                    Ok(Meaning::Number(number))
                } else {
                    Err(self.out_of_bounds(text, number, unit, least..=most))
                }
            }
            Kind::Enum(words) => match word(text, words) {
                Some(word) => Ok(Meaning::Word(word)),
                None if text.is_empty() => {
                    let help = unknown_word(text, words).help;
                    Err(self.refusal(Code::UnknownWord, text, &format!("is {}", one_of(words)), &help))
                }
                None => Err(unknown_word(text, words)),
            },
            Kind::List(words) => match elements(text).find(|element| word(element, words).is_none()) {
                Some(element) if !text.is_empty() => Err(unknown_word(element, words)),
                _ => Ok(Meaning::Text),
            },
            Kind::Text { may_be_empty } if text.is_empty() && !may_be_empty => Err(Refusal::new(
                Code::SettingValueRefused,
                format!("`{name}` must not be empty"),
                "give it a value, or remove it for the default",
            )),
            Kind::Text { .. } => hook::meaning(name, text),
            Kind::ReadOnly | Kind::Session => Err(self.fixed()),
        }
    }

    fn refusal(&self, code: Code, text: &str, rule: &str, help: &str) -> Refusal {
        let typed = if text.is_empty() { "empty text".to_owned() } else { format!("`{}`", shortened(text)) };
        Refusal::new(code, format!("`{}` {rule}, not {typed}", self.name), help)
    }

    fn no_number(&self, text: &str, fault: &Fault, unit: Option<Unit>) -> Refusal {
        let typed = shortened(text);
        // what people write elsewhere: 1_000, 0o17, 16mb, 1Gi, 5m
        let plain = text.replace('_', "").replace("0o", "0");
        let mut mended = plain != text && self.meaning(&plain).is_ok();
        let mut meant = plain;
        if let (Fault::NoUnit { number, rest }, Some(unit)) = (fault, unit)
            && !mended
            && let Some(unit) = unit.meant(rest)
        {
            meant = format!("{number}{unit}");
            mended = self.meaning(&meant).is_ok();
            if mended {
                let kind = if rest.ends_with('i') {
                    "is a Kubernetes quantity"
                } else {
                    "is in a unit that PostgreSQL does not know"
                };
                return Refusal::new(
                    Code::SettingWrongUnit,
                    format!("`{typed}` {kind}"),
                    format!("PostgreSQL reads this one; in its units that is `{meant}`"),
                );
            }
        }
        let help = match unit {
            _ if mended => format!("write `{meant}`"),
            Some(unit) => format!(
                "write a number with one of the units {}; without one it counts `{}`",
                listed(&unit.names()),
                unit.name()
            ),
            None => match fault {
                Fault::NoUnit { number, .. } if self.meaning(number).is_ok() => {
                    format!("it has no unit: write `{number}`, if that is meant")
                }
                _ => "write a number without a unit".to_owned(),
            },
        };
        let rule = match unit {
            Some(unit) if unit.names().contains(&"B") => "is a size",
            Some(_) => "is a time",
            None => "is a number",
        };
        let code = match fault {
            Fault::NoUnit { .. } if !mended => Code::SettingWrongUnit,
            _ => Code::SettingValueRefused,
        };
        self.refusal(code, text, rule, &help)
    }

    fn out_of_bounds(
        &self,
        text: &str,
        number: f64,
        unit: Option<Unit>,
        bounds: RangeInclusive<f64>,
    ) -> Refusal {
        let (least, most) = (in_unit(*bounds.start(), unit), in_unit(*bounds.end(), unit));
        let rule = match *bounds.end() {
            f64::MAX => format!("is at least `{least}`"),
            _ => format!("is between `{least}` and `{most}`"),
        };
        let mut help = match *bounds.end() {
            _ if number < *bounds.start() => format!("write `{least}` or more"),
            // MAX_BACKENDS
            262_143.0 => {
                "write fewer, such as `1000`: all processes of the server share that limit".to_owned()
            }
            _ => format!("write `{most}` or less"),
        };
        if let Some(unit) = unit
            && text.ends_with(|c: char| c.is_ascii_digit())
        {
            help.push_str(&format!("; without a unit a number counts `{}`", unit.name()));
        }
        self.refusal(Code::SettingOutOfBounds, text, &rule, &help)
    }
}

fn in_unit(number: f64, unit: Option<Unit>) -> String {
    unit.map_or_else(|| number.to_string(), |unit| unit.write(number))
}

/// Why a setting cannot be as the config has it.
#[derive(Debug)]
pub enum SettingFault {
    /// There is no such setting in that file.
    Name(Refusal),
    /// It takes no such value.
    Value(Refusal),
}

/// The rows of a setting.
fn lines_of(name: &str) -> impl Iterator<Item = &'static str> {
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = low.midpoint(high);
        let start = TABLE[..middle].rfind('\n').map_or(0, |at| at + 1);
        let line = TABLE[start..].lines().next().unwrap_or("");
        if name_of(line) < name { low = start + line.len() + 1 } else { high = start }
    }
    TABLE[low.min(TABLE.len())..].lines().take_while(move |line| name_of(line) == name)
}

fn name_of(line: &str) -> &str {
    line.split('\t').next().unwrap_or(line)
}

/// What people look for that older servers had.
const BEFORE: [(&str, &str); 2] = [
    ("wal_keep_segments", "it is `wal-keep-size` at the top level of the config, a size"),
    ("checkpoint_segments", "did you mean `max_wal_size`?"),
];

fn unknown(name: &str, majors: &Majors) -> Refusal {
    let settings = TABLE.lines().filter_map(Setting::from_line);
    let names: Vec<_> = settings
        .filter(|setting| setting.is_in(majors) && !matches!(setting.kind, Kind::ReadOnly | Kind::Session))
        .map(|setting| setting.name)
        .collect();
    let help = match (BEFORE.iter().find(|(before, _)| *before == name), nearest(name, &names)) {
        (Some((_, now)), _) => (*now).to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => "a setting of an extension has the extension's name and a dot before its own: \
                         `auto_explain.log_min_duration`"
            .to_owned(),
    };
    let message = format!("PostgreSQL {} has no setting `{}`", written(majors), shortened(name));
    Refusal::new(Code::UnknownSetting, message, help)
}

fn written(majors: &Majors) -> String {
    match (majors.start(), majors.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) if first + 1 == *last => format!("{first} and {last}"),
        (first, last) => format!("{first} to {last}"),
    }
}

/// `parse_bool`: each start of a word that is no start of another.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let starts = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if starts("true", 1) || starts("yes", 1) || starts("on", 2) || lower == "1" {
        Some(true)
    } else if starts("false", 1) || starts("no", 1) || starts("off", 2) || lower == "0" {
        Some(false)
    } else {
        None
    }
}

/// The word of an enumeration that a text means, hidden spellings included: guc_tables.c has them, pg_settings not.
fn word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let listed = |text: &str| words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
    listed(&lower).or_else(|| match lower.as_str() {
        "true" | "yes" | "1" => listed("on"),
        "false" | "no" | "0" => listed("off"),
        "debug" => listed("debug2"),
        // client_min_messages and the like
        "info" if listed("debug2").is_some() => Some("info"),
        "archive" | "hot_standby" => listed("replica").filter(|_| words.contains(&"logical")),
        _ => None,
    })
}

/// Numbers within its bounds that the server refuses all the same (check hooks in guc_tables.c): the rule, and the
/// nearest that it takes.
fn gap(name: &str, number: f64) -> Option<(&'static str, f64)> {
    match name {
        "commit_timestamp_buffers"
        | "multixact_member_buffers"
        | "multixact_offset_buffers"
        | "notify_buffers"
        | "serializable_buffers"
        | "subtransaction_buffers"
        | "transaction_buffers"
            if number % 16.0 != 0.0 =>
        {
            Some(("is a multiple of `128kB`", (number / 16.0).round().clamp(1.0, 8192.0) * 16.0))
        }
        "vacuum_buffer_usage_limit" if number > 0.0 && number < 128.0 => {
            Some(("is `0` or at least `128kB`", 128.0))
        }
        "io_max_concurrency" if number == 0.0 => Some(("is `-1` or at least `1`", 1.0)),
        _ => None,
    }
}
