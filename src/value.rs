//! The values a config is made of. Each is parsed once and carries its meaning from then on.

mod archive;
mod certificate;
mod chaos;
mod hook;
mod managed;
mod meaning;
mod names;
mod network;
mod number;
mod parameter;
mod setting;
mod size;
mod words;

pub use archive::{
    ArchivePrefix, BucketName, Calendar, Moment, NfsExport, RegionName, RestorePoint, StoreUrl, WalPosition,
};
pub use certificate::Certificates;
pub use chaos::{BitRate, DatabaseNode, Delay, Percentage};
pub use managed::managed;
pub use meaning::Meaning;
pub use names::{
    AnnotationKey, AnnotationValue, ClusterName, DomainName, LabName, LabelKey, LabelValue, Namespace,
    NodeName, ObjectName, PackageName, SecretKey, UserName,
};
pub use network::{Cidr, Endpoint, Host, HostName, ImageReference, IpAddress, ProxyUrl, SshKey};
pub use parameter::{ParameterName, ParameterValue};
pub use setting::{MAJORS, Majors, Setting, SettingFault};
pub use size::{PgSize, Quantity};
pub use words::{
    AccessMode, AntiAffinity, ArchiveTool, ArchiveType, FailoverMode, InstancetypeKind, IoThreadsPolicy,
    IpFamily, IpFamilyPolicy, IssuerKind, LoadScript, LoadShape, Os, Packages, PreferenceKind, Protocol,
    RootDisk, RunStrategy, Schedule, ServiceType, SslMode, StandbyMode, SynchronousCommit, SynchronousMethod,
    TaintEffect, TolerationOperator, TrafficPolicy, VolumeMode, WalTarget, Watchdog,
};

use crate::config::fields::{Value, listed, nearest};
use crate::diagnostic::{Code, Diagnostic, Problems, Span};
use crate::node::{Node, NodeValue};
use crate::source::one_line;

/// Why a text is not the value it should be.
#[derive(Debug)]
pub struct Refusal {
    /// Its kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
    /// Whether the text may be a secret, which no message shows.
    pub is_secret: bool,
}

impl Refusal {
    /// A refusal with its remedy.
    pub fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into(), is_secret: false }
    }

    /// The same for a text that may be a secret.
    pub fn of_secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// The fault of the value at a place.
    pub(crate) fn at(self, span: Span) -> Diagnostic {
        let is_secret = self.is_secret;
        Diagnostic { is_secret, ..Diagnostic::new(self.code, span, self.message).help(self.help) }
    }
}

/// A value that is written as text.
pub trait FromText: Sized {
    /// What the text is for a message: `a PostgreSQL size`.
    const WHAT: &'static str;
    /// How one looks.
    const EXAMPLE: &'static str;
    /// The words it is one of; none: it is free text.
    const WORDS: &'static [&'static str] = &[];
    /// Parses the text.
    fn from_text(text: &str) -> Result<Self, Refusal>;
}

/// Reads a node as text of the given kind.
fn read_text<T: FromText>(node: &Node, problems: &mut Problems) -> Option<T> {
    let fault = match &node.value {
        NodeValue::Text(text) => match T::from_text(text) {
            Ok(value) => return Some(value),
            Err(refusal) => refusal.at(node.span.clone()),
        },
        value => {
            let typed = match value {
                NodeValue::Number(text) => Some(text.clone()),
                NodeValue::Bool(value) => Some(value.to_string()),
                _ => None,
            };
            let help = match typed {
                Some(text) if T::from_text(&text).is_ok() => {
                    format!("if text is meant, quote it: `\"{text}\"`")
                }
                _ => format!("write it like `{}`", T::EXAMPLE),
            };
            let what = if T::WORDS.is_empty() { T::WHAT.to_owned() } else { one_of(T::WORDS) };
            let message = format!("expected {what}, found {}", node.kind());
            Diagnostic::new(Code::WrongType, node.span.clone(), message).help(help)
        }
    };
    problems.push(fault);
    None
}

/// A text value kept as it was written, after a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $example:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&$name> for $crate::yaml::Yaml<'_> {
            fn from(value: &$name) -> Self {
                value.0.clone().into()
            }
        }

        impl FromText for $name {
            const WHAT: &'static str = $what;
            const EXAMPLE: &'static str = $example;
            fn from_text(text: &str) -> Result<Self, Refusal> {
                let check: fn(&str) -> Result<(), Refusal> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl Value for $name {
            const SHAPE: $crate::config::keys::Shape = $crate::config::keys::Shape::Text(Self::WHAT);

            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                read_text(node, problems)
            }
        }
    };
}

/// A value that is one of a few words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// The word as the config and the bundle write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl From<$name> for $crate::yaml::Yaml<'_> {
            fn from(value: $name) -> Self {
                value.as_str().into()
            }
        }

        impl FromText for $name {
            const WHAT: &'static str = "one of a few words";
            const EXAMPLE: &'static str = [$($text),+][0];
            const WORDS: &'static [&'static str] = &[$($text),+];
            fn from_text(text: &str) -> Result<Self, Refusal> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(unknown_word(text, &[$($text),+])),
                }
            }
        }

        impl Value for $name {
            const SHAPE: $crate::config::keys::Shape = $crate::config::keys::Shape::Words(Self::WORDS);

            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                read_text(node, problems)
            }
        }
    };
}

/// The words for a message: `one of `a`, `b` and `c``.
pub(crate) fn one_of(words: &[&str]) -> String {
    if words.len() > 1 { format!("one of {}", listed(words)) } else { listed(words) }
}

fn unknown_word(text: &str, words: &[&str]) -> Refusal {
    let message = format!("`{}` is not {}", shortened(text), one_of(words));
    let help = match nearest(text, words) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write {}", listed(words).replace(" and ", " or ")),
    };
    Refusal::new(Code::UnknownWord, message, help)
}

pub(crate) use {checked_text, choice};
/// A value of the user for a message: on one line, and not longer than a line.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text),
    }
}

/// Refuses `text`, which is not `what`, for `fault`, if there is one.
fn named(text: &str, code: Code, what: &str, fault: Option<String>, help: &str) -> Result<(), Refusal> {
    match fault {
        None => Ok(()),
        Some(fault) => Err(Refusal::new(code, format!("`{}` is not {what}: {fault}", shortened(text)), help)),
    }
}
