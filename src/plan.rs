//! What the config means: every default and every cross-check.

mod guest;
mod sizing;
mod vm;

pub use guest::{Family, GuestPlan, RootPlan};
pub use vm::{Compute, TolerationPlan, VmPlan};

use crate::config::Config;
use crate::config::fields::{Entries, Field, Involved, Spanned};
use crate::diagnostic::{Diagnostic, Problems, Report};
use crate::names::{MAX_NAME, Names, Role};
use crate::source::Source;
use crate::value::{
    AnnotationKey, Cidr, FromText, IpFamilyPolicy, LabName, LabelKey, LabelValue, ParameterValue, PgSize,
    Protocol, SecretKey,
};

/// A lab with every value decided.
#[derive(Debug)]
pub struct Plan {
    /// What the header of the bundle says of the config: [`Source::origin`].
    pub origin: String,
    /// Names of the objects.
    pub names: Names,
    /// Namespace of every object, where one is written.
    pub namespace: Option<String>,
    /// Labels of the user for every object.
    pub labels: Vec<(String, String)>,
    /// Annotations of the user for every object.
    pub annotations: Vec<(String, String)>,
    /// Number of replicas.
    pub replica_count: u32,
    /// The primary VM.
    pub primary: VmPlan,
    /// Each replica VM.
    pub replica: VmPlan,
    /// The load.
    pub pgbench: PgbenchPlan,
    /// The servers.
    pub postgresql: PostgresqlPlan,
    /// The guest's operating system.
    pub guest: GuestPlan,
    /// Annotations of the primary's and the replicas' Services.
    pub service_annotations: Vec<(String, String)>,
    /// IP families of the Services.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The addresses beside the namespace's pods that the NetworkPolicy lets in; `None`: no policy.
    pub network_policy: Option<Vec<Cidr>>,
    /// Whether a directory gets a `kustomization.yaml`.
    pub kustomization: bool,
    /// The passwords' source.
    pub credentials: CredentialsPlan,
    /// Advice for stderr.
    pub notes: Vec<String>,
}

/// The load on the primary.
#[derive(Debug)]
pub struct PgbenchPlan {
    /// Scale of the tables.
    pub scale: u32,
    /// Connections.
    pub clients: u32,
    /// Threads.
    pub threads: u32,
    /// Seconds of a round.
    pub duration: u32,
    /// Seconds between rounds.
    pub pause: u32,
    /// Transactions a second, unlimited when absent.
    pub rate: Option<u32>,
    /// How queries are sent.
    pub protocol: Protocol,
    /// Partitions of the accounts table.
    pub partitions: u32,
}

/// Settings of the servers.
#[derive(Debug)]
pub struct PostgresqlPlan {
    /// WAL kept for followers without a slot.
    pub wal_keep_size: PgSize,
    /// The most WAL a slot holds back.
    pub max_slot_wal_keep_size: PgSize,
    /// WAL senders and replication slots.
    pub max_wal_senders: u32,
    /// Connections.
    pub max_connections: u32,
    /// The user's other settings, in the order of the config.
    pub parameters: Vec<(String, String)>,
}

/// Where the passwords come from.
#[derive(Debug)]
pub enum CredentialsPlan {
    /// The secrets file at this path; relative to the config.
    File(String),
    /// A Secret that is in the cluster already.
    ExistingSecret {
        /// Its name.
        name: String,
        /// Key of the replication password.
        replication_key: String,
        /// Key of the client password.
        client_key: String,
    },
}

/// Key of the replication password in the secrets file and in our Secret.
pub const REPLICATION_KEY: &str = "replication-password";
/// Key of the client password in the secrets file and in our Secret.
pub const CLIENT_KEY: &str = "client-password";

impl CredentialsPlan {
    /// The keys of the two passwords in the Secret: replication, client.
    pub fn keys(&self) -> (&str, &str) {
        match self {
            Self::File(_) => (REPLICATION_KEY, CLIENT_KEY),
            Self::ExistingSecret { replication_key, client_key, .. } => (replication_key, client_key),
        }
    }
}

