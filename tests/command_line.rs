//! What a user sees of the program: exit status, what goes where, and what happens to files.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GEN: &str = env!("CARGO_BIN_EXE_gen");
const SECRETS: &str = "replication-password: \"not-a-secret-1\"\nclient-password: \"not-a-secret-2\"\n";
/// The passwords of [`SECRETS`] as they are and in base64.
const PASSWORDS: [&str; 4] =
    ["not-a-secret-1", "not-a-secret-2", "bm90LWEtc2VjcmV0LTE", "bm90LWEtc2VjcmV0LTI"];

/// A directory of one test.
struct Place(PathBuf);

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(test: &str, config: &str) -> Self {
        let place = Self::new(test);
        place.write("gen.yaml", config);
        place.write("gen.secrets.yaml", SECRETS);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(GEN);
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    fn bash(&self, script: &str) -> Run {
        Run::of(Command::new("bash").args(["-c", script]).env("GEN", GEN).current_dir(&self.0))
    }

    /// Every file below the place with its bytes, `->` and the target for a link.
    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.path(name)];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                let name = path.strip_prefix(self.path(name)).unwrap().display().to_string();
                if path.is_symlink() {
                    let target = fs::read_link(&path).unwrap();
                    files.insert(name, [b"-> ", target.as_os_str().as_bytes()].concat());
                } else if path.is_dir() {
                    directories.push(path);
                } else {
                    files.insert(name, fs::read(path).unwrap());
                }
            }
        }
        files
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

impl Run {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    /// An error: status 2, a message that holds `text`, and not a byte on stdout.
    #[track_caller]
    fn refused(self, text: &str) -> Self {
        assert_eq!((self.code, self.out.as_str()), (Some(2), ""), "{}", self.err);
        assert!(self.err.contains(text), "{}", self.err);
        self
    }
}

fn documents(stream: &str) -> Vec<serde_yaml::Value> {
    stream.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect()
}

// Bundles on stdout

