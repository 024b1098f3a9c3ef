//! Where a bundle goes: a stream, a directory, or a comparison with a directory.
//!
//! The only module, beside those of the program, that touches the file system; without the feature `cli` it writes
//! streams only.
#![allow(clippy::disallowed_methods)]

#[cfg(feature = "cli")]
mod directory;
#[cfg(feature = "cli")]
mod lock;
#[cfg(feature = "cli")]
mod private;

use crate::bundle::Bundle;
use crate::source::one_line;
#[cfg(feature = "cli")]
pub use directory::{Comparison, Directory, Staged};
#[cfg(feature = "cli")]
pub use private::save_private;
use std::io::{self, Write};
use std::path::Path;

/// Writes the bundle as one stream of documents.
///
/// # Errors
/// Those of the writer.
pub fn stream(bundle: &Bundle, out: &mut dyn Write) -> io::Result<()> {
    // What is not written to is not resident, and what has grown step by step stays so.
    let mut text = String::with_capacity(256 << 10);
    for (position, document) in bundle.documents().enumerate() {
        document.render(&mut text);
        if position > 0 {
            out.write_all(b"---\n")?;
        }
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// A path for a message, on one line.
pub fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}
