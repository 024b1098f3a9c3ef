//! Where the servers' certificates come from, and what is in them.

use crate::config::Config;
use crate::config::credentials::ExistingSecret;
use crate::config::fields::{Field, Involved, Spanned};
use crate::config::tls::{CertManager, Tls};
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::names::{Names, Node, Role};
use crate::value::{HostName, IssuerKind, ObjectName};

/// TLS of a lab.
#[derive(Debug)]
pub struct TlsPlan {
    /// Where certificates come from.
    pub source: CertificatePlan,
    /// Whether the role `replicator` logs in by a certificate, and has no password.
    pub has_client_certificates: bool,
    /// What the config adds to the names of nodes and Services.
    pub names: Vec<HostName>,
}

/// Where certificates come from.
#[derive(Debug)]
pub enum CertificatePlan {
    /// Each node signs its own, for an authority that all derive from the credentials.
    Derived,
    /// They are in Secrets of the cluster.
    Secret {
        /// That of the servers.
        servers: String,
        /// That of the role `replicator`, where it logs in by a certificate.
        replicator: Option<String>,
    },
    /// cert-manager makes them.
    CertManager(IssuerPlan),
}

/// How cert-manager makes certificates.
#[derive(Debug)]
pub struct IssuerPlan {
    /// Whether the issuer is the namespace's or the cluster's.
    pub kind: IssuerKind,
    /// Its name.
    pub name: String,
    /// Days for which a certificate is good.
    pub duration: Option<u32>,
    /// Days before its end when the next one is made.
    pub renew_before: Option<u32>,
    /// The DNS names of nodes and Services, and those of the config.
    pub dns_names: Vec<String>,
    /// The addresses of the config.
    pub addresses: Vec<String>,
}

/// The days of a certificate of cert-manager, where nothing else is said.
const USUAL_DURATION: u32 = 90;

/// What a certificate may hold of names: TLS has room for about 100 KB in a handshake (`SSL_MAX_CERT_LIST_DEFAULT`), and the
/// authorities' own certificates go with it.
const MAX_NAMES: usize = 64 << 10;

impl TlsPlan {
    /// Whether the nodes derive certificates.
    pub fn is_derived(&self) -> bool {
        matches!(self.source, CertificatePlan::Derived)
    }

    /// The Secrets with certificates: the servers', and that of the role `replicator`.
    pub fn secrets(&self, names: &Names) -> (Option<String>, Option<String>) {
        match &self.source {
            CertificatePlan::Derived => (None, None),
            CertificatePlan::Secret { servers, replicator } => (Some(servers.clone()), replicator.clone()),
            CertificatePlan::CertManager(_) => {
                let replicator = self.has_client_certificates.then(|| names.replicator_tls());
                (Some(names.tls()), replicator)
            }
        }
    }
}

pub(super) fn plan(
    config: &Config,
    names: &Names,
    roles: &[(Role, u32)],
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Option<TlsPlan> {
    let section = config.tls.spanned()?;
    let tls = &section.value;
    if !tls.enabled.or(true) {
        check_disabled(tls, problems);
        return None;
    }
    check_sources(config, tls, names, roles, problems);
    let has_client_certificates = tls.client_certificates.or(false);
    if has_client_certificates {
        check_password(config, tls, problems);
    }
    let mut further: Vec<HostName> = Vec::new();
    for name in tls.names.or_default() {
        if !further.contains(&name.value) {
            further.push(name.value);
        }
    }
    let size = bytes(further.iter().map(HostName::as_str));
    if size > MAX_NAMES {
        problems.contradiction(
            Code::CertificateTooLarge,
            &[(&tls.names, "in each certificate")],
            format!("a certificate with these names would have {size} bytes of them; TLS carries about {MAX_NAMES}"),
            "list fewer of them, or one for many: `*.example.com`",
        );
    }
    let source = if let Some(manager) = tls.cert_manager.spanned() {
        CertificatePlan::CertManager(issuer(config, manager, names, roles, &further, problems, notes))
    } else if let Some(secret) = tls.existing_secret.get() {
        let replicator = tls.replicator_secret.get().map(ToString::to_string);
        CertificatePlan::Secret { servers: secret.to_string(), replicator }
    } else {
        CertificatePlan::Derived
    };
    Some(TlsPlan { source, has_client_certificates, names: further })
}

/// Whether a config asks for TLS.
pub(super) fn is_on(config: &Config) -> bool {
    config.tls.get().is_some_and(|tls| tls.enabled.or(true))
}

/// Whether its nodes derive certificates for PostgreSQL.
pub(super) fn is_derived(config: &Config) -> bool {
    let has_source = |tls: &Tls| tls.existing_secret.is_present() || tls.cert_manager.is_present();
    is_on(config) && !config.tls.get().is_some_and(has_source)
}

/// Keys that say something of TLS, where there is none.
fn check_disabled(tls: &Tls, problems: &mut Problems) {
    let keys: [(&dyn Involved, bool); 5] = [
        (&tls.existing_secret, tls.existing_secret.is_present()),
        (&tls.cert_manager, tls.cert_manager.is_present()),
        (&tls.client_certificates, tls.client_certificates.or(false)),
        (&tls.replicator_secret, tls.replicator_secret.is_present()),
        (&tls.names, !tls.names.or_default().is_empty()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_wanted)| *is_wanted) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "of no certificate"), (&tls.enabled, "because of this")],
            "the key is about certificates, and `tls.enabled` is `false`",
            "remove it, or set `tls.enabled` to `true`",
        );
    }
}

