//! The user's own settings, as PostgreSQL reads them.

use crate::config::Config;
use crate::config::fields::{Field, Spanned};
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::plan::release;
use crate::value::{Meaning, ParameterName, ParameterValue, Setting, SettingFault, managed};

pub(super) type Parameter = (Spanned<ParameterName>, Spanned<ParameterValue>);

/// The user's settings with what they mean; without those that are wrong.
pub(super) struct Settings<'c>(pub(super) Vec<(&'c Parameter, Meaning)>);

impl<'c> Settings<'c> {
    pub(super) fn read(parameters: &'c [Parameter], config: &Config, problems: &mut Problems) -> Self {
        if parameters.is_empty() {
            return Self(Vec::new());
        }
        let majors = release::majors(&config.guest.or_default());
        let read = parameters.iter().filter_map(|parameter| {
            let (name, value) = parameter;
            let text = name.value.as_str();
            if let Some(reason) = managed(text) {
                let message = format!("`{text}` is not for `postgresql.parameters`");
                problems.push(
                    Diagnostic::new(Code::ManagedSetting, name.span.clone(), message)
                        .help(format!("remove it: {reason}")),
                );
                return None;
            }
            if text.contains('.') {
                // an extension's own, which the server takes as they are until the extension is there
                return Some((parameter, Meaning::Text));
            }
            let (span, refusal) = match Setting::read(text, &value.value.0, &majors) {
                Ok(meaning) => return Some((parameter, meaning)),
                Err(SettingFault::Name(refusal)) => (&name.span, refusal),
                Err(SettingFault::Value(refusal)) => (&value.span, refusal),
            };
            problems.push(refusal.at(span.clone()));
            None
        });
        Self(read.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<(&'c Spanned<ParameterValue>, &Meaning)> {
        let (parameter, meaning) = self.0.iter().find(|((of, _), _)| of.value.as_str() == name)?;
        Some((&parameter.1, meaning))
    }

    pub(super) fn is(&self, name: &str, meaning: &Meaning) -> bool {
        self.get(name).is_some_and(|(_, of)| of == meaning)
    }

    /// A number in the setting's own unit.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            // the bounds of all settings are those of an `int`; -1 stands for `by itself`
            (_, Meaning::Number(number)) if *number >= 0.0 => Some(*number as u32),
            _ => None,
        }
    }

    /// Text that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&'c Spanned<ParameterValue>> {
        self.get(name).map(|(value, _)| value).filter(|value| !value.value.0.is_empty())
    }

    pub(super) fn place(&self, name: &str) -> Field<ParameterValue> {
        self.get(name).map_or(Field::Absent, |(value, _)| Field::Given(value.clone()))
    }
}
