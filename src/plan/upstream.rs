//! The other site that this one follows.

use super::service::is_encrypted;
use super::{IpPlan, release};
use crate::config::Config;
use crate::config::fields::Spanned;
use crate::config::upstream::Upstream;
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::names::Names;
use crate::value::{Certificates, FailoverMode, Host, SslMode};

/// The primary of another site.
#[derive(Debug)]
pub struct UpstreamPlan {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u32,
    /// What is asked of its certificate.
    pub sslmode: SslMode,
    /// The CAs that vouch for it, in PEM; `None`: that of this site.
    pub ca: Option<String>,
    /// Whether this site takes over.
    pub promote: bool,
}

pub(super) fn plan(
    config: &Config,
    names: &Names,
    ip: &IpPlan,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Option<UpstreamPlan> {
    let section = config.upstream.spanned()?;
    let upstream = &section.value;
    let host = host(config, section, names, ip, problems, notes);
    let sslmode = sslmode(config, section, problems);
    check_patroni(config, section, sslmode, problems);
    check_login(config, section, problems);
    note_address(config, upstream, sslmode, notes);
    let promote = upstream.promote.or(false);
    if !promote {
        let text = format!(
            "this is a standby site: no node takes writes until it is promoted; `{}` leads to the standby that follows \
             `upstream`",
            names.primary_service()
        );
        notes.push(Note::new(Code::StandbySite, text));
    }
    Some(UpstreamPlan {
        host,
        port: upstream.port.or(5432),
        sslmode,
        ca: upstream.ca.get().map(Certificates::pem),
        promote,
    })
}

/// Where `replicator` has no password, it logs in at the other site by its certificate, too.
fn check_login(config: &Config, section: &Spanned<Upstream>, problems: &mut Problems) {
    let sslmode = &section.value.sslmode;
    let tls = config.tls.or_default();
    if sslmode.get() == Some(&SslMode::Disable) && is_encrypted(config) && tls.client_certificates.or(false) {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(sslmode, "shows no certificate"), (&tls.client_certificates, "and there is no password")],
            "`replicator` cannot log in at the other site: without TLS nobody sees its certificate",
            "write `verify-full`, or set `tls.client-certificates` to `false`",
        );
    }
}

/// Before 15 libpq looks for an address among the names of a certificate alone.
fn note_address(config: &Config, upstream: &Upstream, sslmode: SslMode, notes: &mut Vec<Note>) {
    let is_old = *release::majors(&config.guest.or_default()).end() < 15;
    if let Some(host) = upstream.host.get().filter(|host| host.family().is_some())
        && sslmode == SslMode::VerifyFull
        && is_old
    {
        let text = format!(
            "PostgreSQL of this image does not find `{host}` among the addresses of a certificate: let `upstream.host` be a name in \
             DNS, or `upstream.sslmode` `verify-ca`"
        );
        notes.push(Note::new(Code::AddressNotVerified, text));
    }
}

/// Patroni connects to the other site as it does to the nodes of this one.
fn check_patroni(config: &Config, section: &Spanned<Upstream>, sslmode: SslMode, problems: &mut Problems) {
    let failover = &config.failover.or_default().mode;
    let encrypted = is_encrypted(config);
    let is_missing = !section.value.sslmode.is_present() && !encrypted;
    if failover.get() != Some(&FailoverMode::Patroni)
        || is_missing
        || encrypted == (sslmode != SslMode::Disable)
    {
        return;
    }
    let (message, help) = if encrypted {
        (
            "Patroni would talk to this site's own nodes in clear, too, and with `tls` they do not listen to that",
            "expose the other site with `tls`, and remove `upstream.sslmode`",
        )
    } else {
        (
            "Patroni would talk to this site's own nodes by TLS, too, and without `tls` they do not answer to that",
            "set `tls` to `true`",
        )
    };
    problems.contradiction(
        Code::SslmodeUnderPatroni,
        &[(&section.value.sslmode, "of all connections"), (failover, "which has one for all")],
        message,
        help,
    );
}

fn host(
    config: &Config,
    section: &Spanned<Upstream>,
    names: &Names,
    ip: &IpPlan,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> String {
    let field = &section.value.host;
    if !field.is_present() {
        let message = "`upstream` has no `host`";
        problems.push(
            Diagnostic::new(Code::MissingKey, section.span.clone(), message)
                .help("add `host`, the address of the other site's primary"),
        );
    }
    let Some(host) = field.get() else { return String::new() };
    if let Some(family) = host.family().filter(|family| !ip.guests.has(*family)) {
        let service = config.service.or_default();
        problems.contradiction(
            Code::OfAnotherIpFamily,
            &[(field, "cannot be reached"), (&service.ip_families, "by guests of this family")],
            format!("the guests have no {}, so they cannot reach `{host}`", family.as_str()),
            "add the family to `service.ip-families`, or name the host by its name or an address of the other family",
        );
    }
    match lab_of(host) {
        Some(other) if other == names.lab() => problems.contradiction(
            Code::SameNameOnBothSites,
            &[(field, "of a lab with the name of this one"), (&config.name, "which is this")],
            format!("`{host}` is this lab itself, or another one that is called `{other}`, too"),
            "give each site another name in `name`, and let `upstream.host` name the other one",
        ),
        Some(_) => {}
        None => {
            let text = format!(
                "the other site needs another `name` than `{}`: nodes of the same name would be taken for each other",
                names.lab()
            );
            notes.push(Note::new(Code::NamesOfBothSites, text));
        }
    }
    host.to_string()
}

/// The lab that a host is of, where its name is that of a Service or a node.
fn lab_of(host: &Host) -> Option<&str> {
    if host.family().is_some() {
        return None;
    }
    let label = host.as_str().split('.').next()?;
    let service = ["-primary", "-replicas", "-nodes"].iter().find_map(|end| label.strip_suffix(end));
    service.or_else(|| {
        let (rest, number) = label.rsplit_once('-')?;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        ["-primary", "-replica", "-node"].iter().find_map(|end| rest.strip_suffix(end)).filter(|_| is_number)
    })
}

fn sslmode(config: &Config, section: &Spanned<Upstream>, problems: &mut Problems) -> SslMode {
    let Upstream { sslmode, ca, .. } = &section.value;
    let encrypted = is_encrypted(config);
    if !sslmode.is_present() && !encrypted {
        let message = "`upstream.sslmode` has to be given: without `tls` this site knows nothing of the other's certificate";
        problems.push(Diagnostic::new(Code::MissingKey, section.span.clone(), message).help(
            "add `tls: true` where the other site has it, with the same `credentials`; or add `sslmode: verify-full` and the other site's \
             CA as `ca`; or add `sslmode: disable` where nobody else can reach the network between the sites",
        ));
    }
    let mode = sslmode.or(SslMode::VerifyFull);
    let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if verifies && sslmode.is_present() && !ca.is_present() && !encrypted {
        problems.contradiction(
            Code::MissingKey,
            &[(sslmode, "by which CA?")],
            format!("`{}` needs the CA that vouches for the upstream", mode.as_str()),
            "add `upstream.ca`, the other site's CA in PEM",
        );
    }
    if !verifies && ca.is_present() {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(ca, "verifies nothing"), (sslmode, "because of this")],
            format!("with `sslmode: {}` nobody asks for a CA", mode.as_str()),
            "remove it, or set `upstream.sslmode` to `verify-full`",
        );
    }
    mode
}
