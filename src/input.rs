//! What is read: the config, and the secrets file beside it.

use crate::cli::Cli;
use crate::command::{command, is_stream, quoted};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{File, FileType};
use std::io::{self, ErrorKind, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use virtwork_gen::config::fields::listed;
use virtwork_gen::diagnostic::{Code, Note};
use virtwork_gen::names::CA_SEED_KEY;
use virtwork_gen::secrets::SecretsFile;
use virtwork_gen::sink::{self, shown};
use virtwork_gen::{Passwords, Plan, Report, Source};

/// No config needs more; a bound keeps a wrong path from filling the memory.
const MAX_SIZE: u64 = 1 << 20;

/// The config.
pub fn config(cli: &Cli, say: &dyn Fn(Note)) -> Result<Source, Report> {
    match cli.config.as_deref() {
        Some(path) if path == Path::new("-") => {
            decode("<stdin>", read_bounded(io::stdin()), "pipe a config into it")
        }
        Some(path) if is_stream(path) => {
            decode(&shown(path), File::open(path).and_then(read_bounded), "pipe a config into `gen -`")
        }
        Some(path) => config_file(path, cli),
        None if Path::new("gen.yaml").symlink_metadata().is_ok() => {
            let config = config_file(Path::new("gen.yaml"), cli)?;
            // no time is spent on waiting: most often nobody means to write
            if standard_input(Duration::ZERO) == StandardInput::Data {
                let text = format!(
                    "standard input holds data and is not read, `gen.yaml` is; `{}` reads it",
                    command(Some(Path::new("-")), cli.output.as_deref(), cli.check)
                );
                say(Note::new(Code::StdinNotRead, text));
            }
            Ok(config)
        }
        None => {
            nothing_is_ignored(cli, say)?;
            Ok(Source::built_in_defaults())
        }
    }
}

/// Where the relative paths of a config start; that is here for one without a place of its own.
fn directory_of(config: &Path) -> &Path {
    let here = Path::new("");
    if is_stream(config) { here } else { config.parent().unwrap_or(here) }
}

fn config_file(path: &Path, cli: &Cli) -> Result<Source, Report> {
    let name = shown(path);
    match open(path) {
        Ok(Some(file)) => decode(&name, read_bounded(file), "mend the file or its storage"),
        Ok(None) => Err(Report::failure(
            Code::ConfigNotFound,
            &name,
            format!("cannot read `{name}`: there is no such file"),
            instead_of(path, cli),
        )),
        Err(reason) => {
            let help = match path.metadata() {
                Ok(metadata) if metadata.is_dir() => "name a file in it",
                Ok(metadata) if !metadata.is_file() => "name a file, or pipe the config into `gen -`",
                Err(error) if error.kind() == ErrorKind::NotFound => "mend the link, or name another config",
                _ => "make it readable for you, or name another config",
            };
            Err(Report::failure(Code::CannotRead, &name, format!("cannot read `{name}`: {reason}"), help))
        }
    }
}

/// What to do about a config that is not there.
fn instead_of(path: &Path, cli: &Cli) -> String {
    if let Some(near) = near(path) {
        return format!(
            "there is `{}`: `{}`",
            shown(&near),
            command(Some(&near), cli.output.as_deref(), cli.check)
        );
    }
    match path.to_str() {
        Some("help") => "`gen --help` explains the command line".to_owned(),
        Some("version") => "`gen --version` prints the version".to_owned(),
        Some("example") => "`gen --print example` prints a config with every key".to_owned(),
        Some("check" | "validate") => "`gen --check` validates gen.yaml".to_owned(),
        _ if path.parent().is_some_and(|parent| parent.as_os_str().is_empty() || parent.is_dir()) => {
            format!("name a config; `gen --print example > {}` makes this one", quoted(path))
        }
        _ => "name a config".to_owned(),
    }
}

/// A file of nearly this name: with the other end, `.yaml` or `.yml`, or in other letters, small and capital.
fn near(path: &Path) -> Option<PathBuf> {
    let stem_of = |name: &str| {
        let name = name.to_ascii_lowercase();
        [".yaml", ".yml"].iter().find_map(|end| name.strip_suffix(end).map(str::to_owned))
    };
    let name = path.file_name()?.to_str()?;
    let stem = stem_of(name).unwrap_or_else(|| name.to_ascii_lowercase());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = parent.unwrap_or(Path::new(".")).read_dir().ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let near = names.filter(|name| stem_of(name).is_some_and(|other| other == stem));
    near.map(|name| path.with_file_name(name)).filter(|path| !path.is_dir()).min()
}

/// Refuses built-in defaults where the user seems to have given a config, or wants one checked.
fn nothing_is_ignored(cli: &Cli, say: &dyn Fn(Note)) -> Result<(), Report> {
    let output = cli.output.as_deref();
    let with = |config: &Path| command(Some(config), output, cli.check);
    if let Some(near) = near(Path::new("gen.yaml")) {
        return Err(Report::failure(
            Code::IgnoredConfig,
            &shown(&near),
            format!("`{}` is not read: the config is called `gen.yaml`", shown(&near)),
            format!("name it: `{}`; or rename it", with(&near)),
        ));
    }
    let stdin = standard_input(Duration::from_millis(1000));
    if stdin == StandardInput::Data {
        return Err(Report::failure(
            Code::IgnoredConfig,
            "<stdin>",
            "standard input is not read without `-`, and there is no `gen.yaml`",
            format!("`{}` reads it; `< /dev/null` gives it nothing", with(Path::new("-"))),
        ));
    }
    if cli.check {
        return Err(Report::failure(
            Code::ConfigNotFound,
            "gen.yaml",
            "there is no `gen.yaml` here to check",
            "name a config, or run gen in the directory of `gen.yaml`",
        ));
    }
    if stdin == StandardInput::Open {
        let text = format!(
            "there is no `gen.yaml`, and standard input, a pipe, is not read: these are built-in defaults; \
             `{}` reads it",
            with(Path::new("-"))
        );
        say(Note::new(Code::StdinNotRead, text));
    }
    Ok(())
}

#[derive(PartialEq)]
enum StandardInput {
    /// Somebody wrote something into it.
    Data,
    /// A pipe that stayed silent: of a slow writer, or of ssh, cron or CI, which never write.
    Open,
    /// A terminal, a device, or an end.
    Nothing,
}

/// Tells what standard input holds, without reading and without waiting for longer.
fn standard_input(patience: Duration) -> StandardInput {
    let stdin = io::stdin();
    let Ok(mut file) = stdin.as_fd().try_clone_to_owned().map(File::from) else {
        return StandardInput::Nothing;
    };
    let Ok(metadata) = file.metadata() else { return StandardInput::Nothing };
    if metadata.is_file() {
        let is_at_end = file.stream_position().is_ok_and(|position| position >= metadata.len());
        return if is_at_end { StandardInput::Nothing } else { StandardInput::Data };
    }
    if !metadata.file_type().is_fifo() && !metadata.file_type().is_socket() {
        return StandardInput::Nothing;
    }
    let waiting = poll(&mut [PollFd::new(&file, PollFlags::IN)], Timespec::try_from(patience).ok().as_ref());
    match (waiting, rustix::io::ioctl_fionread(&file)) {
        (_, Ok(1..)) => StandardInput::Data,
        (Ok(0), _) => StandardInput::Open,
        _ => StandardInput::Nothing,
    }
}

/// Opens a regular file; any other kind could keep us waiting for ever. `None`: there is none.
fn open(path: &Path) -> Result<Option<File>, String> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => File::open(path).map(Some).map_err(|e| e.to_string()),
        Ok(metadata) => Err(format!("it is {}", kind(metadata.file_type()))),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        Err(_) => match path.read_link() {
            Ok(target) => Err(format!("it is a link to `{}`, which does not exist", shown(&target))),
            Err(_) => Ok(None),
        },
    }
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a named pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn read_bounded(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(name: &str, bytes: io::Result<Vec<u8>>, help: &str) -> Result<Source, Report> {
    let unreadable = |e| Report::failure(Code::CannotRead, name, format!("cannot read `{name}`: {e}"), help);
    let bytes = bytes.map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Report::failure(
            Code::FileTooLarge,
            name,
            format!("`{name}` is larger than 1 MiB"),
            "no config or secrets file needs that much; is it the right one?",
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count()
                    + 1;
            Err(Report::failure(
                Code::NotUtf8,
                name,
                format!("`{name}` is not UTF-8, first in line {line}"),
                "save it as UTF-8",
            ))
        }
    }
}

