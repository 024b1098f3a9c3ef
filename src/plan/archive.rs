//! Where WAL and base backups go, and what a lab is made from.

use super::credentials::CredentialsPlan;
use super::{Family, IpPlan};
use crate::config::Config;
use crate::config::archive::{Archive, ArchiveSecret, Restore};
use crate::config::fields::{Field, Involved, Spanned};
use crate::diagnostic::{Code, Diagnostic, Problems};
use crate::names::{Names, Role};
use crate::value::{
    ArchivePrefix, ArchiveTool, ArchiveType, BucketName, Calendar, Certificates, IpFamily, NfsExport,
    Packages, PgSize, RegionName, SecretKey, StoreUrl,
};

/// Where WAL and base backups go.
#[derive(Debug)]
pub struct ArchivePlan {
    /// What writes and reads it.
    pub tool: ArchiveTool,
    /// What it is.
    pub place: PlacePlan,
    /// The part of it that is this lab's.
    pub prefix: String,
    /// Seconds after which a segment is archived that is not full.
    pub timeout: u32,
    /// What may wait for it.
    pub max_pending_wal: PgSize,
    /// When base backups are made.
    pub schedule: String,
    /// Of so many backups one is full.
    pub full_every: u32,
    /// Full backups that are kept.
    pub retention: u32,
    /// When the newest one is restored.
    pub check_schedule: String,
    /// What a lab begins with.
    pub restore: Option<RestorePlan>,
}

/// What an archive is.
#[derive(Debug)]
pub enum PlacePlan {
    /// A store of objects.
    Store(Box<StorePlan>),
    /// What an NFS server exports.
    Nfs(String),
}

/// A store that speaks S3.
#[derive(Debug)]
pub struct StorePlan {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: String,
    /// Its region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Whether that stands in the path.
    pub path_style: bool,
    /// The CAs that vouch for it, in PEM.
    pub ca: Option<String>,
    /// The Secret of the keys.
    pub secret: String,
    /// Its key with the access key.
    pub access_key: String,
    /// Its key with the secret key.
    pub secret_key: String,
}

/// What a lab begins with.
#[derive(Debug)]
pub struct RestorePlan {
    /// The prefix of the archive.
    pub from: String,
    /// `time`, `lsn`, `name` or `latest`.
    pub target: &'static str,
    /// Which.
    pub value: String,
}

impl ArchivePlan {
    /// The store, where it is one.
    pub fn store(&self) -> Option<&StorePlan> {
        match &self.place {
            PlacePlan::Store(store) => Some(store),
            PlacePlan::Nfs(_) => None,
        }
    }

    /// What nodes with a database install.
    pub(super) fn packages(&self) -> &'static [&'static str] {
        match (self.tool, &self.place) {
            (ArchiveTool::Pgbackrest, PlacePlan::Store(_)) => &["pgbackrest", "python3-boto3"],
            (ArchiveTool::Pgbackrest, PlacePlan::Nfs(_)) => &["pgbackrest", "nfs-common"],
            // installed by the family: see `barman`
            (ArchiveTool::BarmanCloud, _) => &["python3-boto3"],
        }
    }
}

/// Where the programs of barman-cloud are.
pub(super) fn barman(family: Family) -> &'static str {
    match family {
        Family::Rpm => "barman-cli",
        Family::Debian => "barman-cli-cloud",
    }
}

const SETTINGS: [&str; 6] = [
    "archive_mode",
    "archive_command",
    "archive_library",
    "archive_timeout",
    "restore_command",
    "archive_cleanup_command",
];

/// A base backup switches segments, and so do clones.
const LEAST_PENDING: PgSize = PgSize::mib(128);

/// Where slots hold back less.
const USUAL_PENDING: PgSize = PgSize::mib(256);

