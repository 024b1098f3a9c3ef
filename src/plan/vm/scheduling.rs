//! On which nodes a VM may run.

use crate::config::fields::{Entries, Field, Spanned};
use crate::config::vm::Toleration;
use crate::diagnostic::{Diagnostic, Problems};
use crate::value::{LabelKey, LabelValue, TaintEffect, TolerationOperator};

/// A toleration with its keys checked against each other.
#[derive(Debug)]
pub struct TolerationPlan {
    /// Key of the taint.
    pub key: Option<String>,
    /// How the value is compared.
    pub operator: TolerationOperator,
    /// Value of the taint.
    pub value: Option<String>,
    /// Effect of the taint.
    pub effect: Option<TaintEffect>,
    /// Seconds until eviction after all.
    pub toleration_seconds: Option<u32>,
}

pub(super) fn pairs(field: &Field<Entries<LabelKey, LabelValue>>) -> Vec<(String, String)> {
    field.or_default().0.iter().map(|(k, v)| (k.value.to_string(), v.value.to_string())).collect()
}

/// The API server's rules for tolerations (`ValidateTolerations`); it would refuse the pod, long after the VM.
pub(super) fn toleration(item: &Spanned<Toleration>, problems: &mut Problems) -> TolerationPlan {
    let toleration = &item.value;
    let operator = toleration.operator.or(TolerationOperator::Equal);
    if operator == TolerationOperator::Exists
        && toleration.value.get().is_some_and(|v| !v.as_str().is_empty())
    {
        problems.contradiction(
            &[(&toleration.value, "a value"), (&toleration.operator, "that `Exists` does not compare")],
            "a toleration with `operator: Exists` has no `value`",
            "remove `value`, or write `operator: Equal`",
        );
    }
    if operator == TolerationOperator::Equal && !toleration.key.is_present() {
        problems.push(
            Diagnostic::new(item.span.clone(), "a toleration without `key` must have `operator: Exists`")
                .help("add `key`, or `operator: Exists` to tolerate every taint"),
        );
    }
    if toleration.toleration_seconds.is_present() && toleration.effect.get() != Some(&TaintEffect::NoExecute)
    {
        problems.contradiction(
            &[
                (&toleration.toleration_seconds, "only for `NoExecute`"),
                (&toleration.effect, "another effect"),
            ],
            format!("`{}.toleration-seconds` needs `effect: NoExecute`", item.path),
            "remove `toleration-seconds`, or write `effect: NoExecute`",
        );
    }
    TolerationPlan {
        key: toleration.key.get().map(ToString::to_string),
        operator,
        value: toleration.value.get().map(ToString::to_string),
        effect: toleration.effect.get().copied(),
        toleration_seconds: toleration.toleration_seconds.get().copied(),
    }
}
