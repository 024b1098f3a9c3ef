//! Sizes, in PostgreSQL's units and in Kubernetes's.

use super::{FromText, Refusal, Value, read_text, shortened};
use crate::diagnostic::{Diagnostic, Problems};
use crate::node::{Node, NodeValue};

/// An amount of memory in PostgreSQL's units, in whole MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgSize {
    mib: u64,
}

impl PgSize {
    /// The largest value of `wal_keep_size` and `max_slot_wal_keep_size`: an `int` of megabytes.
    const MAX_MIB: u64 = i32::MAX as u64;

    /// A size of whole MiB.
    pub const fn mib(mib: u64) -> Self {
        Self { mib }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u128 {
        u128::from(self.mib) << 20
    }
}

impl std::fmt::Display for PgSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.mib {
            mib if mib > 0 && mib % (1 << 20) == 0 => write!(f, "{}TB", mib >> 20),
            mib if mib > 0 && mib % (1 << 10) == 0 => write!(f, "{}GB", mib >> 10),
            mib => write!(f, "{mib}MB"),
        }
    }
}

impl FromText for PgSize {
    const WHAT: &'static str = "a PostgreSQL size";
    const EXAMPLE: &'static str = "256MB";
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let refuse =
            |help: String| Err(Refusal::new(format!("`{}` is not a PostgreSQL size", shortened(text)), help));
        let general =
            "write a whole number and `MB`, `GB` or `TB` (powers of 1024), such as `256MB`".to_owned();
        if text == "-1" {
            return refuse(
                "unlimited is not offered: a replica that stays away would fill the disk".to_owned(),
            );
        }
        if unit.starts_with(' ') {
            return refuse(format!("write it without the blank: `{number}{}`", unit.trim()));
        }
        if unit.is_empty() && !number.is_empty() {
            return refuse(format!("it needs its unit; if megabytes are meant, write `{number}MB`"));
        }
        let shift = match unit {
            "kB" => 10,
            "MB" => 20,
            "GB" => 30,
            "TB" => 40,
            _ => {
                let meant = match unit.to_ascii_lowercase().as_str() {
                    "mi" | "mib" | "m" | "mb" => "MB",
                    "gi" | "gib" | "g" | "gb" => "GB",
                    "ti" | "tib" | "t" | "tb" => "TB",
                    "ki" | "kib" | "k" | "kb" => "kB",
                    _ => return refuse(general),
                };
                if number.is_empty() {
                    return refuse(general);
                }
                return refuse(format!("PostgreSQL reads this one; in its units that is `{number}{meant}`"));
            }
        };
        match number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)) {
            Some(bytes) if bytes % (1 << 20) != 0 => {
                refuse("it must be whole megabytes, such as `256MB`".to_owned())
            }
            Some(bytes) if bytes >> 20 <= Self::MAX_MIB => Ok(Self { mib: bytes >> 20 }),
            _ if number.is_empty() => refuse(general),
            _ => refuse(format!("PostgreSQL takes at most {}MB", Self::MAX_MIB)),
        }
    }
}

impl Value for PgSize {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        read_size(node, problems)
    }
}

/// Reads a size; a bare number is told its unit like a quoted one.
fn read_size<T: FromText>(node: &Node, problems: &mut Problems) -> Option<T> {
    if let NodeValue::Number(text) = &node.value
        && let Err(refusal) = T::from_text(text)
    {
        problems.push(Diagnostic::new(node.span.clone(), refusal.message).help(refusal.help));
        return None;
    }
    read_text(node, problems)
}

/// A Kubernetes quantity of bytes, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    bytes: u128,
}

impl Quantity {
    /// A quantity of whole GiB, in Ti where that is shorter.
    pub fn gib(gib: u64) -> Self {
        let text = if gib >= 1024 && gib.is_multiple_of(1024) {
            format!("{}Ti", gib / 1024)
        } else {
            format!("{gib}Gi")
        };
        Self { text, bytes: u128::from(gib) << 30 }
    }

    /// A quantity of whole MiB.
    pub fn mib(mib: u64) -> Self {
        Self { text: format!("{mib}Mi"), bytes: u128::from(mib) << 20 }
    }

    /// The quantity in bytes.
    pub fn bytes(&self) -> u128 {
        self.bytes
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Quantity> for crate::yaml::Yaml {
    fn from(quantity: &Quantity) -> Self {
        quantity.text.clone().into()
    }
}

impl FromText for Quantity {
    const WHAT: &'static str = "a Kubernetes quantity";
    const EXAMPLE: &'static str = "10Gi";
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let refuse = |help: String| {
            Err(Refusal::new(format!("`{}` is not a Kubernetes quantity", shortened(text)), help))
        };
        let general = "write a number and `Mi`, `Gi` or `Ti` (powers of 1024), such as `10Gi`".to_owned();
        if let Some((number, unit)) = text.split_once(' ') {
            return refuse(format!("write it without the blank: `{number}{}`", unit.trim()));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return refuse(match text.parse::<u128>() {
                Ok(bytes) if bytes >= 1 << 20 => {
                    format!("it needs its unit; if bytes are meant, write `{}Mi`", bytes.div_ceil(1 << 20))
                }
                _ => format!("it needs its unit; if gibibytes are meant, write `{text}Gi`"),
            });
        }
        let split = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(split);
        let multiplier: u128 = match unit {
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "Pi" => 1 << 50,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "P" => 1_000_000_000_000_000,
            _ => {
                let meant = match unit.to_ascii_lowercase().as_str() {
                    "mb" | "mib" | "mi" => "Mi",
                    "gb" | "gib" | "gi" | "g" => "Gi",
                    "tb" | "tib" | "ti" | "t" => "Ti",
                    _ => return refuse(general),
                };
                return refuse(format!("Kubernetes reads this one; in its units that is `{number}{meant}`"));
            }
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // bounds that keep the arithmetic exact: 10^12 units, nine decimals
        if whole.is_empty()
            || whole.len() > 12
            || fraction.is_empty()
            || fraction.len() > 9
            || fraction.contains('.')
        {
            return refuse(general);
        }
        let (Ok(integer), Ok(decimals)) = (whole.parse::<u128>(), fraction.parse::<u128>()) else {
            return refuse(general);
        };
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let scaled = (integer * scale + decimals) * multiplier;
        if !scaled.is_multiple_of(scale) {
            return refuse("it must be whole bytes; write it in a smaller unit".to_owned());
        }
        match scaled / scale {
            0 => refuse("it must be more than nothing, such as `10Gi`".to_owned()),
            bytes if bytes > i64::MAX as u128 => refuse("Kubernetes takes less than `8192Pi`".to_owned()),
            bytes => Ok(Self { text: text.to_owned(), bytes }),
        }
    }
}

impl Value for Quantity {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        read_size(node, problems)
    }
}