impl PostgresqlPlan {
    /// A size among the user's settings; `unit` is the KiB that a number without a unit counts.
    fn size(&self, parameter: &str, unit: u64) -> Option<PgSize> {
        let (_, text) = self.parameters.iter().find(|(name, _)| name == parameter)?;
        match text.parse::<u64>() {
            Ok(number) => Some(PgSize::mib(number.checked_mul(unit)? / 1024)),
            Err(_) => PgSize::from_text(text).ok(),
        }
    }
}

impl Plan {
    /// The VMs of a role.
    pub fn vm(&self, role: Role) -> &VmPlan {
        match role {
            Role::Primary => &self.primary,
            Role::Replica => &self.replica,
        }
    }

    /// Decides everything the config leaves open and checks what its keys mean together.
    ///
    /// # Errors
    /// All faults of the config's text and all contradictions, each with its place and remedy.
    pub fn new(source: &Source) -> Result<Self, Report> {
        let mut problems = Problems::default();
        let plan = Config::read(source, &mut problems).map(|config| Self::of(&config, source, &mut problems));
        problems.or(source, plan)
    }

    fn of(config: &Config, source: &Source, problems: &mut Problems) -> Self {
        let mut notes = Vec::new();
        let replica_count = config.replica_count.or(DEFAULT_REPLICA_COUNT);
        let names = names(config, problems);
        let labels = labels(&config.labels, problems);
        let annotations = annotations(&config.annotations, problems);
        let pgbench = pgbench(config, problems, &mut notes);
        let postgresql = postgresql(config, pgbench.clients, problems);
        let needs = vm::Needs::new(config, &pgbench, &postgresql);
        let guest = guest::plan(config, problems, &mut notes);
        let credentials = credentials(config, &names, problems);
        let service = config.service.or_default();
        // without replicas, what their section asks for may stay until there are some
        let mut ignored = Problems::default();
        let replica_problems = if replica_count == 0 { &mut ignored } else { &mut *problems };
        let replica = vm::plan(&config.replica, config, &needs, replica_problems);
        Self {
            origin: source.origin(),
            namespace: config.namespace.get().map(ToString::to_string),
            labels,
            annotations,
            replica_count,
            primary: vm::plan(&config.primary, config, &needs, problems),
            replica,
            pgbench,
            postgresql,
            guest,
            service_annotations: self::annotations(&service.annotations, problems),
            ip_family_policy: service.ip_family_policy.get().copied(),
            network_policy: network_policy(config, &mut notes),
            kustomization: config.kustomization.or(false),
            credentials,
            names,
            notes,
        }
    }
}

const DEFAULT_NAME: &str = "virtwork-database-replication";
const DEFAULT_REPLICA_COUNT: u32 = 1;

impl<T: Clone + Default> Field<T> {
    /// The section, or one in which every key is absent.
    pub(crate) fn or_default(&self) -> T {
        self.get().cloned().unwrap_or_default()
    }
}

fn names(config: &Config, problems: &mut Problems) -> Names {
    let lab = config.name.get().map_or(DEFAULT_NAME, LabName::as_str);
    let names = Names::new(lab);
    let last = config.replica_count.or(DEFAULT_REPLICA_COUNT).saturating_sub(1);
    let longest = [
        format!("{}-data", names.vm(Role::Primary, 0)),
        format!("{}-data", names.vm(Role::Replica, last)),
        names.replicas_service(),
    ]
    .into_iter()
    .max_by_key(String::len)
    .unwrap_or_default();
    if longest.len() > MAX_NAME {
        let room = MAX_NAME - (longest.len() - lab.len());
        problems.contradiction(
            &[
                (&config.name, "the prefix of every name"),
                (&config.replica_count, "the replicas' number is part of their names"),
            ],
            format!(
                "`name` is too long: `{longest}` would have {} characters, {MAX_NAME} are allowed",
                longest.len()
            ),
            format!("shorten `name` to at most {room} characters"),
        );
    }
    names
}

/// Whether the prefix of a label or annotation key belongs to KubeVirt and its parts.
fn is_kubevirt_key(key: &str) -> bool {
    key.split_once('/').is_some_and(|(prefix, _)| prefix == "kubevirt.io" || prefix.ends_with(".kubevirt.io"))
}

