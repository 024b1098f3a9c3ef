//! The secrets file: two passwords, and what certificates are derived from where nodes do that.

use crate::config::fields::{Field, Fields, Value, listed};
use crate::config::keys::Shape;
use crate::diagnostic::{Code, Diagnostic, Problems, Report};
use crate::names::{CA_SEED_KEY, CLIENT_KEY, REPLICATION_KEY};
use crate::node::{self, Node, NodeValue};
use crate::plan::Plan;
use crate::source::Source;
use crate::yaml::Yaml;
use std::fmt;

/// The two passwords of a lab. There are none that pgpass or SQL cannot carry.
#[derive(Clone)]
pub struct Passwords {
    replication: Option<String>,
    client: String,
    ca_seed: Option<String>,
}

impl Passwords {
    /// The passwords of the roles `replicator` and `pgbench`.
    ///
    /// ```
    /// use virtwork_gen::Passwords;
    ///
    /// assert!(Passwords::new("replicate me", "measure me").is_ok());
    /// assert!(Passwords::new("", "measure me").is_err());
    /// ```
    ///
    /// # Errors
    /// One that is empty, longer than 128 bytes, or has a line break or control character.
    pub fn new(replication: &str, client: &str) -> Result<Self, Report> {
        let checked = |role: &str, text: &str| match Password::new(text) {
            Ok(Password(text)) => Ok(text),
            Err(fault) => {
                Err(Report::failure(Code::NotAPassword, role, format!("`{role}`: {fault}"), REMEDY))
            }
        };
        let (replication, client) = (checked(REPLICATION_KEY, replication)?, checked(CLIENT_KEY, client)?);
        Ok(Self { replication: Some(replication), client, ca_seed: None })
    }

    /// The same with what the nodes derive their certificates from.
    ///
    /// # Errors
    /// One that could be no password, or is shorter than 16 bytes.
    pub fn with_ca_seed(self, seed: &str) -> Result<Self, Report> {
        match Seed::new(seed) {
            Ok(Seed(seed)) => Ok(Self { ca_seed: Some(seed), ..self }),
            Err(fault) => Err(Report::failure(
                Code::NotAPassword,
                CA_SEED_KEY,
                format!("`{CA_SEED_KEY}`: {fault}"),
                SEED_REMEDY,
            )),
        }
    }

    /// Password of the role `replicator`, where there is one.
    pub fn replication(&self) -> Option<&str> {
        self.replication.as_deref()
    }

    /// Password of the role `pgbench`.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// What the nodes derive their certificates from, where there is something.
    pub fn ca_seed(&self) -> Option<&str> {
        self.ca_seed.as_deref()
    }

