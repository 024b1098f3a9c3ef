//! When the network between the primary and its replicas is bad, and how.

use super::FailoverPlan;
use crate::config::Config;
use crate::config::chaos_network::{ChaosNetwork, Targets, Window, Windows};
use crate::config::fields::{Field, Involved, Spanned};
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::names::{Names, Node, Role};
use crate::value::{BitRate, Delay, Percentage};

/// What `virtwork-chaos` is told.
#[derive(Debug)]
pub struct ChaosPlan {
    /// What it does when it is called without an effect.
    pub effects: EffectsPlan,
    /// When it does it by itself.
    pub windows: Vec<WindowPlan>,
}

/// A bad network; by default as good as it is.
#[derive(Debug, Default)]
pub struct EffectsPlan {
    /// What it consists of, in the words of tc: `latency=80ms`.
    pub words: Vec<String>,
    /// The VMs that it is for; all when none is named.
    pub targets: Vec<String>,
}

/// A time in which the network is bad.
#[derive(Debug)]
pub struct WindowPlan {
    /// Seconds from the beginning of the schedule.
    pub at: u32,
    /// Seconds that it lasts; for ever when absent.
    pub seconds: Option<u32>,
    /// Seconds from one to the next; it comes once when absent.
    pub every: Option<u32>,
    /// How it is bad.
    pub effects: EffectsPlan,
}

/// The keys of an effect, in a window over those of the section.
struct Effects {
    latency: Field<Delay>,
    jitter: Field<Delay>,
    loss: Field<Percentage>,
    rate: Field<BitRate>,
    partition: Field<bool>,
    target: Field<Targets>,
}

/// As many as a person reads.
const MAX_WINDOWS: usize = 100;

pub(super) fn plan(
    config: &Config,
    names: &Names,
    replicas: u32,
    failover: &FailoverPlan,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Option<ChaosPlan> {
    let is_patroni = failover.patroni().is_some();
    let chaos = &config.chaos_network.spanned()?.value;
    if replicas == 0 {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[
                (&config.chaos_network, "between the primary and its replicas"),
                (&config.replica_count, "and there are none"),
            ],
            "`chaos-network` is about what replicas receive, and the lab has none",
            "ask for replicas, or remove `chaos-network`",
        );
    }
    let own = Effects::of_section(chaos);
    let is_right = own.check(problems);
    let own_targets = vms(&own.target, config, names, replicas, is_patroni, problems);
    let windows = match chaos.schedule.get() {
        None => Vec::new(),
        Some(Windows::Always) => {
            if is_right && own.is_nothing() {
                without_effect(
                    &chaos.schedule,
                    "`schedule` is `always`, and nothing says what happens",
                    problems,
                );
            }
            let effects = EffectsPlan { words: own.words(), targets: own_targets.clone() };
            vec![WindowPlan { at: 0, seconds: None, every: None, effects }]
        }
        Some(Windows::List(list)) => {
            check_windows(&chaos.schedule, list, problems);
            let windows = list.iter().map(|window| {
                let effects = Effects::of_window(&window.value, chaos);
                // what is wrong with the section alone was said of it
                if is_right && effects.check(problems) && effects.is_nothing() {
                    without_effect(window, "nothing happens in this window", problems);
                }
                let targets = match window.value.target {
                    Field::Absent => own_targets.clone(),
                    _ => vms(&window.value.target, config, names, replicas, is_patroni, problems),
                };
                WindowPlan {
                    at: window.value.at.or(0),
                    seconds: Some(window.value.seconds.or(1)),
                    every: window.value.every.get().copied(),
                    effects: EffectsPlan { words: effects.words(), targets },
                }
            });
            windows.collect()
        }
    };
    let effects = EffectsPlan { words: own.words(), targets: own_targets };
    let mut all = std::iter::once(&effects).chain(windows.iter().map(|window| &window.effects));
    if let FailoverPlan::Manual { primary } = failover
        && let alone = [primary.vm(names)]
        && all.any(|effects| effects.targets == alone)
    {
        let text = format!(
            "a target of `chaos-network` is `{}` alone, which is the primary: no WAL goes to it until another node is",
            primary.label()
        );
        notes.push(Note::new(Code::ChaosTargetIsPrimary, text));
    }
    Some(ChaosPlan { effects, windows })
}

fn without_effect(place: &dyn Involved, message: &str, problems: &mut Problems) {
    problems.contradiction(
        Code::ChaosWithoutEffect,
        &[(place, "of what?")],
        message,
        "add `latency`, `loss`, `rate` or `partition: true`",
    );
}

impl Effects {
    fn of_section(chaos: &ChaosNetwork) -> Self {
        Self {
            latency: chaos.latency.clone(),
            jitter: chaos.jitter.clone(),
            loss: chaos.loss.clone(),
            rate: chaos.rate.clone(),
            partition: chaos.partition.clone(),
            target: chaos.target.clone(),
        }
    }

