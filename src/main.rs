//! `gen`: arguments, files in, the pure core, files out, exit status.
#![allow(clippy::disallowed_methods)]

mod cli;
mod command;
mod input;
mod output;

use clap::Parser as _;
use cli::{Cli, Color, Print};
use command::{command, is_stream, quoted};
use input::Secrets;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use virtwork_gen::config::example::example;
use virtwork_gen::config::fields::listed;
use virtwork_gen::diagnostic::{Code, Note};
use virtwork_gen::sink::{self, Comparison, Directory, shown};
use virtwork_gen::{Bundle, Plan, Report, Source};

fn main() -> ExitCode {
    let (color, done) = match Cli::try_parse() {
        Ok(cli) => (cli.color, run(&cli)),
        Err(error) if error.use_stderr() => {
            say(&error.render().to_string());
            return ExitCode::from(2);
        }
        // clap itself would not tell that nobody gets its help or version
        Err(help) => (Color::Auto, print(&help.render().to_string())),
    };
    done.unwrap_or_else(|report| {
        say(&report.render(has_color(color)));
        ExitCode::from(2)
    })
}

fn print(text: &str) -> Result<ExitCode, Report> {
    output::is_kept()?;
    output::to_stdout(|out| out.write_all(text.as_bytes()))
}

fn run(cli: &Cli) -> Result<ExitCode, Report> {
    if let Some(Print::Example) = cli.print {
        return print(&example());
    }
    is_directory(cli)?;
    let config = input::config(cli, &say_note)?;
    let mut plan = Plan::new(&config)?;
    for note in std::mem::take(&mut plan.notes) {
        say_note(note);
    }
    loop {
        match generate(cli, &config, plan)? {
            Some(code) => return Ok(code),
            // another run made the secrets file meanwhile: with its passwords, then
            None => plan = Plan::new(&config)?,
        }
    }
}

/// Generates from what is on disk now. `None`: another run changed the secrets file before anything was written.
fn generate(cli: &Cli, config: &Source, plan: Plan) -> Result<Option<ExitCode>, Report> {
    is_no_input(cli, &plan)?;
    let secrets = Secrets::of(&plan, cli, &say_note)?;
    let bundle = Bundle::new(plan, secrets.passwords.as_ref())?;
    bundle.note().into_iter().for_each(say_note);
    match (&cli.output, cli.check) {
        (None, true) => say(&format!("{}: valid\n", config.name)),
        (None, false) => {
            output::is_kept()?;
            if !secrets.save(&say_note)? {
                return Ok(None);
            }
            if bundle.holds_passwords()
                && let Some(note) = output::exposure()
            {
                say_note(note);
            }
            output::to_stdout(|out| sink::stream(&bundle, out))?;
        }
        (Some(path), true) => {
            spares_inputs(cli, &bundle, path)?;
            let directory = Directory::to_read(path, &mut || waiting(path))?;
            let comparison = Comparison::new(&bundle, directory, || another_lab(cli, config, &bundle, path))?;
            return check(&comparison, cli, path).map(Some);
        }
        (Some(path), false) => {
            let directory = Directory::to_write(path, &mut || waiting(path))?;
            spares_inputs(cli, &bundle, path)?;
            let comparison = Comparison::new(&bundle, directory, || another_lab(cli, config, &bundle, path))?;
            if let (Some((added, keys)), Some(changed)) =
                (secrets.added(), comparison.changed_passwords().next())
            {
                // the passwords in the directory may be those of a run that was first
                return if secrets.is_outdated() {
                    Ok(None)
                } else {
                    Err(other_passwords(added, keys, &changed))
                };
            }
            let mut notes: Vec<_> = comparison.password_files().map(|path| password_note(&path)).collect();
            notes.extend(comparison.exposed_files().map(|path| {
                let text = format!("`{}` could be read by others; now only by you", shown(&path));
                Note::new(Code::PasswordsReadableByOthers, text)
            }));
            notes.extend(few(comparison.stale_files(), |files| {
                let text = format!("removed {files}, no longer part of the bundle");
                Note::new(Code::StaleFilesRemoved, text)
            }));
            // before anything is written: a lab in which only the disks are refused is half of each config
            note_changes(&comparison);
            let staged = comparison.stage()?;
            if !secrets.save(&say_note)? {
                return Ok(None);
            }
            staged.commit()?;
            notes.into_iter().for_each(say_note);
        }
    }
    Ok(Some(ExitCode::SUCCESS))
}

