//! `upstream:` the primary of another site, which this one follows.

use super::fields::{Field, Fields, Value};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{Certificates, Host, SslMode};

section! {
    /// The keys of `upstream`.
    pub struct Upstream {
        /// Where the other site's primary is reached: the address or the name of its exposed `<name>-primary`.
        "host" => host: Host {
            default: Words("none: it has to be given"),
            example: "production-primary.example.com",
            with: "sslmode: disable",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Its port. Guests with SELinux are told that it is PostgreSQL's.
        #[whole(1..=65_535, "a port", "TCP has no other ports")]
        "port" => port: u32 {
            default: Literal("5432"),
            example: "30432",
            with: "host: production-primary.example.com, sslmode: disable",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// What the nodes ask of its certificate, in the words of libpq. What verifies needs the CA.
        "sslmode" => sslmode: SslMode {
            default: Words("`verify-full` with `tls`; without it has to be given"),
            example: "verify-ca",
            with: "host: production-primary.example.com, ca: \"-----BEGIN CERTIFICATE-----\\nMAA=\\n-----END CERTIFICATE-----\\n\"",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Certificates of the CAs that vouch for it, in PEM.
        "ca" => ca: Certificates {
            default: Words("with `tls`, the CA of this site, which is the other's, too, where both have one seed or one Secret"),
            example: "\"-----BEGIN CERTIFICATE-----\\nMAA=\\n-----END CERTIFICATE-----\\n\"",
            with: "host: production-primary.example.com, sslmode: verify-full",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Whether this site is to take over: its head becomes its primary after its next start, once the other one has stopped.
        /// Where that does not answer, the mark in the archive of both has to tell it to.
        "promote" => promote: bool {
            default: Literal("false"),
            example: "true",
            with: "host: production-primary.example.com, sslmode: disable",
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}