fn labels(field: &Field<Entries<LabelKey, LabelValue>>, problems: &mut Problems) -> Vec<(String, String)> {
    let entries = field.or_default().0;
    for (key, _) in &entries {
        let text = key.value.as_str();
        if text.starts_with("app.kubernetes.io/") || text.starts_with("virtwork/") || is_kubevirt_key(text) {
            problems.push(
                Diagnostic::new(key.span.clone(), format!("the label `{text}` is set by gen or by KubeVirt"))
                    .help("choose a key outside `app.kubernetes.io/`, `virtwork/` and `kubevirt.io/`; Services select by these"),
            );
        }
    }
    entries.into_iter().map(|(key, value)| (key.value.to_string(), value.value.to_string())).collect()
}

/// The API server's limit on all annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 << 10;

fn annotations(
    field: &Field<Entries<AnnotationKey, String>>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let entries = field.or_default().0;
    for (key, _) in &entries {
        let text = key.value.as_str();
        if text.starts_with("virtwork/") || is_kubevirt_key(text) {
            problems.push(
                Diagnostic::new(
                    key.span.clone(),
                    format!("the annotation `{text}` is set by gen or by KubeVirt"),
                )
                .help("choose a key outside `virtwork/` and `kubevirt.io/`"),
            );
        } else if text == "kubectl.kubernetes.io/last-applied-configuration" {
            problems.push(
                Diagnostic::new(
                    key.span.clone(),
                    format!("the annotation `{text}` belongs to `kubectl apply`"),
                )
                .help("remove it"),
            );
        }
    }
    let size: usize = entries.iter().map(|(k, v)| k.value.as_str().len() + v.value.len()).sum();
    if size > MAX_ANNOTATIONS
        && let Some(spanned) = field.spanned()
    {
        problems.push(
            Diagnostic::new(spanned.span.clone(), format!("the annotations have {size} bytes"))
                .help(format!("keep them under {MAX_ANNOTATIONS}; the API server refuses more")),
        );
    }
    entries.into_iter().map(|(key, value)| (key.value.to_string(), value.value)).collect()
}

const DEFAULT_SCALE: u32 = 10;

fn pgbench(config: &Config, problems: &mut Problems, notes: &mut Vec<String>) -> PgbenchPlan {
    let section = config.pgbench.or_default();
    let scale = config.pgbench_scale.or(DEFAULT_SCALE);
    let clients = section.clients.or(scale.min(10));
    let threads = section.threads.or(clients.min(2));
    if threads > clients {
        let default: Field<u32> = Field::Absent;
        let of_scale = if section.clients.is_present() { &default } else { &config.pgbench_scale };
        problems.contradiction(
            &[
                (&section.threads, "more threads"),
                (&section.clients, "than clients"),
                (of_scale, "sets the default of `clients`"),
            ],
            format!("more pgbench threads ({threads}) than clients ({clients})"),
            format!("set `threads` to at most {clients}"),
        );
    }
    if clients > scale {
        notes.push(format!(
            "{clients} pgbench clients on scale {scale}: above one client per unit of scale they mostly wait \
             for each other's row locks"
        ));
    }
    PgbenchPlan {
        scale,
        clients,
        threads,
        duration: section.duration.or(300),
        pause: section.pause.or(10),
        rate: section.rate.get().copied(),
        protocol: section.protocol.or(Protocol::Simple),
        partitions: section.partitions.or(0),
    }
}

