//! Texts that the server refuses although any text would do: the check hooks of settings that are neither numbers nor
//! words. With a value they refuse in postgresql.conf it does not start.

use super::meaning::Meaning;
use super::{Refusal, one_of, shortened};
use crate::config::fields::nearest;
use crate::diagnostic::Code;

/// What the value of a setting that is text means.
pub fn meaning(name: &str, text: &str) -> Result<Meaning, Refusal> {
    match name {
        "timezone" | "log_timezone" => return time_zone(text),
        "timezone_abbreviations" => return abbreviations(text),
        "client_encoding" => encoding(text)?,
        "search_path" | "temp_tablespaces" => list(name, text)?,
        "wal_consistency_checking" => {
            list(name, text)?;
            resource_managers(text)?;
        }
        "backtrace_functions" => functions(text)?,
        _ => {}
    }
    Ok(Meaning::Text)
}

/// The items of a list, as SplitIdentifierString finds them.
pub(super) fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(|item| {
        let item = item.trim();
        item.strip_prefix('"').and_then(|item| item.strip_suffix('"')).unwrap_or(item)
    })
}

/// SplitIdentifierString of varlena.c.
fn is_list(text: &str) -> bool {
    let is_space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    let mut rest = text.trim_start_matches(is_space);
    if rest.is_empty() {
        return true;
    }
    loop {
        rest = match rest.strip_prefix('"') {
            Some(quoted) => {
                // two quotes within quotes are one
                let mut after = quoted.split_once('"').map(|(_, after)| after);
                while let Some(inner) = after.and_then(|after| after.strip_prefix('"')) {
                    after = inner.split_once('"').map(|(_, after)| after);
                }
                let Some(after) = after else { return false };
                after
            }
            None => match rest.find(|c| c == ',' || is_space(c)).unwrap_or(rest.len()) {
                0 => return false,
                end => &rest[end..],
            },
        }
        .trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start_matches(is_space),
            None => return rest.is_empty(),
        }
    }
}

fn list(name: &str, text: &str) -> Result<(), Refusal> {
    if is_list(text) {
        return Ok(());
    }
    let names: Vec<_> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .map(|name| name.trim_matches('"'))
        .filter(|name| !name.is_empty() && !name.contains('"'))
        .collect();
    let help = if names.is_empty() {
        "remove it, or name something".to_owned()
    } else {
        format!("write `{}`", names.join(", "))
    };
    Err(Refusal::new(
        Code::SettingValueRefused,
        format!("`{name}` is a list of names with commas between them, not `{}`", shortened(text)),
        help,
    ))
}

/// Those whose pages can be compared (rmgrlist.h), and `all` of them.
const RESOURCE_MANAGERS: [&str; 11] =
    ["all", "brin", "btree", "generic", "gin", "gist", "hash", "heap", "heap2", "sequence", "spgist"];

fn resource_managers(text: &str) -> Result<(), Refusal> {
    let is_known = |name: &str| RESOURCE_MANAGERS.iter().any(|known| known.eq_ignore_ascii_case(name));
    match elements(text).find(|name| !is_known(name)) {
        Some(name) if !text.trim().is_empty() => Err(super::unknown_word(name, &RESOURCE_MANAGERS)),
        _ => Ok(()),
    }
}

/// The characters that check_backtrace_functions knows.
fn functions(text: &str) -> Result<(), Refusal> {
    let refused =
        text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ',' | ' ' | '\n' | '\t'));
    refused.map_or(Ok(()), |c| {
        Err(Refusal::new(
            Code::SettingValueRefused,
            format!("`backtrace_functions` holds names of C functions, in which `{c}` does not occur"),
            "use letters, digits and underscores, and commas between the names",
        ))
    })
}

/// Encodings by the names that messages show, then the others (encnames.c). Without `MULE_INTERNAL`, which is not made
/// of UTF-8: nobody could connect.
const ENCODINGS: [&str; 80] = [
    "BIG5",
    "EUC_CN",
    "EUC_JIS_2004",
    "EUC_JP",
    "EUC_KR",
    "EUC_TW",
    "GB18030",
    "GBK",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "JOHAB",
    "KOI8R",
    "KOI8U",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "SHIFT_JIS_2004",
    "SJIS",
    "SQL_ASCII",
    "UHC",
    "UTF8",
    "WIN866",
    "WIN874",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
    "ABC",
    "ALT",
    "ISO88591",
    "ISO88592",
    "ISO88593",
    "ISO88594",
    "ISO88599",
    "ISO885910",
    "ISO885913",
    "ISO885914",
    "ISO885915",
    "ISO885916",
    "KOI8",
    "MSKANJI",
    "SHIFTJIS",
    "TCVN",
    "TCVN5712",
    "UNICODE",
    "VSCII",
    "WIN",
    "WIN932",
    "WIN936",
    "WIN949",
    "WIN950",
    "WINDOWS866",
    "WINDOWS874",
    "WINDOWS932",
    "WINDOWS936",
    "WINDOWS949",
    "WINDOWS950",
    "WINDOWS1250",
    "WINDOWS1251",
    "WINDOWS1252",
    "WINDOWS1253",
    "WINDOWS1254",
    "WINDOWS1255",
    "WINDOWS1256",
    "WINDOWS1257",
    "WINDOWS1258",
];

