//! What all goldens have in common: when they are renewed, and how a difference is shown.

use similar::TextDiff;
use std::env;
use std::path::Path;

/// What makes insta write a golden, or let a difference pass.
const OVERRIDES: [&str; 4] =
    ["INSTA_UPDATE", "INSTA_FORCE_UPDATE", "INSTA_FORCE_UPDATE_SNAPSHOTS", "INSTA_FORCE_PASS"];

/// Whether goldens are to be renewed. In CI none ever is: a difference that nobody has reviewed would pass there.
pub fn renews() -> bool {
    let is_set = |name: &str, off: &[&str]| env::var(name).is_ok_and(|value| !off.contains(&value.as_str()));
    if is_set("CI", &["", "0", "false"]) {
        for name in OVERRIDES {
            assert!(!is_set(name, &["", "0", "auto", "no"]), "no golden is renewed in CI: unset {name}");
        }
    }
    // `new` and `unseen` leave the rest for `cargo insta review`
    is_set("INSTA_UPDATE", &["", "auto", "no", "new", "unseen"])
}

/// Shows what differs; insta compares binary snapshots, those with exact bytes, but shows nothing of them.
pub fn show_difference(golden: &Path, expected: &str, actual: &str) {
    if expected != actual {
        let name = golden.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let diff = TextDiff::from_lines(expected, actual);
        println!("{}", diff.unified_diff().header(&name, "what gen makes now"));
    }
}
