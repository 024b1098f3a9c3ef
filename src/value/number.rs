//! Numbers as PostgreSQL reads them: `parse_int`, `parse_real` and `convert_to_base_unit` of guc.c.

/// What a number of a setting counts when it is written without a unit, and the units it may be written in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// `kB`, `8kB`, `ms` and so on.
    name: &'static str,
    /// What it is worth in the smallest unit of its kind, a byte or a microsecond.
    worth: f64,
    /// All of the kind, the largest first.
    family: &'static [(&'static str, f64)],
}

const SIZES: [(&str, f64); 5] =
    [("TB", 1_099_511_627_776.0), ("GB", 1_073_741_824.0), ("MB", 1_048_576.0), ("kB", 1024.0), ("B", 1.0)];
const TIMES: [(&str, f64); 6] = [
    ("d", 86_400_000_000.0),
    ("h", 3_600_000_000.0),
    ("min", 60_000_000.0),
    ("s", 1_000_000.0),
    ("ms", 1000.0),
    ("us", 1.0),
];

/// PostgreSQL looks no further for the end of a unit.
const LONGEST_UNIT: usize = 3;

impl Unit {
    /// The unit of that name in pg_settings.
    pub fn named(name: &'static str) -> Option<Self> {
        let is_size = name.ends_with('B');
        let family: &'static [_] = if is_size { &SIZES } else { &TIMES };
        let worth = match name {
            "8kB" => 8.0 * 1024.0,
            _ => family.iter().find(|(unit, _)| *unit == name)?.1,
        };
        Some(Self { name, worth, family })
    }

    /// What a bare number counts.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The units it may be written in, the smallest first.
    pub fn names(self) -> Vec<&'static str> {
        self.family.iter().rev().map(|(unit, _)| *unit).collect()
    }

    /// A count of this unit in the largest one that it fills.
    pub fn write(self, count: f64) -> String {
        let amount = count * self.worth;
        let fits = |(_, worth): &&(&str, f64)| amount >= *worth && amount % worth == 0.0;
        match self.family.iter().find(fits) {
            Some((unit, worth)) => format!("{}{unit}", amount / worth),
            // 0, and -1 for a special meaning
            None => count.to_string(),
        }
    }

    /// A fraction is rounded to whole ones of the next smaller unit.
    fn convert(self, number: f64, unit: &str) -> Option<f64> {
        let at = self.family.iter().position(|(name, _)| *name == unit)?;
        let count = number * (self.family[at].1 / self.worth);
        Some(match self.family.get(at + 1) {
            Some((_, worth)) => {
                let next = worth / self.worth;
                (count / next).round_ties_even() * next
            }
            None => count,
        })
    }

    /// The unit that somebody means who writes `typed`.
    pub fn meant(self, typed: &str) -> Option<&'static str> {
        let lower = typed.to_ascii_lowercase();
        let stem =
            if self.family == SIZES { lower.trim_end_matches("ib") } else { lower.trim_end_matches('s') };
        Some(match (self.family == SIZES, stem) {
            (true, "b" | "byte" | "bytes") => "B",
            (true, "k" | "kb" | "ki") => "kB",
            (true, "m" | "mb" | "mi") => "MB",
            (true, "g" | "gb" | "gi") => "GB",
            (true, "t" | "tb" | "ti") => "TB",
            (false, "u" | "usec" | "microsecond") => "us",
            (false, "msec" | "milli" | "millisecond") => "ms",
            (false, "m") if lower == "ms" => "ms",
            (false, "" | "sec" | "second") => "s",
            (false, "m" | "min" | "minute") => "min",
            (false, "h" | "hr" | "hour") => "h",
            (false, "d" | "day") => "d",
            _ => return None,
        })
    }
}

/// Why PostgreSQL does not take a text as a number.
#[derive(Debug, PartialEq)]
pub enum Fault<'t> {
    /// There is no number at its start, or one beyond what a machine can hold.
    NoNumber,
    /// What follows the number is not one of its units.
    NoUnit {
        /// The number.
        number: &'t str,
        /// What follows it.
        rest: &'t str,
    },
}