/// Refuses what elsewhere means standard output; here it would become a directory that nobody wants.
fn is_directory(cli: &Cli) -> Result<(), Report> {
    if cli.output.as_deref() != Some(Path::new("-")) {
        return Ok(());
    }
    let streamed = command(cli.config.as_deref(), None, false);
    let help = format!("`{streamed}` writes to standard output; a directory called `-` is `-o ./-`");
    Err(Report::failure(Code::NotADirectory, "--output", "`-o -` names no directory", help))
}

fn password_note(path: &Path) -> Note {
    let text = format!(
        "`{}` holds the passwords in clear; keep it out of Git, or use `credentials.existing-secret`",
        shown(path)
    );
    Note::new(Code::PasswordsInClear, text)
}

/// Says what a running lab does not take as it takes the rest.
fn note_changes(comparison: &Comparison) {
    for path in comparison.changed_passwords() {
        let text =
            format!("the passwords in `{}` change; VMs that run take them at their next start", shown(&path));
        say_note(Note::new(Code::PasswordsChange, text));
    }
    if let Some(note) = few(comparison.changed_disks(), disk_note) {
        say_note(note);
    }
    let player = comparison.bundle().plan().names.wal_player();
    if let Some(note) = few(comparison.changed_jobs(), |files| job_note(files, &player)) {
        say_note(note);
    }
}

/// One note on all files: the first are named, the rest is counted, because thousands of replicas have as many.
fn few(files: impl Iterator<Item = PathBuf>, note: impl Fn(&str) -> Note) -> Option<Note> {
    const NAMED: usize = 4;
    let files: Vec<_> = files.collect();
    let named: Vec<_> = files.iter().take(NAMED).map(|path| format!("`{}`", shown(path))).collect();
    let rest = files.len() - named.len();
    let named = named.join(", ");
    match (files.len(), rest) {
        (0, _) => None,
        (_, 0) => Some(note(&named)),
        _ => Some(note(&format!("{named} and {rest} more"))),
    }
}

/// Random passwords in place of others: those of another lab, or of this one without its secrets file.
fn other_passwords(added: &Path, keys: &[&str], changed: &Path) -> Report {
    let (keys, added) = (listed(keys), shown(added));
    Report::failure(
        Code::OtherPasswords,
        &added,
        format!("`{}` holds other values of {keys} than the random ones for `{added}`", shown(changed)),
        format!(
            "if it is of this lab, bring {keys} back into `{added}` (there in base64); else choose another directory"
        ),
    )
}

fn disk_note(files: &str) -> Note {
    let text = format!(
        "another spec in {files}: a cluster that has this DataVolume refuses it and takes the rest; keep the old size, \
         class and modes in the config; to grow a disk, grow its PVC"
    );
    Note::new(Code::DiskSpecChanges, text)
}

fn job_note(files: &str, player: &str) -> Note {
    let text = format!(
        "another spec in {files}: a cluster that has it refuses it, and runs nothing again; for another run delete what \
         there is, then apply: `oc delete job/{player} pvc/{player}`"
    );
    Note::new(Code::JobSpecChanges, text)
}

fn waiting(path: &Path) {
    let text = format!("another gen is at work in `{}`; waiting for it", shown(path));
    say_note(Note::new(Code::WaitingForAnotherRun, text));
}

