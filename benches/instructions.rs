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
        (format!("KiB of memory at the peak of {MOST} replicas"), peak_kib(MOST), 3584),
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

/// The most memory that was resident while the process wrote: of the program itself, and of what it allocated. What is mapped of
/// the C library, about 1.7 MiB, is the system's: every process shares it, and how much of it counts depends on what is cached.
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
        // which cannot be read any more when the process has ended
        let maps = std::fs::read_to_string(format!("/proc/{}/smaps", child.id())).unwrap_or_default();
        peak = peak.max(own_kib(&maps));
    }
    assert!(child.wait().unwrap().success() && peak > 0);
    peak
}

/// Of a process's `smaps`. A line of a mapping has its addresses first, and at its end the file, if there is one.
fn own_kib(maps: &str) -> u64 {
    let (mut sum, mut is_shared) = (0, false);
    for line in maps.lines() {
        if let Some(resident) = line.strip_prefix("Rss:") {
            if !is_shared {
                sum += resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            is_shared = line.contains(".so.") || line.ends_with(".so");
        }
    }
    sum
}
