//! Instructions of the whole process, counted by valgrind: repeatable on a noisy machine, where times are not.
//!
//! `cargo bench` prints the cost of a bundle, of an output byte and of each further replica beside the bars.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Command, Stdio};

/// Replicas of the large lab.
const MANY: u64 = 101;

fn main() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let credentials = "credentials: {existing-secret: passwords}\n";
    let small = measure(directory, &format!("replica-count: 1\n{credentials}"));
    let large = measure(directory, &format!("replica-count: {MANY}\n{credentials}"));
    let bar = 450_000 + 20 * small.bytes;
    println!(
        "one replica:          {:>9} instructions for {} bytes (bar {bar})",
        small.instructions, small.bytes
    );
    println!("an output byte:       {:>9.1} instructions", small.instructions as f64 / small.bytes as f64);
    let each = (large.instructions - small.instructions) / (MANY - 1);
    println!(
        "each further replica: {each:>9} instructions for {} bytes (bar 80000)",
        (large.bytes - small.bytes) / (MANY - 1)
    );
}

struct Cost {
    instructions: u64,
    bytes: u64,
}

fn measure(directory: &Path, config: &str) -> Cost {
    let path = directory.join("gen.yaml");
    std::fs::write(&path, config).unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_gen")])
        .arg(&path)
        .stderr(Stdio::piped())
        .output()
        .expect("valgrind counts the instructions; install it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8_lossy(&output.stderr);
    let refs = log.lines().find_map(|line| line.split_once("refs:")).unwrap().1;
    let instructions = refs.trim().replace(',', "").parse().unwrap();
    Cost { instructions, bytes: output.stdout.len() as u64 }
}
