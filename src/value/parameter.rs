//! Settings of PostgreSQL.

use super::{FromText, Refusal, Value, checked_text, named, read_text};
use crate::config::keys::Shape;
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::node::{Node, NodeValue};
use crate::yaml::needs_escape;

checked_text!(
    /// The name of a PostgreSQL setting, of the server (`work_mem`) or of an extension (`auto_explain.log_nested_statements`).
    ParameterName,
    "the name of a PostgreSQL setting",
    "work_mem",
    |text| {
        let part = |part: &str| {
            part.len() <= 63
                && part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let fine = match text.split_once('.') {
            Some((extension, name)) => part(extension) && part(name),
            None => part(text),
        };
        let fault = (!fine).then(|| "a setting is lower-case letters, digits and underscores".to_owned());
        let spelt = text.to_ascii_lowercase().replace('-', "_");
        let help = if spelt != text && spelt.split('.').all(part) {
            format!("did you mean `{spelt}`?")
        } else {
            "write it as in postgresql.conf: `work_mem`".to_owned()
        };
        named(text, Code::UnknownSetting, "the name of a PostgreSQL setting", fault, &help)
    }
);

/// The value of a PostgreSQL setting as it was typed, which is how it goes between the quotes of postgresql.conf: a
/// number keeps its spelling (`0640` is octal there), and PostgreSQL reads `true` and `false` wherever `on` and `off`.
/// What it means only the setting knows ([`super::Setting`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterValue(pub String);

impl Value for ParameterValue {
    const SHAPE: Shape = Shape::Text("text, a number, `true` or `false`");

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let mut refuse = |code, message: String, help: &str| {
            problems.push(Diagnostic::new(code, node.span.clone(), message).help(help));
            None
        };
        let text = match &node.value {
            NodeValue::Text(text) | NodeValue::Number(text) => text.clone(),
            NodeValue::Bool(value) => value.to_string(),
            _ => {
                let message = format!("expected a setting, found {}", node.kind());
                return refuse(Code::WrongType, message, "give text, a number, `true` or `false`");
            }
        };
        if text.contains('\t') && !text.chars().any(|c| c != '\t' && needs_escape(c)) {
            let message = "the value of a setting must not hold a tab".to_owned();
            return refuse(Code::SettingNotOneLine, message, "remove it, or write a blank instead of it");
        }
        if text.chars().any(needs_escape) {
            let message = "the value of a setting must stand on one line".to_owned();
            let help = "remove line breaks, control and invisible characters";
            return refuse(Code::SettingNotOneLine, message, help);
        }
        if text.len() > 900 {
            let message = format!("the value of a setting has {} bytes", text.len());
            let help = "keep it under 900; the guest reads postgresql.conf line by line";
            return refuse(Code::SettingNotOneLine, message, help);
        }
        Some(Self(text))
    }
}
