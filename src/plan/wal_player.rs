//! What measures consumers of WAL: files that go to a Klio server, or WAL of the lab's own that goes to its replicas.

use super::metadata::{AnnotationsPlan, CDI_KEYS, FLUX_FORCE};
use super::sizing;
use crate::config::Config;
use crate::config::fields::{Field, Involved};
use crate::config::wal_player::{Issuer, ServerSecret, WalPlayer};
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::names::Names;
use crate::value::{
    ClusterName, Endpoint, ImageReference, IssuerKind, PgSize, Quantity, Schedule, WalTarget,
};

/// Who plays.
#[derive(Debug)]
pub enum WalPlayerPlan {
    /// Klio's player, in a Job.
    Klio(Box<KlioPlan>),
    /// The lab's own, on the primary.
    Replication(ReplicationPlan),
}

impl WalPlayerPlan {
    /// Klio's.
    pub fn klio(&self) -> Option<&KlioPlan> {
        match self {
            Self::Klio(klio) => Some(klio),
            Self::Replication(_) => None,
        }
    }

    /// The lab's own.
    pub fn replication(&self) -> Option<&ReplicationPlan> {
        match self {
            Self::Klio(_) => None,
            Self::Replication(replication) => Some(replication),
        }
    }
}

/// Runs of the lab's own player.
#[derive(Debug)]
pub struct ReplicationPlan {
    /// Segments of a run.
    pub length: u32,
    /// Sessions that write.
    pub jobs: u32,
    /// Bytes of a second; as many as possible when absent.
    pub rate: Option<u128>,
    /// What compression leaves, in percent.
    pub compressed_percent: u32,
    /// Seconds that a replica may take for a segment.
    pub replica_timeout: u32,
    /// When it plays.
    pub schedule: Schedule,
}

/// A run of Klio's player.
#[derive(Debug)]
pub struct KlioPlan {
    /// Size of each file in MB.
    pub wal_size: u64,
    /// Number of files.
    pub length: u32,
    /// Files that are sent at the same time.
    pub jobs: u32,
    /// KiB of a message.
    pub block_size: u32,
    /// Klio's image.
    pub image: String,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
    /// Host and port of the server.
    pub server_address: String,
    /// Secret with the server's certificate.
    pub server_secret: String,
    /// Its key.
    pub server_key: String,
    /// The client's certificate.
    pub client: ClientPlan,
    /// The cluster as which the server keeps the files.
    pub cluster_name: String,
    /// Size of the volume.
    pub volume: Quantity,
    /// StorageClass of the volume; the cluster's default when absent.
    pub storage_class: Option<String>,
    /// Group of the volume.
    pub fs_group: Option<u32>,
    /// Memory that a container asks for.
    pub memory: Quantity,
    /// Seconds until a run is ended.
    pub time_limit: u32,
    /// Seconds after its end until the Job is deleted.
    pub delete_after: Option<u32>,
    /// Annotations of the Job.
    pub job_annotations: Vec<(String, String)>,
}

/// Where the client's certificate comes from.
#[derive(Debug)]
pub enum ClientPlan {
    /// cert-manager makes it.
    Issuer {
        /// Kind of the issuer.
        kind: IssuerKind,
        /// Its name.
        name: String,
    },
    /// It is in a Secret of this name.
    Secret(String),
}

const DEFAULT_IMAGE: &str = "ghcr.io/cloudnative-pg/klio:v0.0.20";
const DEFAULT_ADDRESS: &str = "klio-server:52000";
const DEFAULT_SERVER_SECRET: &str = "klio-server-tls";
const DEFAULT_ISSUER: &str = "klio-server-ca-issuer";

/// PostgreSQL's WAL segments end at 1GB.
const MAX_SEGMENT_MB: u64 = 1024;

/// What an initialised database has; gen sets no other.
const SEGMENT_MB: u64 = 16;

/// Below what every server spares for others than the load.
const MAX_WRITERS: u32 = 16;

/// A journal and inodes, on the smallest volumes.
const JOURNAL: u128 = 128 << 20;