pub(super) fn plan(
    config: &Config,
    names: &Names,
    roles: &[(Role, u32)],
    family: Family,
    (slots, credentials): (PgSize, &CredentialsPlan),
    ip: &IpPlan,
    problems: &mut Problems,
) -> Option<ArchivePlan> {
    let Some(section) = config.archive.spanned() else {
        if let (Field::Absent, Some(restore)) = (&config.archive, config.restore.spanned()) {
            problems.push(
                Diagnostic::new(
                    Code::MissingKey,
                    restore.span.clone(),
                    "`restore` does not say where the archive is",
                )
                .help("add `archive`: its store is where `restore.from` lies, too"),
            );
        }
        return None;
    };
    let archive = &section.value;
    let kind = kind(section, problems);
    let tool = tool(config, archive, kind, family, problems);
    check_settings(config, problems);
    let place = match kind {
        ArchiveType::S3 => {
            without_effect(&[&archive.nfs], archive, "is for `type: posix`", problems);
            check_host(config, archive, ip, problems);
            PlacePlan::Store(Box::new(store(section, names, roles, config, credentials, problems)))
        }
        ArchiveType::Posix => {
            let of_stores: [&dyn Involved; 6] = [
                &archive.endpoint,
                &archive.bucket,
                &archive.region,
                &archive.path_style,
                &archive.ca,
                &archive.existing_secret,
            ];
            without_effect(&of_stores, archive, "is for `type: s3`", problems);
            if !archive.nfs.is_present() {
                missing(section, "nfs", "what the NFS server exports: `server:/path`", problems);
            }
            check_family(config, &archive.nfs, archive.nfs.get().and_then(NfsExport::family), ip, problems);
            PlacePlan::Nfs(archive.nfs.get().map(NfsExport::to_string).unwrap_or_default())
        }
    };
    let backup = archive.backup.or_default();
    if tool == ArchiveTool::BarmanCloud && backup.full_every.or(1) > 1 {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&backup.full_every, "all of them are full"), (&archive.tool, "by this")],
            "`barman-cloud` makes full backups alone",
            "remove `full-every`, or let `pgbackrest` write the archive",
        );
    }
    if archive.max_pending_wal.get().is_some_and(|size| *size < LEAST_PENDING) {
        problems.contradiction(
            Code::PendingWalTooSmall,
            &[(&archive.max_pending_wal, "too little")],
            format!("`archive.max-pending-wal` is below `{LEAST_PENDING}`: a slow minute would leave a gap in the archive"),
            format!("write at least `{LEAST_PENDING}`, or leave it out"),
        );
    }
    check_standby_site(config, section, problems);
    let prefix = archive.prefix.get().map_or(names.lab().to_owned(), ArchivePrefix::to_string);
    let text = |calendar: &Field<Calendar>, usual: &str| {
        calendar.get().map_or(usual.to_owned(), Calendar::to_string)
    };
    Some(ArchivePlan {
        tool,
        place,
        timeout: archive.archive_timeout.or(60),
        max_pending_wal: archive.max_pending_wal.or(slots.max(USUAL_PENDING)),
        schedule: text(&backup.schedule, "daily"),
        full_every: backup.full_every.or(1),
        retention: archive.retention.or(2),
        check_schedule: text(&archive.check_schedule, "weekly"),
        restore: restore(config, archive, &prefix, problems),
        prefix,
    })
}

/// An address that the guests cannot reach.
fn check_family(
    config: &Config,
    place: &dyn Involved,
    family: Option<IpFamily>,
    ip: &IpPlan,
    problems: &mut Problems,
) {
    let Some(family) = family.filter(|family| !ip.guests.has(*family)) else { return };
    let service = config.service.or_default();
    problems.contradiction(
        Code::OfAnotherIpFamily,
        &[(place, "cannot be reached"), (&service.ip_families, "by guests of this family")],
        format!("the guests have no {}", family.as_str()),
        "add the family to `service.ip-families`, or name the host by its name",
    );
}

/// Whether there is a host for the bucket: `bucket.host` is what it is called without `path-style`.
fn check_host(config: &Config, archive: &Archive, ip: &IpPlan, problems: &mut Problems) {
    let family = archive.endpoint.get().and_then(StoreUrl::family);
    check_family(config, &archive.endpoint, family, ip, problems);
    if archive.path_style.or(false) {
        return;
    }
    let (key, message): (&dyn Involved, _) = if family.is_some() {
        (
            &archive.endpoint,
            "the bucket would be a part of the host's name, and this host has none".to_owned(),
        )
    } else if let Some(bucket) = archive.bucket.get().filter(|bucket| bucket.as_str().contains('.')) {
        let message = format!(
            "`{bucket}` would be a part of the host's name, and a certificate for all buckets holds for those without dots"
        );
        (&archive.bucket, message)
    } else {
        return;
    };
    problems.contradiction(
        Code::NeedsPathStyle,
        &[(key, "no part of a host's name"), (&archive.path_style, "so it has to be in the path")],
        message,
        "set `archive.path-style` to `true`",
    );
}

/// Both sites have one archive: what is under the name of this one is not the other's.
fn check_standby_site(config: &Config, section: &Spanned<Archive>, problems: &mut Problems) {
    if config.upstream.spanned().is_none() {
        return;
    }
    if !section.value.prefix.is_present() {
        missing(
            section,
            "prefix",
            "that of the other site: a standby site goes on from the archive of both",
            problems,
        );
    }
    if config.restore.spanned().is_some() {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(&config.restore, "data of a moment"), (&config.upstream, "and that of the other site")],
            "a standby site has the data of the site that it follows, never what `restore` makes",
            "remove `restore`, or remove `upstream`",
        );
    }
}

