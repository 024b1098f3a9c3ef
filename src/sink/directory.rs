//! A directory with one file for each object of one lab.

use super::lock::locked;
use super::shown;
use crate::bundle::Bundle;
use crate::diagnostic::{Code, Problems, Report};
use crate::document::{Document, HEADER, KINDS, file_name};
use crate::manifest::kustomization;
use crate::names::{LABEL_INSTANCE, LABEL_ROLE, Role};
use crate::node::{self, Node, NodeValue};
use crate::plan::Plan;
use crate::source::{Source, one_line};
use crate::value::Quantity;
use similar::TextDiff;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The end of the names of files that are being written.
const STAGED: &str = ".virtwork-gen.tmp";

/// A directory, locked against other runs for as long as this lives.
pub struct Directory {
    path: PathBuf,
    /// Directories that were made for it; those that are empty in the end go again.
    made: Vec<PathBuf>,
    _lock: Option<File>,
}

impl Directory {
    /// The directory to write into, made where it is missing. `waiting` is called before another run is waited for.
    ///
    /// # Errors
    /// One that cannot be made or read.
    pub fn to_write(path: &Path, waiting: &mut dyn FnMut()) -> Result<Self, Report> {
        is_directory(path)?;
        loop {
            let is_missing = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
            let made = path.ancestors().take_while(is_missing).map(Path::to_owned).collect();
            let mut directory = Self { path: path.to_owned(), made, _lock: None };
            fs::create_dir_all(path).map_err(|e| directory.cannot_write("make", path, &e))?;
            match locked(path, false, waiting) {
                Ok(Some(lock)) => {
                    directory._lock = Some(lock);
                    return Ok(directory);
                }
                // the run that made it failed and took it away again
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(directory.cannot_read(&error)),
            }
        }
    }

    /// The directory to compare with, which may be missing.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn to_read(path: &Path, waiting: &mut dyn FnMut()) -> Result<Self, Report> {
        is_directory(path)?;
        let mut directory = Self { path: path.to_owned(), made: Vec::new(), _lock: None };
        match locked(path, true, waiting) {
            Ok(lock) => directory._lock = lock,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(directory.cannot_read(&error)),
        }
        Ok(directory)
    }

    fn cannot_read(&self, error: &io::Error) -> Report {
        self.failed(Code::CannotRead, "read", &self.path, error)
    }

    /// What could not be done, to the directory or to a path in it.
    fn cannot_write(&self, what: &str, path: &Path, error: &io::Error) -> Report {
        self.failed(Code::CannotWrite, what, path, error)
    }

    fn failed(&self, code: Code, what: &str, path: &Path, error: &io::Error) -> Report {
        let message = format!("cannot {what} `{}`: {error}", shown(path));
        Report::failure(code, &shown(&self.path), message, "mend the directory, then run gen again")
    }
}

/// Refuses a path at which, or on the way to which, stands something else; a named pipe would be opened for ever.
fn is_directory(path: &Path) -> Result<(), Report> {
    let Some(there) = path.ancestors().find(|path| path.symlink_metadata().is_ok()) else { return Ok(()) };
    let reason = match there.metadata() {
        Ok(metadata) if !metadata.is_dir() => "is not a directory",
        Err(error) if error.kind() == ErrorKind::NotFound => "is a link to what does not exist",
        _ => return Ok(()),
    };
    let message = format!("`{}` {reason}", shown(there));
    Err(Report::failure(Code::NotADirectory, &shown(path), message, "choose another directory"))
}

