//! Where a bundle goes: a stream, a directory, or a comparison with a directory.
//!
//! The only module, beside `main`, that touches the file system.
#![allow(clippy::disallowed_methods)]

use crate::bundle::{Bundle, Document, HEADER, KINDS};
use crate::diagnostic::Report;
use crate::source::one_line;
use similar::TextDiff;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The end of the names of files that are being written.
const STAGED: &str = ".virtwork-gen.tmp";

/// Writes the bundle as one stream of documents.
///
/// # Errors
/// Those of the writer.
pub fn stream(bundle: &Bundle, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    for (position, document) in bundle.documents().enumerate() {
        bundle.render(&document, &mut text);
        if position > 0 {
            out.write_all(b"---\n")?;
        }
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// What stands between a bundle and a directory.
pub struct Comparison<'b> {
    bundle: &'b Bundle,
    directory: PathBuf,
    /// Files to write; `true`: there is one with other bytes.
    outdated: Vec<(String, bool)>,
    stale: Vec<String>,
}

impl<'b> Comparison<'b> {
    /// Looks at every file the bundle has and at every file of ours in the directory. Changes nothing.
    ///
    /// # Errors
    /// A file in the way that is not ours, or one that cannot be read.
    pub fn new(bundle: &'b Bundle, directory: &Path) -> Result<Self, Report> {
        let mut text = String::new();
        let mut names = BTreeSet::new();
        let mut outdated = Vec::new();
        for document in bundle.files() {
            let name = document.file_name();
            match existing(&directory.join(&name))? {
                None => outdated.push((name.clone(), false)),
                Some(Existing::Foreign) => {
                    return Err(Report::failure(
                        &shown(directory),
                        format!(
                            "`{}` is in the way and was not written by gen",
                            shown(&directory.join(&name))
                        ),
                        "move it away, or choose another directory; gen replaces only files that begin with its header",
                    ));
                }
                Some(Existing::Ours(bytes)) => {
                    bundle.render(&document, &mut text);
                    if bytes != text.as_bytes() {
                        outdated.push((name.clone(), true));
                    }
                }
            }
            names.insert(name);
        }
        let stale = stale_files(directory, &names)?;
        Ok(Self { bundle, directory: directory.to_owned(), outdated, stale })
    }

    /// Whether the directory is what the config says.
    pub fn is_empty(&self) -> bool {
        self.outdated.is_empty() && self.stale.is_empty()
    }

    /// The difference in a few words.
    pub fn summary(&self) -> String {
        let changed = self.outdated.iter().filter(|(_, exists)| *exists).count();
        let missing = self.outdated.len() - changed;
        format!("{changed} changed, {missing} missing, {} stale", self.stale.len())
    }

    /// DataVolumes that are there with other bytes.
    pub fn changed_disks(&self) -> impl Iterator<Item = PathBuf> {
        let changed =
            self.outdated.iter().filter(|(name, exists)| *exists && name.starts_with("datavolume-"));
        changed.map(|(name, _)| self.directory.join(name))
    }

    /// Files that are no longer part of the bundle.
    pub fn stale_files(&self) -> impl Iterator<Item = PathBuf> {
        self.stale.iter().map(|name| self.directory.join(name))
    }

    /// The files that hold passwords.
    pub fn password_files(&self) -> impl Iterator<Item = PathBuf> {
        let documents = self.bundle.files().filter(|document| document.holds_passwords);
        documents.map(|document| self.directory.join(document.file_name()))
    }

    /// Writes a unified diff from the directory to the bundle. Passwords are not shown.
    ///
    /// # Errors
    /// Those of the writer, and of files that went away meanwhile.
    pub fn diff(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        for document in self.bundle.files() {
            let name = document.file_name();
            let Some((_, exists)) = self.outdated.iter().find(|(outdated, _)| *outdated == name) else {
                continue;
            };
            let path = self.directory.join(&name);
            let old = if *exists { fs::read(&path)? } else { Vec::new() };
            let from = if *exists { shown(&path) } else { "/dev/null".to_owned() };
            if document.holds_passwords {
                writeln!(out, "--- {from}\n+++ {}\n(holds passwords: not shown)", shown(&path))?;
                continue;
            }
            self.bundle.render(&document, &mut text);
            let old = String::from_utf8_lossy(&old);
            write!(
                out,
                "{}",
                TextDiff::from_lines(old.as_ref(), text.as_str()).unified_diff().header(&from, &shown(&path))
            )?;
        }
        for name in &self.stale {
            writeln!(
                out,
                "--- {}\n+++ /dev/null\n(stale: no longer part of the bundle)",
                shown(&self.directory.join(name))
            )?;
        }
        Ok(())
    }

    /// Writes all new files complete under other names, so that an interrupt at any point leaves whole files.
    ///
    /// # Errors
    /// What could not be written; nothing has changed then.
    pub fn stage(self) -> Result<Staged, Report> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
        let made = self.directory.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        let files = self
            .outdated
            .iter()
            .map(|(name, _)| (self.directory.join(format!(".{name}{STAGED}")), self.directory.join(name)))
            .collect();
        let stale = self.stale.iter().map(|name| self.directory.join(name)).collect();
        let staged = Staged { directory: self.directory.clone(), made, files, stale };
        fs::create_dir_all(&self.directory).map_err(|e| staged.failed("make", &self.directory, &e))?;
        self.write(&staged).map_err(|(path, error)| staged.failed("write", &path, &error))?;
        Ok(staged)
    }

    fn write(&self, staged: &Staged) -> Result<(), (PathBuf, io::Error)> {
        remove_interrupted(&self.directory).map_err(|e| (self.directory.clone(), e))?;
        let mut text = String::new();
        let mut outdated = self.outdated.iter().zip(&staged.files).peekable();
        for document in self.bundle.files() {
            let Some((_, (temporary, _))) = outdated.next_if(|((name, _), _)| *name == document.file_name())
            else {
                continue;
            };
            self.bundle.render(&document, &mut text);
            write_new(temporary, &text, mode(&document)).map_err(|e| (temporary.clone(), e))?;
        }
        Ok(())
    }
}

