//! Certificates, as they stand in a config: in PEM, and nothing secret beside them.

use super::{FromText, Refusal, Value, checked_text, named, read_text};
use crate::diagnostic::{Code, Problems};
use crate::node::Node;
use base64::Engine as _;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

checked_text!(
    /// The certificates of one or more CAs.
    Certificates,
    "certificates in PEM",
    "-----BEGIN CERTIFICATE-----",
    |text| {
        let help = "paste the whole certificate of the CA below `ca: |`, from its line `BEGIN CERTIFICATE` to `END CERTIFICATE`";
        let holds_key = |text| bodies(text).is_ok_and(|bodies| bodies.iter().any(|lines| is_key(lines)));
        if text.contains("PRIVATE KEY") || holds_key(text) {
            return Err(Refusal::new(Code::SecretInConfig, "this is a private key, which nobody else should ever see", help).of_secret());
        }
        let fault = bodies(text).err();
        named(text.lines().next().unwrap_or_default(), Code::NotACertificate, "the certificate of a CA", fault, help)
    }
);

impl Certificates {
    /// The certificates alone, without what people write between them.
    pub fn pem(&self) -> String {
        let bodies = bodies(self.as_str()).unwrap_or_default();
        bodies.into_iter().map(|body| format!("{BEGIN}\n{}\n{END}\n", body.join("\n"))).collect()
    }
}

/// The lines of base64 of each certificate.
fn bodies(text: &str) -> Result<Vec<Vec<&str>>, String> {
    let mut bodies = Vec::new();
    let mut body: Option<Vec<&str>> = None;
    for line in text.lines().map(str::trim) {
        match (line, &mut body) {
            (BEGIN, None) => body = Some(Vec::new()),
            (END, Some(_)) => bodies.extend(body.take()),
            (BEGIN | END, _) => return Err("the lines `BEGIN` and `END` do not take turns".to_owned()),
            (line, Some(lines)) if !line.is_empty() => lines.push(line),
            _ => {}
        }
    }
    if body.is_some() {
        return Err("the line `END CERTIFICATE` is missing".to_owned());
    }
    if bodies.is_empty() {
        return Err("there is no line `BEGIN CERTIFICATE`".to_owned());
    }
    match bodies.iter().find(|lines| !is_certificate(lines)) {
        Some(_) => Err("what stands between `BEGIN` and `END` is cut short, or not base64".to_owned()),
        None => Ok(bodies),
    }
}

/// Whether it is one SEQUENCE of ASN.1, from its beginning to its end.
fn is_certificate(lines: &[&str]) -> bool {
    content(lines).is_some()
}

/// Whether it is a private key between lines that are not its own: those begin with the number of their version.
fn is_key(lines: &[&str]) -> bool {
    const INTEGER: u8 = 2;
    content(lines).is_some_and(|content| content.first() == Some(&INTEGER))
}

/// What is in such a SEQUENCE.
fn content(lines: &[&str]) -> Option<Vec<u8>> {
    let der = base64::engine::general_purpose::STANDARD.decode(lines.concat()).ok()?;
    let (&0x30, [first, rest @ ..]) = der.split_first()? else { return None };
    let (length, content) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        long => {
            let count = long - 0x80;
            let (digits, content) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), content)
        }
    };
    (content.len() == length).then(|| content.to_vec())
}
