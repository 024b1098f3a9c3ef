//! Instructions of the whole process, counted by valgrind: repeatable on a noisy machine, where times are not.
//!
//! `cargo bench` prints the cost of a bundle and of each further replica, and the peak of memory, beside their bars, and
//! exits 1 when one is missed.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Replicas of the large lab.
const MANY: u64 = 101;
/// Replicas of the largest.
const MOST: u64 = 10_000;

fn main() -> ExitCode {
    let (small, large) = (measure(1), measure(MANY));
    let each = (large.instructions - small.instructions) / (MANY - 1);
    let each_bytes = (large.bytes - small.bytes) / (MANY - 1);
    let rows = [
        (
            format!("instructions of one replica's bundle of {} bytes", small.bytes),
            small.instructions,
            450_000 + 10 * small.bytes,
        ),
        (format!("instructions of each further replica's {each_bytes} bytes"), each, 60_000),
        (format!("KiB of memory at the peak of {MOST} replicas"), peak_kib(MOST), 5 * 1024),
    ];
    let mut missed = false;
    for (what, cost, bar) in rows {
        missed |= cost > bar;
        println!("{cost:>9} {what} (bar {bar}{})", if cost > bar { ", missed" } else { "" });
    }
    ExitCode::from(u8::from(missed))
}

struct Cost {
    instructions: u64,
    bytes: u64,
}

/// A config of so many replicas that needs no secrets file.
fn config(replicas: u64) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gen.yaml");
    std::fs::write(
        &path,
        format!("replica-count: {replicas}\ncredentials: {{existing-secret: passwords}}\n"),
    )
    .unwrap();
    path
}

fn measure(replicas: u64) -> Cost {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_gen")])
        .arg(config(replicas))
        .output()
        .expect("valgrind counts the instructions; install it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8_lossy(&output.stderr);
    let refs = log.lines().find_map(|line| line.split_once("refs:")).unwrap().1;
    let instructions = refs.trim().replace(',', "").parse().unwrap();
    Cost { instructions, bytes: output.stdout.len() as u64 }
}

/// The most memory that was resident, as Linux last said before the process had written everything.
fn peak_kib(replicas: u64) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gen"))
        .arg(config(replicas))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut peak = 0;
    let mut buffer = vec![0; 1 << 16];
    while stdout.read(&mut buffer).unwrap() > 0 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        }
    }
    assert!(child.wait().unwrap().success() && peak > 0);
    peak
}
