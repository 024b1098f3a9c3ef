//! Command lines in messages: whole, and quoted for a shell, so that they do what is said when they are typed back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use virtwork_gen::Source;
use virtwork_gen::sink::shown;

/// `gen CONFIG -o DIR --check`, with what is there of them.
pub fn command(config: Option<&Path>, output: Option<&Path>, check: bool) -> String {
    let mut words = vec!["gen".to_owned()];
    words.extend(config.map(|path| if is_stream(path) { "-".to_owned() } else { quoted(path) }));
    if let Some(directory) = output {
        words.extend(["-o".to_owned(), quoted(directory)]);
    }
    words.extend(check.then(|| "--check".to_owned()));
    words.join(" ")
}

/// Whether a CONFIG is read once and cannot be opened again: standard input, or `<(…)` of a shell.
pub fn is_stream(config: &Path) -> bool {
    config == Path::new("-") || Source::new(shown(config), "").is_stream()
}

/// A path as one word of a shell, on one line.
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.first() == Some(&b'-') {
        return quoted(&Path::new(".").join(path));
    }
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_./,:+@%=-".contains(b);
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return shown(path);
    }
    match path.to_str() {
        Some(text) if shown(path) == text => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", escaped(path.as_os_str())),
    }
}

/// Bytes for `$'…'`, which bash, ksh, zsh and POSIX of 2024 read.
fn escaped(text: &OsStr) -> String {
    let byte = |b: &u8| match b {
        b'\'' | b'\\' => format!("\\{}", char::from(*b)),
        b' '..=b'~' => char::from(*b).to_string(),
        _ => format!("\\{b:03o}"),
    };
    text.as_bytes().iter().map(byte).collect()
}