#[test]
fn an_empty_directory_gives_the_pair_and_its_passwords() {
    let place = Place::new("empty-directory");
    let run = place.run(&[]).ok();
    let vms: Vec<_> = documents(&run.out)
        .iter()
        .filter(|d| d["kind"] == "VirtualMachine")
        .map(|d| d["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(vms, ["virtwork-database-replication-primary-0", "virtwork-database-replication-replica-0"]);
    assert!(
        run.err.contains("`replication-password` and `client-password` to `gen.secrets.yaml`"),
        "{}",
        run.err
    );
    assert_eq!(place.mode("gen.secrets.yaml"), 0o600);
    assert!(place.run(&[]).ok().out == run.out, "the second run has other passwords");
}

#[test]
fn the_program_writes_what_the_library_was_reviewed_for() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/bundles");
    let read = |name: &str| fs::read_to_string(case.join(name)).unwrap();
    let place = Place::with("golden", &read("three-keys/gen.yaml"));
    place.write("gen.secrets.yaml", read("passwords.yaml"));
    let run = place.run(&[]).ok();
    assert!(run.out == read("three-keys/bundle.yaml"), "cargo test --test snapshots shows the difference");
    assert_eq!(run.err, "");
}

#[test]
fn the_same_config_gives_the_same_bytes_from_everywhere() {
    let place = Place::with("same-bytes", "replica-count: 2\n");
    fs::create_dir_all(place.path("else/where")).unwrap();
    let expected = place.run(&[]).ok().out;
    let same = |command: &mut Command| Run::of(command).ok().out == expected;
    assert!(same(&mut place.command(&["gen.yaml"])));
    assert!(same(&mut place.command(&["./else/../gen.yaml"])));
    assert_eq!(
        Run::of(place.command(&["../../gen.yaml"]).current_dir(place.path("else/where"))).ok().out,
        expected
    );
    assert_eq!(
        Run::of(place.command(&[place.path("gen.yaml").to_str().unwrap()]).current_dir("/")).ok().out,
        expected
    );
    let foreign =
        [("TZ", "Pacific/Kiritimati"), ("LANG", "tr_TR.UTF-8"), ("LC_ALL", "de_DE.UTF-8"), ("HOME", "/")];
    assert!(same(place.command(&[]).envs(foreign)));
    assert!(same(place.command(&[]).env_clear()));
    place.write("gen.yaml", "\u{feff}replica-count: 2\r\n");
    assert!(same(&mut place.command(&[])), "a Windows editor changes the bundle");
}

#[test]
fn a_stream_and_a_directory_hold_the_same_documents() {
    let place = Place::with("stream-and-directory", "replica-count: 2\nkustomization: true\n");
    let stream = place.run(&[]).ok().out;
    assert!(!stream.contains("kind: Kustomization"), "kubectl apply -f chokes on it");
    place.run(&["-o", "out"]).ok();
    let mut files = place.files("out");
    let kustomization = String::from_utf8(files.remove("kustomization.yaml").unwrap()).unwrap();
    let listed: Vec<_> = documents(&kustomization)[0]["resources"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let in_order: Vec<_> = listed.iter().map(|name| std::str::from_utf8(&files[name]).unwrap()).collect();
    assert!(in_order.join("---\n") == stream);
    assert_eq!(listed.len(), files.len(), "files that kustomize does not see");
}

#[test]
fn a_config_can_come_from_standard_input() {
    let place = Place::with("stdin", "");
    let run = place.bash("printf 'name: piped\\n' | \"$GEN\" -").ok();
    assert!(run.out.contains("name: piped-primary-0\n"));
    assert!(run.out.starts_with("# Generated by virtwork-gen from standard input"));
    let run = place.bash("printf 'name: Piped\\n' | \"$GEN\" -");
    run.refused("<stdin>:1:7");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::with("closed-pipe", "replica-count: 200\n");
    let run = place.bash("\"$GEN\" | head -n 1; exit ${PIPESTATUS[0]}").ok();
    assert_eq!((run.out.lines().count(), run.err.as_str()), (1, ""));
    place.run(&["-o", "out"]).ok();
    place.write("gen.yaml", "replica-count: 200\nlabels: {a: b}\n");
    let run = place.bash("\"$GEN\" -o out --check | head -n 1; exit ${PIPESTATUS[0]}");
    assert_eq!(run.code, Some(1), "{}", run.err);
}

#[test]
fn a_full_disk_is_an_error() {
    let place = Place::with("full-disk", "");
    let run = place.bash("\"$GEN\" > /dev/full");
    run.refused("cannot write the output: No space left on device");
}

#[test]
fn advice_goes_to_stderr() {
    let place = Place::with("notes", "pgbench: {clients: 50}\n");
    let run = place.run(&[]).ok();
    assert!(run.err.starts_with("note: 50 pgbench clients on scale 10"), "{}", run.err);
    assert!(!run.out.contains("note:"));
}

// Errors

#[test]
fn an_error_writes_nothing_anywhere() {
    let place = Place::new("errors");
    place.write("bad.yaml", "replica-count: -1\n");
    place.write("latin-1.yaml", b"annotations:\n  a: Gr\xfc\xdfe\n");
    place.write("huge.yaml", "\n".repeat((1 << 20) + 1));
    fs::create_dir(place.path("folder")).unwrap();
    let before = place.files(".");
    for (args, message) in [
        (&["bad.yaml"][..], "bad.yaml:1:16"),
        (&["-o", "new", "bad.yaml"], "nothing was written"),
        (&["--check", "bad.yaml"], "bad.yaml:1:16"),
        (&["-o", "new", "--check", "bad.yaml"], "bad.yaml:1:16"),
        (&["missing.yaml"], "cannot read `missing.yaml`"),
        (&["folder"], "cannot read `folder`"),
        (&["latin-1.yaml"], "not UTF-8, first in line 2"),
        (&["huge.yaml"], "larger than 1 MiB"),
        (&["--set", "name=x"], "unexpected argument"),
        (&["a.yaml", "b.yaml"], "unexpected argument"),
        (&["--print", "everything"], "invalid value"),
        (&["--print", "example", "-o", "new"], "cannot be used with"),
        (&["-o", "new", "--check"], "no `replication-password` and no `client-password`"),
        (&["-o", "bad.yaml"], "bad.yaml"),
        (&["-o", "bad.yaml/new"], "bad.yaml/new"),
        (&["-o", "/proc/self"], "cannot write `/proc/self/"),
        (&["-o", "/proc/self/a/b"], "cannot make `/proc/self/a/b`"),
    ] {
        place.run(args).refused(message);
        let after = place.files(".");
        assert!(after == before, "{args:?} left {:?}", after.keys());
        assert!(!place.path("new").exists(), "{args:?}");
    }
}

#[test]
fn a_secrets_file_that_cannot_be_written_is_an_error() {
    let place = Place::with("unwritable-secrets", "credentials: {file: /proc/none.yaml}\n");
    place.run(&[]).refused("cannot write `/proc/none.yaml`");
    place.run(&["-o", "new/out"]).refused("cannot write `/proc/none.yaml`");
    assert!(!place.path("new").exists());
    place.write("gen.yaml", "credentials: {file: folder}\n");
    fs::create_dir(place.path("folder")).unwrap();
    place.run(&[]).refused("cannot read `folder`");
}

#[test]
fn messages_have_colour_only_where_asked() {
    let place = Place::with("colour", "replica-count: -1\n");
    for (args, colour) in [(&["--color", "always"][..], true), (&["--color", "never"], false), (&[], false)] {
        let run = place.run(args).refused("gen.yaml");
        assert_eq!(run.err.contains('\x1b'), colour, "{args:?}: {}", run.err);
    }
}

// --check

#[test]
fn check_alone_needs_no_passwords() {
    let place = Place::new("check-alone");
    place.write("gen.yaml", "replica-count: 3\n");
    assert_eq!(place.run(&["--check"]).ok().out, "");
    assert_eq!(place.files(".").len(), 1);
}

#[test]
fn check_shows_what_changed_what_is_missing_and_what_is_stale() {
    let place = Place::with("check-directory", "name: db\nreplica-count: 2\n");
    place.run(&["-o", "out"]).ok();
    let run = place.run(&["-o", "out", "--check"]).ok();
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));

    fs::remove_file(place.path("out/service-db-nodes.yaml")).unwrap();
    place.write("gen.yaml", "name: db\nreplica-count: 1\nvm: {memory: 4Gi}\n");
    let before = place.files(".");
    let run = place.run(&["-o", "out", "--check"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    for line in [
        "--- out/virtualmachine-db-primary-0.yaml\n+++ out/virtualmachine-db-primary-0.yaml\n@@ ",
        "\n-          guest: 2Gi\n+          guest: 4Gi\n",
        "--- /dev/null\n+++ out/service-db-nodes.yaml\n@@ ",
        "--- out/virtualmachine-db-replica-1.yaml\n+++ /dev/null\n",
        "--- out/datavolume-db-replica-1-data.yaml\n+++ /dev/null\n",
    ] {
        assert!(run.out.contains(line), "{line}\nis not in\n{}", run.out);
    }
    assert!(
        run.err.contains("out is out of date: 2 changed, 1 missing, 2 stale; run `gen -o out`"),
        "{}",
        run.err
    );
    assert!(place.files(".") == before, "--check wrote something");

    place.run(&["-o", "out"]).ok();
    assert_eq!(place.run(&["-o", "out", "--check"]).ok().out, "");
}

#[test]
fn check_never_shows_a_password() {
    let place = Place::with("check-passwords", "");
    place.run(&["-o", "out"]).ok();
    place.write("gen.secrets.yaml", SECRETS.replace("secret", "other"));
    let run = place.run(&["-o", "out", "--check"]);
    assert_eq!(run.code, Some(1));
    assert!(run.out.contains("credentials.yaml"), "{}", run.out);
    fs::remove_dir_all(place.path("out")).unwrap();
    let missing = place.run(&["-o", "out", "--check"]);
    assert_eq!(missing.code, Some(1));
    for shown in [run.out, run.err, missing.out, missing.err] {
        for password in
            PASSWORDS.map(|p| p.replace("secret", "other")).iter().map(String::as_str).chain(PASSWORDS)
        {
            assert!(!shown.contains(password), "{shown}");
        }
        assert!(!shown.contains("bm90LWEtb3RoZXIt"), "{shown}");
    }
}

// The secrets file

#[test]
fn a_missing_password_is_added_and_the_rest_stays() {
    let place = Place::new("half-a-secrets-file");
    place.write("gen.yaml", "");
    for (text, added) in [
        ("# ours\nclient-password: 'x y'", "replication-password"),
        ("{replication-password: not-a-secret}", "client-password"),
        ("# nothing yet\n", "client-password"),
        ("", "client-password"),
    ] {
        place.write("gen.secrets.yaml", text);
        fs::set_permissions(place.path("gen.secrets.yaml"), Permissions::from_mode(0o644)).unwrap();
        let run = place.run(&[]);
        let after = place.read("gen.secrets.yaml");
        if run.code == Some(0) {
            assert!(after.starts_with(text) && after.contains(&format!("\n{added}: ")), "{after}");
            assert_eq!(place.mode("gen.secrets.yaml"), 0o600);
            assert!(run.err.contains(added), "{}", run.err);
        } else {
            // a flow mapping cannot be added to: that must be said, and the file left alone
            run.refused("cannot add `client-password`");
            assert_eq!(after, text);
        }
    }
}

#[test]
fn a_complete_secrets_file_is_not_touched() {
    let place = Place::with("complete-secrets-file", "");
    fs::set_permissions(place.path("gen.secrets.yaml"), Permissions::from_mode(0o440)).unwrap();
    let before = fs::metadata(place.path("gen.secrets.yaml")).unwrap().modified().unwrap();
    place.run(&[]).ok();
    place.run(&["-o", "out"]).ok();
    assert_eq!(place.read("gen.secrets.yaml"), SECRETS);
    assert_eq!(place.mode("gen.secrets.yaml"), 0o440);
    assert_eq!(fs::metadata(place.path("gen.secrets.yaml")).unwrap().modified().unwrap(), before);
}

#[test]
fn a_secrets_file_behind_a_link_stays_behind_it() {
    let place = Place::new("linked-secrets-file");
    place.write("gen.yaml", "");
    place.write("real.yaml", "client-password: kept\n");
    symlink("real.yaml", place.path("gen.secrets.yaml")).unwrap();
    place.run(&[]).ok();
    assert!(place.path("gen.secrets.yaml").is_symlink());
    assert!(place.read("real.yaml").starts_with("client-password: kept\nreplication-password: "));
    assert_eq!(place.mode("real.yaml"), 0o600);
}

#[test]
fn the_secrets_file_lies_beside_the_config() {
    let place = Place::new("beside");
    fs::create_dir(place.path("lab")).unwrap();
    place.write("lab/gen.yaml", "");
    place.write("lab/other.yaml", "credentials: {file: other.secrets.yaml}\n");
    place.run(&["lab/gen.yaml"]).ok();
    place.run(&["lab/other.yaml"]).ok();
    place.bash("\"$GEN\" - < lab/other.yaml").ok();
    let names: Vec<_> = place.files(".").into_keys().collect();
    let expected = [
        "lab/gen.secrets.yaml",
        "lab/gen.yaml",
        "lab/other.secrets.yaml",
        "lab/other.yaml",
        "other.secrets.yaml",
    ];
    assert_eq!(names, expected);
}

#[test]
fn an_existing_secret_leaves_no_password_anywhere() {
    let place = Place::with("existing-secret", "credentials: {existing-secret: mine}\n");
    let run = place.run(&[]).ok();
    assert!(PASSWORDS.iter().all(|password| !run.out.contains(password)));
    fs::remove_file(place.path("gen.secrets.yaml")).unwrap();
    assert_eq!(place.run(&["-o", "out"]).ok().err, "");
    assert!(!place.path("gen.secrets.yaml").exists());
}

#[test]
fn passwords_in_a_directory_are_announced_and_private() {
    let place = Place::with("announced", "name: db\n");
    let run = place.run(&["-o", "out"]).ok();
    assert!(run.err.contains("`out/secret-db-credentials.yaml` holds the passwords in clear"), "{}", run.err);
    assert_eq!(place.mode("out/secret-db-credentials.yaml"), 0o600);
    assert!(
        place.read("out/secret-db-credentials.yaml").lines().nth(1).unwrap().contains("keep it out of Git")
    );
    for (name, bytes) in place.files("out") {
        if name != "secret-db-credentials.yaml" {
            let text = String::from_utf8(bytes).unwrap();
            assert!(PASSWORDS.iter().all(|password| !text.contains(password)), "{name}");
        }
    }
}

// Directories

#[test]
fn one_more_replica_is_two_more_files() {
    let place = Place::with("one-more", "name: db\nreplica-count: 3\n");
    place.run(&["-o", "out"]).ok();
    let modified = |name: &String| fs::metadata(place.path("out").join(name)).unwrap().modified().unwrap();
    let before = place.files("out");
    let times: Vec<_> = before.keys().map(modified).collect();
    place.write("gen.yaml", "name: db\nreplica-count: 4\n");
    place.run(&["-o", "out"]).ok();
    let after = place.files("out");
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(new, ["datavolume-db-replica-3-data.yaml", "virtualmachine-db-replica-3.yaml"]);
    for (name, time) in before.keys().zip(times) {
        assert_eq!(before[name], after[name], "{name} changed");
        assert_eq!(modified(name), time, "{name} was written again");
    }
}

#[test]
fn only_our_own_files_go_stale() {
    let place = Place::with("stale", "name: old\nnamespace: a\n");
    place.run(&["-o", "out"]).ok();
    place.write("out/README.md", "mine");
    place.write("out/secret-mine.yaml", "apiVersion: v1\nkind: Secret\n");
    place.write("out/service-old-nodes.yaml", "# taken over by hand\n");
    place.write("out/notes.txt", "# Generated by virtwork-gen from a test; not a YAML file.\n");
    symlink("secret-old-primary-cloudinit.yaml", place.path("out/link.yaml")).unwrap();
    place.write("gen.yaml", "name: new\n");
    place.run(&["-o", "out"]).ok();
    let rest: Vec<_> = place.files("out").into_keys().filter(|name| !name.contains("-new")).collect();
    assert_eq!(rest, ["README.md", "link.yaml", "notes.txt", "secret-mine.yaml", "service-old-nodes.yaml"]);
}

#[test]
fn what_is_in_the_way_and_not_ours_is_never_overwritten() {
    let place = Place::with("foreign", "name: db\n");
    fs::remove_file(place.path("gen.secrets.yaml")).unwrap();
    fs::create_dir_all(place.path("out/sub")).unwrap();
    place.write("target.yaml", "# Generated by virtwork-gen from gen.yaml; edit that, not this.\n");
    let in_the_way = place.path("out/virtualmachine-db-replica-0.yaml");
    for make in [
        (|path| fs::write(path, "kind: VirtualMachine\n").unwrap()) as fn(&Path),
        |path| fs::write(path, "").unwrap(),
        |path| symlink("../target.yaml", path).unwrap(),
        |path| symlink("nowhere", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ] {
        make(&in_the_way);
        let before = place.files(".");
        place.run(&["-o", "out"]).refused("virtualmachine-db-replica-0.yaml` is in the way");
        place.run(&["-o", "out", "--check"]).refused("");
        assert_eq!(place.files("."), before);
        let _ = fs::remove_file(&in_the_way).or_else(|_| fs::remove_dir(&in_the_way));
    }
}

#[test]
fn a_disk_that_fills_up_leaves_the_directory_as_it_was() {
    let place = Place::with("disk-fills-up", "name: db\n");
    place.run(&["-o", "out"]).ok();
    place.write("gen.yaml", "name: db\nlabels: {team: storage}\n");
    let before = place.files(".");
    // no file may grow beyond 8 KiB: the user-data does not fit
    let run = place.bash("trap '' XFSZ; ulimit -f 8; exec \"$GEN\" -o out");
    run.refused("File too large");
    assert_eq!(place.files("."), before);
}

#[test]
fn killed_at_any_point_it_leaves_whole_files_and_the_next_run_mends_the_rest() {
    let configs = ["name: db\nreplica-count: 150\n", "name: db\nreplica-count: 140\nlabels: {a: b}\n"];
    let place = Place::with("killed", "");
    let mut whole = Vec::new();
    let mut longest = Duration::ZERO;
    for config in configs {
        place.write("gen.yaml", config);
        let start = Instant::now();
        place.run(&["-o", "out"]).ok();
        longest = longest.max(start.elapsed());
        whole.push(place.files("out"));
    }
    let (mut interrupted, rounds) = (0, 60u32);
    for round in 0..rounds {
        place.write("gen.yaml", configs[round as usize % 2]);
        let mut child: Child = place.command(&["-o", "out"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(longest * (round * 37 % rounds) / rounds);
        let _ = child.kill();
        interrupted += usize::from(!child.wait().unwrap().success());
        for (name, bytes) in place.files("out") {
            let is_whole = whole.iter().any(|files| files.get(&name) == Some(&bytes));
            assert!(is_whole || name.ends_with(".virtwork-gen.tmp"), "round {round}: a part of {name}");
            assert!(!name.ends_with(".yaml") || !name.starts_with('.'), "{name} looks like a manifest");
        }
    }
    assert!(interrupted > 10, "only {interrupted} of {rounds} were interrupted");
    place.run(&["-o", "out"]).ok();
    assert!(place.files("out") == whole[1], "the last run does not complete the directory");
}

#[test]
fn a_kill_leaves_a_whole_secrets_file_or_none() {
    let place = Place::new("killed-secrets");
    for round in 0..40 {
        let _ = fs::remove_file(place.path("gen.secrets.yaml"));
        let mut child = place.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 150));
        let _ = child.kill();
        let _ = child.wait();
        if place.path("gen.secrets.yaml").exists() {
            let text = place.read("gen.secrets.yaml");
            assert!(text.lines().count() == 3 && text.ends_with('\n'), "{text}");
        }
    }
    place.run(&[]).ok();
    assert_eq!(place.files(".").into_keys().collect::<Vec<_>>(), ["gen.secrets.yaml"]);
}

#[test]
fn strange_file_names_stay_in_their_line() {
    let place = Place::with("strange-names", "");
    let name = OsStr::from_bytes(b"a\nkind: Pod\x1b[31m#\xff.yaml");
    fs::write(place.0.join(name), "replica-count: 0\n").unwrap();
    let run = Run::of(place.command(&[]).arg(name)).ok();
    assert!(documents(&run.out).iter().all(|document| document["kind"] != "Pod"));
    assert_eq!(run.out.matches("\n# Generated").count() + 1, run.out.matches("apiVersion").count());
    fs::write(place.0.join(name), "replica-count: -1\n").unwrap();
    let run = Run::of(place.command(&[]).arg(name)).refused("nothing was written");
    assert!(!run.err.contains('\x1b'), "{:?}", run.err);
}

// --print

/// The keys of each section, as the program itself lists them to who writes an unknown one.
fn known_keys(place: &Place, section: &str) -> Vec<String> {
    place.write("keys.yaml", section.replace("{}", "{qqqqqqqqqq: 1}"));
    let run = place.run(&["--check", "keys.yaml"]).refused("the keys here are ");
    let line = run.err.lines().find(|line| line.contains("the keys here are ")).unwrap().to_owned();
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_example_and_the_goldens_hold_every_key() {
    let place = Place::with("example", "");
    let example = place.run(&["--print", "example"]).ok().out;
    place.write("example.yaml", &example);
    place.run(&["--check", "example.yaml"]).ok();
    let bundles = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/bundles");
    let every_key = fs::read_to_string(bundles.join("every-key/gen.yaml")).unwrap();
    let data_source = fs::read_to_string(bundles.join("ubuntu-data-source/gen.yaml")).unwrap();
    for section in [
        "{}",
        "pgbench: {}",
        "postgresql: {}",
        "guest: {}",
        "guest: {ssh: {}}",
        "guest: {data-source: {}}",
        "vm: {}",
        "service: {}",
        "credentials: {}",
    ] {
        for key in known_keys(&place, section) {
            // a secrets file and an instancetype exclude what every-key has in their place
            let golden = format!("{every_key}{data_source}file: instancetype:");
            for (name, text) in [("the example", &example), ("the goldens", &golden)] {
                assert!(text.contains(&format!("{key}:")), "`{key}` of `{section}` is not in {name}");
            }
        }
    }
}

#[test]
fn the_example_stays_valid_when_its_lines_are_uncommented() {
    let place = Place::with("uncommented", "");
    let example = place.run(&["--print", "example"]).ok().out;
    // these exclude others, as their comments say
    let exclusive = ["data-source:", "root-disk-size:", "instancetype:", "existing-secret:"];
    let mut uncommented = String::new();
    for line in example.lines() {
        let bare = line.strip_prefix('#').filter(|rest| {
            let text = rest.trim_start();
            !rest.starts_with(' ') || (rest.starts_with("  ") && text.contains(':')) || text.starts_with("- ")
        });
        let kept = bare.unwrap_or(line);
        if !exclusive.iter().any(|key| kept.trim_start().starts_with(key)) {
            uncommented.push_str(kept);
            uncommented.push('\n');
        }
    }
    place.write("gen.yaml", &uncommented);
    place.run(&["--check"]).ok();
    assert!(uncommented.contains("\nvm:\n  cpu-cores: 2\n"), "{uncommented}");
}
