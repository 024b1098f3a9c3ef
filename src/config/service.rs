//! `service:` the Services in front of the databases.

use super::fields::{Entries, Field, Fields, Value};
use super::section;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{AnnotationKey, AnnotationValue, IpFamilyPolicy, ServiceType};

/// The keys of `service`.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Type of `<name>-primary` and `<name>-replicas`.
    pub r#type: Field<ServiceType>,
    /// Annotations for those two.
    pub annotations: Field<Entries<AnnotationKey, AnnotationValue>>,
    /// IP families of all Services.
    pub ip_family_policy: Field<IpFamilyPolicy>,
}

section!(Service, |fields| Self {
    r#type: fields.value("type"),
    annotations: fields.value("annotations"),
    ip_family_policy: fields.value("ip-family-policy"),
});
