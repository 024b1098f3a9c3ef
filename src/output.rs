//! Standard output.

use crate::command::quoted;
use crate::input::is_exposed;
use rustix::fs::OFlags;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use virtwork_gen::Report;
use virtwork_gen::diagnostic::{Code, Note};

/// Writes to standard output. A reader that has seen enough is no error.
pub fn to_stdout(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<ExitCode, Report> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Report::failure(
            Code::CannotWrite,
            "<stdout>",
            format!("cannot write the output: {error}"),
            "make room, then run gen again",
        )),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Refuses a standard output that takes nothing. Rust's library reports neither kind: it ignores that a descriptor
/// cannot be written, and in place of a closed one it opens `/dev/null` at the start, for reading and writing, where
/// shells open it for writing only.
pub fn is_kept() -> Result<(), Report> {
    let Ok(flags) = rustix::fs::fcntl_getfl(rustix::stdio::stdout()) else { return Ok(()) };
    let is_null = || {
        let null = Path::new("/dev/null").metadata();
        let same = |a: Metadata, b: Metadata| a.file_type().is_char_device() && a.rdev() == b.rdev();
        stdout().and_then(|file| Ok(same(file.metadata()?, null?))).unwrap_or(false)
    };
    let reason = match flags & OFlags::RWMODE {
        OFlags::RDONLY => "standard output cannot be written",
        OFlags::RDWR if is_null() => "standard output is closed, or a `/dev/null` opened for reading, too",
        _ => return Ok(()),
    };
    Err(Report::failure(
        Code::StdoutClosed,
        "<stdout>",
        reason,
        "`> bundle.yaml` keeps the output, `> /dev/null` throws it away, `--check` makes none",
    ))
}

/// Whether standard output goes to the file at a path.
pub fn is_at(path: &Path) -> bool {
    let identity = |metadata: Metadata| metadata.is_file().then(|| (metadata.dev(), metadata.ino()));
    let out = stdout().and_then(|file| file.metadata()).ok().and_then(identity);
    out.is_some() && out == path.metadata().ok().and_then(identity)
}

/// A note where standard output goes to a file that others can read.
pub fn exposure() -> Option<Note> {
    let file = stdout().ok().filter(is_exposed)?;
    let mode = match path_of(&file) {
        Some(path) => format!("`chmod 600 {}` keeps it yours", quoted(&path)),
        None => "keep it yours with mode 600".to_owned(),
    };
    let text =
        format!("the bundle holds the passwords in clear, and others can read the file it goes to; {mode}");
    Some(Note::new(Code::PasswordsReadableByOthers, text))
}

/// Where an open file stands, where the system can tell.
fn path_of(file: &File) -> Option<PathBuf> {
    let path = Path::new("/proc/self/fd/1").read_link().ok()?;
    let (there, this) = (path.metadata().ok()?, file.metadata().ok()?);
    let here = std::env::current_dir().ok()?;
    let short = path.strip_prefix(here).map(Path::to_owned).unwrap_or_else(|_| path.clone());
    ((there.dev(), there.ino()) == (this.dev(), this.ino())).then_some(short)
}

fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}