    /// A partition takes the place of everything else, and everything else that of a partition.
    fn of_window(window: &Window, chaos: &ChaosNetwork) -> Self {
        let mut base = Self::of_section(chaos);
        let others: [&dyn Involved; 4] = [&window.latency, &window.jitter, &window.loss, &window.rate];
        if window.partition.get() == Some(&true) {
            base = Self { target: base.target, ..Self::nothing() };
        } else if others.iter().any(|key| !matches!(key.place(), Ok(None))) {
            base.partition = Field::Absent;
        }
        Self {
            latency: window.latency.over(&base.latency),
            jitter: window.jitter.over(&base.jitter),
            loss: window.loss.over(&base.loss),
            rate: window.rate.over(&base.rate),
            partition: window.partition.over(&base.partition),
            target: window.target.over(&base.target),
        }
    }

    fn nothing() -> Self {
        Self {
            latency: Field::Absent,
            jitter: Field::Absent,
            loss: Field::Absent,
            rate: Field::Absent,
            partition: Field::Absent,
            target: Field::Absent,
        }
    }

    fn is_partition(&self) -> bool {
        self.partition.get() == Some(&true)
    }

    fn is_nothing(&self) -> bool {
        let present = [
            self.latency.is_present(),
            self.jitter.is_present(),
            self.loss.is_present(),
            self.rate.is_present(),
            self.is_partition() || matches!(self.partition, Field::Invalid),
        ];
        !present.contains(&true)
    }

    /// Whether its keys hold together.
    fn check(&self, problems: &mut Problems) -> bool {
        let others: [(&dyn Involved, &str); 4] = [
            (&self.latency, "nothing is late"),
            (&self.jitter, "nothing is late"),
            (&self.loss, "all is lost"),
            (&self.rate, "nothing passes"),
        ];
        let others = others.into_iter().filter(|(key, _)| !matches!(key.place(), Ok(None)));
        let others: Vec<_> = others.collect();
        if self.is_partition() && !others.is_empty() {
            let keys: Vec<_> =
                others.into_iter().chain([(&self.partition as _, "because of this")]).collect();
            problems.contradiction(
                Code::ExclusiveKeys,
                &keys,
                "with `partition: true` nothing passes, early or late",
                "keep `partition`, or the others",
            );
            return false;
        }
        if self.jitter.is_present() && !self.latency.is_present() {
            problems.contradiction(
                Code::KeyWithoutEffect,
                &[(&self.jitter, "varies what?")],
                "`jitter` without `latency` does nothing",
                "add `latency`, or remove `jitter`",
            );
            return false;
        }
        if let (Some(jitter), Some(latency)) = (self.jitter.get(), self.latency.get())
            && jitter.microseconds() > latency.microseconds()
        {
            problems.contradiction(
                Code::JitterAboveLatency,
                &[(&self.jitter, "more than"), (&self.latency, "this")],
                format!(
                    "`jitter` {jitter} is more than `latency` {latency}: no packet leaves before it is sent"
                ),
                format!("write at most `{latency}`, or raise `latency`"),
            );
            return false;
        }
        true
    }

    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                words.push(format!("{key}={value}"));
            }
        };
        add("latency", self.latency.get().map(Delay::to_string));
        add("jitter", self.jitter.get().map(Delay::to_string));
        add("loss", self.loss.get().map(Percentage::to_string));
        add("rate", self.rate.get().map(BitRate::to_string));
        add("partition", self.is_partition().then(|| "yes".to_owned()));
        words
    }
}

/// The VMs that a target means.
fn vms(
    targets: &Field<Targets>,
    config: &Config,
    names: &Names,
    replicas: u32,
    is_patroni: bool,
    problems: &mut Problems,
) -> Vec<String> {
    let Some(targets) = targets.get() else { return Vec::new() };
    let mut vms: Vec<String> = Vec::new();
    for target in &targets.0 {
        let Some(node) = node(target.value.as_str(), replicas, is_patroni) else {
            let which: &[(&dyn Involved, &str)] = &[
                (target, "not in the lab"),
                (&config.replica_count, "of this many replicas"),
                (&config.failover, "which names its nodes"),
            ];
            let role = if is_patroni { Role::Node } else { Role::Replica };
            let is_named = |label: &String| targets.0.iter().any(|target| target.value.as_str() == label);
            let others = u32::from(is_patroni)..replicas + u32::from(is_patroni);
            let help = match others.map(|index| Node { role, index }.label()).find(|label| !is_named(label)) {
                Some(other) => format!("write `{other}`, or another node of the lab"),
                None => "remove it: all others are named".to_owned(),
            };
            // without replicas there is more to be said than a name
            if replicas > 0 {
                problems.contradiction(
                    Code::NoSuchNode,
                    which,
                    format!("the lab has no node `{}`", target.value),
                    help,
                );
            }
            continue;
        };
        let vm = node.vm(names);
        if vms.contains(&vm) {
            let message = format!("`{}` is named twice", target.value);
            problems.push(
                Diagnostic::new(Code::ExclusiveKeys, target.span.clone(), message)
                    .help("remove one of the two"),
            );
            continue;
        }
        vms.push(vm);
    }
    vms
}

