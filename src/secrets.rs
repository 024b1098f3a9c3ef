//! The secrets file: two passwords.

use crate::config::fields::{Field, Fields, Value};
use crate::diagnostic::{Diagnostic, Problems, Report};
use crate::node::{self, Node, NodeValue};
use crate::plan::{CLIENT_KEY, REPLICATION_KEY};
use crate::source::Source;
use crate::yaml::Yaml;

/// The two passwords of a lab.
#[derive(Clone)]
pub struct Passwords {
    /// Password of the role `replicator`.
    pub replication: String,
    /// Password of the role `pgbench`.
    pub client: String,
}

/// A password, checked for what pgpass and SQL can carry.
#[derive(Debug, Clone)]
struct Password(String);

/// libpq before PostgreSQL 14 cuts lines of a password file at 320 bytes; escapes double a character at most.
const LONGEST_PASSWORD: usize = 128;

impl Value for Password {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        // the text of a password never appears in a message
        let fault = match &node.value {
            NodeValue::Text(text) if text.is_empty() => "the password is empty",
            NodeValue::Text(text) if text.chars().any(char::is_control) => {
                "the password has a line break or control character"
            }
            NodeValue::Text(text) if text.len() > LONGEST_PASSWORD => "the password is longer than 128 bytes",
            NodeValue::Text(text) => return Some(Self(text.clone())),
            _ => "the password is not text",
        };
        problems
            .push(Diagnostic::new(node.span.start..node.span.start, fault).help(
                "write 1 to 128 bytes of text in quotes, or remove the line and gen adds a random one",
            ));
        None
    }
}

/// What a secrets file says.
pub struct SecretsFile {
    text: String,
    replication: Option<String>,
    client: Option<String>,
}

impl SecretsFile {
    /// A file that does not exist yet.
    pub fn empty() -> Self {
        Self { text: String::new(), replication: None, client: None }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// Every fault of the text; messages never show a password.
    pub fn read(source: &Source) -> Result<Self, Report> {
        let mut problems = Problems::default();
        let file = node::parse(&source.text, &mut problems).and_then(|node| {
            let mut fields = Fields::of(&node, &mut problems)?;
            let replication: Field<Password> = fields.value(REPLICATION_KEY);
            let client: Field<Password> = fields.value(CLIENT_KEY);
            fields.finish();
            let text = |field: Field<Password>| field.get().map(|password| password.0.clone());
            Some(Self { text: source.text.clone(), replication: text(replication), client: text(client) })
        });
        problems.or(&source.redacted(), file)
    }

    /// The passwords, when both are there.
    pub fn passwords(&self) -> Option<Passwords> {
        Some(Passwords { replication: self.replication.clone()?, client: self.client.clone()? })
    }

    /// The keys that are not there.
    pub fn missing(&self) -> Vec<&'static str> {
        [(REPLICATION_KEY, &self.replication), (CLIENT_KEY, &self.client)]
            .into_iter()
            .filter_map(|(key, value)| value.is_none().then_some(key))
            .collect()
    }

    /// The text with each missing password added from `draw`; what is there stays as it is.
    ///
    /// # Errors
    /// Those of `draw`.
    pub fn completed<E>(&self, mut draw: impl FnMut() -> Result<String, E>) -> Result<String, E> {
        let mut text = self.text.clone();
        if text.is_empty() {
            text.push_str("# Passwords of the lab, added by virtwork-gen. Keep this file out of Git.\n");
        } else if !text.ends_with('\n') {
            text.push('\n');
        }
        for key in self.missing() {
            Yaml::entries([(key.into(), Yaml::from(draw()?))]).write(&mut text);
        }
        Ok(text)
    }
}

impl Source {
    /// The same places with nothing left but the keys at the start of a line: a report on it shows no password,
    /// wherever the file is wrong.
    fn redacted(&self) -> Self {
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            let letters =
                line.bytes().take_while(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_')).count();
            let is_key = line[letters..].starts_with(':') && !line[letters + 1..].starts_with(|c| c > ' ');
            let (key, rest) = line.split_at(if is_key { letters + 1 } else { 0 });
            text.push_str(key);
            // as many bytes as before, so that places stay right
            text.extend(
                rest.chars().flat_map(|c| std::iter::repeat_n(if c == '\n' { c } else { '*' }, c.len_utf8())),
            );
        }
        Self { name: self.name.clone(), text }
    }
}