/// New files beside those they are to replace. Dropped, they go, and the directories that were made for them.
pub struct Staged {
    directory: PathBuf,
    made: Vec<PathBuf>,
    files: Vec<(PathBuf, PathBuf)>,
    stale: Vec<PathBuf>,
}

impl Staged {
    /// Brings the directory up to date.
    ///
    /// # Errors
    /// Where renaming or removing itself fails.
    pub fn commit(self) -> Result<(), Report> {
        for (temporary, path) in &self.files {
            fs::rename(temporary, path).map_err(|e| self.failed("replace", path, &e))?;
        }
        for path in &self.stale {
            fs::remove_file(path).map_err(|e| self.failed("remove", path, &e))?;
        }
        Ok(())
    }

    fn failed(&self, what: &str, path: &Path, error: &io::Error) -> Report {
        Report::failure(
            &shown(&self.directory),
            format!("cannot {what} `{}`: {error}", shown(path)),
            "mend the directory, then run gen again",
        )
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.files {
            let _ = fs::remove_file(temporary);
        }
        // one that holds something stays
        for directory in &self.made {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn mode(document: &Document) -> u32 {
    if document.holds_passwords { 0o600 } else { 0o666 }
}

/// A file that already has the name of one of ours.
enum Existing {
    Ours(Vec<u8>),
    Foreign,
}

fn existing(path: &Path) -> Result<Option<Existing>, Report> {
    let unreadable = |error: io::Error| {
        Report::failure(
            &shown(path),
            format!("cannot read `{}`: {error}", shown(path)),
            "mend it, or choose another directory",
        )
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error)),
        Ok(metadata) if !metadata.is_file() => Ok(Some(Existing::Foreign)),
        Ok(_) => {
            let bytes = fs::read(path).map_err(unreadable)?;
            Ok(Some(if bytes.starts_with(HEADER.as_bytes()) {
                Existing::Ours(bytes)
            } else {
                Existing::Foreign
            }))
        }
    }
}

/// Files with our header that the bundle no longer has.
fn stale_files(directory: &Path, names: &BTreeSet<String>) -> Result<Vec<String>, Report> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Report::failure(
                &shown(directory),
                format!("cannot list `{}`: {error}", shown(directory)),
                "give `--output` a directory",
            ));
        }
    };
    let mut stale = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // a stream that was redirected into the directory has our header, too, but not such a name
        if is_name_of_ours(&name)
            && !names.contains(&name)
            && matches!(existing(&entry.path()), Ok(Some(Existing::Ours(_))))
        {
            stale.push(name);
        }
    }
    stale.sort();
    Ok(stale)
}

fn is_name_of_ours(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".yaml") else { return false };
    stem == "kustomization"
        || stem
            .split_once('-')
            .is_some_and(|(kind, _)| KINDS.iter().any(|ours| ours.to_ascii_lowercase() == kind))
}

/// Removes what an interrupted run left behind.
fn remove_interrupted(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(STAGED.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

/// Replaces a file that only its owner may read, or makes it; whole or not at all.
///
/// # Errors
/// Those of the file system; the file is as it was then.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // a link keeps pointing to the file
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}{STAGED}"));
    let _ = fs::remove_file(&temporary);
    let written = write_new(&temporary, text, 0o600).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A path for a message, on one line.
pub fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}