/// Two sources, keys of another source, and names that are taken.
fn check_sources(config: &Config, tls: &Tls, names: &Names, roles: &[(Role, u32)], problems: &mut Problems) {
    if tls.existing_secret.is_present() && tls.cert_manager.is_present() {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(&tls.existing_secret, "either a Secret"), (&tls.cert_manager, "or an issuer")],
            "`tls` names two sources of certificates",
            "keep `existing-secret` for certificates that are in the cluster, or `cert-manager` for those that it makes",
        );
    }
    if tls.existing_secret.is_present() && !tls.names.or_default().is_empty() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&tls.names, "in no certificate"), (&tls.existing_secret, "because of this")],
            "the certificate of an existing Secret has the names that it was made with",
            "remove `tls.names`, or let the nodes or cert-manager make the certificates",
        );
    }
    let wants = tls.client_certificates.or(false);
    if tls.replicator_secret.is_present() && !tls.existing_secret.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&tls.replicator_secret, "read by no node")],
            "the certificate of `replicator` comes from where those of the servers come from",
            "remove `tls.replicator-secret`; it is for certificates of an `existing-secret`",
        );
    } else if tls.replicator_secret.is_present() && !wants {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&tls.replicator_secret, "read by no node"), (&tls.client_certificates, "because of this")],
            "`replicator` logs in by its password",
            "remove `tls.replicator-secret`, or set `tls.client-certificates` to `true`",
        );
    } else if tls.existing_secret.is_present() && wants && !tls.replicator_secret.is_present() {
        problems.contradiction(
            Code::MissingKey,
            &[
                (&tls.client_certificates, "needs a certificate"),
                (&tls.existing_secret, "and this is the servers'"),
            ],
            "`tls` says nothing of the certificate of `replicator`",
            "add `replicator-secret`, the Secret that has it in `tls.crt` and `tls.key`",
        );
    }
    check_names(config, tls, names, roles, problems);
}

/// Secrets that gen writes, or has cert-manager write, are none that somebody else makes.
fn check_names(config: &Config, tls: &Tls, names: &Names, roles: &[(Role, u32)], problems: &mut Problems) {
    let mut taken: Vec<String> = roles.iter().map(|(role, _)| names.cloudinit(*role)).collect();
    if !config.credentials.or_default().existing_secret.is_present() {
        taken.push(names.credentials());
    }
    let mut refuse = |field: &Field<ObjectName>, taken: &[String]| {
        if let Some(name) = field.get().filter(|name| taken.iter().any(|taken| taken == name.as_str())) {
            problems.contradiction(
                Code::NameTaken,
                &[(field, "this name is taken"), (&config.name, "by an object of this lab")],
                format!("`{name}` is the name of a Secret of the lab itself"),
                "give the Secret another name",
            );
        }
    };
    refuse(&tls.existing_secret, &taken);
    refuse(&tls.replicator_secret, &taken);
    if tls.cert_manager.is_present() {
        let of_manager = [names.tls(), names.replicator_tls()];
        refuse(&config.credentials.or_default().existing_secret.or_default().name, &of_manager);
    }
    if let (Some(servers), Some(replicator)) = (tls.existing_secret.get(), tls.replicator_secret.get())
        && servers == replicator
    {
        problems.contradiction(
            Code::NameTaken,
            &[
                (&tls.replicator_secret, "the certificate of a role"),
                (&tls.existing_secret, "and that of the servers"),
            ],
            format!("`{servers}` would hold two certificates under one key"),
            "give the Secret of `replicator` another name",
        );
    }
}

/// A password that nobody reads.
fn check_password(config: &Config, tls: &Tls, problems: &mut Problems) {
    let secret: ExistingSecret = config.credentials.or_default().existing_secret.or_default();
    if secret.replication_key.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&secret.replication_key, "read by no node"), (&tls.client_certificates, "because of this")],
            "`replicator` logs in by a certificate and has no password",
            "remove `replication-key`, or set `tls.client-certificates` to `false`",
        );
    }
}

