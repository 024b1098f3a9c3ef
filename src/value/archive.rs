//! Where an archive lies, when it is looked after, and what is taken out of it.

use super::names::label_fault;
use super::network::{family_of_address, host_fault};
use super::{FromText, IpFamily, Refusal, Value, checked_text, named, read_text, shortened};
use crate::diagnostic::{Code, Problems};
use crate::node::Node;

checked_text!(
    /// The address of a store that speaks S3. Only over TLS: pgBackRest knows nothing else, and the database would go out in
    /// clear.
    StoreUrl,
    "the URL of a store",
    "https://s3.example.com:9000",
    |text| {
        if text.contains(['@', '?']) {
            return Err(Refusal::new(
                Code::SecretInConfig,
                "the URL holds keys or a password, which would stand readable in the bundle",
                "write the host and its port alone, such as `https://s3.example.com:9000`; the keys are in the Secret that `existing-secret` names",
            )
            .of_secret());
        }
        let fault = match text.strip_prefix("https://") {
            None => Some("it does not begin with `https://`".to_owned()),
            Some(rest) => store_fault(rest.strip_suffix('/').unwrap_or(rest)),
        };
        named(
            text,
            Code::NotAStoreUrl,
            "the URL of a store",
            fault,
            "write it like `https://s3.example.com:9000`; the bucket and the prefix have keys of their own",
        )
    }
);

fn store_fault(authority: &str) -> Option<String> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    if authority.starts_with('[') {
        return Some("not each tool takes an IPv6 address there: the host needs a name".to_owned());
    }
    if port.starts_with(['0', '+']) || port.parse::<u16>().is_err() {
        return Some("it is not `https://host:port`".to_owned());
    }
    host_fault(host).map(|fault| format!("it is not `https://host:port`: `{}`: {fault}", shortened(host)))
}

impl StoreUrl {
    /// The family of its host, where that is an address.
    pub fn family(&self) -> Option<IpFamily> {
        family_of_address(self.host_and_port().0)
    }

    /// Its host and its port.
    pub fn host_and_port(&self) -> (&str, &str) {
        let rest = self.as_str().trim_start_matches("https://").trim_end_matches('/');
        rest.rsplit_once(':').unwrap_or((rest, "443"))
    }
}

checked_text!(
    /// A bucket, by the rules of S3.
    BucketName,
    "the name of a bucket",
    "database-archive",
    |text| {
        let fault = if text.len() < 3 || text.len() > 63 {
            Some(format!("it has {} characters, 3 to 63 are allowed", text.len()))
        } else if text.parse::<std::net::IpAddr>().is_ok() {
            Some("it looks like an address".to_owned())
        } else {
            text.split('.').find_map(|label| label_fault(label, 63))
        };
        named(text, Code::NotAName, "the name of a bucket", fault, "use lower-case letters, digits, hyphens and dots, 3 to 63 of them")
    }
);

checked_text!(
    /// A region of a store.
    RegionName,
    "a region",
    "eu-central-1",
    |text| named(text, Code::NotAName, "a region", label_fault(text, 63), "use up to 63 lower-case letters, digits and hyphens")
);

