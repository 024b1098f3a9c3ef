//! `service:` the Services in front of the databases.

use super::fields::{Entries, Field, Fields, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{AnnotationKey, AnnotationValue, IpFamilyPolicy, ServiceType};

section! {
    /// The keys of `service`.
    pub struct Service {
        /// Type of `<name>-primary` and `<name>-replicas`.
        "type" => r#type: ServiceType {
            default: Literal("ClusterIP"),
            example: "ClusterIP",
            change: Apply,
        }
        /// Annotations of those two, over those of every object.
        "annotations" => annotations: Entries<AnnotationKey, AnnotationValue> {
            default: Literal("{}"),
            example: "{example.com/load-balancer: internal}",
            objects: &["Service"],
            change: Apply,
        }
        /// IP families of all Services.
        "ip-family-policy" => ip_family_policy: IpFamilyPolicy {
            default: Words("the cluster's"),
            example: "PreferDualStack",
            objects: &["Service"],
            change: Apply,
        }
    }
}
