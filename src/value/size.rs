//! Sizes, in PostgreSQL's units and in Kubernetes's.

use super::{FromText, Refusal, Value, shortened};
use crate::config::keys::Shape;
use crate::diagnostic::{Code, Problems};
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

    /// The size in MB, as PostgreSQL counts them.
    pub fn megabytes(self) -> u64 {
        self.mib
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

/// PostgreSQL's units of memory, each with its megabytes and those of the next smaller unit.
const PG_UNITS: [(&str, f64, Option<f64>); 5] = [
    ("TB", 1_048_576.0, Some(1024.0)),
    ("GB", 1024.0, Some(1.0)),
    ("MB", 1.0, Some(1.0 / 1024.0)),
    ("kB", 1.0 / 1024.0, Some(1.0 / 1_048_576.0)),
    ("B", 1.0 / 1_048_576.0, None),
];

/// Whole megabytes of a number in a unit, as `convert_to_base_unit` and `parse_int` (guc.c) round them: a fraction
/// first to the next smaller unit, so that `0.1TB` is `102GB`.
fn whole_megabytes(number: f64, unit: &str) -> Option<f64> {
    let (_, megabytes, smaller) = PG_UNITS.iter().find(|(name, ..)| *name == unit)?;
    let value = number * megabytes;
    Some(smaller.map_or(value, |step| (value / step).round_ties_even() * step).round_ties_even())
}

/// The number at the start of a setting, as C's `strtol` and `strtod` delimit it, and what follows.
fn leading_number(text: &str) -> (&str, &str) {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(text.starts_with(['+', '-']));
    let mut end = sign + digits(sign);
    if text[end..].starts_with('.') {
        end += 1 + digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = end + 1 + usize::from(text[end + 1..].starts_with(['+', '-']));
        if digits(sign) > 0 {
            end = sign + digits(sign);
        }
    }
    text.split_at(end)
}

impl FromText for PgSize {
    const WHAT: &'static str = "a PostgreSQL size";
    const EXAMPLE: &'static str = "256MB";
    /// Takes what PostgreSQL takes, but for a number without its unit, and octal and hexadecimal digits.
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let typed = text.trim();
        let refuse = |code, message: &str, help: String| {
            Err(Refusal::new(code, format!("`{}` {message}", shortened(typed)), help))
        };
        let malformed = |help| refuse(Code::NotAPostgresqlSize, "is not a PostgreSQL size", help);
        let out_of_bounds = |message, help| refuse(Code::OutOfBounds, message, help);
        let general = "write a number and `MB`, `GB` or `TB` (powers of 1024), such as `256MB`".to_owned();
        let (digits, rest) = leading_number(typed);
        let unit = rest.trim_start();
        let Ok(number) = digits.parse::<f64>() else { return malformed(general) };
        if number < 0.0 {
            return malformed(
                "write a size such as `2GB`: without a limit a replica that stays away would fill the disk"
                    .to_owned(),
            );
        }
        // a remedy is given only where it works
        let respelt = |reason: &str, text: String| match Self::from_text(&text) {
            Ok(_) => malformed(format!("{reason} `{text}`")),
            Err(refusal) => malformed(refusal.help),
        };
        if unit.is_empty() && number > 0.0 {
            return respelt("it needs its unit; if megabytes are meant, write", format!("{digits}MB"));
        }
        let unsigned = digits.trim_start_matches('+');
        if number > 0.0 && unsigned.starts_with('0') && unsigned.bytes().all(|b| b.is_ascii_digit()) {
            let reason = "PostgreSQL reads a leading zero as octal; in decimal digits write";
            return respelt(reason, format!("{}{unit}", unsigned.trim_start_matches('0')));
        }
        let megabytes = if unit.is_empty() { Some(0.0) } else { whole_megabytes(number, unit) };
        match megabytes {
            None => {
                let meant = match unit.to_ascii_lowercase().as_str() {
                    "k" | "ki" | "kb" | "kib" => "kB",
                    "m" | "mi" | "mb" | "mib" => "MB",
                    "g" | "gi" | "gb" | "gib" => "GB",
                    "t" | "ti" | "tb" | "tib" => "TB",
                    _ => return malformed(general),
                };
                respelt("PostgreSQL reads this one; in its units that is", format!("{digits}{meant}"))
            }
            Some(0.0) if number > 0.0 => out_of_bounds(
                "is less than a megabyte",
                "PostgreSQL counts it in megabytes; write `1MB`".to_owned(),
            ),
            Some(megabytes) if megabytes > Self::MAX_MIB as f64 => out_of_bounds(
                "is too large",
                format!("write at most `{}MB`, where PostgreSQL ends", Self::MAX_MIB),
            ),
            Some(megabytes) => Ok(Self { mib: megabytes as u64 }),
        }
    }
}