impl Drop for Directory {
    fn drop(&mut self) {
        for directory in &self.made {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// What stands between a bundle and a directory.
pub struct Comparison<'b> {
    bundle: &'b Bundle,
    directory: Directory,
    outdated: Vec<Outdated>,
    stale: Vec<String>,
    /// Files with passwords, as they should be but for their mode: others can read them.
    exposed: Vec<String>,
}

/// A file to write.
struct Outdated {
    name: String,
    /// There is one with other bytes.
    exists: bool,
    /// It is a DataVolume, and its spec is another.
    changes_disk: bool,
    /// It holds passwords, and they are others.
    changes_passwords: bool,
    /// It is what a cluster does not change: the pod of a Job, or the volume of one.
    changes_job: bool,
}

impl<'b> Comparison<'b> {
    /// Looks at every file the bundle has and at every file of ours in the directory. Changes nothing.
    ///
    /// # Errors
    /// A file in the way that is not ours, or one that cannot be read; a directory of another lab, for which `remedy`
    /// says what to do.
    pub fn new(
        bundle: &'b Bundle,
        directory: Directory,
        remedy: impl FnOnce() -> String,
    ) -> Result<Self, Report> {
        let ours = Lab::of(bundle.plan());
        let mut text = String::new();
        let mut names = BTreeSet::new();
        let mut outdated = Vec::new();
        let mut exposed = Vec::new();
        let mut theirs = None;
        let mut changes_failover = false;
        for document in bundle.files() {
            let name = document.file_name();
            let path = directory.path.join(&name);
            match existing(&path)? {
                None => outdated.push(Outdated {
                    name: name.clone(),
                    exists: false,
                    changes_disk: false,
                    changes_passwords: false,
                    changes_job: false,
                }),
                Some(Existing::Foreign) => {
                    return Err(Report::failure(
                        Code::FileInTheWay,
                        &shown(&directory.path),
                        format!("`{}` is in the way and was not written by gen", shown(&path)),
                        "move it away, or choose another directory; gen replaces only files that begin with its header",
                    ));
                }
                Some(Existing::Ours { bytes, mode }) => {
                    document.render(&mut text);
                    if bytes != text.as_bytes() {
                        theirs = theirs.or_else(|| ours.other(Lab::of_file(&bytes)));
                        let changes = |path: &[&str]| !same_value(path, &bytes, &text);
                        outdated.push(Outdated {
                            name: name.clone(),
                            exists: true,
                            changes_disk: document.kind == "DataVolume" && changes(&["spec"]),
                            changes_passwords: document.holds_passwords && changes(&["data"]),
                            changes_job: match document.kind {
                                "Job" => changes(&["spec", "template"]),
                                "PersistentVolumeClaim" => changes(&["spec"]),
                                _ => false,
                            },
                        });
                    } else if document.holds_passwords && mode & 0o077 != 0 {
                        exposed.push(name.clone());
                    }
                }
            }
            names.insert(name);
        }
        let mut stale = Vec::new();
        for (name, lab) in files_of_ours(&directory.path, &names)? {
            changes_failover |=
                lab.is_patroni.zip(ours.is_patroni).is_some_and(|(theirs, ours)| theirs != ours);
            theirs = theirs.or_else(|| ours.other(lab));
            // the defaults are of the program, not of somebody who no longer wants a file
            if !ours.is_default {
                stale.push(name);
            }
        }
        match theirs {
            None if changes_failover => Err(Report::failure(
                Code::FailoverChanged,
                &shown(&directory.path),
                format!(
                    "`{}` holds this lab under another `failover`: its nodes and disks have other names, and nothing \
                     moves the data",
                    shown(&directory.path)
                ),
                "take `failover` back, or give the new lab another `name` and another directory",
            )),
            None => Ok(Self { bundle, directory, outdated, stale, exposed }),
            Some(theirs) => Err(Report::failure(
                Code::DirectoryOfAnotherLab,
                &shown(&directory.path),
                format!("`{}` holds {theirs}; this is {ours}", shown(&directory.path)),
                remedy(),
            )),
        }
    }

    /// What the directory is compared with.
    pub fn bundle(&self) -> &Bundle {
        self.bundle
    }

    /// Whether the directory is what the config says.
    pub fn is_empty(&self) -> bool {
        self.outdated.is_empty() && self.stale.is_empty()
    }

    /// The difference in a few words.
    pub fn summary(&self) -> String {
        let changed = self.outdated.iter().filter(|file| file.exists).count();
        let missing = self.outdated.len() - changed;
        format!("{changed} changed, {missing} missing, {} stale", self.stale.len())
    }

    /// DataVolumes that are there with another spec.
    pub fn changed_disks(&self) -> impl Iterator<Item = PathBuf> {
        self.outdated.iter().filter(|file| file.changes_disk).map(|file| self.path(&file.name))
    }

    /// Files with passwords that are there with others.
    pub fn changed_passwords(&self) -> impl Iterator<Item = PathBuf> {
        self.outdated.iter().filter(|file| file.changes_passwords).map(|file| self.path(&file.name))
    }

    /// Jobs and volumes of Jobs that are there with another spec.
    pub fn changed_jobs(&self) -> impl Iterator<Item = PathBuf> {
        self.outdated.iter().filter(|file| file.changes_job).map(|file| self.path(&file.name))
    }

    /// Files that are no longer part of the bundle.
    pub fn stale_files(&self) -> impl Iterator<Item = PathBuf> {
        self.stale.iter().map(|name| self.path(name))
    }

    /// Files with passwords that others can read, though nothing else is wrong with them.
    pub fn exposed_files(&self) -> impl Iterator<Item = PathBuf> {
        self.exposed.iter().map(|name| self.path(name))
    }

    /// The files that hold passwords.
    pub fn password_files(&self) -> impl Iterator<Item = PathBuf> {
        let documents = self.bundle.files().filter(|document| document.holds_passwords);
        documents.map(|document| self.path(&document.file_name()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path.join(name)
    }

    /// Writes a unified diff from the directory to the bundle. Passwords are not shown.
    ///
    /// # Errors
    /// Those of the writer, and of files that went away meanwhile.
    pub fn diff(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        let mut outdated = self.outdated.iter().peekable();
        for document in self.bundle.files() {
            let Some(file) = outdated.next_if(|file| file.name == document.file_name()) else { continue };
            let path = self.path(&file.name);
            let old = if file.exists { fs::read(&path)? } else { Vec::new() };
            let from = if file.exists { shown(&path) } else { "/dev/null".to_owned() };
            if document.holds_passwords {
                writeln!(out, "--- {from}\n+++ {}\n(holds passwords: not shown)", shown(&path))?;
                continue;
            }
            document.render(&mut text);
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
                shown(&self.path(name))
            )?;
        }
        Ok(())
    }

    /// Writes all new files complete under other names, so that an interrupt at any point leaves whole files.
    ///
    /// # Errors
    /// What could not be written; nothing has changed then.
    pub fn stage(self) -> Result<Staged, Report> {
        let names = self.outdated.iter().map(|file| &file.name);
        let files = names.map(|name| (self.path(&format!(".{name}{STAGED}")), self.path(name))).collect();
        let stale = self.stale_files().collect();
        let exposed = self.exposed_files().collect();
        let staged = Staged { files, stale, exposed, directory: self.directory };
        write(self.bundle, &staged)
            .map_err(|(path, error)| staged.directory.cannot_write("write", &path, &error))?;
        Ok(staged)
    }
}

fn write(bundle: &Bundle, staged: &Staged) -> Result<(), (PathBuf, io::Error)> {
    let directory = &staged.directory.path;
    remove_interrupted(directory).map_err(|e| (directory.clone(), e))?;
    let mut text = String::new();
    let mut files = staged.files.iter().peekable();
    for document in bundle.files() {
        let path = directory.join(document.file_name());
        let Some((temporary, _)) = files.next_if(|(_, file)| *file == path) else { continue };
        document.render(&mut text);
        write_new(temporary, &text, mode(&document)).map_err(|e| (temporary.clone(), e))?;
    }
    Ok(())
}

/// New files beside those they are to replace. Dropped, they go.
pub struct Staged {
    files: Vec<(PathBuf, PathBuf)>,
    stale: Vec<PathBuf>,
    exposed: Vec<PathBuf>,
    directory: Directory,
}

impl Staged {
    /// Brings the directory up to date.
    ///
    /// # Errors
    /// Where renaming or removing itself fails.
    pub fn commit(self) -> Result<(), Report> {
        let failed = |what, path, error| self.directory.cannot_write(what, path, &error);
        for (temporary, path) in &self.files {
            fs::rename(temporary, path).map_err(|e| failed("replace", path, e))?;
        }
        for path in &self.exposed {
            fs::set_permissions(path, Permissions::from_mode(0o600))
                .map_err(|e| failed("change the mode of", path, e))?;
        }
        for path in &self.stale {
            fs::remove_file(path).map_err(|e| failed("remove", path, e))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.files {
            let _ = fs::remove_file(temporary);
        }
    }
}

fn mode(document: &Document) -> u32 {
    if document.holds_passwords { 0o600 } else { 0o666 }
}

/// A file that already has the name of one of ours.
enum Existing {
    Ours { bytes: Vec<u8>, mode: u32 },
    Foreign,
}

fn existing(path: &Path) -> Result<Option<Existing>, Report> {
    let unreadable = |error: io::Error| {
        Report::failure(
            Code::CannotRead,
            &shown(path),
            format!("cannot read `{}`: {error}", shown(path)),
            "mend it, or choose another directory",
        )
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error)),
        Ok(metadata) if !metadata.is_file() => Ok(Some(Existing::Foreign)),
        Ok(metadata) => {
            let bytes = fs::read(path).map_err(unreadable)?;
            Ok(Some(if bytes.starts_with(HEADER.as_bytes()) {
                Existing::Ours { bytes, mode: metadata.permissions().mode() }
            } else {
                Existing::Foreign
            }))
        }
    }
}

/// The files with our header beside those of the bundle, and the lab of each.
fn files_of_ours(directory: &Path, names: &BTreeSet<String>) -> Result<Vec<(String, Lab)>, Report> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Report::failure(
                Code::CannotRead,
                &shown(directory),
                format!("cannot list `{}`: {error}", shown(directory)),
                "give `--output` a directory",
            ));
        }
    };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // a stream that was redirected into the directory and a copy have our header, too
        if is_name_of_ours(&name)
            && !names.contains(&name)
            && let Ok(Some(Existing::Ours { bytes, .. })) = existing(&entry.path())
            && is_alone_in_its_file(&name, &bytes)
        {
            files.push((name, Lab::of_file(&bytes)));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

/// The lab that a file belongs to, as far as its text says.
struct Lab {
    /// What the header says of the config.
    origin: String,
    name: Option<String>,
    namespace: Option<String>,
    /// Whether its VMs are Patroni's, where it has any, and where the file is of one.
    is_patroni: Option<bool>,
    is_default: bool,
}

impl Lab {
    fn of(plan: &Plan) -> Self {
        Self {
            origin: plan.origin.clone(),
            name: Some(plan.names.lab().to_owned()),
            namespace: plan.namespace.clone(),
            is_patroni: plan.has_database().then(|| plan.failover.patroni().is_some()),
            is_default: plan.origin == Source::built_in_defaults().origin(),
        }
    }

    /// The lab of a file with our header. Our own layout is read: what somebody edited is still told by the rest.
    fn of_file(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let origin = header.strip_prefix(HEADER).unwrap_or_default();
        let origin = origin.strip_suffix('.').unwrap_or(origin).to_owned();
        let metadata: Vec<_> = lines.take(16).collect();
        let value = |key: &str| {
            let value = metadata.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
            Some(value.trim_matches('"').to_owned())
        };
        Self {
            is_default: origin == Source::built_in_defaults().origin(),
            origin,
            name: value(&format!("    {LABEL_INSTANCE}")),
            namespace: value("  namespace"),
            is_patroni: value(&format!("    {LABEL_ROLE}"))
                // a client is of either
                .filter(|role| role != Role::Client.as_str())
                .map(|role| [Role::Node, Role::Witness].iter().any(|ours| ours.as_str() == role)),
        }
    }

    /// The lab of a file with our header, where it is not this one. A namespace that is added or goes makes no other
    /// lab, and the header of a default lab itself says that it goes on in gen.yaml.
    fn other(&self, theirs: Self) -> Option<Self> {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        let goes_on = theirs.is_default && self.origin == Source::new("gen.yaml", "").origin();
        let is_same = (theirs.origin == self.origin || goes_on)
            && !differ(&theirs.name, &self.name)
            && !differ(&theirs.namespace, &self.namespace);
        (!is_same).then_some(theirs)
    }
}

impl fmt::Display for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "lab `{name}`")?,
            None => f.write_str("a lab")?,
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " in namespace `{namespace}`")?;
        }
        let config = self.origin.rsplit_once("; ").map_or(self.origin.as_str(), |(config, _)| config);
        write!(f, " from {}", one_line(config))
    }
}

