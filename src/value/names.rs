//! Names of Kubernetes objects, labels and users.

use super::{FromText, Refusal, Value, checked_text, named, read_text};
use crate::diagnostic::{Code, Problems};
use crate::node::{Node, NodeValue, plain};

/// Letters, digits and inner hyphens, lower case: RFC 1123. `None` when it is fine.
pub(super) fn label_fault(text: &str, longest: usize) -> Option<String> {
    if text.is_empty() {
        Some("it is empty".to_owned())
    } else if text.len() > longest {
        Some(format!("it has {} characters, {longest} are allowed", text.len()))
    } else if let Some(c) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some(format!("`{}` is not allowed", c.escape_debug()))
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("it begins or ends with a hyphen".to_owned())
    } else {
        None
    }
}

pub(super) fn subdomain_fault(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some(format!("it has {} characters, 253 are allowed", text.len()));
    }
    text.split('.').find_map(|label| label_fault(label, 253))
}

/// 63 characters without `-replica-0-data`.
const LONGEST_LAB_NAME: usize = 48;

checked_text!(
    /// The prefix of every object's name: a DNS-1035 label, because Services and host names are made of it.
    LabName,
    "a name",
    "database-lab",
    |text| {
        let fault = label_fault(text, LONGEST_LAB_NAME)
            .or_else(|| text.starts_with(|c: char| c.is_ascii_digit()).then(|| "it begins with a digit".to_owned()));
        named(text, Code::NotAName, "a name for a lab", fault, "use up to 48 lower-case letters, digits and hyphens, beginning with a letter: objects are called `<name>-replica-0-data`")
    }
);

checked_text!(
    /// A node of a manual lab, by what it was made as: `primary-0`, or `replica-` and its number.
    NodeName,
    "a node",
    "replica-0",
    |text| {
        let number = text.strip_prefix("replica-");
        // whether there are so many is for the plan to say
        let is_number = |number: &str| {
            let has_digits_only = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            has_digits_only && (number == "0" || !number.starts_with('0'))
        };
        let fault = (text != "primary-0" && !number.is_some_and(is_number))
            .then(|| "it is neither `primary-0` nor `replica-` and a number".to_owned());
        named(text, Code::NotAName, "a node", fault, "write `primary-0`, or `replica-0` for the VM `<name>-replica-0`")
    }
);

checked_text!(
    /// A namespace: a DNS-1123 label.
    Namespace,
    "a namespace",
    "databases",
    |text| named(text, Code::NotAName, "a namespace", label_fault(text, 63), "use up to 63 lower-case letters, digits and hyphens")
);

checked_text!(
    /// A domain of DNS, without a final dot.
    DomainName,
    "a domain name",
    "lab.svc.cluster.local",
    |text| named(text, Code::NotAName, "a domain name", subdomain_fault(text), "use lower-case letters, digits and hyphens, in parts with dots between them: `lab.svc.cluster.local`")
);

checked_text!(
    /// The name of an object that the bundle refers to: a DNS-1123 subdomain.
    ObjectName,
    "the name of an object",
    "fast-storage",
    |text| named(
        text,
        Code::NotAName,
        "the name of a Kubernetes object",
        subdomain_fault(text),
        "use lower-case letters, digits, hyphens and dots"
    )
);

/// Whether it is what people keep in a Secret: an access key of AWS, or base64 of some length. Names of keys are words.
fn looks_secret(text: &str) -> bool {
    let has = |is: fn(&char) -> bool| text.chars().any(|c| is(&c));
    let is_access_key = text.len() == 20
        && (text.starts_with("AKIA") || text.starts_with("ASIA"))
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let is_random = text.len() >= 32
        && has(char::is_ascii_digit)
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase)
        && !text.contains(['-', '_', '.']);
    is_access_key || is_random
}

checked_text!(
    /// A key of a Secret's data, which is also a file name on the guest's credentials disk.
    SecretKey,
    "a key of a Secret",
    "replication-password",
    |text| {
        if looks_secret(text) {
            return Err(Refusal::new(
                Code::SecretInConfig,
                "this looks like a secret itself, and not like the name under which the Secret holds it",
                "put it into the Secret, and use letters, digits, `-`, `_` and `.` for its name",
            )
            .of_secret());
        }
        let fault = if text.is_empty() || text.len() > 253 {
            Some(format!("it has {} characters, 1 to 253 are allowed", text.len()))
        } else if text == "." || text.starts_with("..") {
            Some("it begins with two dots, or is one".to_owned())
        } else {
            text.chars()
                .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.'))
                .map(|c| format!("`{}` is not allowed", c.escape_debug()))
        };
        named(text, Code::NotAName, "a key of a Secret", fault, "use letters, digits, `-`, `_` and `.`")
    }
);

/// A certificate's common name ends at 64 characters, and begins with `klio@`.
const LONGEST_CLUSTER_NAME: usize = 59;

checked_text!(
    /// The name of a PostgreSQL cluster in Klio, which is a directory of the server and part of a certificate's name.
    ClusterName,
    "the name of a cluster",
    "benchmark",
    |text| {
        let edge = |c: char| c.is_ascii_alphanumeric();
        let fault = if text.is_empty() || text.len() > LONGEST_CLUSTER_NAME {
            Some(format!("it has {} characters, 1 to {LONGEST_CLUSTER_NAME} are allowed", text.len()))
        } else if let Some(c) = text.chars().find(|c| !edge(*c) && !matches!(c, '-' | '_' | '.')) {
            Some(format!("`{}` is not allowed", c.escape_debug()))
        } else {
            (!text.starts_with(edge)).then(|| "it must begin with a letter or digit".to_owned())
        };
        let help = "use up to 59 letters, digits, `-`, `_` and `.`";
        named(text, Code::NotAName, "the name of a cluster", fault, help)
    }
);