impl Value for PgSize {
    const SHAPE: Shape = Shape::Text(Self::WHAT);

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        // a bare number is told its unit like a quoted one
        read_size(node, problems, Self::WHAT, Self::EXAMPLE, Self::from_text)
    }
}

/// Reads a size, which YAML may take for text or for a number.
fn read_size<T>(
    node: &Node,
    problems: &mut Problems,
    what: &str,
    example: &str,
    parse: impl FnOnce(&str) -> Result<T, Refusal>,
) -> Option<T> {
    let refusal = match &node.value {
        NodeValue::Text(text) | NodeValue::Number(text) => match parse(text) {
            Ok(value) => return Some(value),
            Err(refusal) => refusal,
        },
        _ => Refusal::new(
            Code::WrongType,
            format!("expected {what}, found {}", node.kind()),
            format!("write it like `{example}`"),
        ),
    };
    problems.push(refusal.at(node.span.clone()));
    None
}

/// A Kubernetes quantity of bytes. Messages show it as it was written, objects in Kubernetes's own spelling.
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

    /// What a text means as a quantity of bytes, where it is one.
    pub fn bytes_of(text: &str) -> Option<u128> {
        quantity_bytes(text).ok()
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Quantity> for crate::yaml::Yaml<'_> {
    fn from(quantity: &Quantity) -> Self {
        quantity.canonical().into()
    }
}

impl Quantity {
    /// As `resource.Quantity.String()` writes it, with the largest suffix that leaves a whole number. KubeVirt stores
    /// that in place of `1024Mi`, and GitOps tools would find a difference for ever.
    fn canonical(&self) -> String {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
        let is_binary = self.text.ends_with('i') && self.bytes.is_multiple_of(1024);
        let (base, suffixes) = if is_binary { (1024, BINARY) } else { (1000, DECIMAL) };
        let (mut number, mut power) = (self.bytes, 0);
        while number.is_multiple_of(base) && power < suffixes.len() - 1 {
            number /= base;
            power += 1;
        }
        format!("{number}{}", suffixes[power])
    }
}

/// What a quantity is the size of, for the remedies: `4` of memory are gibibytes, `4096` mebibytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measured {
    Memory,
    Disk,
}

impl Measured {
    /// By the last part of the key's path.
    fn of(path: &str) -> Self {
        if path.ends_with("memory") { Self::Memory } else { Self::Disk }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Memory => "2Gi",
            Self::Disk => "10Gi",
        }
    }

    /// The unit that a person left out.
    fn left_out(self, number: u128) -> Option<&'static str> {
        let (gibibytes, mebibytes) = (Some("Gi"), Some("Mi"));
        match (self, number) {
            (_, 0) => None,
            (Self::Memory, 1..256) => gibibytes,
            // as mebibytes too little for a guest, as gibibytes more than machines have
            (Self::Memory, 256..1024) => None,
            (Self::Memory, _) => mebibytes,
            (Self::Disk, 8192..) if number.is_multiple_of(1024) || number >= 1 << 16 => mebibytes,
            (Self::Disk, _) => gibibytes,
        }
    }
}

/// Why a text is no quantity that a lab can have.
enum Unfit {
    Malformed,
    NotPositive,
    TooLarge,
}

/// The bytes of a quantity, as Kubernetes's `resource.ParseQuantity` reads it and `Value()` rounds it: up.
///
/// Numbers of more than 19 significant digits are refused, which keeps the arithmetic exact.
fn quantity_bytes(text: &str) -> Result<u128, Unfit> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = unsigned.split_at(end);
    let (mut exponent, shift): (i32, u32) = match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i16>) {
            Some(Ok(exponent)) => (exponent.into(), 0),
            _ => return Err(Unfit::Malformed),
        },
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(Unfit::Malformed);
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    exponent += (digits.len() - significant.len()) as i32 - fraction.len() as i32;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() || text.starts_with('-') {
        return Err(Unfit::NotPositive);
    }
    if significant.len() > 19 {
        return Err(Unfit::Malformed);
    }
    // below 2^64 × 2^60
    let scaled = significant.parse::<u128>().map_err(|_| Unfit::Malformed)? << shift;
    let power = 10u128.checked_pow(exponent.unsigned_abs());
    let bytes = match (exponent < 0, power) {
        (true, Some(power)) => scaled.div_ceil(power),
        (true, None) => 1,
        (false, power) => power.and_then(|power| scaled.checked_mul(power)).ok_or(Unfit::TooLarge)?,
    };
    if bytes > Quantity::MAX_BYTES { Err(Unfit::TooLarge) } else { Ok(bytes) }
}

