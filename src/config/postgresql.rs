//! `postgresql:` settings of the servers.

use super::fields::{Entries, Field, Fields, Spanned, Value};
use super::section;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{Cidr, ParameterName, ParameterValue, PgSize};

/// The keys of `postgresql`.
#[derive(Debug, Clone, Default)]
pub struct Postgresql {
    /// The most WAL that a replication slot may hold back.
    pub max_slot_wal_keep_size: Field<PgSize>,
    /// Any other settings.
    pub parameters: Field<Entries<ParameterName, ParameterValue>>,
    /// Addresses outside the namespace that may reach port 5432.
    pub allowed_clients: Field<Vec<Spanned<Cidr>>>,
}

section!(Postgresql, |fields| Self {
    max_slot_wal_keep_size: fields.value("max-slot-wal-keep-size"),
    parameters: fields.value("parameters"),
    allowed_clients: fields.value("allowed-clients"),
});