/// The number that a text is to a setting: in `unit`, rounded where it must be whole.
pub fn parse<'t>(text: &'t str, unit: Option<Unit>, is_whole: bool) -> Result<f64, Fault<'t>> {
    // as parse_int does, which looks at the one character that strtol stopped at
    let start = match integer(text) {
        _ if !is_whole => real(text),
        Some((Some(number), rest)) if !rest.starts_with(['.', 'e', 'E']) => Some((number, rest)),
        None if !text.starts_with(['.', 'e', 'E']) => None,
        _ => real(text),
    };
    let (number, rest) = start.ok_or(Fault::NoNumber)?;
    let number = match (rest.trim_matches(is_space), unit) {
        ("", _) => number,
        (after, Some(unit)) => Some(after)
            .filter(|after| after.len() <= LONGEST_UNIT)
            .and_then(|after| unit.convert(number, after))
            .ok_or(Fault::NoUnit { number: text[..text.len() - rest.len()].trim(), rest: after })?,
        (after, None) => {
            return Err(Fault::NoUnit { number: text[..text.len() - rest.len()].trim(), rest: after });
        }
    };
    Ok(if is_whole { number.round_ties_even() } else { number })
}

/// `isspace` of C.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// Without blanks and sign before it: whether it is negative, and the rest.
fn signed(text: &str) -> (f64, &str) {
    let text = text.trim_start_matches(is_space);
    match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The digits at the start of a text, and the rest.
fn digits(text: &str, radix: u32) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len()))
}

/// `0x` with a digit after it.
fn hexadecimal(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    rest.starts_with(|c: char| c.is_ascii_hexdigit() || c == '.').then_some(rest)
}

/// `strtol` with base 0, so that `0x10` is 16 and `010` is 8: the number, unless it is too large, and the rest.
fn integer(text: &str) -> Option<(Option<f64>, &str)> {
    let (sign, unsigned) = signed(text);
    let (radix, start) = match hexadecimal(unsigned) {
        Some(rest) if !rest.starts_with('.') => (16, rest),
        _ if unsigned.starts_with('0') => (8, unsigned),
        _ => (10, unsigned),
    };
    let (number, rest) = digits(start, radix);
    let value = i64::from_str_radix(number, radix).ok().map(|number| sign * number as f64);
    (!number.is_empty()).then_some((value, rest))
}

/// `strtod`: decimal or hexadecimal; nothing where it overflows or underflows.
fn real(text: &str) -> Option<(f64, &str)> {
    let (sign, unsigned) = signed(text);
    let radix = if hexadecimal(unsigned).is_some() { 16 } else { 10 };
    let start = hexadecimal(unsigned).unwrap_or(unsigned);
    let (whole, rest) = digits(start, radix);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest, radix),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa_end = unsigned.len() - rest.len();
    let (exponent, rest) = exponent(rest, if radix == 16 { ['p', 'P'] } else { ['e', 'E'] });
    let number = if radix == 16 {
        let digit = |c: char| f64::from(c.to_digit(16).unwrap_or(0));
        let mantissa = whole.chars().chain(fraction.chars()).fold(0.0, |sum, c| sum * 16.0 + digit(c));
        let shift = exponent.saturating_sub(4 * i32::try_from(fraction.len()).unwrap_or(i32::MAX));
        mantissa * 2f64.powi(shift)
    } else {
        format!("{}e{exponent}", &unsigned[..mantissa_end]).parse().ok()?
    };
    let is_zero = whole.chars().chain(fraction.chars()).all(|c| c == '0');
    (is_zero || number.is_normal()).then_some((sign * number, rest))
}

/// An exponent at the start of a text, 0 if there is none, and the rest.
fn exponent(text: &str, marks: [char; 2]) -> (i32, &str) {
    let Some(after) = text.strip_prefix(marks) else { return (0, text) };
    let (is_negative, unsigned) = match after.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, after.strip_prefix('+').unwrap_or(after)),
    };
    let (number, rest) = digits(unsigned, 10);
    if number.is_empty() {
        return (0, text);
    }
    let number = number.parse().unwrap_or(i32::MAX);
    (if is_negative { -number } else { number }, rest)
}
