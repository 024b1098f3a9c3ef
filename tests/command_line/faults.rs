//! Runs at the same time, runs that are cut off, and disks that are full.

use crate::transcript::{Place, bash, empty, lab};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};
use virtwork_gen::diagnostic::Code;

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let place = empty();
    for round in 0..15 {
        // the loser of the passwords takes those of the winner, and the directory is that of one of them
        let credentials = "out/secret-db-credentials.yaml";
        place
            .file("gen.yaml", format!("name: db\nreplica-count: {}\n", 150 - round % 2 * 100))
            .sh(&format!("rm -f gen.secrets.yaml {credentials}"));
        let runs = [&["-o", "out"][..], &["-o", "out"], &[]]
            .map(|args| place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let [.., streamed] = runs.map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        });
        assert!(streamed.starts_with(&place.read(credentials)), "two runs have different passwords");
        place.run("gen -o out --check");
    }
    let rest: Vec<_> = place.files().into_keys().filter(|name| name.contains(".virtwork-gen.")).collect();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn another_run_is_waited_for_and_announced() {
    let place = lab("name: db\n");
    place.sh("mkdir out");
    let lock = fs::File::open(place.path("out")).unwrap();
    lock.lock().unwrap();
    for args in [&["-o", "out"][..], &["-o", "out", "--check"]] {
        let mut child = place.command(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut note = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut note).unwrap();
        assert_eq!(note, "note[waiting-for-another-run]: another gen is at work in `out`; waiting for it\n");
        let _ = child.kill();
        let _ = child.wait();
    }
    place.run("ls -A out");
    drop(lock);
    place.run(
        bash("gen -o out")
            .stderr("note[passwords-in-clear]: … holds the passwords in clear; …\n")
            .writes(["out/…"]),
    );
}

#[test]
fn a_disk_that_fills_up_leaves_the_directory_as_it_was() {
    lab("name: db\n")
        .sh("gen -o out")
        .file("gen.yaml", "name: db\nlabels: {team: storage}\n")
        // no file may grow beyond 8 KiB: the user-data does not fit
        .run(bash("trap '' XFSZ; ulimit -f 8; gen -o out").refuses(
            Code::CannotWrite,
            "cannot write `out/…`: File too large (os error 27)",
            "…",
        ));
}

#[test]
fn killed_at_any_point_it_leaves_whole_files_and_the_next_run_mends_the_rest() {
    let configs = ["name: db\nreplica-count: 150\n", "name: db\nreplica-count: 140\nlabels: {a: b}\n"];
    let place = lab("");
    let bytes = |place: &Place| -> Vec<_> {
        let files = place.files().into_iter().filter(|(name, _)| name.starts_with("out/"));
        files.map(|(name, (bytes, _))| (name, bytes)).collect()
    };
    let mut longest = Duration::ZERO;
    let whole = configs.map(|config| {
        let start = Instant::now();
        place.file("gen.yaml", config).sh("gen -o out");
        longest = longest.max(start.elapsed());
        bytes(&place)
    });
    let (mut interrupted, rounds) = (0, 60u32);
    for round in 0..rounds {
        place.file("gen.yaml", configs[round as usize % 2]);
        let mut child = place.command(&["-o", "out"]).stderr(Stdio::null()).spawn().unwrap();
        sleep(longest * (round * 37 % rounds) / rounds);
        let _ = child.kill();
        interrupted += usize::from(!child.wait().unwrap().success());
        for file in bytes(&place) {
            let name = &file.0;
            let is_whole = whole.iter().any(|files| files.binary_search(&file).is_ok());
            assert!(is_whole || name.ends_with(".virtwork-gen.tmp"), "round {round}: a part of {name}");
            assert!(!name.ends_with(".yaml") || !name.starts_with("out/."), "{name} looks like a manifest");
        }
    }
    assert!(interrupted > 10, "only {interrupted} of {rounds} were interrupted");
    place.sh("gen -o out");
    assert!(bytes(&place) == whole[1], "the last run does not complete the directory");
}

#[test]
fn a_kill_leaves_a_whole_secrets_file_or_none() {
    let place = empty();
    for round in 0..40 {
        place.sh("rm -f gen.secrets.yaml");
        let mut child = place.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_micros(round * 150));
        let _ = child.kill();
        let _ = child.wait();
        if place.path("gen.secrets.yaml").exists() {
            let text = place.read("gen.secrets.yaml");
            assert!(text.lines().count() == 3 && text.ends_with('\n'), "{text}");
        }
    }
    place.sh("gen > /dev/null 2>&1");
    assert_eq!(place.files().into_keys().collect::<Vec<_>>(), ["gen.secrets.yaml"]);
}
