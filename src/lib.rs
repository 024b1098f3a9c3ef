//! An offline generator of PostgreSQL streaming-replication labs for KubeVirt.
//!
//! Text becomes a [`config::Config`] (what was typed, with places), then a [`Plan`] (what it means: every default
//! and cross-check), then a [`Bundle`] (the documents, in order, rendered while they are read). Nothing but [`sink`]
//! touches files, and nothing at all the clock, the environment or randomness: same config and passwords in, same
//! bytes out.

#[macro_use]
pub mod yaml;
pub mod bundle;
pub mod config;
pub mod diagnostic;
pub mod guest;
pub mod manifest;
pub mod names;
pub mod node;
pub mod plan;
pub mod secrets;
pub mod sink;
pub mod source;
pub mod value;

pub use bundle::Bundle;
pub use diagnostic::Report;
pub use plan::Plan;
pub use secrets::Passwords;
pub use source::Source;

/// Turns a config into the bundle.
///
/// `passwords` are those of the secrets file; a bundle that relies on an existing Secret does not need them.
///
/// # Errors
/// Every fault of the config, with place and remedy; missing passwords.
pub fn generate(config: &Source, passwords: Option<&Passwords>) -> Result<Bundle, Report> {
    Bundle::new(Plan::new(config)?, passwords)
}