impl Quantity {
    const WHAT: &'static str = "a Kubernetes quantity";
    /// Where ext4 ends; Kubernetes counts to 8Ei.
    const MAX_BYTES: u128 = 1 << 60;
    /// Less is a unit that was forgotten or mistaken.
    const MIN_BYTES: u128 = 1 << 20;

    fn parse(text: &str, measured: Measured) -> Result<Self, Refusal> {
        // the API server ignores blanks around a quantity; the schema's pattern does not
        let typed = text.trim();
        let example = measured.example();
        let (code, fault, help) = match quantity_bytes(typed) {
            Ok(bytes) if bytes >= Self::MIN_BYTES => return Ok(Self { text: typed.to_owned(), bytes }),
            Ok(_) => {
                let counts = if typed.ends_with('m') { "thousandths of a byte" } else { "bytes" };
                let help = match respelt(typed, measured) {
                    Some(meant) => {
                        let unit = if meant.ends_with("Mi") { "mebibytes" } else { "gibibytes" };
                        format!("it counts {counts}; if {unit} are meant, write `{meant}`")
                    }
                    None => format!("write a size such as `{example}`"),
                };
                (Code::OutOfBounds, "is less than a mebibyte", help)
            }
            Err(Unfit::NotPositive) => {
                (Code::OutOfBounds, "is no size", format!("write a size such as `{example}`"))
            }
            Err(Unfit::TooLarge) => {
                (Code::OutOfBounds, "is too large", "write at most `1Ei`, where file systems end".to_owned())
            }
            Err(Unfit::Malformed) => {
                let help = match respelt(typed, measured) {
                    Some(meant) if meant == typed.split_whitespace().collect::<String>() => {
                        format!("write it without the blank: `{meant}`")
                    }
                    Some(meant) if is_ambiguous(typed) => {
                        let decimal = meant.trim_end_matches('i');
                        format!("write `{meant}`, or `{decimal}` for powers of 1000")
                    }
                    Some(meant) => format!("Kubernetes reads this one; in its units that is `{meant}`"),
                    None => {
                        format!("write a number and `Mi`, `Gi` or `Ti` (powers of 1024), such as `{example}`")
                    }
                };
                (Code::NotAQuantity, "is not a Kubernetes quantity", help)
            }
        };
        Err(Refusal::new(code, format!("`{}` {fault}", shortened(typed)), help))
    }
}

/// Whether a unit is one that some count in powers of 1024 and others of 1000: `10GB`.
fn is_ambiguous(typed: &str) -> bool {
    let lower = typed.to_ascii_lowercase();
    ["mb", "gb", "tb", "pb"].iter().any(|unit| lower.ends_with(unit))
}

/// The quantity that a person meant by a number in other units or in none. What is below 1Gi is too small for every
/// disk and machine of a lab, so that it would be no remedy.
fn respelt(typed: &str, measured: Measured) -> Option<String> {
    let end = typed.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')).count();
    let (number, unit) = (typed[..end].replace(',', "."), typed[end..].trim().to_ascii_lowercase());
    let unit = match unit.as_str() {
        "m" | "mi" | "mb" | "mib" => "Mi",
        "g" | "gi" | "gb" | "gib" => "Gi",
        "t" | "ti" | "tb" | "tib" => "Ti",
        "p" | "pi" | "pb" | "pib" => "Pi",
        "" => measured.left_out(number.parse().ok()?)?,
        "b" | "byte" | "bytes" => "",
        _ => return None,
    };
    let meant = format!("{number}{unit}");
    quantity_bytes(&meant).is_ok_and(|bytes| bytes >= 1 << 30).then_some(meant)
}

impl Value for Quantity {
    const SHAPE: Shape = Shape::Text(Self::WHAT);

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let measured = Measured::of(&node.path);
        read_size(node, problems, Self::WHAT, measured.example(), |text| Self::parse(text, measured))
    }
}