fn encoding(text: &str) -> Result<(), Refusal> {
    // as pg_char_to_encoding compares
    let bare = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
    };
    let typed = bare(text);
    if ENCODINGS.iter().any(|name| bare(name) == typed) {
        return Ok(());
    }
    let message = match typed.as_str() {
        "MULEINTERNAL" => {
            "PostgreSQL does not make `MULE_INTERNAL` of UTF-8: nobody could connect".to_owned()
        }
        _ => format!("`{}` is not an encoding that PostgreSQL knows", shortened(text)),
    };
    Err(Refusal::new(
        Code::SettingValueRefused,
        message,
        match nearest(text, &ENCODINGS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write `UTF8`, or leave it out for that of the database".to_owned(),
        },
    ))
}

/// Those that come with PostgreSQL. The server reads a file of that name.
const ABBREVIATIONS: [&str; 3] = ["Default", "Australia", "India"];

fn abbreviations(text: &str) -> Result<Meaning, Refusal> {
    if ABBREVIATIONS.contains(&text) {
        Ok(Meaning::Text)
    } else if nearest(text, &ABBREVIATIONS).is_some() || !text.bytes().all(|b| b.is_ascii_alphabetic()) {
        Err(super::unknown_word(text, &ABBREVIATIONS))
    } else {
        Ok(Meaning::Abbreviations)
    }
}

/// The areas of the tz database.
const AREAS: [&str; 10] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
];

/// Areas and names that it keeps for old systems, and that some guests have in a package of their own.
const OLD_AREAS: [&str; 6] = ["Brazil", "Canada", "Chile", "Mexico", "posix", "US"];
const OLD_ZONES: [&str; 36] = [
    "CET",
    "Cuba",
    "EET",
    "Egypt",
    "Eire",
    "EST",
    "GB",
    "GB-Eire",
    "GMT+0",
    "GMT-0",
    "GMT0",
    "Greenwich",
    "Hongkong",
    "HST",
    "Iceland",
    "Iran",
    "Israel",
    "Jamaica",
    "Japan",
    "Kwajalein",
    "Libya",
    "MET",
    "MST",
    "Navajo",
    "NZ",
    "NZ-CHAT",
    "Poland",
    "Portugal",
    "PRC",
    "ROC",
    "ROK",
    "Singapore",
    "Turkey",
    "W-SU",
    "WET",
    "Zulu",
];

/// Names of UTC, below `Etc` and without it.
const UTC: [&str; 4] = ["GMT", "UCT", "Universal", "UTC"];

fn time_zone(text: &str) -> Result<Meaning, Refusal> {
    let among = |name: &str, names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let refuse = |help: String| {
        let message = format!("`{}` is not a time zone", shortened(text));
        Err(Refusal::new(Code::SettingValueRefused, message, help))
    };
    let (area, place) = text.split_once('/').unwrap_or(("", text));
    let is_etc = area.eq_ignore_ascii_case("Etc");
    if area.is_empty() || is_etc {
        if among(place, &UTC) || is_fixed(place) && !text.starts_with('/') {
            return Ok(Meaning::Text);
        }
        if !text.starts_with('/') && (among(place, &OLD_ZONES) || is_posix(place)) {
            return Ok(Meaning::TimeZone);
        }
    } else if !place.is_empty()
        && place.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'))
        && (among(area, &AREAS) || among(area, &OLD_AREAS))
    {
        return Ok(Meaning::TimeZone);
    } else if !among(area, &AREAS) && !is_etc {
        return refuse(match nearest(area, &AREAS) {
            Some(near) if !place.is_empty() => format!("did you mean `{near}/{place}`?"),
            _ => format!("the area is {}: write it like `Europe/Berlin`", one_of(&AREAS)),
        });
    }
    refuse("write `UTC`, or an area and a place such as `Europe/Berlin`".to_owned())
}

/// Hours, or a name and hours as POSIX has them: `-3.5`, `UTC+3`, `<+03>-3`, `+02:00`.
fn is_fixed(text: &str) -> bool {
    let offset = after_name(text).unwrap_or(text);
    let unsigned = offset.strip_prefix(['+', '-']).unwrap_or(offset);
    let hours = unsigned.split([':', '.']).next().unwrap_or("");
    // no more than a week
    hours.parse::<u8>().is_ok_and(|hours| hours <= 167)
        && unsigned.split([':', '.']).all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// A zone by rules: `EST5EDT`, `ABC3DEF,M3.2.0,M11.1.0`.
fn is_posix(text: &str) -> bool {
    after_name(text).is_some_and(|rest| {
        let offset = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        offset.starts_with(|c: char| c.is_ascii_digit())
            && offset.bytes().all(|b| b.is_ascii_alphanumeric() || b",./:+-<>".contains(&b))
    })
}

/// What follows the name at the start of a POSIX zone.
fn after_name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        return quoted.split_once('>').map(|(_, rest)| rest);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    (text.len() - rest.len() >= 3).then_some(rest)
}