checked_text!(
    /// The part of a bucket, or of a file system, that one lab's archive is: a path without slashes at its ends.
    ArchivePrefix,
    "a prefix",
    "labs/db",
    |text| {
        let is_fine = |part: &str| {
            let mut characters = part.chars();
            characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
                && characters.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let fault = if text.len() > 200 {
            Some(format!("it has {} characters, 200 are allowed", text.len()))
        } else {
            let wrong = text.split('/').find(|part| !is_fine(part));
            wrong.map(|part| match part {
                "" => "it is empty, or begins or ends with a slash, or has two in a row".to_owned(),
                part => format!("`{}` is no part of one", shortened(part)),
            })
        };
        named(text, Code::NotAName, "a prefix", fault, "use letters, digits, `-`, `_` and `.`, in parts with slashes between them: `labs/db`")
    }
);

impl ArchivePrefix {
    /// Whether one of the two holds the other.
    pub fn meets(one: &str, other: &str) -> bool {
        let holds = |outer: &str, inner: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        holds(one, other) || holds(other, one)
    }
}

/// The longest path that NFS mounts (MNTPATHLEN).
const LONGEST_EXPORT: usize = 1024;

checked_text!(
    /// What an NFS server exports: `server:/path`.
    NfsExport,
    "an NFS export",
    "nfs.example.com:/srv/archive",
    |text| {
        let fault = match text.split_once(":/") {
            None => Some("it is not `server:/path`".to_owned()),
            Some((_, path)) if path.starts_with('/') => Some("it has a scheme, or two slashes in a row".to_owned()),
            Some((_, path)) if path.len() >= LONGEST_EXPORT => {
                Some(format!("its path has {} characters, {LONGEST_EXPORT} are allowed", path.len() + 1))
            }
            Some((server, path)) => {
                let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
                let wrong = path.chars().find(|c| !is_fine(*c));
                let is_ipv6 = server.contains(':').then(|| "an IPv6 address is not supported".to_owned());
                if let Some(fault) = is_ipv6.or_else(|| host_fault(server)) {
                    Some(format!("`{}` is not a server: {fault}", shortened(server)))
                } else if path.split('/').any(|part| part == ".." || part == ".") {
                    Some("its path has a part `.` or `..`".to_owned())
                } else {
                    wrong.map(|c| format!("`{}` is not allowed in its path", c.escape_debug()))
                }
            }
        };
        named(text, Code::NotAnExport, "an NFS export", fault, "write it like `nfs.example.com:/srv/archive`: the server, and the path that it exports")
    }
);

impl NfsExport {
    /// The family of its server, where that is an address.
    pub fn family(&self) -> Option<IpFamily> {
        self.as_str().split_once(":/").and_then(|(server, _)| family_of_address(server))
    }
}

checked_text!(
    /// Times as systemd's timers have them (`OnCalendar=`).
    Calendar,
    "times of a calendar",
    "daily",
    |text| named(
        text,
        Code::NotACalendar,
        "times of a calendar",
        calendar_fault(text),
        "write `hourly`, `daily`, `weekly`, or a time as systemd has it: `Sun 03:00`, `*-*-* 00/6:00`",
    )
);

const RHYTHMS: [&str; 7] = ["hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly"];

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The part of systemd.time(7) that people write, of what comes again: `[weekdays] [[*-]month-day] [hour:minute[:second]]
/// [UTC]`.
fn calendar_fault(text: &str) -> Option<String> {
    let mut words: Vec<&str> = text.split(' ').collect();
    if words.last() == Some(&"UTC") && words.len() > 1 {
        words.pop();
    }
    if let [word] = words[..]
        && RHYTHMS.contains(&word)
    {
        return None;
    }
    let day = |word: &str| {
        let word = word.to_ascii_lowercase();
        DAYS.iter().position(|day| *day == word || day[..3] == word)
    };
    // a range does not go beyond Sunday
    let are_days = |word: &str| {
        word.split(',').all(|part| match part.split_once("..") {
            Some((first, last)) => day(first).zip(day(last)).is_some_and(|(first, last)| first <= last),
            None => day(part).is_some(),
        })
    };
    let mut rest = &words[..];
    let mut has_any = false;
    if let [first, more @ ..] = rest
        && are_days(first)
    {
        (rest, has_any) = (more, true);
    }
    if let [first, more @ ..] = rest
        && first.contains('-')
    {
        if let Some(fault) = date_fault(first) {
            return Some(fault);
        }
        (rest, has_any) = (more, true);
    }
    if let [first, more @ ..] = rest
        && first.contains(':')
    {
        let parts: Vec<&str> = first.split(':').collect();
        let bounds = [(0, 23), (0, 59), (0, 59)];
        if parts.len() > 3 || !parts.iter().zip(bounds).all(|(part, bounds)| numbers(part, bounds).is_some())
        {
            return Some(not_one_of(first, "a time of day"));
        }
        (rest, has_any) = (more, true);
    }
    match rest {
        [] if has_any => None,
        [] | [""] => Some("it is empty".to_owned()),
        [word, ..] => Some(format!("`{}` is no part of one", shortened(word))),
    }
}

/// `month-day` or `*-month-day`, on a day that there is.
fn date_fault(text: &str) -> Option<String> {
    const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let parts: Vec<&str> = text.split('-').collect();
    let (year, month, day) = match parts[..] {
        [month, day] => ("*", month, day),
        [year, month, day] => (year, month, day),
        _ => return Some(not_one_of(text, "a date")),
    };
    if year != "*" {
        return Some(format!("`{}` is no `*`, and what names a year comes to an end", shortened(year)));
    }
    let (Some(months), Some(days)) = (numbers(month, (1, 12)), numbers(day, (1, 31))) else {
        return Some(not_one_of(text, "a date"));
    };
    let first = days.into_iter().min().unwrap_or(1);
    let is_there = |month: u32| LONGEST.get(month as usize - 1).is_some_and(|longest| first <= *longest);
    (!months.into_iter().any(is_there)).then(|| format!("`{}` is on no day of the year", shortened(text)))
}

/// A word that is not what it seems to be. People who know cron write a step behind a `*`.
fn not_one_of(text: &str, what: &str) -> String {
    let hint = if text.contains("*/") { ": a step begins at a number, as in `0/6`" } else { "" };
    format!("`{}` is not {what}{hint}", shortened(text))
}

/// The numbers of `*`, or of a list of numbers, ranges `1..5` and steps `0/15`. As in systemd, a step does not go beyond the
/// end at once, and a `*` stands alone.
fn numbers(text: &str, (least, most): (u32, u32)) -> Option<Vec<u32>> {
    if text == "*" {
        return Some((least..=most).collect());
    }
    let number = |text: &str| {
        let is_digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let within = |text: &str| number(text).filter(|number| (least..=most).contains(number));
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (start, end) = range.split_once("..").map_or((range, None), |(start, end)| (start, Some(end)));
        let (start, end) = (within(start)?, end.map(within));
        if end.is_none() && step.is_none() {
            all.push(start);
            continue;
        }
        let step = step.map_or(Some(1), number).filter(|step| *step > 0)?;
        let end = end.unwrap_or(Some(most))?;
        if start + step > end {
            return None;
        }
        all.extend((start..=end).step_by(step as usize));
    }
    Some(all)
}

checked_text!(
    /// A moment, with its zone.
    Moment,
    "a moment",
    "2026-01-31 12:00:00+00",
    |text| {
        let fault = moment_fault(text).then(|| "it is not a date, a time of day and a zone".to_owned());
        named(text, Code::NotAMoment, "a moment", fault, "write it like `2026-01-31 12:00:00+00`, with the zone as hours from UTC")
    }
);

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` and `Z` or `±HH[[:]MM]`, as PostgreSQL reads it.
fn moment_fault(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>, least: u32, most: u32| {
        let digits = text.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits
            .and_then(|digits| digits.parse().ok())
            .is_some_and(|number: u32| (least..=most).contains(&number))
    };
    let is = |at: usize, characters: &str| {
        text.as_bytes().get(at).is_some_and(|byte| characters.as_bytes().contains(byte))
    };
    let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = |year: u32, month: u32| match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let parsed =
        |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let is_date = number(0..4, 2000, 9999)
        && is(4, "-")
        && number(5..7, 1, 12)
        && is(7, "-")
        && number(8..10, 1, days(parsed(0..4), parsed(5..7)));
    let is_time = is(10, " T")
        && number(11..13, 0, 23)
        && is(13, ":")
        && number(14..16, 0, 59)
        && is(16, ":")
        && number(17..19, 0, 59);
    if !is_date || !is_time {
        return true;
    }
    let mut rest = &text[19..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if !(1..=6).contains(&end) {
            return true;
        }
        rest = &fraction[end..];
    }
    if rest == "Z" {
        return false;
    }
    let Some(zone) = rest.strip_prefix(['+', '-']) else { return true };
    let digits = zone.replace(':', "");
    let is_form = matches!((zone.len(), zone.find(':')), (2 | 4, None) | (5, Some(2)));
    !(is_form
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits[..2].parse::<u32>().is_ok_and(|hours| hours <= 15)
        && (digits.len() == 2 || digits[2..].parse::<u32>().is_ok_and(|minutes| minutes <= 59)))
}

checked_text!(
    /// A position in the WAL.
    WalPosition,
    "a position in the WAL",
    "1/4F000028",
    |text| {
        let is_half = |half: &str| (1..=8).contains(&half.len()) && half.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_one = text.split_once('/').is_some_and(|(high, low)| is_half(high) && is_half(low));
        let fault = if !is_one {
            Some("it is not two hexadecimal numbers with a slash between them".to_owned())
        } else {
            // InvalidXLogRecPtr
            text.bytes().all(|byte| matches!(byte, b'0' | b'/')).then(|| "no WAL is there".to_owned())
        };
        named(text, Code::NotAWalPosition, "a position in the WAL", fault, "write it like `1/4F000028`, as PostgreSQL does")
    }
);

checked_text!(
    /// A restore point (`pg_create_restore_point`).
    RestorePoint,
    "a restore point",
    "before-the-upgrade",
    |text| {
        let fault = if text.is_empty() || text.len() > 63 {
            Some(format!("it has {} bytes, 1 to 63 are allowed", text.len()))
        } else {
            text.chars().find(|c| c.is_control()).map(|c| format!("`{}` is not allowed", c.escape_unicode()))
        };
        named(text, Code::NotAName, "a restore point", fault, "use up to 63 characters: the name that `pg_create_restore_point` was given")
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_are_those_of_systemd() {
        for fine in [
            "daily",
            "hourly",
            "Sun 03:00",
            "*-*-* 00/6:00",
            "Mon..Fri 02:30:00",
            "Mon,Wed,Sun",
            "*-*-1 04:00",
            "12-24 18:00 UTC",
            "*-2-29",
            "*-2,3-31",
            "*-*-01..07/3 2..4:00",
            "00:00",
            "*:0/15",
            "*-1,7-01",
            "weekly UTC",
        ] {
            assert_eq!(calendar_fault(fine), None, "{fine}");
        }
        for wrong in [
            "",
            " ",
            "UTC",
            "often",
            "Sunday3:00",
            "25:00",
            "*-13-*",
            "3:60",
            "Sun  03:00",
            "daily\nExecStart=x",
            "0/0:00",
            "5..2:00",
            "%i",
            "daily weekly",
            "1-2-3-4",
            "*:*:*:*",
            // systemd reads none of these
            "Fri..Mon",
            "Mon..Tue..Wed",
            "*/6:00",
            "*-*-*/2",
            "*,3:00",
            "*-1/12-8",
            "0/23:56/37",
            "5..5:00",
            // nor do these come again
            "2026-12-24 18:00 UTC",
            "2026..2030-*-1",
            "*-02-30",
            "*-4,6-31",
        ] {
            assert!(calendar_fault(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn moments_have_a_zone_and_are_in_the_calendar() {
        for fine in [
            "2026-01-31 12:00:00+00",
            "2028-02-29T23:59:59.123456Z",
            "2026-12-01 00:00:00-05:30",
            "2026-12-01 00:00:00+0530",
        ] {
            assert!(!moment_fault(fine), "{fine}");
        }
        for wrong in [
            "2026-01-31 12:00:00",
            "2026-02-29 12:00:00Z",
            "2026-01-31",
            "yesterday",
            "2026-01-31 24:00:00Z",
            "2026-01-31 12:00:00 UTC",
            "2026-01-31 12:00:00+16",
            "2026-01-31 12:00:00.Z",
            "2026-01-31 12:00:00+0",
            "é026-01-31 12:00:00Z",
        ] {
            assert!(moment_fault(wrong), "{wrong}");
        }
    }

    #[test]
    fn prefixes_meet_where_one_holds_the_other() {
        assert!(
            ArchivePrefix::meets("a/b", "a/b")
                && ArchivePrefix::meets("a", "a/b")
                && ArchivePrefix::meets("a/b", "a")
        );
        assert!(!ArchivePrefix::meets("a", "ab") && !ArchivePrefix::meets("a/b", "a/c"));
    }
}
