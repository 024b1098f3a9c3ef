//! What a user sees of the program: exit status, what goes where, and what happens to files.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use virtwork_gen::config::keys::rows;

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
        place.set_mode("gen.secrets.yaml", 0o600);
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
        let mut bash = Command::new("bash");
        Run::of(bash.args(["-c", script]).env("GEN", GEN).current_dir(&self.0).stdin(Stdio::null()))
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
                } else if path.is_file() {
                    files.insert(name, fs::read(path).unwrap());
                }
            }
        }
        files
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
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

impl Run {
    /// The commands that the messages name.
    fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        let mut rest = self.err.as_str();
        // a backtick may stand inside quotes, so a command ends where its own quotes are closed
        while let Some(start) = rest.find('`') {
            rest = &rest[start + 1..];
            let ends = rest.match_indices('`').map(|(end, _)| end);
            let Some(end) = ends.into_iter().find(|end| is_closed(&rest[..*end])) else { break };
            if ["gen ", "mv ", "chmod "].iter().any(|program| rest[..end].starts_with(program)) {
                commands.push(rest[..end].to_owned());
            }
            rest = &rest[end + 1..];
        }
        commands
    }
}

/// Whether every quote of a command that `gen` prints is closed.
fn is_closed(command: &str) -> bool {
    command.replace("\\\\", "").replace("\\'", "").matches('\'').count().is_multiple_of(2)
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
    assert!(
        run.out == read("three-keys/bundle.snap.yaml"),
        "cargo test --test snapshots shows the difference"
    );
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
    assert_eq!(documents(&kustomization)[0]["configurations"][0], "kustomizeconfig.yaml");
    assert!(files.remove("kustomizeconfig.yaml").is_some(), "{kustomization}");
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
fn a_stream_has_one_header_and_its_secrets_in_the_working_directory() {
    let place = Place::with("streams", "");
    place.write("lab.yaml", "name: piped\n");
    let expected = place.bash("\"$GEN\" - < lab.yaml").ok().out;
    for script in
        ["\"$GEN\" /dev/stdin < lab.yaml", "cat lab.yaml | \"$GEN\" /dev/stdin", "\"$GEN\" <(cat lab.yaml)"]
    {
        assert!(place.bash(script).ok().out == expected, "{script}");
    }
}

#[test]
fn no_config_is_ignored_without_a_word() {
    let place = Place::new("ignored");
    place.write("gen.yml", "name: db\n");
    place.write("gen.secrets.yaml", SECRETS);
    let run = place.run(&["-o", "out"]).refused("`gen.yml` is not read");
    assert_eq!(run.commands(), ["gen gen.yml -o out"]);
    for name in ["Gen.yaml", "gen.YAML", "GEN.Yml"] {
        fs::rename(place.path("gen.yml"), place.path(name)).unwrap();
        let run = place.run(&[]).refused(&format!("`{name}` is not read"));
        assert_eq!(run.commands(), [format!("gen {name}")]);
        fs::rename(place.path(name), place.path("gen.yml")).unwrap();
    }
    fs::rename(place.path("gen.yml"), place.path("lab.yaml")).unwrap();
    for script in
        ["\"$GEN\" < lab.yaml", "cat lab.yaml | \"$GEN\"", "{ sleep 0.05; cat lab.yaml; } | \"$GEN\""]
    {
        let run = place.bash(script).refused("standard input is not read without `-`");
        assert_eq!(run.commands(), ["gen -"]);
        assert!(place.bash(&format!("{script} -")).ok().out.contains("name: db-primary-0\n"));
    }
    let run = place.bash("\"$GEN\" -o out --check < lab.yaml").refused("standard input is not read");
    assert_eq!(run.commands(), ["gen - -o out --check"]);
    // with a gen.yaml it is that which is read: scripts pipe lists of directories around
    place.write("gen.yaml", "name: of-the-file\n");
    place.set_mode("gen.secrets.yaml", 0o600);
    for script in ["\"$GEN\" < lab.yaml", "cat lab.yaml | (sleep 0.2; \"$GEN\")"] {
        let run = place.bash(script).ok();
        assert!(run.out.contains("name: of-the-file-primary-0\n"));
        assert!(
            run.err.starts_with(
                "note[stdin-not-read]: standard input holds data and is not read, `gen.yaml` is"
            ),
            "{}",
            run.err
        );
        assert_eq!(run.commands(), ["gen -"]);
    }
    // nothing is taken from it
    let run = place.bash("{ \"$GEN\" --check 2>/dev/null; cat; } < lab.yaml").ok();
    assert_eq!(run.out, "name: db\n");
    for script in ["\"$GEN\" < /dev/null", "\"$GEN\" <&-", "true | \"$GEN\""] {
        assert_eq!(place.bash(script).err, "", "{script}");
    }
}

#[test]
fn a_silent_standard_input_holds_nothing_up() {
    let place = Place::new("silent");
    place.write("gen.secrets.yaml", SECRETS);
    place.set_mode("gen.secrets.yaml", 0o600);
    // as cron, docker, a closed descriptor and an empty file have it
    for script in ["true | \"$GEN\"", "\"$GEN\" < /dev/null", "\"$GEN\" <&-", "echo -n > e; \"$GEN\" < e"] {
        assert_eq!(place.bash(script).ok().err, "", "{script}");
    }
    // as ssh and CI have it: open, and nobody writes
    let mut command = place.command(&[]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pipe = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(pipe);
    assert!(output.status.success());
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(note.contains("these are built-in defaults; `gen -` reads it"), "{note}");
}

#[test]
fn a_config_that_cannot_be_read_is_never_overwritten_by_the_remedy() {
    let place = Place::new("unreadable-config");
    fs::create_dir(place.path("folder")).unwrap();
    symlink("nowhere", place.path("link.yaml")).unwrap();
    place.bash("mkfifo pipe.yaml").ok();
    for (name, reason) in [
        ("folder", "it is a directory"),
        ("link.yaml", "it is a link to `nowhere`, which does not exist"),
        ("pipe.yaml", "it is a named pipe"),
        ("/dev/null", "it is a device"),
    ] {
        let run = place.run(&[name]).refused(&format!("cannot read `{name}`: {reason}"));
        assert!(!run.err.contains('>') && !run.err.contains("readable"), "{}", run.err);
    }
    symlink("nowhere", place.path("gen.yaml")).unwrap();
    place.run(&[]).refused("help: mend the link, or name another config");
    fs::remove_file(place.path("gen.yaml")).unwrap();
    place.write("lab.yml", "name: db\n");
    for name in ["lab", "lab.yaml", "Lab.yml"] {
        let run = place.run(&[name, "-o", "out", "--check"]).refused("there is no such file");
        assert_eq!(run.commands(), ["gen lab.yml -o out --check"]);
    }
    let missing = place.run(&["a lab.yaml"]).refused("there is no such file");
    place.bash(&format!("gen() {{ \"$GEN\" \"$@\"; }}; {}", missing.commands()[0])).ok();
    place.run(&["a lab.yaml"]).ok();
    // root reads everything, so a user is asked, where there is one
    place.write("gen.yaml", "name: db\n");
    place.set_mode("gen.yaml", 0o000);
    let run =
        place.bash("[[ $UID == 0 ]] || { \"$GEN\"; exit; }; cp \"$GEN\" . && setpriv --reuid 65534 ./gen");
    if run.err.contains("ermission denied") && run.err.contains("gen.yaml") {
        assert!(run.err.contains("make it readable for you") && !run.err.contains('>'), "{}", run.err);
    }
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
    for what in ["--help", "-h", "--version", "--print example"] {
        place.bash(&format!("\"$GEN\" {what} > /dev/full")).refused("cannot write the output");
        place.bash(&format!("\"$GEN\" {what} >&-")).refused("standard output is closed");
        assert_eq!(place.bash(&format!("\"$GEN\" {what} | true; exit ${{PIPESTATUS[0]}}")).ok().err, "");
    }
    assert!(place.run(&["--help"]).ok().out.contains("Usage: gen"));
    assert!(place.run(&["--version"]).ok().out.starts_with("gen "));
}

#[test]
fn an_output_that_would_be_lost_is_an_error() {
    let place = Place::new("lost-output");
    place.write("gen.yaml", "");
    for script in ["\"$GEN\" >&-", "\"$GEN\" 1< gen.yaml", "\"$GEN\" --print example >&-"] {
        place.bash(script).refused("standard output ");
        assert_eq!(place.files(".").len(), 1, "{script}");
    }
    place.bash("\"$GEN\" > /dev/null && \"$GEN\" -o out >&- && \"$GEN\" --check >&-").ok();
    place.bash("\"$GEN\" 2>&-").ok();
}

#[test]
fn an_output_that_is_an_input_is_an_error() {
    let place = Place::new("output-is-input");
    let config = "name: db\nreplica-count: 0\n";
    for (script, what) in [
        ("\"$GEN\" q.yaml >> q.yaml", "`q.yaml`, the config"),
        ("\"$GEN\" q.yaml > q.yaml", "`q.yaml`, the config"),
        ("\"$GEN\" > gen.yaml", "`gen.yaml`, the config"),
        ("\"$GEN\" q.yaml > gen.secrets.yaml", "`gen.secrets.yaml`, the secrets file"),
        ("\"$GEN\" q.yaml >> gen.secrets.yaml", "`gen.secrets.yaml`, the secrets file"),
        ("ln -f q.yaml l.yaml; \"$GEN\" q.yaml >> l.yaml", "`q.yaml`, the config"),
        ("\"$GEN\" - < q.yaml >> q.yaml", "`/dev/stdin`, the config"),
        ("\"$GEN\" q.yaml -o out --check >> q.yaml", "`q.yaml`, the config"),
    ] {
        place.write("q.yaml", config);
        place.write("gen.secrets.yaml", SECRETS);
        let run = place.bash(script).refused(&format!("standard output goes to {what}"));
        let is_emptied = !script.contains(">>");
        assert_eq!(run.err.contains("bring it back first"), is_emptied, "{}", run.err);
        if !is_emptied {
            assert_eq!(
                (place.read("q.yaml").as_str(), place.read("gen.secrets.yaml").as_str()),
                (config, SECRETS)
            );
        }
    }
    place.write("q.yaml", config);
    place
        .bash("\"$GEN\" --print example > gen.yaml && \"$GEN\" gen.yaml > /dev/null && \"$GEN\" --check")
        .ok();
}

#[test]
fn passwords_that_others_can_read_are_told() {
    let place = Place::with("exposed", "name: db\n");
    assert_eq!(place.bash("(umask 077; \"$GEN\" > private.yaml)").ok().err, "");
    let run = place.bash("umask 022; \"$GEN\" > 'a bundle.yaml'").ok();
    assert!(run.err.contains("others can read the file it goes to"), "{}", run.err);
    place.bash(&run.commands().concat()).ok();
    assert_eq!(place.mode("a bundle.yaml"), 0o600);
    assert_eq!(place.bash("\"$GEN\" > 'a bundle.yaml'").ok().err, "");

    place.set_mode("gen.secrets.yaml", 0o644);
    for args in [&[][..], &["-o", "out"], &["-o", "out", "--check"]] {
        let run = place.run(args).ok();
        assert!(run.err.contains("others can read the passwords in `gen.secrets.yaml`"), "{}", run.err);
        assert_eq!(run.commands(), ["chmod 600 gen.secrets.yaml"]);
    }
    place.bash("chmod 600 gen.secrets.yaml").ok();

    let credentials = "out/secret-db-credentials.yaml";
    place.set_mode(credentials, 0o644);
    let run = place.run(&["-o", "out", "--check"]).ok();
    assert_eq!(run.commands(), [format!("chmod 600 {credentials}")]);
    assert_eq!(place.mode(credentials), 0o644);
    let run = place.run(&["-o", "out"]).ok();
    assert!(run.err.contains(&format!("`{credentials}` could be read by others")), "{}", run.err);
    assert_eq!(place.mode(credentials), 0o600);

    place.write("gen.yaml", "name: db\ncredentials: {existing-secret: mine}\n");
    assert_eq!(place.bash("umask 022; \"$GEN\" > public.yaml").ok().err, "");
}

#[test]
fn advice_goes_to_stderr() {
    let place = Place::with("notes", "pgbench: {clients: 50}\n");
    let run = place.run(&[]).ok();
    assert!(
        run.err.starts_with("note[more-clients-than-scale]: 50 pgbench clients on scale 10"),
        "{}",
        run.err
    );
    assert!(!run.out.contains("note:"));
}

// Errors

#[test]
fn an_error_writes_nothing_anywhere() {
    let place = Place::new("errors");
    place.write("bad.yaml", "replica-count: -1\n");
    place.write("good.yaml", "");
    place.write("existing.yaml", "credentials: {existing-secret: mine}\n");
    place.write("latin-1.yaml", b"annotations:\n  a: Gr\xfc\xdfe\n");
    place.write("huge.yaml", "\n".repeat((1 << 20) + 1));
    fs::create_dir(place.path("folder")).unwrap();
    place.bash("mkfifo pipe; ln -s nowhere link").ok();
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
        (&["-o", "new", "--check", "good.yaml"], "no `replication-password` and no `client-password`"),
        (&["-o", "-", "good.yaml"], "`gen good.yaml` writes to standard output"),
        (&["-o", "", "good.yaml"], "a value is required"),
        (&["help"], "`gen --help` explains the command line"),
        (&["absent/gen.yaml"], "help: name a config\n"),
        (&["-o", "bad.yaml", "good.yaml"], "`bad.yaml` is not a directory"),
        (&["-o", "bad.yaml", "--check", "existing.yaml"], "`bad.yaml` is not a directory"),
        (&["-o", "pipe", "good.yaml"], "`pipe` is not a directory"),
        (&["-o", "pipe", "--check", "existing.yaml"], "`pipe` is not a directory"),
        (&["-o", "bad.yaml/new", "good.yaml"], "`bad.yaml` is not a directory"),
        (&["-o", "link", "good.yaml"], "`link` is a link to what does not exist"),
        (&["-o", "link/new", "--check", "existing.yaml"], "`link` is a link to what does not exist"),
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
fn the_command_that_check_names_is_whole() {
    let config = "name: db\ncredentials: {existing-secret: mine}\n";
    for (name, directory) in [
        ("lab.yaml", "out"),
        ("a lab's.yaml", "out of date/"),
        ("$HOME;`id`.yaml", "*"),
        ("./-x.yaml", "~"),
        ("a\nb\u{1b}\u{e9}\\.yaml", "caf\u{e9} '\u{85}"),
        ("-", "out"),
    ] {
        let place = Place::new("whole-command");
        place.write("input", config);
        if name != "-" {
            place.write(name, config);
        }
        let args = [OsStr::new(name), OsStr::new("-o"), OsStr::new(directory)];
        let stdin = || fs::File::open(place.path("input")).unwrap();
        let check = || Run::of(place.command(&["--check"]).args(args).stdin(stdin()));
        let outdated = check();
        assert_eq!(outdated.code, Some(1), "{}", outdated.err);
        let [command] = &outdated.commands()[..] else { panic!("{}", outdated.err) };
        place.bash(&format!("gen() {{ \"$GEN\" \"$@\"; }}; {{ {command}\n}} < input")).ok();
        assert_eq!(check().ok().err, "", "{command}");
    }
    // bytes that are no text
    let place = Place::new("whole-command");
    let name = OsStr::from_bytes(b"\xff'.yaml");
    fs::write(place.0.join(name), config).unwrap();
    let check = || Run::of(place.command(&["--check", "-o", "out"]).arg(name));
    let [command] = &check().commands()[..] else { panic!("no command") };
    place.bash(&format!("gen() {{ \"$GEN\" \"$@\"; }}; {command}")).ok();
    check().ok();
}

#[test]
fn built_in_defaults_are_not_checked() {
    let place = Place::new("check-defaults");
    place.run(&["--check"]).refused("there is no `gen.yaml` here to check");
    place.run(&["-o", "out", "--check"]).refused("there is no `gen.yaml` here to check");
    assert_eq!(place.files(".").len(), 0);
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
        place.set_mode("gen.secrets.yaml", 0o644);
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
    place.set_mode("gen.secrets.yaml", 0o440);
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
fn a_secrets_file_that_is_none_is_refused_and_left_alone() {
    let place = Place::new("no-secrets-file");
    place.write("gen.yaml", "");
    let path = place.path("gen.secrets.yaml");
    for (make, reason) in [
        ("ln -s vault/lab.yaml gen.secrets.yaml", "it is a link to `vault/lab.yaml`, which does not exist"),
        ("mkfifo gen.secrets.yaml", "it is a named pipe"),
        ("mkdir gen.secrets.yaml", "it is a directory"),
        ("ln -s /dev/zero gen.secrets.yaml", "it is a device"),
    ] {
        place.bash(make).ok();
        for args in [&[][..], &["-o", "out"], &["-o", "out", "--check"]] {
            place.run(args).refused(&format!("cannot read `gen.secrets.yaml`: {reason}"));
            assert!(!place.path("out").exists() && !place.path("vault").exists());
        }
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
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
    let place = Place::with("stale", "name: db\nnamespace: a\n");
    place.run(&["-o", "out"]).ok();
    place.write("out/README.md", "mine");
    place.write("out/secret-mine.yaml", "apiVersion: v1\nkind: Secret\n");
    place.write("out/service-db-replicas.yaml", "# taken over by hand\n");
    place.write("out/notes.txt", "# Generated by virtwork-gen from a test; not a YAML file.\n");
    symlink("secret-db-primary-cloudinit.yaml", place.path("out/link.yaml")).unwrap();
    // a stream that was redirected into it, of any lab, and copies made by hand
    let stream = place.run(&[]).ok().out;
    let vm = place.read("out/virtualmachine-db-replica-0.yaml");
    let own = [
        ("secret-bundle.yaml", stream.replace("db", "other")),
        ("virtualmachine-backup.yaml", vm.clone()),
        ("virtualmachine-db-replica-7.yaml", vm.replace("gen.yaml", "lab.yaml")),
        ("secret-db-replica-0.yaml", vm.clone()),
        ("virtualmachine-db-two.yaml", format!("{0}---\n{0}", vm.replace("db-replica-0", "db-two"))),
    ];
    for (name, text) in &own {
        place.write(&format!("out/{name}"), text);
    }
    place.write("gen.yaml", "name: db\nreplica-count: 0\n");
    let run = place.run(&["-o", "out"]).ok();
    let removed = "removed `out/datavolume-db-replica-0-data.yaml`, `out/secret-db-replica-cloudinit.yaml`, \
                   `out/virtualmachine-db-replica-0.yaml`, no longer part of the bundle\n";
    assert!(run.err.contains(removed), "{}", run.err);
    for (name, text) in &own {
        assert!(place.read(&format!("out/{name}")) == *text, "{name}");
        fs::remove_file(place.path("out").join(name)).unwrap();
    }
    let rest: Vec<_> = place.files("out").into_keys().filter(|name| !name.contains("-db-primary")).collect();
    let kept = ["README.md", "configmap-db-guest.yaml", "link.yaml", "networkpolicy-db.yaml", "notes.txt"];
    assert_eq!(rest[..5], kept);
    assert_eq!(rest[5..7], ["secret-db-credentials.yaml", "secret-mine.yaml"]);
    assert_eq!(rest[7..], ["service-db-nodes.yaml", "service-db-replicas.yaml"]);
}

#[test]
fn one_directory_holds_one_lab() {
    const DB: &str = "name: db\ncredentials: {existing-secret: mine}\n";
    const IN_A: &str = "name: db\nnamespace: a\ncredentials: {existing-secret: mine}\n";
    const IN_B: &str = "name: db\nnamespace: b\ncredentials: {existing-secret: mine}\n";
    const NEW: &str = "name: new\nkustomization: true\ncredentials: {existing-secret: mine}\n";
    for (before, after) in [
        // two labs; two configs of one name; a config that was renamed; a lab that was renamed
        (("a.yaml", DB), ("b.yaml", NEW)),
        (("a/gen.yaml", DB), ("b/gen.yaml", NEW)),
        (("a/gen.yaml", IN_A), ("b/gen.yaml", IN_B)),
        (("a.yaml", DB), ("b.yaml", DB)),
        (("gen.yaml", NEW), ("gen.yaml", DB)),
        // from a stream
        (("a.yaml", DB), ("-", DB)),
        (("-", DB), ("a.yaml", DB)),
        (("-", DB), ("-", NEW)),
    ] {
        let place = Place::new("one-lab");
        for name in ["a", "b"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        let run = |(file, config): (&str, &str), command: &str| {
            place.write("config", config);
            if file != "-" {
                place.write(file, config);
            }
            place.bash(&format!("gen() {{ \"$GEN\" \"$@\"; }}; {{ {command}; }} < config"))
        };
        run(before, &format!("gen {} -o out/", before.0)).ok();
        place.write("out/README.md", "mine");
        let first = place.files("out");

        run(after, &format!("gen {} -o out/ --check", after.0)).refused("`out/` holds lab `");
        let refused = run(after, &format!("gen {} -o out/", after.0)).refused("`out/` holds lab `");
        assert!(place.files("out") == first, "{before:?} {after:?}");
        // the ways out, as they are printed; neither loses a file
        let [beside, instead] = &refused.commands()[..] else { panic!("{}", refused.err) };
        run(after, beside).ok();
        assert!(place.files("out") == first);
        run(after, &format!("{beside} --check")).ok();
        run(after, instead).ok();
        assert!(place.files("out.old") == first);
        run(after, &format!("gen {} -o out --check", after.0)).ok();
    }
}

#[test]
fn a_directory_with_the_config_in_it_is_not_moved_away() {
    let place = Place::new("config-inside");
    fs::create_dir(place.path("out")).unwrap();
    place.write("out/gen.yaml", "name: db\n");
    place.run(&["out/gen.yaml", "-o", "out"]).ok();
    place.write("out/gen.yaml", "name: new\n");
    let run = place.run(&["out/gen.yaml", "-o", "out"]).refused("`out` holds lab `db` from gen.yaml");
    assert_eq!(run.commands(), ["gen out/gen.yaml -o out-new"]);
    let run = place.bash("cd out; \"$GEN\" -o .").refused("`.` holds lab `db` from gen.yaml");
    assert_eq!(run.commands(), ["gen -o ./new"]);
}

#[test]
fn built_in_defaults_take_nothing_away() {
    let place = Place::with("defaults", "replica-count: 3\n");
    place.run(&["-o", "out"]).ok();
    fs::remove_file(place.path("gen.yaml")).unwrap();
    let before = place.files("out");
    place
        .run(&["-o", "out"])
        .refused("from gen.yaml; this is lab `virtwork-database-replication` from its built-in");
    assert!(place.files("out") == before);

    // what an older version had by default stays; and the lab goes on in a gen.yaml
    place.run(&["-o", "new"]).ok();
    let file = place.read("new/virtualmachine-virtwork-database-replication-replica-0.yaml");
    let file = file.replace("replica-0", "replica-1");
    place.write("new/virtualmachine-virtwork-database-replication-replica-1.yaml", &file);
    place.run(&["-o", "new"]).ok();
    assert!(place.path("new/virtualmachine-virtwork-database-replication-replica-1.yaml").exists());
    place.write("gen.yaml", "replica-count: 1\n");
    place.run(&["-o", "new"]).ok();
    assert!(!place.path("new/virtualmachine-virtwork-database-replication-replica-1.yaml").exists());
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let place = Place::new("same-time");
    place.write("gen.yaml", "name: db\nreplica-count: 150\n");
    for round in 0..15 {
        // the loser of the passwords takes those of the winner, and the directory is that of one of them
        let _ = fs::remove_file(place.path("gen.secrets.yaml"));
        let _ = fs::remove_file(place.path("out/secret-db-credentials.yaml"));
        place.write("gen.yaml", format!("name: db\nreplica-count: {}\n", 150 - round % 2 * 100));
        let spawn = |args: &[&str]| {
            let mut command = place.command(args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let runs = [spawn(&["-o", "out"]), spawn(&["-o", "out"]), spawn(&[])].map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        });
        let files = place.files("out");
        let credentials = std::str::from_utf8(&files["secret-db-credentials.yaml"]).unwrap();
        assert!(runs[2].starts_with(credentials), "two runs have different passwords");
        let checked = place.run(&["-o", "out", "--check"]).ok();
        assert_eq!((checked.out.as_str(), checked.err.as_str()), ("", ""), "round {round}");
    }
    let rest: Vec<_> = place.files(".").into_keys().filter(|name| name.contains(".virtwork-gen.")).collect();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn another_run_is_waited_for_and_announced() {
    let place = Place::with("waiting", "name: db\n");
    fs::create_dir(place.path("out")).unwrap();
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
    assert_eq!(place.files("out").len(), 0);
    drop(lock);
    place.run(&["-o", "out"]).ok();
}

#[test]
fn a_disk_is_said_to_change_only_where_its_spec_does() {
    let place = Place::with("disk-note", "name: db\nvm: {data-disk-size: 10Gi}\n");
    place.run(&["-o", "out"]).ok();
    let file = "out/datavolume-db-primary-0-data.yaml";
    let check = |is_noted: bool| {
        let run = place.run(&["-o", "out", "--check"]);
        assert_eq!(run.code, Some(1));
        assert_eq!(
            run.err.contains("a cluster that has this DataVolume refuses it"),
            is_noted,
            "{}",
            run.err
        );
    };
    place.write("gen.yaml", "name: db\nlabels: {a: b}\nannotations: {c: d}\nvm: {data-disk-size: 10Gi}\n");
    check(false);
    place.write("gen.yaml", "name: db\nvm: {data-disk-size: 10240Mi}\n");
    place.run(&["-o", "out", "--check"]).ok();
    place.write(file, place.read(file).replace("10Gi", "10240Mi"));
    check(false);
    place.write(file, place.read(file).replace('\n', "\r\n"));
    check(false);
    for config in ["vm: {data-disk-size: 20Gi}", "vm: {data-disk-size: 10Gi, storage-class: fast}"] {
        place.write("gen.yaml", format!("name: db\n{config}\n"));
        check(true);
    }
}

#[test]
fn what_a_lab_is_made_from_is_never_overwritten() {
    let file = "secret-db-credentials.yaml";
    for (config, script) in [
        (format!("credentials: {{file: {file}}}"), "\"$GEN\" -o ."),
        (format!("credentials: {{file: out/{file}}}"), "\"$GEN\" -o out"),
        (format!("credentials: {{file: new/../out/{file}}}"), "mkdir out new; \"$GEN\" -o new/../out"),
        (format!("credentials: {{file: link/{file}}}"), "mkdir out; ln -s out link; \"$GEN\" -o out"),
        (
            "kustomization: true".to_owned(),
            "mv gen.yaml kustomization.yaml; \"$GEN\" kustomization.yaml -o .",
        ),
    ] {
        let place = Place::new("over-inputs");
        place.write("gen.yaml", format!("name: db\n{config}\n"));
        place.bash(script).refused("and a file of the bundle would take its place");
        assert_eq!(
            place.files(".").into_keys().filter(|name| name.ends_with(".yaml")).count(),
            1,
            "{script}"
        );
        // a file that is there is spared as well, and --check says so, too
        if config.contains(file) {
            fs::create_dir_all(place.path("out")).unwrap();
            for name in [file.to_owned(), format!("out/{file}")] {
                place.write(&name, SECRETS);
            }
            let before = place.files(".");
            let gen_only = script.rsplit("; ").next().unwrap();
            place.bash(gen_only).refused("and a file of the bundle would take its place");
            place
                .bash(&format!("{gen_only} --check"))
                .refused("and a file of the bundle would take its place");
            assert!(place.files(".") == before, "{script}");
        }
    }
}

#[test]
fn passwords_in_a_directory_are_replaced_by_those_of_its_owner_only() {
    let place = Place::new("other-passwords");
    for lab in ["fast", "slow"] {
        fs::create_dir(place.path(lab)).unwrap();
        place.write(&format!("{lab}/gen.yaml"), "name: db\n");
    }
    place.run(&["fast/gen.yaml", "-o", "both"]).ok();
    let before = place.files(".");
    let run = place.run(&["slow/gen.yaml", "-o", "both"]).refused(
        "`both/secret-db-credentials.yaml` holds other passwords than the random ones for `slow/gen.s",
    );
    assert!(run.err.contains("choose another directory"), "{}", run.err);
    assert!(place.files(".") == before, "something was written");

    // a secrets file that is lost or lost a line; brought back, all is well
    for rest in ["", "client-password: kept\n"] {
        fs::remove_file(place.path("fast/gen.secrets.yaml")).unwrap();
        if !rest.is_empty() {
            place.write("fast/gen.secrets.yaml", rest);
        }
        place.run(&["fast/gen.yaml", "-o", "both"]).refused("bring the passwords back");
        fs::write(place.path("fast/gen.secrets.yaml"), &before["fast/gen.secrets.yaml"]).unwrap();
        place.run(&["fast/gen.yaml", "-o", "both"]).ok();
        assert!(place.files(".") == before);
    }

    // changed by hand they are meant, and told before anything is written; other labels are other labels only
    place.write("fast/gen.secrets.yaml", SECRETS);
    let note = "note[passwords-change]: the passwords in `both/secret-db-credentials.yaml` change";
    assert!(place.run(&["fast/gen.yaml", "-o", "both", "--check"]).err.contains(note));
    let run = place.run(&["fast/gen.yaml", "-o", "both"]).ok();
    assert!(run.err.contains(note), "{}", run.err);
    place.write("fast/gen.yaml", "name: db\nlabels: {a: b}\n");
    let run = place.run(&["fast/gen.yaml", "-o", "both"]).ok();
    assert!(!run.err.contains("change"), "{}", run.err);
}

#[test]
fn many_files_are_counted_in_a_note() {
    let place = Place::with("many", "name: db\nreplica-count: 50\nvm: {data-disk-size: 10Gi}\n");
    place.run(&["-o", "out"]).ok();
    place.write("gen.yaml", "name: db\nreplica-count: 50\nvm: {data-disk-size: 20Gi}\n");
    let run = place.run(&["-o", "out"]).ok();
    assert!(
        run.err.contains("`out/datavolume-db-replica-2-data.yaml` and 47 more: a cluster"),
        "{}",
        run.err
    );
    place.write("gen.yaml", "name: db\nvm: {data-disk-size: 20Gi}\n");
    let run = place.run(&["-o", "out"]).ok();
    assert!(run.err.contains(" and 94 more, no longer part of the bundle"), "{}", run.err);
    assert_eq!(run.err.lines().count(), 2);
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
    // no file may grow beyond 8 KiB: the scripts do not fit
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

#[test]
fn the_example_and_the_goldens_hold_every_key() {
    let place = Place::with("example", "");
    let example = place.run(&["--print", "example"]).ok().out;
    place.write("example.yaml", &example);
    place.run(&["--check", "example.yaml"]).ok();
    let bundles = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/bundles");
    let every_key = fs::read_to_string(bundles.join("every-key/gen.yaml")).unwrap();
    let data_source = fs::read_to_string(bundles.join("ubuntu-data-source/gen.yaml")).unwrap();
    // a secrets file and an instancetype exclude what every-key has in their place
    let golden = format!("{every_key}{data_source}file: instancetype:");
    for key in rows().iter().map(|row| row.key.name) {
        for (name, text) in [("the example", &example), ("the goldens", &golden)] {
            // a comment may name keys in a row: `or {name, kind}`
            let holds = |end: &str| text.contains(&format!("{key}{end}"));
            assert!([":", ",", "}"].into_iter().any(holds), "`{key}` is not in {name}");
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
        // `#key` and `#  key` are keys, `# words` are not
        let bare = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') || rest.starts_with("  "));
        let kept = bare.unwrap_or(line);
        if !exclusive.iter().any(|key| kept.trim_start().starts_with(key)) {
            uncommented.push_str(kept);
            uncommented.push('\n');
        }
    }
    place.write("gen.yaml", &uncommented);
    place.run(&["--check"]).ok();
    assert!(uncommented.contains("\n  cpu-cores: 2 "), "{uncommented}");
}