/// What to do about a directory of another lab. Nothing in it may be lost, whichever of the two was meant.
fn another_lab(cli: &Cli, config: &Source, bundle: &Bundle, path: &Path) -> String {
    if cli.check {
        return format!(
            "name the config of `{0}`, or the directory of this lab instead of `{0}`",
            shown(path)
        );
    }
    let lab = bundle.plan().names.lab();
    let into = |directory: &Path| command(cli.config.as_deref(), Some(directory), false);
    let beside = |end: &str| {
        path.file_name().map(|name| {
            let mut name = name.to_owned();
            name.push(end);
            path.with_file_name(name)
        })
    };
    let own = beside(&format!("-{lab}")).unwrap_or_else(|| path.join(lab));
    let mut help = format!("one directory holds one lab; `{}` writes this one beside it", into(&own));
    if config.name == Source::built_in_defaults().name {
        help.push_str(&format!("; for the lab of `{}` name its config", shown(path)));
    } else if let Some(aside) = beside(".old").filter(|_| !holds_input(cli, bundle, path)) {
        help.push_str(&format!(
            "; if it takes the place of the other, keep that aside: `mv {} {} && {}`",
            quoted(&path.components().collect::<PathBuf>()),
            quoted(&aside),
            into(path)
        ));
    }
    if cli.config.as_deref().is_some_and(is_stream) {
        help.push_str("; give it the same input");
    }
    help
}

/// Whether the config or its secrets file would go away together with a directory.
fn holds_input(cli: &Cli, bundle: &Bundle, path: &Path) -> bool {
    let is_inside = |file: &Path| Some(file.canonicalize().ok()?.starts_with(path.canonicalize().ok()?));
    input::files(cli, bundle.plan()).any(|(_, file)| is_inside(&file).unwrap_or(false))
}

/// Refuses to write a file of the bundle over what it is made from. A secrets file that is not there yet would come
/// first, and the Secret take its place.
fn spares_inputs(cli: &Cli, bundle: &Bundle, directory: &Path) -> Result<(), Report> {
    let directory = directory.canonicalize();
    for (what, file) in input::files(cli, bundle.plan()) {
        let place = file.canonicalize().or_else(|_| {
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok::<_, io::Error>(
                parent.unwrap_or(Path::new(".")).canonicalize()?.join(file.file_name().unwrap_or_default()),
            )
        });
        let (Ok(place), Ok(directory)) = (place, &directory) else { continue };
        if place.parent() == Some(directory)
            && bundle.files().any(|document| place.ends_with(document.file_name()))
        {
            return Err(Report::failure(
                Code::OutputOverInput,
                &shown(&file),
                format!("`{}` is {what}, and a file of the bundle would take its place", shown(&file)),
                "choose another directory, or another name for this file",
            ));
        }
    }
    Ok(())
}

/// Refuses, like `cat`, a standard output that goes to what the lab is made from.
fn is_no_input(cli: &Cli, plan: &Plan) -> Result<(), Report> {
    let stdin =
        cli.config.as_deref().filter(|path| is_stream(path)).map(|_| ("the config", "/dev/stdin".into()));
    let Some((what, file)) =
        stdin.into_iter().chain(input::files(cli, plan)).find(|(_, file)| output::is_at(file))
    else {
        return Ok(());
    };
    let name = shown(&file);
    let mut help = "send it to another file".to_owned();
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        help.push_str(&format!(
            "; if `{name}` held something, bring it back first: `>` empties a file before gen starts"
        ));
    }
    let message = format!("standard output goes to `{name}`, {what}");
    Err(Report::failure(Code::OutputOverInput, &name, message, help))
}

fn check(comparison: &Comparison, cli: &Cli, path: &Path) -> Result<ExitCode, Report> {
    for exposed in comparison.exposed_files() {
        say_note(input::readable_by_others(&exposed));
    }
    if comparison.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::to_stdout(|out| comparison.diff(out))?;
    note_changes(comparison);
    let input = if cli.config.as_deref().is_some_and(is_stream) { " with the same input" } else { "" };
    say(&format!(
        "{} is out of date: {}; run `{}`{input}\n",
        shown(path),
        comparison.summary(),
        command(cli.config.as_deref(), Some(path), false)
    ));
    Ok(ExitCode::from(1))
}

/// Writes to standard error. Where nobody reads it, the exit status still tells.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn say_note(note: Note) {
    say(&format!("{note}\n"));
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
