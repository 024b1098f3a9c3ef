//! One run at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Locks what stands at a path, and waits for another run that holds it; `waiting` is called before. `None`: what was
/// locked stands there no more. A file system without locks, such as some of NFS, gives the file unlocked.
pub fn locked(path: &Path, shared: bool, waiting: &mut dyn FnMut()) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    let at_once = if shared { file.try_lock_shared() } else { file.try_lock() };
    if let Err(TryLockError::WouldBlock) = at_once {
        waiting();
        let _ = if shared { file.lock_shared() } else { file.lock() };
    }
    Ok(stands_at(&file, path).then_some(file))
}

/// Whether an open file is still the one at a path.
pub fn stands_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let at_path = path.metadata().map(identity);
    at_path.is_ok_and(|at_path| file.metadata().is_ok_and(|of_file| identity(of_file) == at_path))
}