/// Settings that `postgresql.parameters` may not hold, with the reason or the key that sets them.
const MANAGED: &[(&str, &str)] = &[
    ("wal_keep_size", "it is `wal-keep-size` at the top level of the config"),
    ("max_slot_wal_keep_size", "it is `postgresql.max-slot-wal-keep-size`"),
    ("max_wal_senders", "gen derives it from `replica-count`"),
    ("max_replication_slots", "gen derives it from `replica-count`"),
    ("hot_standby", "it is `on`, so that replicas answer queries"),
    ("listen_addresses", "it is `*`; the NetworkPolicy says who may connect"),
    ("port", "Services, probes and SELinux expect 5432"),
    ("unix_socket_directories", "the guest's scripts use the distribution's own"),
    ("password_encryption", "it is `scram-sha-256`"),
    ("primary_conninfo", "each replica writes its own"),
    ("primary_slot_name", "each replica writes its own"),
    (
        "synchronous_standby_names",
        "with no replica attached it stops every commit, the set-up of the lab first",
    ),
    ("data_directory", "the data disk is mounted there"),
    ("config_file", "it lies on the data disk"),
    ("hba_file", "it lies on the data disk"),
    ("ident_file", "it lies on the data disk"),
    ("external_pid_file", "systemd watches the server"),
    ("include", "list the settings themselves instead"),
    ("include_dir", "list the settings themselves instead"),
    ("include_if_exists", "list the settings themselves instead"),
    ("ssl", "the guests hold no certificate"),
    ("ssl_cert_file", "the guests hold no certificate"),
    ("ssl_key_file", "the guests hold no certificate"),
    ("ssl_ca_file", "the guests hold no certificate"),
    ("allow_in_place_tablespaces", "it is for PostgreSQL's own tests"),
    ("data_checksums", "it is read-only; the data directory has checksums"),
    ("block_size", "it is read-only"),
    ("wal_block_size", "it is read-only"),
    ("wal_segment_size", "it is read-only"),
    ("segment_size", "it is read-only"),
    ("server_encoding", "it is read-only; databases are UTF8"),
    ("server_version", "it is read-only"),
    ("server_version_num", "it is read-only"),
    ("in_hot_standby", "it is read-only"),
    ("recovery_target", "it would stop each standby"),
    ("recovery_target_time", "it would stop each standby"),
    ("recovery_target_xid", "it would stop each standby"),
    ("recovery_target_lsn", "it would stop each standby"),
    ("recovery_target_name", "it would stop each standby"),
    ("recovery_target_timeline", "standbys follow the latest"),
    ("recovery_target_action", "standbys follow without end"),
    ("recovery_target_inclusive", "standbys follow without end"),
    ("promote_trigger_file", "`pg_ctl promote` promotes a standby"),
    ("default_transaction_read_only", "the load writes"),
    ("superuser_reserved_connections", "the connections are counted with its default"),
    ("reserved_connections", "the connections are counted with its default"),
    ("data_directory_mode", "it is read-only"),
    ("lc_collate", "it is read-only; databases are C.UTF-8"),
    ("lc_ctype", "it is read-only; databases are C.UTF-8"),
    ("integer_datetimes", "it is read-only"),
    ("max_identifier_length", "it is read-only"),
    ("shared_memory_size", "it is read-only; set `shared_buffers`"),
];

/// Connections beside pgbench's: superuser slots, the guest's own checks, people and monitoring.
const SPARE_CONNECTIONS: u32 = 30;

fn postgresql(config: &Config, clients: u32, problems: &mut Problems) -> PostgresqlPlan {
    let section = config.postgresql.or_default();
    let wal_keep_size = config.wal_keep_size.or(PgSize::mib(256));
    let max_slot_wal_keep_size = section.max_slot_wal_keep_size.or(PgSize::mib(2048).max(wal_keep_size));
    if max_slot_wal_keep_size < wal_keep_size {
        problems.contradiction(
            &[
                (&section.max_slot_wal_keep_size, "slots keep less"),
                (&config.wal_keep_size, "than is kept anyway"),
            ],
            format!(
                "`max-slot-wal-keep-size` {max_slot_wal_keep_size} is below `wal-keep-size` {wal_keep_size}"
            ),
            format!("raise it to at least {wal_keep_size}, or leave it out"),
        );
    }
    let replicas = config.replica_count.or(DEFAULT_REPLICA_COUNT);
    let parameters = section.parameters.or_default().0;
    let set = parameters.iter().find(|(name, _)| name.value.as_str() == "max_connections");
    let set = set.and_then(|(_, value)| value.value.0.parse().ok());
    let max_connections = set.unwrap_or((clients + SPARE_CONNECTIONS).max(100));
    for (name, value) in &parameters {
        let parameter = name.value.as_str();
        if let Some((_, reason)) = MANAGED.iter().find(|(managed, _)| *managed == parameter) {
            problems.push(
                Diagnostic::new(
                    name.span.clone(),
                    format!("`{parameter}` is not for `postgresql.parameters`"),
                )
                .help(format!("remove it: {reason}")),
            );
        }
        let archives = |name: &str| matches!(name, "archive_command" | "archive_library");
        if parameter == "archive_mode"
            && matches!(value.value.0.as_str(), "on" | "always")
            && !parameters.iter().any(|(name, _)| archives(name.value.as_str()))
        {
            problems.push(
                Diagnostic::new(
                    name.span.clone(),
                    "`archive_mode` without an `archive_command` fills the disk with WAL",
                )
                .help("add `archive_command`, or leave `archive_mode` out"),
            );
        }
        if parameter == "wal_level" && !matches!(value.value.0.as_str(), "replica" | "logical") {
            problems.push(
                Diagnostic::new(
                    value.span.clone(),
                    format!("replicas cannot follow with `wal_level` {}", value.value.0),
                )
                .help("write `logical`, or leave it out for `replica`"),
            );
        }
        if parameter == "max_connections" {
            max_connections_fault(value, clients, config, problems);
        }
    }
    PostgresqlPlan {
        wal_keep_size,
        max_slot_wal_keep_size,
        // each clone takes two senders; a value that does not change with each replica leaves the others alone
        max_wal_senders: (2 * replicas + 4).max(64).next_power_of_two(),
        max_connections,
        parameters: parameters.into_iter().map(|(k, v)| (k.value.to_string(), v.value.0)).collect(),
    }
}