/// Whether two objects say the same at a place. One that cannot be read says something else.
fn same_value(path: &[&str], old: &[u8], new: &str) -> bool {
    let node = |text: &str| node::parse(text, &mut Problems::default());
    let (old, new) = (node(&String::from_utf8_lossy(old)), node(new));
    fn at<'n>(node: &'n Option<Node>, path: &[&str]) -> Option<&'n Node> {
        path.iter().try_fold(node.as_ref()?, |node, key| value_of(node, key))
    }
    let values = || Some((at(&old, path)?, at(&new, path)?));
    values().is_some_and(|(old, new)| same(old, new))
}

/// The value of a key of a mapping.
fn value_of<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        NodeValue::Map(entries) => entries.iter().find(|(name, _)| name.text == key).map(|(_, value)| value),
        _ => None,
    }
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        NodeValue::Text(text) => Some(text),
        _ => None,
    }
}

/// Whether two nodes are the same to the API server, which compares quantities by their value.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (NodeValue::Null, NodeValue::Null) => true,
        (NodeValue::Bool(a), NodeValue::Bool(b)) => a == b,
        (NodeValue::Number(a), NodeValue::Number(b)) => a == b,
        (NodeValue::Text(a), NodeValue::Text(b)) => {
            a == b || Quantity::bytes_of(a).is_some_and(|a| Some(a) == Quantity::bytes_of(b))
        }
        (NodeValue::List(a), NodeValue::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (NodeValue::Map(a), NodeValue::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.iter().any(|(other, b)| key.text == other.text && same(a, b)))
        }
        _ => false,
    }
}

fn is_name_of_ours(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".yaml") else { return false };
    kustomization::is_name(stem)
        || stem
            .split_once('-')
            .is_some_and(|(kind, _)| KINDS.iter().any(|ours| ours.to_ascii_lowercase() == kind))
}

/// Whether a file holds one object, and the one that its name says.
fn is_alone_in_its_file(name: &str, bytes: &[u8]) -> bool {
    if name.strip_suffix(".yaml").is_some_and(kustomization::is_name) {
        return true;
    }
    let object = || {
        let node = node::parse(str::from_utf8(bytes).ok()?, &mut Problems::default())?;
        let kind = text_of(value_of(&node, "kind")?)?;
        Some(file_name(kind, text_of(value_of(value_of(&node, "metadata")?, "name")?)?))
    };
    object().as_deref() == Some(name)
}

/// Removes what an interrupted run left behind; none is at work under the lock.
fn remove_interrupted(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let staged = name.strip_prefix('.').and_then(|name| name.strip_suffix(STAGED));
        if staged.is_some_and(is_name_of_ours) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
