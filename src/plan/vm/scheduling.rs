//! On which nodes a VM may run.

use crate::config::fields::Spanned;
use crate::config::vm::{Toleration, Vm};
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::value::{TaintEffect, TolerationOperator};

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

pub(super) fn node_selector(vm: &Vm) -> Vec<(String, String)> {
    let labels = vm.node_selector.or_default().0;
    labels.into_iter().map(|(key, value)| (key.value.to_string(), value.value.to_string())).collect()
}

pub(super) fn tolerations(vm: &Vm, problems: &mut Problems) -> Vec<TolerationPlan> {
    vm.tolerations.or_default().iter().map(|item| toleration(item, problems)).collect()
}

/// The API server's rules for tolerations (`ValidateTolerations`); it would refuse the pod, long after the VM.
fn toleration(item: &Spanned<Toleration>, problems: &mut Problems) -> TolerationPlan {
    let toleration = &item.value;
    let operator = toleration.operator.or(TolerationOperator::Equal);
    if operator == TolerationOperator::Exists
        && toleration.value.get().is_some_and(|v| !v.as_str().is_empty())
    {
        problems.contradiction(
            Code::ConflictingToleration,
            &[(&toleration.value, "a value"), (&toleration.operator, "that `Exists` does not compare")],
            "a toleration with `operator: Exists` has no `value`",
            "remove `value`, or write `operator: Equal`",
        );
    }
    if operator == TolerationOperator::Equal && !toleration.key.is_present() {
        let message = "a toleration without `key` must have `operator: Exists`";
        problems.push(
            Diagnostic::new(Code::ConflictingToleration, item.span.clone(), message)
                .help("add `key`, or `operator: Exists` to tolerate every taint"),
        );
    }
    if toleration.toleration_seconds.is_present() && toleration.effect.get() != Some(&TaintEffect::NoExecute)
    {
        problems.contradiction(
            Code::ConflictingToleration,
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