fn issuer(
    config: &Config,
    section: &Spanned<CertManager>,
    names: &Names,
    roles: &[(Role, u32)],
    further: &[HostName],
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> IssuerPlan {
    let manager = &section.value;
    match (manager.issuer.is_present(), manager.cluster_issuer.is_present()) {
        (true, true) => problems.contradiction(
            Code::ExclusiveKeys,
            &[(&manager.issuer, "either an Issuer"), (&manager.cluster_issuer, "or a ClusterIssuer")],
            "`tls.cert-manager` names two issuers",
            "keep `issuer` for one of the namespace, or `cluster-issuer` for one of the cluster",
        ),
        (false, false) => {
            let message = "`tls.cert-manager` has no `issuer`";
            problems.push(
                Diagnostic::new(Code::MissingKey, section.span.clone(), message)
                    .help("add `issuer` or `cluster-issuer`, the name of who signs"),
            );
        }
        _ => {}
    }
    check_days(manager, problems);
    let (addresses, hosts): (Vec<&HostName>, Vec<&HostName>) =
        further.iter().partition(|name| name.is_address());
    let namespace = config.namespace.get().map(ToString::to_string);
    if namespace.is_none() {
        let text = format!(
            "the certificate has the names of nodes and Services as they are called in their namespace, such as `{}`: for \
             clients elsewhere set `namespace`, or list theirs in `tls.names`",
            names.primary_service()
        );
        notes.push(Note::new(Code::ShortNamesOnly, text));
    }
    let mut dns_names = dns_names(names, roles, namespace.as_deref());
    for name in hosts {
        if dns_names.iter().all(|known| known != name.as_str()) {
            dns_names.push(name.to_string());
        }
    }
    let size = bytes(dns_names.iter().map(String::as_str));
    if size > MAX_NAMES && bytes(further.iter().map(HostName::as_str)) <= MAX_NAMES {
        problems.contradiction(
            Code::CertificateTooLarge,
            &[
                (section as &dyn Involved, "one certificate for all"),
                (&config.replica_count, "of these nodes"),
            ],
            format!("a certificate with the names of all nodes would have {size} bytes of them; TLS carries about {MAX_NAMES}"),
            "remove `cert-manager`: nodes that sign their own have one each; or ask for fewer replicas",
        );
    }
    let (kind, name) = match manager.cluster_issuer.get() {
        Some(name) => (IssuerKind::Cluster, Some(name)),
        None => (IssuerKind::Namespaced, manager.issuer.get()),
    };
    IssuerPlan {
        kind,
        name: name.map(ToString::to_string).unwrap_or_default(),
        duration: manager.duration.get().copied(),
        renew_before: manager.renew_before.get().copied(),
        dns_names,
        addresses: addresses.into_iter().map(ToString::to_string).collect(),
    }
}

/// What names take in a certificate.
fn bytes<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    names.map(|name| name.len() + 2).sum()
}

fn check_days(manager: &CertManager, problems: &mut Problems) {
    let duration = manager.duration.or(USUAL_DURATION);
    if manager.renew_before.get().is_some_and(|days| *days >= duration) {
        problems.contradiction(
            Code::OutOfBounds,
            &[(&manager.renew_before, "before its end"), (&manager.duration, "from its beginning")],
            format!(
                "a certificate of {duration} days cannot be renewed {} days before its end",
                manager.renew_before.or(0)
            ),
            match duration {
                1 => "remove it: a third of `duration` will do".to_owned(),
                _ => format!("write at most `{}`, or raise `duration`", duration - 1),
            },
        );
    }
}

/// What the nodes and Services are called: within the namespace, and from elsewhere where that is known.
fn dns_names(names: &Names, roles: &[(Role, u32)], namespace: Option<&str>) -> Vec<String> {
    let mut all = vec!["localhost".to_owned()];
    let mut add = |name: String| {
        if let Some(namespace) = namespace {
            let domains = ["", ".svc", ".svc.cluster.local"];
            all.extend(domains.map(|domain| [&name, ".", namespace, domain].concat()));
        }
        all.push(name);
    };
    let subdomain = names.nodes_service();
    [names.primary_service(), names.replicas_service(), subdomain.clone()].into_iter().for_each(&mut add);
    let nodes = roles.iter().filter(|(role, _)| !matches!(role, Role::Witness | Role::Client));
    let nodes = nodes.flat_map(|(role, count)| (0..*count).map(|index| Node { role: *role, index }));
    let nodes: Vec<String> = nodes.map(|node| node.vm(names)).collect();
    nodes.iter().map(|node| [node, ".", &subdomain].concat()).for_each(add);
    all.extend(nodes);
    all
}