/// The part of a label or annotation key after the prefix, and label values.
fn qualified_part_fault(text: &str) -> Option<String> {
    let edge = |c: char| c.is_ascii_alphanumeric();
    if text.len() > 63 {
        Some(format!("it has {} characters, 63 are allowed", text.len()))
    } else if let Some(c) = text.chars().find(|c| !edge(*c) && !matches!(c, '-' | '_' | '.')) {
        Some(format!("`{}` is not allowed", c.escape_debug()))
    } else if !text.starts_with(edge) || !text.ends_with(edge) {
        Some("it must begin and end with a letter or digit".to_owned())
    } else {
        None
    }
}

fn qualified_name_fault(text: &str) -> Option<String> {
    let Some((prefix, name)) = text.split_once('/') else {
        return if text.is_empty() { Some("it is empty".to_owned()) } else { qualified_part_fault(text) };
    };
    if prefix.is_empty() {
        return Some("the prefix before `/` is empty".to_owned());
    }
    if name.is_empty() {
        return Some("there is no name after `/`".to_owned());
    }
    let prefix =
        subdomain_fault(prefix).map(|fault| format!("{fault} before `/`, which is a DNS name in lower case"));
    prefix.or_else(|| qualified_part_fault(name))
}

const QUALIFIED_NAME_HELP: &str = "write `name` or `example.com/name` with letters, digits, `-`, `_` and `.`";

checked_text!(
    /// The key of a label, node label or taint: an optional DNS prefix and a name.
    LabelKey,
    "a label key",
    "example.com/team",
    |text| named(text, Code::NotALabel, "a label key", qualified_name_fault(text), QUALIFIED_NAME_HELP)
);

checked_text!(
    /// The key of an annotation.
    AnnotationKey,
    "an annotation key",
    "example.com/owner",
    |text| {
        let (code, what) = (Code::NotAnAnnotation, "an annotation key");
        named(text, code, what, qualified_name_fault(&text.to_ascii_lowercase()), QUALIFIED_NAME_HELP)?;
        let fault = is_no_text_bare(text).then(|| "kustomize would not read it as text".to_owned());
        named(text, code, what, fault, &format!("write `example.com/{text}`"))
    }
);

/// Whether a text is a number, a date, a boolean or null where it stands bare. kustomize loses the quotes of annotation
/// keys, and then stops at `123: x`.
fn is_no_text_bare(text: &str) -> bool {
    let digits = text.replace('_', "");
    // Go reads the letter of a radix in either case
    let lower = digits.to_ascii_lowercase();
    let of = |text: &str, digit: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(digit);
    let is_binary = lower.strip_prefix("0b").is_some_and(|bits| of(bits, |b| matches!(b, b'0' | b'1')));
    let is_date = text.split('-').count() == 3 && text.split('-').all(|part| of(part, u8::is_ascii_digit));
    let is_no_text = |text: &str| !matches!(plain(text), NodeValue::Text(_));
    is_binary
        || is_date
        || [text, &digits].into_iter().any(is_no_text)
        || digits.starts_with('0') && is_no_text(&lower)
}

checked_text!(
    /// The value of an annotation: any text that arrives as it is.
    AnnotationValue,
    "text",
    "Storage team",
    |text| {
        let fault = text.chars().find_map(|c| match c {
            '\u{85}' => Some("the API server reads `\\u{85}` as a blank".to_owned()),
            // what the reader of sigs.k8s.io/yaml refuses, which takes every server-side apply; all others pass
            '\x7f'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                Some(format!("the API server refuses `{}`", c.escape_unicode()))
            }
            _ => None,
        });
        named(text, Code::NotAnAnnotation, "the value of an annotation", fault, "remove that character")
    }
);

checked_text!(
    /// The value of a label.
    LabelValue,
    "a label value",
    "storage-team",
    |text| {
        let fault = if text.is_empty() { None } else { qualified_part_fault(text) };
        named(text, Code::NotALabel, "a label value", fault, "use up to 63 letters, digits, `-`, `_` and `.`")
    }
);

checked_text!(
    /// The name of a package, as the guest's package manager takes it.
    PackageName,
    "a package name",
    "sysstat",
    |text| {
        let word = |c: char| c.is_ascii_alphanumeric();
        let fault = if !text.starts_with(word) || text.len() > 128 {
            Some("it must begin with a letter or digit".to_owned())
        } else {
            text.chars()
                .find(|c| !word(*c) && !matches!(c, '.' | '+' | '-' | '_' | ':' | '~'))
                .map(|c| format!("`{}` is not allowed", c.escape_debug()))
        };
        named(text, Code::NotAName, "a package name", fault, "name one package in each item, without options or versions")
    }
);

checked_text!(
    /// The name of a user in the guest.
    UserName,
    "a user name",
    "lab",
    |text| {
        let fault = if matches!(text, "root" | "postgres") {
            Some("it is a system user".to_owned())
        } else if text.is_empty() || text.len() > 32 {
            Some(format!("it has {} characters, 1 to 32 are allowed", text.len()))
        } else if !text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            || !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        {
            Some("a user name is lower-case letters, digits, `_` and `-`, beginning with a letter".to_owned())
        } else {
            None
        };
        named(text, Code::NotAName, "a user name", fault, "choose a name such as `lab`")
    }
);