fn missing(section: &Spanned<Archive>, key: &str, what: &str, problems: &mut Problems) {
    let message = format!("`archive` has no `{key}`");
    problems.push(
        Diagnostic::new(Code::MissingKey, section.span.clone(), message).help(format!("add `{key}`, {what}")),
    );
}

fn kind(section: &Spanned<Archive>, problems: &mut Problems) -> ArchiveType {
    let kind = &section.value.kind;
    if !kind.is_present() {
        let message = "`archive` has no `type`";
        problems.push(
            Diagnostic::new(Code::MissingKey, section.span.clone(), message)
                .help("add `type: s3` for a store of objects, or `type: posix` for an NFS server"),
        );
    }
    kind.or(ArchiveType::S3)
}

fn without_effect(keys: &[&dyn Involved], archive: &Archive, whose: &str, problems: &mut Problems) {
    for key in keys.iter().filter(|key| archive.kind.get().is_some() && !matches!(key.place(), Ok(None))) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(*key, "of another kind of archive"), (&archive.kind, "which is not this one")],
            format!("the key {whose}"),
            "remove it, or change `type`",
        );
    }
}

fn tool(
    config: &Config,
    archive: &Archive,
    kind: ArchiveType,
    family: Family,
    problems: &mut Problems,
) -> ArchiveTool {
    let guest = config.guest.or_default();
    let is_posix = kind == ArchiveType::Posix;
    let usual = match family {
        _ if is_posix => ArchiveTool::Pgbackrest,
        Family::Rpm => ArchiveTool::BarmanCloud,
        Family::Debian => ArchiveTool::Pgbackrest,
    };
    let tool = archive.tool.or(usual);
    if is_posix && tool == ArchiveTool::BarmanCloud {
        problems.contradiction(
            Code::NoArchiveTool,
            &[(&archive.tool, "writes to stores of objects alone"), (&archive.kind, "and this is none")],
            "`barman-cloud` knows no directories",
            "remove `tool`, or set `type` to `s3`",
        );
    } else if tool == ArchiveTool::Pgbackrest
        && family == Family::Rpm
        && guest.packages.get() != Some(&Packages::Preinstalled)
    {
        let key: &dyn Involved = if archive.tool.is_present() { &archive.tool } else { &archive.kind };
        problems.contradiction(
            Code::NoArchiveTool,
            &[(key, "needs pgBackRest"), (&guest.image, "which has no package for this"), (&guest.os, "for this")],
            "the guest's distribution has no package of pgBackRest",
            if is_posix {
                "use a store, `type: s3`, or choose an image of Debian or Ubuntu, or one that has it and `packages: preinstalled`"
            } else {
                "write `barman-cloud`, or choose an image of Debian or Ubuntu"
            },
        );
    }
    tool
}

/// Settings that say the same once more.
fn check_settings(config: &Config, problems: &mut Problems) {
    let parameters = config.postgresql.or_default().parameters.or_default().0;
    for (name, _) in &parameters {
        if SETTINGS.contains(&name.value.as_str()) {
            problems.contradiction(
                Code::ExclusiveKeys,
                &[(name, "a command of your own"), (&config.archive, "and gen's")],
                format!("`{}` is what `archive` sets", name.value),
                "remove it, or remove `archive`",
            );
        }
    }
}

fn store(
    section: &Spanned<Archive>,
    names: &Names,
    roles: &[(Role, u32)],
    config: &Config,
    credentials: &CredentialsPlan,
    problems: &mut Problems,
) -> StorePlan {
    let archive = &section.value;
    if !archive.bucket.is_present() {
        missing(section, "bucket", "which has to be there", problems);
    }
    if !archive.existing_secret.is_present() {
        missing(section, "existing-secret", "the Secret with the store's keys", problems);
    }
    let secret = archive.existing_secret.or_default();
    if let Some(given) = archive.existing_secret.spanned() {
        check_secret(given, names, roles, config, credentials, problems);
    }
    let region = archive.region.get().map_or("us-east-1", RegionName::as_str);
    let (host, port) = match archive.endpoint.get().map(StoreUrl::host_and_port) {
        Some((host, port)) => (host.to_owned(), port.to_owned()),
        None => (format!("s3.{region}.amazonaws.com"), "443".to_owned()),
    };
    let key =
        |field: &Field<SecretKey>, usual: &str| field.get().map_or(usual.to_owned(), SecretKey::to_string);
    StorePlan {
        host,
        port,
        region: region.to_owned(),
        bucket: archive.bucket.get().map(BucketName::to_string).unwrap_or_default(),
        path_style: archive.path_style.or(false),
        ca: archive.ca.get().map(Certificates::pem),
        secret: secret.name.get().map(ToString::to_string).unwrap_or_default(),
        access_key: key(&secret.access_key, "access-key"),
        secret_key: key(&secret.secret_key, "secret-key"),
    }
}

