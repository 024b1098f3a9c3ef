//! The file of passwords: made once, whole, and for its owner alone.

use super::lock::{locked, stands_at};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The end of the names of private files that are being written.
const STAGED: &str = ".virtwork-gen.new";

/// Writes a file that only its owner may read, whole or not at all, in place of the text that was read before; `None`:
/// there was no file. `false`: another run was first, and nothing was written.
///
/// # Errors
/// Those of the file system; the file is as it was then.
pub fn save_private(path: &Path, before: Option<&str>, text: &str) -> io::Result<bool> {
    // a link keeps pointing to the file
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // whoever replaces a file holds its lock, so what is read under it stays until the lock goes
    let _lock = match before {
        None => None,
        Some(before) => match locked(&path, false, &mut || {}) {
            Ok(Some(lock)) if fs::read(&path)? == before.as_bytes() => Some(lock),
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        },
    };
    remove_interrupted(&path);
    let (mut file, temporary) = stage(&path)?;
    // a Secret of the cluster outlives a power loss here, so must the passwords in it
    let placed = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| match before {
        Some(_) => fs::rename(&temporary, &path).map(|()| true),
        None => place_new(&temporary, &path),
    });
    if !matches!(placed, Ok(true)) {
        let _ = fs::remove_file(&temporary);
    }
    placed
}

/// Gives a file its name; `false`: there is one of that name.
fn place_new(temporary: &Path, path: &Path) -> io::Result<bool> {
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // NFS, for one, cannot do that, but links
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::hard_link(temporary, path) {
            Ok(()) => fs::remove_file(temporary).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// A new file beside the path, locked for as long as it is open: so others know it from what an interrupt left.
fn stage(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 0;
    loop {
        let temporary = path.with_file_name(format!("{}{number}{STAGED}", prefix(path)));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Ok(file) => {
                let _ = file.lock();
                if stands_at(&file, &temporary) {
                    return Ok((file, temporary));
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes what interrupted runs left of this file, and nothing that a run is writing.
fn remove_interrupted(path: &Path) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_staged = name.starts_with(&prefix(path)) && name.ends_with(STAGED);
        if !is_staged || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
            && stands_at(&file, &entry.path())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
