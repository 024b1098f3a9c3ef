//! What a user sees of the program: exit status, what goes where, and what happens to files.
//!
//! Most tests are transcripts of a terminal; [`transcript`] says how to read and to write them.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "command_line/check.rs"]
mod check;
#[path = "command_line/directory.rs"]
mod directory;
#[path = "command_line/faults.rs"]
mod faults;
#[path = "command_line/input.rs"]
mod input;
#[path = "command_line/output.rs"]
mod output;
#[path = "command_line/secrets.rs"]
mod secrets;
#[path = "command_line/transcript.rs"]
mod transcript;
