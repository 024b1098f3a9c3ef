//! What PostgreSQL makes of a setting's text.

/// What a value means to the server, however it is spelt.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// On or off.
    Bool(bool),
    /// A number of the setting's own unit (`kB` for `work_mem`, see pg_settings).
    Number(f64),
    /// The word of an enumeration, as the server shows it.
    Word(&'static str),
    /// Text.
    Text,
    /// The name of a time zone that the guest must know.
    TimeZone,
    /// The name of a set of time zone abbreviations that the guest must have.
    Abbreviations,
}
