//! What the config means: every default and every cross-check.

mod guest;
pub mod instancetypes;
mod metadata;
mod postgresql;
mod release;
mod sizing;
mod vm;

pub use guest::{Family, GuestPlan, RootPlan};
pub use metadata::AnnotationsPlan;
pub use postgresql::PostgresqlPlan;
pub(crate) use postgresql::managed;
pub use vm::{Compute, TolerationPlan, VmPlan};

use crate::config::Config;
use crate::config::fields::Field;
use crate::diagnostic::{Diagnostic, Problems, Report};
use crate::names::{MAX_NAME, Names, Role};
use crate::source::Source;
use crate::value::{Cidr, IpFamilyPolicy, LabName, Protocol, SecretKey};

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
    /// Annotations of every object, by what it is.
    pub annotations: AnnotationsPlan,
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
        let labels = metadata::labels(&config.labels, problems);
        let annotations = metadata::annotations(config, &labels, problems, &mut notes);
        let pgbench = pgbench(config, problems, &mut notes);
        let postgresql = postgresql::plan(config, pgbench.clients, problems, &mut notes);
        let needs = vm::Needs::new(config, &pgbench, &postgresql);
        let guest = guest::plan(config, problems, &mut notes);
        let credentials = credentials(config, &names, problems);
        // without replicas, what their section asks for may stay until there are some
        let mut ignored = (Problems::default(), Vec::new());
        let (replica_problems, replica_notes) =
            if replica_count == 0 { (&mut ignored.0, &mut ignored.1) } else { (&mut *problems, &mut notes) };
        let replica = vm::plan(&config.replica, config, &needs, replica_problems, replica_notes);
        Self {
            origin: source.origin(),
            namespace: config.namespace.get().map(ToString::to_string),
            labels,
            annotations,
            replica_count,
            primary: vm::plan(&config.primary, config, &needs, problems, &mut notes),
            replica,
            pgbench,
            postgresql,
            guest,
            ip_family_policy: config.service.or_default().ip_family_policy.get().copied(),
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
                (of_scale, "sets the default of `pgbench.clients`"),
            ],
            format!("more pgbench threads ({threads}) than clients ({clients})"),
            format!("set `pgbench.threads` to at most `{clients}`"),
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

fn network_policy(config: &Config, notes: &mut Vec<String>) -> Option<Vec<Cidr>> {
    let clients = config.postgresql.or_default().allowed_clients.or_default();
    if !config.network_policy.or(true) {
        if !clients.is_empty() {
            notes.push("`postgresql.allowed-clients` has no effect without a NetworkPolicy".to_owned());
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
            "keep `credentials.file` for a Secret that gen writes, or `credentials.existing-secret` for one that is in the cluster",
        );
    }
    if let Some(file) = section.file.spanned()
        && (file.value.is_empty() || file.value.chars().any(char::is_control))
    {
        problems.push(
            Diagnostic::new(file.span.clone(), "`credentials.file` is not a path")
                .help("name a file beside the config, such as `gen.secrets.yaml`"),
        );
    }
    let Some(existing) = section.existing_secret.spanned() else {
        return CredentialsPlan::File(section.file.or("gen.secrets.yaml".to_owned()));
    };
    let secret = &existing.value;
    if !secret.name.is_present() {
        problems.push(
            Diagnostic::new(existing.span.clone(), "`credentials.existing-secret` has no `name`")
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
