//! `gen`: arguments, files in, the pure core, files out, exit status.
#![allow(clippy::disallowed_methods)]

mod cli;

use clap::Parser as _;
use cli::{Cli, Color, Print};
use std::io::{self, ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use virtwork_gen::plan::CredentialsPlan;
use virtwork_gen::secrets::SecretsFile;
use virtwork_gen::sink::{self, Comparison, shown};
use virtwork_gen::{Bundle, Passwords, Plan, Report, Source};

const EXAMPLE: &str = include_str!("../templates/example.yaml");

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(report) => {
            say(&report.render(has_color(cli.color)));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, Report> {
    if let Some(Print::Example) = cli.print {
        return to_stdout(|out| out.write_all(EXAMPLE.as_bytes()));
    }
    let (config, directory) = read_config(cli.config.as_deref())?;
    let plan = Plan::new(&config)?;
    for note in &plan.notes {
        say(&format!("note: {note}\n"));
    }
    let secrets = Secrets::of(&plan, &directory, cli)?;
    let bundle = Bundle::new(plan, secrets.passwords.as_ref())?;
    match (&cli.output, cli.check) {
        (None, true) => {
            say(&format!("{}: valid\n", config.name));
            Ok(ExitCode::SUCCESS)
        }
        (None, false) => {
            secrets.save()?;
            to_stdout(|out| sink::stream(&bundle, out))
        }
        (Some(directory), true) => check(&Comparison::new(&bundle, directory)?, directory),
        (Some(directory), false) => {
            let comparison = Comparison::new(&bundle, directory)?;
            let mut notes: Vec<_> = comparison.password_files().map(|path| password_note(&path)).collect();
            notes.extend(comparison.changed_disks().map(|path| disk_note(&path)));
            notes.extend(
                comparison
                    .stale_files()
                    .map(|path| format!("removed `{}`, no longer part of the bundle", shown(&path))),
            );
            let staged = comparison.stage()?;
            secrets.save()?;
            staged.commit()?;
            for note in notes {
                say(&format!("note: {note}\n"));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn password_note(path: &Path) -> String {
    format!(
        "`{}` holds the passwords in clear; keep it out of Git, or use `credentials.existing-secret`",
        shown(path)
    )
}

fn disk_note(path: &Path) -> String {
    format!(
        "`{}` changed: a cluster that has this DataVolume refuses it; keep its size in `data-disk-size` or \
         `wal-disk-size`, and grow the PVC",
        shown(path)
    )
}

fn check(comparison: &Comparison, directory: &Path) -> Result<ExitCode, Report> {
    if comparison.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    to_stdout(|out| comparison.diff(out))?;
    for path in comparison.changed_disks() {
        say(&format!("note: {}\n", disk_note(&path)));
    }
    let directory = shown(directory);
    say(&format!("{directory} is out of date: {}; run `gen -o {directory}`\n", comparison.summary()));
    Ok(ExitCode::from(1))
}

/// Writes to standard error. Where nobody reads it, the exit status still tells.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output. A reader that has seen enough is no error.
fn to_stdout(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<ExitCode, Report> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Report::failure(
            "<stdout>",
            format!("cannot write the output: {error}"),
            "make room, then run gen again",
        )),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// No config needs more; a bound keeps a wrong path from filling the memory.
const MAX_CONFIG: u64 = 1 << 20;

/// The config, and the directory that its relative paths start from.
fn read_config(path: Option<&Path>) -> Result<(Source, PathBuf), Report> {
    let here = PathBuf::new();
    match path {
        Some(path) if path == Path::new("-") => {
            Ok((decode("<stdin>", read_bounded(io::stdin()), "pipe a config into it")?, here))
        }
        Some(path) => {
            let directory = path.parent().map(Path::to_owned).unwrap_or_default();
            Ok((read_file(path)?, directory))
        }
        None if Path::new("gen.yaml").symlink_metadata().is_ok() => {
            Ok((read_file(Path::new("gen.yaml"))?, here))
        }
        None => Ok((Source::built_in_defaults(), here)),
    }
}

fn read_file(path: &Path) -> Result<Source, Report> {
    let bytes = std::fs::File::open(path).and_then(read_bounded);
    decode(&shown(path), bytes, "name a config; `gen --print example > gen.yaml` makes one")
}

fn read_bounded(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_CONFIG + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(name: &str, bytes: io::Result<Vec<u8>>, help: &str) -> Result<Source, Report> {
    let bytes = bytes.map_err(|e| Report::failure(name, format!("cannot read `{name}`: {e}"), help))?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(Report::failure(name, format!("`{name}` is larger than 1 MiB"), help));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count()
                    + 1;
            Err(Report::failure(
                name,
                format!("`{name}` is not UTF-8, first in line {line}"),
                "save it as UTF-8",
            ))
        }
    }
}

/// The passwords for the bundle, and what the secrets file lacks of them.
struct Secrets {
    passwords: Option<Passwords>,
    /// Path and text of the completed secrets file, and the keys that were added.
    addition: Option<(PathBuf, String, Vec<&'static str>)>,
}

impl Secrets {
    /// Reads the secrets file where the bundle needs one; draws what is missing in it.
    fn of(plan: &Plan, directory: &Path, cli: &Cli) -> Result<Self, Report> {
        let none = Self { passwords: None, addition: None };
        let CredentialsPlan::File(file) = &plan.credentials else { return Ok(none) };
        if cli.check && cli.output.is_none() {
            // nothing is written, so nobody needs to know them
            let any = Passwords { replication: "-".to_owned(), client: "-".to_owned() };
            return Ok(Self { passwords: Some(any), addition: None });
        }
        let path = directory.join(file);
        let name = shown(&path);
        let secrets = match std::fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => SecretsFile::empty(),
            opened => {
                SecretsFile::read(&decode(&name, opened.and_then(read_bounded), "mend the secrets file")?)?
            }
        };
        if let Some(passwords) = secrets.passwords() {
            return Ok(Self { passwords: Some(passwords), addition: None });
        }
        let missing = secrets.missing();
        if cli.check {
            return Err(Report::failure(
                &name,
                format!("no `{}` in `{name}`", missing.join("` and no `")),
                "bring the secrets file that the directory was written with; --check adds nothing",
            ));
        }
        let completed = secrets.completed(draw_password)?;
        let passwords =
            SecretsFile::read(&Source::new(&name, &completed)).ok().and_then(|file| file.passwords());
        if passwords.is_none() {
            return Err(Report::failure(
                &name,
                format!("cannot add `{}` to `{name}`", missing.join("` and `")),
                "write one `key: \"password\"` on each line",
            ));
        }
        Ok(Self { passwords, addition: Some((path, completed, missing)) })
    }

    /// Adds what was missing to the secrets file.
    fn save(&self) -> Result<(), Report> {
        let Some((path, text, keys)) = &self.addition else { return Ok(()) };
        let name = shown(path);
        sink::write_private(path, text).map_err(|e| {
            Report::failure(
                &name,
                format!("cannot write `{name}`: {e}"),
                "make its directory writable, or set `credentials`",
            )
        })?;
        say(&format!(
            "note: added a random `{}` to `{name}`; keep it, and keep it out of Git\n",
            keys.join("` and `")
        ));
        Ok(())
    }
}

/// 160 random bits as text that needs no quoting anywhere.
fn draw_password() -> Result<String, Report> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| {
        Report::failure(
            "<random>",
            format!("the operating system gives no random bytes: {error}"),
            "write the passwords yourself",
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn has_color(when: Color) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}