pub(super) fn plan(
    config: &Config,
    names: &Names,
    annotations: &AnnotationsPlan,
    replicas: u32,
    slots: PgSize,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Option<WalPlayerPlan> {
    let section = config.wal_player.spanned()?;
    let player = &section.value;
    if !player.target.is_present() {
        let message = "`wal-player` has no `target`";
        problems.push(
            Diagnostic::new(Code::MissingKey, section.span.clone(), message)
                .help("add `target: klio` or `target: replication`: who consumes the WAL"),
        );
    }
    check_keys(player, problems);
    Some(match player.target.or(WalTarget::Klio) {
        WalTarget::Klio => {
            WalPlayerPlan::Klio(Box::new(klio(config, player, names, annotations, problems, notes)))
        }
        WalTarget::Replication => {
            WalPlayerPlan::Replication(replication(config, player, replicas, slots, problems, notes))
        }
    })
}

/// Keys that are of one target alone.
fn check_keys(player: &WalPlayer, problems: &mut Problems) {
    let of_klio: [&dyn Involved; 12] = [
        &player.wal_size,
        &player.block_size,
        &player.image,
        &player.image_pull_secret,
        &player.server_address,
        &player.server_secret,
        &player.issuer,
        &player.client_secret,
        &player.cluster_name,
        &player.storage_size,
        &player.storage_class,
        &player.fs_group,
    ];
    let times_of_klio: [&dyn Involved; 2] = [&player.time_limit, &player.delete_after];
    let of_replication: [&dyn Involved; 4] =
        [&player.rate, &player.compressed_percent, &player.schedule, &player.replica_timeout];
    let Some(target) = player.target.get() else { return };
    let (others, whose): (Vec<&dyn Involved>, _) = match target {
        WalTarget::Klio => (of_replication.to_vec(), WalTarget::Replication),
        WalTarget::Replication => ([&of_klio[..], &times_of_klio].concat(), WalTarget::Klio),
    };
    for key in others.into_iter().filter(|key| !matches!(key.place(), Ok(None))) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "of another target"), (&player.target, "which is not this one")],
            format!("the key is for `target: {}`", whose.as_str()),
            "remove it, or change `target`",
        );
    }
}