fn check_secret(
    given: &Spanned<ArchiveSecret>,
    names: &Names,
    roles: &[(Role, u32)],
    config: &Config,
    credentials: &CredentialsPlan,
    problems: &mut Problems,
) {
    let secret = &given.value;
    if !secret.name.is_present() {
        let message = "`archive.existing-secret` has no `name`";
        problems.push(
            Diagnostic::new(Code::MissingKey, given.span.clone(), message)
                .help("add `name`, the Secret's name"),
        );
    }
    let Some(name) = secret.name.get() else { return };
    let is_written = |other: String| other == name.as_str();
    let writes_passwords = matches!(credentials, CredentialsPlan::File(_));
    let has_manager = config.tls.or_default().cert_manager.is_present();
    if roles.iter().any(|(role, _)| is_written(names.cloudinit(*role)))
        || writes_passwords && is_written(names.credentials())
        || has_manager && (is_written(names.tls()) || is_written(names.replicator_tls()))
    {
        problems.contradiction(
            Code::NameTaken,
            &[(&secret.name, "this name is taken"), (&config.name, "by an object of this lab")],
            format!("`{name}` is the name of a Secret of the lab itself"),
            "give the Secret of the store's keys another name",
        );
    }
    let same = secret.access_key.get().map_or("access-key", SecretKey::as_str)
        == secret.secret_key.get().map_or("secret-key", SecretKey::as_str);
    if same {
        problems.contradiction(
            Code::NameTaken,
            &[(&secret.access_key, "the access key"), (&secret.secret_key, "and the secret key")],
            "both keys of the store would be one key of the Secret",
            "choose another key for one of them",
        );
    }
}

fn restore(config: &Config, archive: &Archive, prefix: &str, problems: &mut Problems) -> Option<RestorePlan> {
    let section = config.restore.spanned()?;
    let restore: &Restore = &section.value;
    let from = restore.from.get().map(ArchivePrefix::to_string).unwrap_or_default();
    if !restore.from.is_present() {
        let message = "`restore` has no `from`";
        problems.push(
            Diagnostic::new(Code::MissingKey, section.span.clone(), message)
                .help("add `from`, the prefix of the archive that the lab is made from"),
        );
    } else if restore.from.get().is_some() && ArchivePrefix::meets(&from, prefix) {
        let own: &dyn Involved = if archive.prefix.is_present() { &archive.prefix } else { &config.name };
        problems.contradiction(
            Code::RestoreIntoItsArchive,
            &[(&restore.from, "restored from here"), (own, "archived to here")],
            format!("the lab would archive to `{prefix}`, into what it is made from"),
            "give `archive.prefix` another name, outside of what is restored",
        );
    }
    let has_all: Field<bool> = match restore.latest.get() {
        Some(false) => Field::Absent,
        _ => restore.latest.clone(),
    };
    let targets: [(&dyn Involved, &'static str, Option<String>); 4] = [
        (&restore.time, "time", restore.time.get().map(ToString::to_string)),
        (&restore.lsn, "lsn", restore.lsn.get().map(ToString::to_string)),
        (&restore.name, "name", restore.name.get().map(ToString::to_string)),
        (&has_all, "latest", has_all.get().map(|_| String::new())),
    ];
    let given: Vec<_> = targets.into_iter().filter(|(key, ..)| !matches!(key.place(), Ok(None))).collect();
    match &given[..] {
        [] => problems.push(
            Diagnostic::new(Code::MissingKey, section.span.clone(), "`restore` does not say until when")
                .help("add `time`, `lsn`, `name` or `latest: true`"),
        ),
        [_] => {}
        [(one, ..), (other, ..), ..] => problems.contradiction(
            Code::ExclusiveKeys,
            &[(*one, "until then"), (*other, "or until then")],
            "`restore` has two ends",
            "keep one of them",
        ),
    }
    let (_, target, value) = given.into_iter().next()?;
    Some(RestorePlan { from, target, value: value.unwrap_or_default() })
}
