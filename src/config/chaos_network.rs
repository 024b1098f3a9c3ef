//! `chaos-network:` a bad network between the primary and its replicas.

use super::fields::{Field, Fields, Spanned, Value, listed};
use super::keys::{Key, Shape, section};
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::node::{Node, NodeValue};
use crate::value::{BitRate, DatabaseNode, Delay, Percentage};

section! {
    /// `chaos-network`.
    pub struct ChaosNetwork {
        /// How much later packets with WAL leave.
        "latency" => latency: Delay {
            default: Words("none"),
            example: "80ms",
            also: &["delay"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// By how much that varies, to both sides. Packets may overtake each other.
        "jitter" => jitter: Delay {
            default: Words("none"),
            example: "20ms",
            with: "latency: 80ms",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// How many of these packets are lost.
        "loss" => loss: Percentage {
            default: Words("none"),
            example: "0.5%",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// How much passes in a second, to all targets together.
        "rate" => rate: BitRate {
            default: Words("as much as the network has"),
            example: "10mbit",
            also: &["bandwidth"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Nothing passes: replicas hear nothing of the primary. Not beside the others.
        "partition" => partition: bool {
            default: Words("`false`"),
            example: "true",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The replicas that it is for: a node such as `replica-0`, under Patroni `node-1`, or a list of them.
        "target" => target: Targets {
            default: Words("all"),
            example: "[replica-0]",
            also: &["targets", "replicas"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// When: `always`, or windows, in seconds from when a primary first reads this schedule.
        "schedule" => schedule: Windows {
            default: Words("none: somebody calls `virtwork-chaos`"),
            example: "[{at: 600, for: 60, every: 3600}]",
            with: "latency: 80ms",
            also: &["windows"],
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}

section! {
    /// An item of `schedule`.
    pub struct Window {
        /// Seconds from the beginning of the schedule until the window.
        #[whole(0..=31_536_000, "seconds", "at most a year")]
        "at" => at: u32 {
            default: Words("none: it has to be given"),
            example: "600",
            with: "for: 60, latency: 80ms",
            also: &["start", "after"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds that it lasts.
        #[whole(1..=31_536_000, "seconds", "at most a year; `schedule: always` has no end")]
        "for" => seconds: u32 {
            default: Words("none: it has to be given"),
            example: "60",
            with: "at: 600, latency: 80ms",
            also: &["duration", "seconds"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Seconds from one beginning of it to the next.
        #[whole(2..=31_536_000, "seconds", "at most a year; leave it out for a window that comes once")]
        "every" => every: u32 {
            default: Words("it comes once"),
            example: "3600",
            with: "at: 600, for: 2, latency: 80ms",
            also: &["interval", "period"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// As in `chaos-network`, for this window.
        "latency" => latency: Delay {
            default: Words("that of `chaos-network`"),
            example: "250ms",
            with: "at: 600, for: 60",
            also: &["delay"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The same.
        "jitter" => jitter: Delay {
            default: Words("that of `chaos-network`"),
            example: "20ms",
            with: "at: 600, for: 60, latency: 80ms",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The same.
        "loss" => loss: Percentage {
            default: Words("that of `chaos-network`"),
            example: "0.5%",
            with: "at: 600, for: 60",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The same.
        "rate" => rate: BitRate {
            default: Words("that of `chaos-network`"),
            example: "10mbit",
            with: "at: 600, for: 60",
            also: &["bandwidth"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The same; `true` stands alone, in place of all that `chaos-network` says beside it.
        "partition" => partition: bool {
            default: Words("that of `chaos-network`"),
            example: "true",
            with: "at: 600, for: 60",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The same.
        "target" => target: Targets {
            default: Words("those of `chaos-network`"),
            example: "[replica-0]",
            with: "at: 600, for: 60, latency: 80ms",
            also: &["targets", "replicas"],
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}

/// One node or a list of them.
#[derive(Debug, Clone, Default)]
pub struct Targets(pub Vec<Spanned<DatabaseNode>>);

impl Value for Targets {
    const SHAPE: Shape = <Vec<Spanned<DatabaseNode>> as Value>::SHAPE;

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if matches!(node.value, NodeValue::Text(_)) {
            let value = DatabaseNode::read(node, problems)?;
            let (span, path) = (node.span.clone(), node.path.clone());
            return Some(Self(vec![Spanned { value, span, path }]));
        }
        let list = <Vec<Spanned<DatabaseNode>> as Value>::read(node, problems)?;
        not_empty(node, &list, "leave the key out for all replicas", problems).then_some(Self(list))
    }
}

/// When a bad network is.
#[derive(Debug, Clone)]
pub enum Windows {
    /// From the first moment on.
    Always,
    /// Now and then.
    List(Vec<Spanned<Window>>),
}

impl Value for Windows {
    const SHAPE: Shape = <Vec<Spanned<Window>> as Value>::SHAPE;

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let NodeValue::Text(text) = &node.value {
            if text == "always" {
                return Some(Self::Always);
            }
            let message = format!("expected {} or a list of windows, found text", listed(&["always"]));
            problems.push(
                Diagnostic::new(Code::WrongType, node.span.clone(), message)
                    .help("write `always`, or `[{at: 600, for: 60}]`"),
            );
            return None;
        }
        let list = <Vec<Spanned<Window>> as Value>::read(node, problems)?;
        not_empty(node, &list, "leave the key out to call `virtwork-chaos` by hand", problems)
            .then_some(Self::List(list))
    }
}

fn not_empty<T>(node: &Node, list: &[T], help: &str, problems: &mut Problems) -> bool {
    if list.is_empty() {
        let message = format!("`{}` has no value", node.path);
        problems.push(Diagnostic::new(Code::NoValue, node.span.clone(), message).help(help));
    }
    !list.is_empty()
}
