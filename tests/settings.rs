//! The settings of PostgreSQL against what real servers said.
#![allow(clippy::unwrap_used)]

use virtwork_gen::value::{MAJORS, Meaning, Setting, SettingFault};
use virtwork_gen::{Plan, Source};

const TABLE: &str = include_str!("../src/value/settings.tsv");
const CASES: &str = include_str!("settings/cases.tsv");

fn rows() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#'))
}

fn name(row: &str) -> &str {
    row.split('\t').next().unwrap()
}

/// A binary search finds nothing in what is not sorted.
#[test]
fn the_table_is_sorted_text_of_single_bytes() {
    assert!(TABLE.is_ascii());
    assert!(TABLE.lines().is_sorted_by_key(name));
}

#[test]
fn each_setting_is_found() {
    for row in rows() {
        let answer = Setting::read(name(row), "", &MAJORS);
        let refusal = answer.err().map(|fault| format!("{fault:?}")).unwrap_or_default();
        assert!(!refusal.contains("has no setting"), "{row}: {refusal}");
    }
    for unknown in ["", "a", "work", "work_memory", "zzz", "#", "\n"] {
        let refusal = format!("{:?}", Setting::read(unknown, "1", &MAJORS).unwrap_err());
        assert!(refusal.contains("has no setting"), "{unknown}: {refusal}");
    }
}