/// What a lab is made from, in words and where it stands: the config and the secrets file, which may not be there yet.
pub fn files(cli: &Cli, plan: &Plan) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let config = cli.config.as_deref().unwrap_or(Path::new("gen.yaml"));
    let config = (!is_stream(config)).then(|| ("the config", config.to_owned()));
    config.into_iter().chain(secrets_file(cli, plan).map(|path| ("the secrets file", path)))
}

fn secrets_file(cli: &Cli, plan: &Plan) -> Option<PathBuf> {
    let file = plan.secrets_file()?;
    Some(cli.config.as_deref().map_or(Path::new(""), directory_of).join(file))
}

/// The passwords for the bundle, and what the secrets file lacks of them.
pub struct Secrets {
    /// None where the bundle holds none.
    pub passwords: Option<Passwords>,
    addition: Option<Addition>,
}

/// What is to be written into the secrets file.
struct Addition {
    path: PathBuf,
    /// The text that was there; none: there was no file.
    before: Option<String>,
    text: String,
    keys: Vec<&'static str>,
}

impl Secrets {
    /// Reads the secrets file where the bundle needs one; draws what is missing in it.
    pub fn of(plan: &Plan, cli: &Cli, say: &dyn Fn(Note)) -> Result<Self, Report> {
        let Some(path) = secrets_file(cli, plan) else {
            return Ok(Self { passwords: None, addition: None });
        };
        if cli.check && cli.output.is_none() {
            // nothing is written, so nobody needs to know them
            let passwords = Passwords::new("-", "-")?.with_ca_seed("----------------")?;
            return Ok(Self { passwords: Some(passwords), addition: None });
        }
        let name = shown(&path);
        let file = open(&path).map_err(|reason| {
            Report::failure(
                Code::CannotRead,
                &name,
                format!("cannot read `{name}`: {reason}"),
                "mend it, or name another file in `credentials.file`",
            )
        })?;
        let exposed = file.as_ref().is_some_and(is_exposed);
        let source = match file {
            Some(file) => Some(decode(&name, read_bounded(file), "mend the secrets file")?),
            None => None,
        };
        let secrets = source.as_ref().map_or_else(|| Ok(SecretsFile::empty()), SecretsFile::read)?;
        if let Some(passwords) = secrets.passwords(plan) {
            if exposed {
                say(readable_by_others(&path));
            }
            return Ok(Self { passwords: Some(passwords), addition: None });
        }
        let missing = secrets.missing(plan);
        if cli.check {
            return Err(Report::failure(
                Code::MissingPasswords,
                &name,
                format!("no `{}` in `{name}`", missing.join("` and no `")),
                if missing == [CA_SEED_KEY] {
                    "`failover: patroni` needs it: bring the secrets file that the directory was written with; a lab \
                     with another `failover` does not become one with Patroni"
                } else {
                    "bring the secrets file that the directory was written with; --check adds nothing"
                },
            ));
        }
        let completed = secrets.completed(plan, draw_password)?;
        let passwords =
            SecretsFile::read(&Source::new(&name, &completed)).ok().and_then(|file| file.passwords(plan));
        if passwords.is_none() {
            return Err(Report::failure(
                Code::CannotAddPasswords,
                &name,
                format!("cannot add {} to `{name}`", listed(&missing)),
                "write one `key: \"password\"` on each line",
            ));
        }
        let before = source.map(|source| source.text);
        Ok(Self { passwords, addition: Some(Addition { path, before, text: completed, keys: missing }) })
    }