fn node(name: &str, replicas: u32, is_patroni: bool) -> Option<Node> {
    let (role, index) = name.rsplit_once('-')?;
    let index: u32 = index.parse().ok()?;
    let (role, count) = match role {
        "primary" if !is_patroni => (Role::Primary, 1),
        "replica" if !is_patroni => (Role::Replica, replicas),
        "node" if is_patroni => (Role::Node, replicas + 1),
        _ => return None,
    };
    (index < count).then_some(Node { role, index })
}

/// That each has what it needs, and none falls into another.
fn check_windows(schedule: &Field<Windows>, list: &[Spanned<Window>], problems: &mut Problems) {
    for window in list {
        for (key, is_present) in
            [("at", window.value.at.is_present()), ("for", window.value.seconds.is_present())]
        {
            if !is_present {
                let message = format!("the window has no `{key}`");
                let help = match key {
                    "at" => "add `at`, the seconds until it begins",
                    _ => "add `for`, the seconds that it lasts",
                };
                problems.push(Diagnostic::new(Code::MissingKey, window.span.clone(), message).help(help));
            }
        }
    }
    if list.len() > MAX_WINDOWS {
        problems.contradiction(
            Code::OutOfBounds,
            &[(schedule, "too many")],
            format!(
                "`chaos-network.schedule` has {} windows, and at most {MAX_WINDOWS} are read",
                list.len()
            ),
            "remove some; `every` repeats one",
        );
        return;
    }
    let times: Vec<_> = list.iter().filter_map(Times::of).collect();
    for (position, one) in times.iter().enumerate() {
        if let Some(every) = one.every.filter(|every| *every < one.seconds) {
            problems.contradiction(
                Code::WindowsOverlap,
                &[(&one.window.value.every, "comes again"), (&one.window.value.seconds, "before it is over")],
                format!("the window comes again after {every} s, and lasts {} s", one.seconds),
                format!("write at least `{}`", one.seconds),
            );
            return;
        }
        for other in &times[position + 1..] {
            if one.meets(other) || other.meets(one) {
                problems.contradiction(
                    Code::WindowsOverlap,
                    &[(other.window, "at the same time"), (one.window, "as this one")],
                    "two windows of `chaos-network.schedule` overlap: one at a time has the network",
                    "remove one of them, or give them other times",
                );
                return;
            }
        }
    }
}

/// When a window is.
struct Times<'w> {
    window: &'w Spanned<Window>,
    at: u64,
    seconds: u64,
    every: Option<u64>,
}

impl<'w> Times<'w> {
    fn of(window: &'w Spanned<Window>) -> Option<Self> {
        let every = match &window.value.every {
            Field::Invalid => return None,
            every => every.get().copied().map(u64::from),
        };
        let (at, seconds) = (u64::from(*window.value.at.get()?), u64::from(*window.value.seconds.get()?));
        Some(Self { window, at, seconds, every })
    }

    /// Whether one of these windows begins within one of the others, at any time.
    fn meets(&self, other: &Self) -> bool {
        match (self.every, other.every) {
            (None, None) => other.contains(self.at),
            (None, Some(every)) => self.at >= other.at && (self.at - other.at) % every < other.seconds,
            // the first of these that begins no earlier than the other
            (Some(every), None) => {
                let first = self.at + other.at.saturating_sub(self.at).div_ceil(every) * every;
                other.contains(first)
            }
            // sooner or later all distances come that the two rhythms leave
            (Some(every), Some(others)) => {
                let step = gcd(every, others);
                (self.at + step - other.at % step) % step < other.seconds
            }
        }
    }

    fn contains(&self, time: u64) -> bool {
        (self.at..self.at + self.seconds).contains(&time)
    }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By trying each second.
    fn overlap(one: (u64, u64, Option<u64>), other: (u64, u64, Option<u64>)) -> bool {
        let is_in = |(at, seconds, every): (u64, u64, Option<u64>), time: u64| {
            time >= at && every.map_or(time - at, |every| (time - at) % every) < seconds
        };
        (0..2000).any(|time| is_in(one, time) && is_in(other, time))
    }

    #[test]
    fn windows_overlap_when_a_second_is_in_both() {
        let window = Spanned { value: Window::default(), span: 0..0, path: String::new() };
        let times = |(at, seconds, every)| Times { window: &window, at, seconds, every };
        let kinds = [None, Some(6), Some(9), Some(10), Some(15)];
        for one in kinds {
            for other in kinds {
                for at in 0..20 {
                    for (first, second) in [(2, 3), (5, 1), (4, 4)] {
                        let (a, b) = ((7, first, one), (at, second, other));
                        let found = times(a).meets(&times(b)) || times(b).meets(&times(a));
                        assert_eq!(found, overlap(a, b), "{a:?} {b:?}");
                    }
                }
            }
        }
    }
}