fn replication(
    config: &Config,
    player: &WalPlayer,
    replicas: u32,
    slots: PgSize,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> ReplicationPlan {
    let (length, jobs) = (player.length.or(100), player.jobs.or(1));
    if replicas == 0 {
        problems.contradiction(
            Code::PlayerWithoutReplicas,
            &[(&player.target, "measures replicas"), (&config.replica_count, "and there are none")],
            "`wal-player` would measure the replicas, and the lab has none",
            "ask for replicas, or remove `wal-player`",
        );
    }
    if jobs > MAX_WRITERS {
        problems.contradiction(
            Code::TooManyWriters,
            &[(&player.jobs, "sessions of the primary")],
            format!("`wal-player.jobs` {jobs} is more than the {MAX_WRITERS} sessions that are left for it"),
            format!("write at most `{MAX_WRITERS}`; one alone can keep a disk busy"),
        );
    }
    let run = PgSize::mib(u64::from(length) * SEGMENT_MB);
    if run.bytes() > slots.bytes() {
        let text = format!(
            "a run writes {run} of WAL, and slots hold back at most {slots}: a replica that is away for so long is cloned again"
        );
        notes.push(Note::new(Code::RunExceedsSlots, text));
    }
    ReplicationPlan {
        length,
        jobs,
        rate: player.rate.get().map(|rate| rate.bytes()),
        compressed_percent: player.compressed_percent.or(100),
        replica_timeout: player.replica_timeout.or(60),
        schedule: player.schedule.or(Schedule::Manual),
    }
}

fn klio(
    config: &Config,
    player: &WalPlayer,
    names: &Names,
    annotations: &AnnotationsPlan,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> KlioPlan {
    let wal_size = wal_size(player, problems);
    let length = player.length.or(100);
    let jobs = jobs(player, length, problems);
    let block_size = player.block_size.or(2048);
    let (server_secret, server_key) = server_secret(&player.server_secret, problems);
    let delete_after = player.delete_after.get().copied();
    if let Some(seconds) = delete_after {
        let text = format!(
            "Kubernetes deletes the Job `{}` and its log, which has the results, {seconds} seconds after its end; a GitOps \
             tool makes it anew then, and it runs again",
            names.wal_player()
        );
        notes.push(Note::new(Code::JobIsDeleted, text));
    }
    let files = wal_size.bytes() * u128::from(length);
    let cluster_name = player.cluster_name.get().map_or(names.wal_player(), ClusterName::to_string);
    KlioPlan {
        wal_size: wal_size.megabytes(),
        length,
        jobs,
        block_size,
        image: player.image.get().map_or(DEFAULT_IMAGE, ImageReference::as_str).to_owned(),
        image_pull_secret: player.image_pull_secret.get().map(ToString::to_string),
        server_address: player.server_address.get().map_or(DEFAULT_ADDRESS, Endpoint::as_str).to_owned(),
        server_secret,
        server_key,
        client: client(config, player, names, problems),
        cluster_name,
        volume: volume(player, files, problems),
        storage_class: player.storage_class.get().map(ToString::to_string),
        fs_group: player.fs_group.get().copied(),
        memory: memory(jobs, block_size),
        time_limit: player.time_limit.or(time_limit(files)),
        delete_after,
        job_annotations: job_annotations(annotations),
    }
}

fn wal_size(player: &WalPlayer, problems: &mut Problems) -> PgSize {
    let usual = PgSize::mib(16);
    let Some(given) = player.wal_size.spanned() else { return usual };
    let megabytes = given.value.megabytes();
    if megabytes.is_power_of_two() && megabytes <= MAX_SEGMENT_MB {
        return given.value;
    }
    let near = PgSize::mib(megabytes.next_power_of_two().min(MAX_SEGMENT_MB));
    let message = format!("PostgreSQL has no WAL files of {}", given.value);
    problems.push(
        Diagnostic::new(Code::NotASegmentSize, given.span.clone(), message)
            .help(format!("their size is a power of two from 1MB to 1GB: write `{near}`")),
    );
    usual
}

fn jobs(player: &WalPlayer, length: u32, problems: &mut Problems) -> u32 {
    let jobs = player.jobs.or(1);
    if jobs > length {
        problems.contradiction(
            Code::MoreJobsThanFiles,
            &[(&player.jobs, "at the same time"), (&player.length, "of so many")],
            format!("`wal-player.jobs` {jobs} is more than there are files, {length}: not all would send"),
            format!("write at most `{length}`, or raise `wal-player.length`"),
        );
    }
    jobs
}

fn server_secret(field: &Field<ServerSecret>, problems: &mut Problems) -> (String, String) {
    let secret = field.or_default();
    if let Some(spanned) = field.spanned()
        && !secret.name.is_present()
    {
        let message = "`wal-player.server-secret` has no `name`";
        problems.push(
            Diagnostic::new(Code::MissingKey, spanned.span.clone(), message)
                .help("add `name`, the Secret's name"),
        );
    }
    let name = secret.name.get().map_or(DEFAULT_SERVER_SECRET.to_owned(), ToString::to_string);
    (name, secret.key.get().map_or("ca.crt".to_owned(), ToString::to_string))
}

fn client(config: &Config, player: &WalPlayer, names: &Names, problems: &mut Problems) -> ClientPlan {
    if player.issuer.is_present() && player.client_secret.is_present() {
        problems.contradiction(
            Code::ExclusiveKeys,
            &[(&player.issuer, "either an issuer"), (&player.client_secret, "or a Secret")],
            "`wal-player` names two sources of the client's certificate",
            "keep `issuer` for a certificate that cert-manager makes, or `client-secret` for one that is in the cluster",
        );
    }
    if let Some(name) = player.client_secret.get() {
        return ClientPlan::Secret(name.to_string());
    }
    let passwords = config.credentials.or_default().existing_secret.or_default().name;
    if passwords.get().is_some_and(|name| name.as_str() == names.wal_player()) {
        problems.contradiction(
            Code::NameTaken,
            &[(&passwords, "this name is taken"), (&config.wal_player, "by a certificate of this")],
            format!("`{}` is the name of a Secret that cert-manager writes", names.wal_player()),
            "give the Secret of the passwords another name",
        );
    }
    let issuer: Issuer = player.issuer.or_default();
    if let Some(spanned) = player.issuer.spanned()
        && !issuer.name.is_present()
    {
        let message = "`wal-player.issuer` has no `name`";
        problems.push(
            Diagnostic::new(Code::MissingKey, spanned.span.clone(), message)
                .help("add `name`, the issuer's name"),
        );
    }
    ClientPlan::Issuer {
        kind: issuer.kind.or(IssuerKind::Namespaced),
        name: issuer.name.get().map_or(DEFAULT_ISSUER.to_owned(), ToString::to_string),
    }
}

/// The files with head-room for their file system, in whole GiB.
fn volume(player: &WalPlayer, files: u128, problems: &mut Problems) -> Quantity {
    let need = sizing::with_file_system(files + JOURNAL);
    if let Some(given) = player.storage_size.spanned()
        && given.value.bytes() < need
    {
        let least = sizing::in_gib(need);
        problems.contradiction(
            Code::DiskTooSmall,
            &[
                (&player.storage_size as &dyn Involved, "too small"),
                (&player.wal_size, "for files of this size"),
                (&player.length, "and of this number"),
            ],
            format!(
                "`wal-player.storage-size` {} is too small: the files and their file system need {least}",
                given.value
            ),
            format!("raise it to at least `{least}`, or leave it out"),
        );
    }
    player.storage_size.or(Quantity::gib(u64::try_from(need.div_ceil(1 << 30)).unwrap_or(u64::MAX)))
}

/// Measured: 72 MiB, and for each connection three messages and 8 MiB.
fn memory(jobs: u32, block_size: u32) -> Quantity {
    let connection = (u64::from(block_size) * 3).div_ceil(1024) + 8;
    Quantity::mib((72 + u64::from(jobs) * connection).next_multiple_of(64))
}

/// An hour for the volume, the image and what else is waited for; two minutes for each GB of files, which are written,
/// read and sent.
fn time_limit(files: u128) -> u32 {
    let gigabytes = u32::try_from(files.div_ceil(1 << 30)).unwrap_or(u32::MAX);
    gigabytes.saturating_mul(120).saturating_add(3600)
}

/// A Job cannot change. With this annotation Flux deletes one that should, and makes the new one, which runs. Argo CD
/// has no option that does it then and only then.
fn job_annotations(annotations: &AnnotationsPlan) -> Vec<(String, String)> {
    let mut all = annotations.object.clone();
    all.retain(|(key, _)| key != FLUX_FORCE);
    all.push((FLUX_FORCE.to_owned(), "enabled".to_owned()));
    all.sort();
    all
}

/// What the config says beside the database. What it says of it is refused once, whatever else is wrong there.
pub(super) fn without_database(config: &Config, problems: &mut Problems) -> Config {
    check_without_database(config, problems);
    Config {
        name: config.name.clone(),
        namespace: config.namespace.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        database: config.database.clone(),
        kustomization: config.kustomization.clone(),
        wal_player: config.wal_player.clone(),
        ..Config::default()
    }
}

/// Keys of the database beside `database: false`, and a bundle of nothing.
fn check_without_database(config: &Config, problems: &mut Problems) {
    let of_database: [&dyn Involved; 22] = [
        &config.replica_count,
        &config.wal_keep_size,
        &config.pgbench_scale,
        &config.primary_node,
        &config.failover,
        &config.pgbench,
        &config.chaos_network,
        &config.postgresql,
        &config.guest,
        &config.vm,
        &config.primary,
        &config.replica,
        &config.witness,
        &config.client,
        &config.service,
        &config.upstream,
        &config.tls,
        &config.network_policy,
        &config.monitoring,
        &config.credentials,
        &config.archive,
        &config.restore,
    ];
    for key in of_database.into_iter().filter(|key| !matches!(key.place(), Ok(None))) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "of the database"), (&config.database, "which is left out")],
            "the key is about the database, and `database` is `false`",
            "remove it, or remove `database`",
        );
    }
    let annotations = config.annotations.or_default().0;
    for (key, _) in annotations.iter().filter(|(key, _)| CDI_KEYS.contains(&key.value.as_str())) {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(key, "of its disks"), (&config.database, "which is left out")],
            "the annotation is for the database's disks, and `database` is `false`",
            "remove it, or remove `database`",
        );
    }
    if let Some(player) = config.wal_player.get()
        && player.target.get() == Some(&WalTarget::Replication)
    {
        problems.contradiction(
            Code::KeyWithoutEffect,
            &[(&player.target, "plays on the database"), (&config.database, "which is left out")],
            "`wal-player` would play on the lab's database, and `database` is `false`",
            "remove `database`, or name a Klio server as the target",
        );
    }
    if !config.wal_player.is_present() {
        problems.contradiction(
            Code::NothingToGenerate,
            &[(&config.database, "leaves out the database")],
            "the bundle would be empty: without the database there is nothing to generate",
            "add `wal-player: klio`, or remove `database`",
        );
    }
}