    /// Whether all are there that a plan's Secret holds.
    pub(crate) fn are_enough_for(&self, plan: &Plan) -> bool {
        (!plan.needs_replication_password() || self.replication.is_some())
            && (!plan.needs_ca_seed() || self.ca_seed.is_some())
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

/// A password, checked for what pgpass and SQL can carry.
struct Password(String);

/// libpq before PostgreSQL 14 cuts lines of a password file at 320 bytes; escapes double a character at most.
const LONGEST_PASSWORD: usize = 128;

const REMEDY: &str = "write 1 to 128 bytes of text";

impl Password {
    fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("the password is empty")
        } else if text.chars().any(char::is_control) {
            Err("the password has a line break or control character")
        } else if text.len() > LONGEST_PASSWORD {
            Err("the password is longer than 128 bytes")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl Value for Password {
    const SHAPE: Shape = Shape::Text("text of 1 to 128 bytes");

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        read(node, Self::new, "the password is not text", REMEDY, problems)
    }
}

/// What certificates are derived from: a password that nobody guesses.
struct Seed(String);

/// The guests refuse a shorter one: who guesses it has every key of the lab.
const SHORTEST_SEED: usize = 16;

const SEED_REMEDY: &str = "write 16 to 128 random bytes of text";

impl Seed {
    fn new(text: &str) -> Result<Self, &'static str> {
        if text.chars().any(char::is_control) {
            Err("the seed has a line break or control character")
        } else if text.len() > LONGEST_PASSWORD {
            Err("the seed is longer than 128 bytes")
        } else if text.trim_ascii().len() < SHORTEST_SEED {
            Err("the seed is shorter than 16 bytes, and could be guessed")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl Value for Seed {
    const SHAPE: Shape = Shape::Text("text of 16 to 128 bytes");

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        read(node, Self::new, "the seed is not text", SEED_REMEDY, problems)
    }
}

/// Reads a secret, whose text never appears in a message.
fn read<T>(
    node: &Node,
    new: impl Fn(&str) -> Result<T, &'static str>,
    no_text: &'static str,
    remedy: &str,
    problems: &mut Problems,
) -> Option<T> {
    let secret = match &node.value {
        NodeValue::Text(text) => new(text),
        _ => Err(no_text),
    };
    let report = |fault| {
        problems.push(
            Diagnostic::new(Code::NotAPassword, node.span.start..node.span.start, fault)
                .help(format!("{remedy} in quotes, or remove the line and gen adds a random one")),
        );
    };
    secret.map_err(report).ok()
}

/// The keys of a secrets file.
const KEYS: [&str; 3] = [REPLICATION_KEY, CLIENT_KEY, CA_SEED_KEY];

/// What a secrets file says.
pub struct SecretsFile {
    text: String,
    replication: Option<String>,
    client: Option<String>,
    ca_seed: Option<String>,
}

impl SecretsFile {
    /// A file that does not exist yet.
    pub fn empty() -> Self {
        Self { text: String::new(), replication: None, client: None, ca_seed: None }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// Every fault of the text; messages never show a password.
    pub fn read(source: &Source) -> Result<Self, Report> {
        let mut found = Problems::default();
        let node = node::parse(&source.text, &mut found);
        let mut problems = Problems::default();
        match &node {
            // a key that is given twice is named, and any but ours may be a password: `hunter2: hunter2`
            None => found.pop().into_iter().for_each(|fault| problems.push(of_secrets(fault))),
            Some(node) if has_known_keys_only(node) => problems = found,
            Some(_) => {}
        }
        let file = node.and_then(|node| {
            if !matches!(node.value, NodeValue::Map(_)) {
                let message = format!("expected a mapping, found {}", node.kind());
                problems.push(Diagnostic::new(Code::WrongType, node.span, message).help(LINES));
                return None;
            }
            let mut fields = Fields::of(&node, &mut problems)?;
            let text = |field: Field<Password>| field.get().map(|password| password.0.clone());
            let replication = text(fields.value(REPLICATION_KEY));
            let client = text(fields.value(CLIENT_KEY));
            let ca_seed = fields.value(CA_SEED_KEY).get().map(|seed: &Seed| seed.0.clone());
            report_unknown_keys(&node, &mut problems);
            Some(Self { text: source.text.clone(), replication, client, ca_seed })
        });
        problems.or(&source.redacted(), file)
    }

    /// The passwords, when those that a plan needs are there.
    pub fn passwords(&self, plan: &Plan) -> Option<Passwords> {
        self.missing(plan).is_empty().then_some(())?;
        let replication = self.replication.clone();
        Some(Passwords { replication, client: self.client.clone()?, ca_seed: self.ca_seed.clone() })
    }

    /// The keys that a plan needs and that are not there.
    pub fn missing(&self, plan: &Plan) -> Vec<&'static str> {
        let values = [
            (&self.replication, plan.needs_replication_password()),
            (&self.client, true),
            (&self.ca_seed, plan.needs_ca_seed()),
        ];
        let missing = |(value, is_needed): &(&Option<String>, bool)| *is_needed && value.is_none();
        let all = KEYS.into_iter().zip(values);
        all.filter_map(|(key, value)| missing(&value).then_some(key)).collect()
    }

    /// The text with each password that a plan misses added from `draw`; what is there stays as it is.
    ///
    /// # Errors
    /// Those of `draw`.
    pub fn completed<E>(
        &self,
        plan: &Plan,
        mut draw: impl FnMut() -> Result<String, E>,
    ) -> Result<String, E> {
        let mut text = self.text.clone();
        if text.is_empty() {
            text.push_str("# Passwords of the lab, added by virtwork-gen. Keep this file out of Git.\n");
        } else if !text.ends_with('\n') {
            text.push('\n');
        }
        for key in self.missing(plan) {
            Yaml::entries([(key.into(), Yaml::from(draw()?))]).write(&mut text);
        }
        Ok(text)
    }
}

/// What the lines of a secrets file look like.
const LINES: &str =
    "write `replication-password: \"password\"` and `client-password: \"password\"`, each on its line";

/// A fault of YAML in words for a secrets file, which has no example and is reviewed by nobody.
fn of_secrets(fault: Diagnostic) -> Diagnostic {
    let is_of_config = fault.help.as_ref().is_some_and(|help| help.contains("config"));
    if is_of_config { fault.help(LINES) } else { fault }
}

/// Whether every key of the text, at any depth, is one of [`KEYS`].
fn has_known_keys_only(node: &Node) -> bool {
    match &node.value {
        NodeValue::Map(entries) => {
            entries.iter().all(|(key, value)| KEYS.contains(&key.text.as_str()) && has_known_keys_only(value))
        }
        NodeValue::List(items) => items.iter().all(has_known_keys_only),
        _ => true,
    }
}

/// What stands where a key belongs may be a password, as in `client-password=hunter2:`; only its place is told.
fn report_unknown_keys(node: &Node, problems: &mut Problems) {
    let NodeValue::Map(entries) = &node.value else { return };
    for (key, _) in entries.iter().filter(|(key, _)| !KEYS.contains(&key.text.as_str())) {
        problems.push(
            Diagnostic::new(Code::UnknownKey, key.span.start..key.span.start, "unknown key")
                .help(format!("the keys here are {}; write `key: \"password\"` lines", listed(&KEYS))),
        );
    }
}

impl Source {
    /// The same places with nothing left but [`KEYS`] at the start of a line: a report on it shows no password,
    /// wherever the file is wrong.
    fn redacted(&self) -> Self {
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            let is_key = |key: &&&str| {
                let value = line.strip_prefix(**key).and_then(|rest| rest.strip_prefix(':'));
                value.is_some_and(|value| !value.starts_with(|c| c > ' '))
            };
            let (key, rest) = line.split_at(KEYS.iter().find(is_key).map_or(0, |key| key.len() + 1));
            text.push_str(key);
            // as many bytes as before, so that places stay right
            text.extend(
                rest.chars().flat_map(|c| std::iter::repeat_n(if c == '\n' { c } else { '*' }, c.len_utf8())),
            );
        }
        Self { name: self.name.clone(), text }
    }
}