/// `tests/settings/record` asks servers of every major, and writes what they say into cases.tsv.
#[test]
fn a_value_means_what_it_means_to_the_server() {
    let mut faults = Vec::new();
    for case in CASES.lines() {
        let mut columns = case.split('\t');
        let (name, value) = (columns.next().unwrap(), columns.next().unwrap());
        let answers: Vec<_> = columns.collect();
        for (position, major) in MAJORS.enumerate() {
            let expected = answers.get(position).or(answers.first()).unwrap();
            let agrees = match Setting::read(name, value, &(major..=major)) {
                Err(_) => *expected == "!",
                Ok(Meaning::Bool(value)) => *expected == if value { "on" } else { "off" },
                // the server prints six digits
                Ok(Meaning::Number(number)) => {
                    expected.parse::<f64>().is_ok_and(|answer| (number - answer).abs() <= answer.abs() * 1e-5)
                }
                // with lz4 and zstd in the build `on` shows as `pglz`
                Ok(Meaning::Word(word)) => *expected == word || (*expected == "pglz" && word == "on"),
                Ok(Meaning::Text | Meaning::TimeZone | Meaning::Abbreviations) => *expected != "!",
            };
            if !agrees {
                faults
                    .push(format!("{major}: {case} but {:?}", Setting::read(name, value, &(major..=major))));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a message tells people to write is taken when they write it.
#[test]
fn a_remedy_works() {
    let mut tried = 0;
    for case in CASES.lines() {
        let mut columns = case.split('\t');
        let (name, value) = (columns.next().unwrap(), columns.next().unwrap());
        for major in MAJORS {
            let majors = major..=major;
            let Err(SettingFault::Value(refusal)) = Setting::read(name, value, &majors) else { continue };
            let help = &refusal.help;
            let remedy =
                ["write `", "that is `", "did you mean `"].iter().find_map(|words| help.split_once(words));
            if let Some((remedy, _)) = remedy.and_then(|(_, rest)| rest.split_once('`')) {
                let again = Setting::read(name, remedy, &majors);
                assert!(again.is_ok(), "{major}: {name} = `{value}`: {help}: {again:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

fn plan(config: &str) -> Plan {
    Plan::new(&Source::new("gen.yaml", config))
        .unwrap_or_else(|report| panic!("{config}: {}", report.render(false)))
}

/// Whatever the spelling, disks and memory are those of the same meaning, and the guest gets it as it was typed.
#[test]
fn spellings_of_one_size_make_one_lab() {
    for (name, spellings) in [
        (
            "max_wal_size",
            [
                "\"100 GB\"",
                "102400",
                "0x19000",
                "1.024e5",
                "104857600kB",
                "107374182400B",
                "\" 0.09765625TB\"",
            ],
        ),
        ("shared_buffers", ["1GB", "131072", "0x20000", "0400000", "1024 MB", "1.31072e5", "\"1048576kB \""]),
        ("max_connections", ["5000", "0x1388", "011610", "5e3", "5000.4", "\" 5000\"", "+5000"]),
    ] {
        let labs = spellings.map(|spelling| {
            let lab =
                plan(&format!("vm: {{memory: 4Gi}}\npostgresql: {{parameters: {{{name}: {spelling}}}}}\n"));
            assert_eq!(lab.postgresql.parameters[0].1, spelling.trim_matches('"'));
            format!("{} {}", lab.machines[0].vm.data_disk, lab.postgresql.max_connections)
        });
        assert!(labs.iter().all(|lab| *lab == labs[0]), "{name}: {labs:?}");
    }
}

#[test]
fn the_slot_cap_grows_in_the_steps_of_the_senders() {
    for (replicas, senders, cap) in [
        (0, 64, "2GB"),
        (30, 64, "2GB"),
        (31, 128, "4GB"),
        (62, 128, "4GB"),
        (63, 256, "8GB"),
        (126, 256, "8GB"),
    ] {
        let lab = plan(&format!("replica-count: {replicas}\n"));
        assert_eq!(lab.postgresql.max_wal_senders, senders);
        assert_eq!(lab.postgresql.max_slot_wal_keep_size.to_string(), cap);
    }
    let lab = plan("replica-count: 31\nwal-keep-size: 5GB\n");
    assert_eq!(lab.postgresql.max_slot_wal_keep_size.to_string(), "5GB");
}

/// What is noted stands in `snapshots/errors/notes.yaml`.
#[test]
fn what_is_fine_is_not_noted() {
    for config in [
        "replica-count: 8\nwal-keep-size: 64MB\npostgresql: {max-slot-wal-keep-size: 256MB}",
        "postgresql: {parameters: {fsync: on, full_page_writes: true, data_sync_retry: f}}",
        "postgresql: {parameters: {shared_preload_libraries: \"pg_stat_statements,auto_explain\"}}",
        "postgresql: {parameters: {auto_explain.log_min_duration: 1 fortnight, plpgsql.anything: 5Gi}}",
        "postgresql: {parameters: {timezone: utc, log_timezone: Etc/GMT-5, timezone_abbreviations: India}}",
        "postgresql: {parameters: {timezone: -3.5, log_timezone: <+03>-3}}",
        "postgresql: {parameters: {timezone: \"+02:00\", log_timezone: UTC-14:30}}",
        "postgresql: {parameters: {client_encoding: iso_8859-5, wal_consistency_checking: \"Heap, \\\"btree\\\"\"}}",
        "postgresql: {parameters: {search_path: \"\\\"$user\\\", a , \\\"b \\\"\\\"c\\\"\", temp_tablespaces: \" \"}}",
        "postgresql: {parameters: {log_directory: /etc, log_filename: \"\", backtrace_functions: \"a, b_2\"}}",
        "postgresql: {parameters: {logging_collector: on, log_directory: logs}}",
    ] {
        assert_eq!(plan(config).notes, [], "{config}");
    }
}

/// The same setting on images whose PostgreSQL is known, and on those where it is not.
#[test]
fn a_setting_is_checked_against_the_majors_of_the_image() {
    let lab = |guest: &str| {
        let config = format!("guest: {{{guest}}}\npostgresql: {{parameters: {{io_method: worker}}}}\n");
        Plan::new(&Source::new("gen.yaml", config)).is_ok()
    };
    for newer in [
        "image: quay.io/containerdisks/fedora:44",
        "image: registry.example.com/mirror/containerdisks/fedora:43-1.6",
    ] {
        assert!(lab(newer), "{newer}");
    }
    for older in [
        "image: quay.io/containerdisks/fedora:42",
        "image: quay.io/containerdisks/centos-stream:10-20250101",
        "image: quay.io/containerdisks/debian:13",
        "image: quay.io/containerdisks/debian:trixie",
        "image: quay.io/containerdisks/ubuntu:24.04",
        "image: registry.example.com:5000/rhel9/rhel-guest-image:9.4",
    ] {
        assert!(!lab(older), "{older}");
    }
    for unknown in [
        "image: fedora",
        "image: quay.io/containerdisks/fedora:latest",
        "image: registry.example.com/golden/debian:13",
        "image: \"registry.example.com:5000/debian\"",
        "image: debian:13, packages: preinstalled",
        "image: example.com/golden/pg:13, os: debian",
        "data-source: {name: rhel9}, os: rhel",
    ] {
        assert!(lab(unknown), "{unknown}");
    }
}