    /// The secrets file and the keys that this run adds to it, where it does.
    pub fn added(&self) -> Option<(&Path, &[&'static str])> {
        self.addition.as_ref().map(|addition| (addition.path.as_path(), &addition.keys[..]))
    }

    /// Whether another run has changed the secrets file since it was read.
    pub fn is_outdated(&self) -> bool {
        let now = |path: &Path| std::fs::read_to_string(path).ok();
        self.addition.as_ref().is_some_and(|addition| now(&addition.path) != addition.before)
    }

    /// Adds what was missing to the secrets file. `false`: another run was first, so the file has to be read again.
    pub fn save(&self, say: &dyn Fn(Note)) -> Result<bool, Report> {
        let Some(Addition { path, before, text, keys }) = &self.addition else { return Ok(true) };
        let name = shown(path);
        let saved = sink::save_private(path, before.as_deref(), text).map_err(|e| {
            Report::failure(
                Code::CannotWrite,
                &name,
                format!("cannot write `{name}`: {e}"),
                "make its directory writable, or set `credentials`",
            )
        })?;
        if saved {
            let text =
                format!("added a random {} to `{name}`; keep it, and keep it out of Git", listed(keys));
            say(Note::new(Code::PasswordsAdded, text));
        }
        Ok(saved)
    }
}

/// The note on a file with passwords that others can read.
pub fn readable_by_others(path: &Path) -> Note {
    let text = format!(
        "others can read the passwords in `{}`; `chmod 600 {}` keeps them yours",
        shown(path),
        quoted(path)
    );
    Note::new(Code::PasswordsReadableByOthers, text)
}

/// Whether others than its owner can read a file.
pub fn is_exposed(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o044 != 0)
}

/// 160 random bits as text that needs no quoting anywhere.
fn draw_password() -> Result<String, Report> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| {
        Report::failure(
            Code::CannotAddPasswords,
            "<random>",
            format!("the operating system gives no random bytes: {error}"),
            "write the passwords yourself",
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
