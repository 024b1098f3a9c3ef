//! `tls:` certificates of the servers, and how the replication role logs in.

use super::fields::{Field, Fields, Spanned, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{HostName, ObjectName};

section! {
    /// `tls`: `true`, or `{existing-secret, cert-manager, …}`.
    pub struct Tls or enabled {
        /// Whether PostgreSQL takes connections by TLS alone, and the lab's own verify whom they reach. Without another source
        /// each node signs a certificate of its own at each boot, for an authority that all of them derive from the `ca-seed` of
        /// the credentials.
        "enabled" => enabled: bool {
            default: Words("`true` where the section stands"),
            example: "true",
            objects: &["Secret", "ConfigMap"],
            change: Restart,
        }
        /// A Secret of the cluster with `tls.crt`, `tls.key` and `ca.crt`, one certificate for all nodes, in place of those that the
        /// nodes sign themselves. A renewed one reaches a node when its VM is stopped and started.
        #[instead_of(cert_manager)]
        "existing-secret" => existing_secret: ObjectName {
            default: Words("none"),
            example: "lab-tls",
            also: &["secret", "secret-name"],
            objects: &["Secret", "ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// The issuer of cert-manager that signs one certificate for all nodes. A renewed one reaches a node when its VM is
        /// stopped and started.
        #[instead_of(existing_secret)]
        "cert-manager" => cert_manager: CertManager {
            default: Words("none"),
            example: "lab-ca",
            also: &["issuer"],
            objects: &["Secret", "ConfigMap", "VirtualMachine", "Certificate"],
            change: Restart,
        }
        /// Whether the role `replicator` logs in by a certificate alone: then it has no password anywhere.
        "client-certificates" => client_certificates: bool {
            default: Literal("false"),
            example: "true",
            with: "enabled: true",
            also: &["client-certificate", "client-cert", "mtls"],
            objects: &["Secret", "ConfigMap", "VirtualMachine", "Certificate"],
            change: Restart,
        }
        /// Beside `existing-secret`, the Secret with that certificate in `tls.crt` and `tls.key`. Its common name is `replicator`, and
        /// the authority that of the servers.
        "replicator-secret" => replicator_secret: ObjectName {
            default: Words("none"),
            example: "lab-replicator-tls",
            with: "existing-secret: lab-tls, client-certificates: true",
            objects: &["Secret", "ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// Further names and addresses that clients know the servers by. Those of the nodes and Services are there without.
        "names" => names: Vec<Spanned<HostName>> {
            default: Literal("[]"),
            example: "[db.example.com, 192.0.2.10]",
            with: "enabled: true",
            also: &["sans", "dns-names", "hosts"],
            objects: &["ConfigMap", "Certificate"],
            change: Restart,
        }
    }
}

section! {
    /// `tls.cert-manager`: the name of an Issuer, or `{issuer, cluster-issuer, …}`.
    pub struct CertManager or issuer {
        /// An Issuer of the namespace. It has to write `ca.crt` into the Secret, as those do that sign for an authority of one's
        /// own, and those of ACME do not.
        #[instead_of(cluster_issuer)]
        "issuer" => issuer: ObjectName {
            default: Words("none: it or `cluster-issuer` has to be given"),
            example: "lab-ca",
            objects: &["Secret", "ConfigMap", "VirtualMachine", "Certificate"],
            change: Restart,
        }
        /// A ClusterIssuer, likewise.
        #[instead_of(issuer)]
        "cluster-issuer" => cluster_issuer: ObjectName {
            default: Words("none: it or `issuer` has to be given"),
            example: "company-ca",
            objects: &["Secret", "ConfigMap", "VirtualMachine", "Certificate"],
            change: Restart,
        }
        /// Days for which a certificate is good. VMs have to be stopped and started once in that time.
        #[whole(1..=3650, "days", "a day to ten years")]
        "duration" => duration: u32 {
            default: Words("cert-manager's, 90"),
            example: "365",
            with: "issuer: lab-ca",
            objects: &["Certificate"],
            change: Apply,
        }
        /// Days before its end when cert-manager makes the next one.
        #[whole(1..=3649, "days", "a day, and less than `duration`")]
        "renew-before" => renew_before: u32 {
            default: Words("cert-manager's, a third of `duration`"),
            example: "60",
            with: "issuer: lab-ca, duration: 3650",
            objects: &["Certificate"],
            change: Apply,
        }
    }
}
