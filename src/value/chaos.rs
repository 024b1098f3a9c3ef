//! What a bad network is like, in the words of tc.

use super::{FromText, Refusal, Value, checked_text, named, read_text, shortened};
use crate::diagnostic::{Code, Problems};
use crate::node::Node;

/// The longest delay, in microseconds: beyond it connections end rather than wait.
const MAX_DELAY: u64 = 60_000_000;

checked_text!(
    /// A delay of packets.
    Delay,
    "a delay",
    "80ms",
    |text| {
        let help = "write whole microseconds, milliseconds or seconds up to a minute, such as `80ms`";
        match microseconds(text) {
            Some(1..=MAX_DELAY) => Ok(()),
            _ => Err(Refusal::new(Code::NotADelay, format!("`{}` is not a delay", shortened(text)), help)),
        }
    }
);

impl Delay {
    /// The delay in microseconds.
    pub fn microseconds(&self) -> u64 {
        microseconds(self.as_str()).unwrap_or_default()
    }
}

checked_text!(
    /// A part of packets.
    Percentage,
    "a percentage",
    "0.5%",
    |text| {
        let help = "write more than 0 and less than 100, with up to three decimals, such as `0.5%`; `partition: true` loses all";
        let number = text.strip_suffix('%').filter(|number| is_decimal(number)).and_then(|number| number.parse().ok());
        match number {
            Some(number) if 0.0 < number && number < 100.0_f64 => Ok(()),
            _ => Err(Refusal::new(Code::NotAPercentage, format!("`{}` is not a percentage", shortened(text)), help)),
        }
    }
);

checked_text!(
    /// Bits of a second.
    BitRate,
    "a bit rate",
    "10mbit",
    |text| {
        let help = "write a whole number with `kbit`, `mbit` or `gbit` (of a second, powers of 1000), from `8kbit` to `100gbit`, such as `10mbit`";
        let kilobits = [("kbit", 1), ("mbit", 1000), ("gbit", 1_000_000)]
            .iter()
            .find_map(|(unit, worth)| Some(whole(text.strip_suffix(unit)?)? * worth));
        match kilobits {
            Some(8..=100_000_000) => Ok(()),
            _ => Err(Refusal::new(Code::NotABitRate, format!("`{}` is not a bit rate", shortened(text)), help)),
        }
    }
);

checked_text!(
    /// A node with a database, without the name of the lab. Whether the lab has it is for the plan to say.
    DatabaseNode,
    "a node",
    "replica-0",
    |text| {
        let number = ["primary-", "replica-", "node-"].iter().find_map(|role| text.strip_prefix(role));
        let fault = number
            .and_then(whole)
            .is_none()
            .then(|| "it is neither `replica-` nor `node-` and a number".to_owned());
        named(text, Code::NotAName, "a node", fault, "write `replica-0` for the VM `<name>-replica-0`, under Patroni `node-1`")
    }
);

fn microseconds(text: &str) -> Option<u64> {
    let units = [("us", 1), ("ms", 1000), ("s", 1_000_000)];
    units.iter().find_map(|(unit, worth)| Some(whole(text.strip_suffix(unit)?)? * worth))
}

/// A whole number as tc, and a name, has it.
fn whole(digits: &str) -> Option<u64> {
    let is_plain = digits == "0" || !digits.starts_with('0');
    (is_plain && !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

fn is_decimal(text: &str) -> bool {
    let (whole_part, decimals) = text.split_once('.').unwrap_or((text, "0"));
    whole(whole_part).is_some()
        && (1..=3).contains(&decimals.len())
        && decimals.bytes().all(|byte| byte.is_ascii_digit())
}