fn max_connections_fault(
    value: &Spanned<ParameterValue>,
    clients: u32,
    config: &Config,
    problems: &mut Problems,
) {
    let least = clients + SPARE_CONNECTIONS;
    if !value.value.0.parse::<u32>().is_ok_and(|connections| (least..=262_143).contains(&connections)) {
        let clients_field = config.pgbench.or_default().clients;
        let keys: [(&dyn Involved, &str); 2] =
            [(value, "too few, or not a number"), (&clients_field, "the load's connections")];
        problems.contradiction(
            &keys,
            format!("`max_connections` must leave room for {clients} pgbench clients"),
            format!("set it between {least} and 262143, or leave it out"),
        );
    }
}

fn network_policy(config: &Config, notes: &mut Vec<String>) -> Option<Vec<Cidr>> {
    let clients = config.postgresql.or_default().allowed_clients.or_default();
    if !config.network_policy.or(true) {
        if !clients.is_empty() {
            notes.push("`allowed-clients` has no effect without a NetworkPolicy".to_owned());
        }
        return None;
    }
    Some(clients.into_iter().map(|cidr| cidr.value).collect())
}

fn credentials(config: &Config, names: &Names, problems: &mut Problems) -> CredentialsPlan {
    let section = config.credentials.or_default();
    if section.file.is_present() && section.existing_secret.is_present() {
        problems.contradiction(
            &[(&section.file, "either a file"), (&section.existing_secret, "or a Secret")],
            "`credentials` names two sources",
            "keep `file` for a Secret that gen writes, or `existing-secret` for one that is in the cluster",
        );
    }
    if let Some(file) = section.file.spanned()
        && (file.value.is_empty() || file.value.chars().any(char::is_control))
    {
        problems.push(
            Diagnostic::new(file.span.clone(), "`file` is not a path")
                .help("name a file beside the config, such as `gen.secrets.yaml`"),
        );
    }
    let Some(existing) = section.existing_secret.spanned() else {
        return CredentialsPlan::File(section.file.or("gen.secrets.yaml".to_owned()));
    };
    let secret = &existing.value;
    if !secret.name.is_present() {
        problems.push(
            Diagnostic::new(existing.span.clone(), "`existing-secret` has no `name`")
                .help("add `name`, the Secret's name"),
        );
    }
    let name = secret.name.get().map(ToString::to_string).unwrap_or_default();
    if [names.cloudinit(Role::Primary), names.cloudinit(Role::Replica)].contains(&name) {
        problems.contradiction(
            &[(&secret.name, "this name is taken"), (&config.name, "by an object of this lab")],
            format!("`{name}` is the name of a Secret that gen writes"),
            "give the Secret of the passwords another name",
        );
    }
    let key =
        |field: &Field<SecretKey>, default: &str| field.get().map_or(default.to_owned(), ToString::to_string);
    CredentialsPlan::ExistingSecret {
        name,
        replication_key: key(&secret.replication_key, REPLICATION_KEY),
        client_key: key(&secret.client_key, CLIENT_KEY),
    }
}
