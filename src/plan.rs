//! What the config means: every default and every cross-check.

mod archive;
mod chaos_network;
mod client;
mod credentials;
mod failover;
mod guest;
pub mod instancetypes;
mod ip;
mod metadata;
mod monitoring;
mod names;
mod needs;
mod network_policy;
mod pgbench;
mod postgresql;
mod release;
mod service;
mod sizing;
mod tls;
mod upstream;
mod vm;
mod wal_player;

pub use archive::{ArchivePlan, PlacePlan, RestorePlan, StorePlan};
pub use chaos_network::{ChaosPlan, EffectsPlan, WindowPlan};
pub use client::LedgerPlan;
pub use credentials::CredentialsPlan;
pub use failover::{FailoverPlan, PatroniPlan};
pub use guest::{Family, GuestPlan, RootPlan};
pub use ip::IpPlan;
pub use metadata::AnnotationsPlan;
pub use monitoring::{MetricsPlan, MonitoringPlan, RulesPlan};
pub use pgbench::{PgbenchPlan, ShapedPlan};
pub use postgresql::{PostgresqlPlan, SynchronousPlan};
pub use service::ServicePlan;
pub use tls::{CertificatePlan, IssuerPlan, TlsPlan};
pub use upstream::UpstreamPlan;
pub use vm::{Compute, TolerationPlan, VmPlan};
pub use wal_player::{ClientPlan, KlioPlan, ReplicationPlan, WalPlayerPlan};

use crate::config::Config;
use crate::config::fields::Field;
use crate::diagnostic::{Note, Problems, Report};
use crate::names::{Names, Node, Role};
use crate::source::Source;
use crate::value::Cidr;
use needs::Needs;

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
    /// Who decides which node takes writes.
    pub failover: FailoverPlan,
    /// The VMs, role by role; none in a bundle without the database.
    pub machines: Vec<Machines>,
    /// The load.
    pub pgbench: PgbenchPlan,
    /// The servers.
    pub postgresql: PostgresqlPlan,
    /// The guest's operating system.
    pub guest: GuestPlan,
    /// IP families of Services and guests.
    pub ip: IpPlan,
    /// How far the Services reach.
    pub service: ServicePlan,
    /// The addresses beside the namespace's pods that the NetworkPolicy lets in; `None`: no policy.
    pub network_policy: Option<Vec<Cidr>>,
    /// Whether a directory gets a `kustomization.yaml`.
    pub kustomization: bool,
    /// The passwords' source.
    pub credentials: CredentialsPlan,
    /// The primary of another site, which this one follows.
    pub upstream: Option<UpstreamPlan>,
    /// Certificates of the servers; none: connections are in clear.
    pub tls: Option<TlsPlan>,
    /// Where WAL and base backups go.
    pub archive: Option<ArchivePlan>,
    /// When the network between the primary and its replicas is bad.
    pub chaos: Option<ChaosPlan>,
    /// What is measured of replication.
    pub monitoring: Option<MonitoringPlan>,
    /// Who keeps account of what the database acknowledged.
    pub ledger: Option<LedgerPlan>,
    /// What measures consumers of WAL.
    pub wal_player: Option<WalPlayerPlan>,
    /// Advice for stderr.
    pub notes: Vec<Note>,
}

/// The VMs of a role.
#[derive(Debug)]
pub struct Machines {
    /// What they are made as.
    pub role: Role,
    /// How many there are; at least one.
    pub count: u32,
    /// Their shape.
    pub vm: VmPlan,
}

impl Machines {
    /// Each of them.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        let role = self.role;
        (0..self.count).map(move |index| Node { role, index })
    }
}

impl Plan {
    /// Whether the bundle has the database, and all that belongs to it.
    pub fn has_database(&self) -> bool {
        !self.machines.is_empty()
    }

    /// The secrets file, where the bundle needs one: its path, relative to the config.
    pub fn secrets_file(&self) -> Option<&str> {
        match &self.credentials {
            CredentialsPlan::File(file) if self.has_database() => Some(file),
            CredentialsPlan::File(_) | CredentialsPlan::ExistingSecret { .. } => None,
        }
    }

    /// Whether the nodes derive certificates.
    pub fn needs_ca_seed(&self) -> bool {
        self.failover.patroni().is_some() || self.tls.as_ref().is_some_and(TlsPlan::is_derived)
    }

    /// Whether the role `replicator` has a password.
    pub fn needs_replication_password(&self) -> bool {
        !self.tls.as_ref().is_some_and(|tls| tls.has_client_certificates)
    }

    /// The name of each VM with a database.
    pub fn databases(&self) -> impl Iterator<Item = String> {
        let has_one = |role| !matches!(role, Role::Witness | Role::Client);
        let machines = self.machines.iter().filter(move |machines| has_one(machines.role));
        machines.flat_map(Machines::nodes).map(|node| node.vm(&self.names))
    }

    /// What Prometheus is told of the lab.
    pub fn metrics(&self) -> Option<&MetricsPlan> {
        self.monitoring.as_ref().and_then(|monitoring| monitoring.metrics.as_ref())
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
        let has_database = config.database.or(true);
        let player_alone;
        let config = if has_database {
            config
        } else {
            player_alone = wal_player::without_database(config, problems);
            &player_alone
        };
        let mut notes = Vec::new();
        let replica_count = config.replica_count.or(1);
        let failover = failover::plan(config, replica_count, problems, &mut notes);
        let ledger = client::plan(config, replica_count, problems);
        let mut roles = if has_database { failover.roles(replica_count) } else { Vec::new() };
        roles.extend(ledger.as_ref().map(|ledger| (Role::Client, ledger.count)));
        let names = names::plan(config, &roles, problems);
        let labels = metadata::labels(&config.labels, problems);
        let annotations = metadata::annotations(config, &labels, problems, &mut notes);
        let pgbench = pgbench::plan(config, problems, &mut notes);
        let is_patroni = failover.patroni().is_some();
        let postgresql = postgresql::plan(
            config,
            replica_count,
            (pgbench.connections(!is_patroni), ledger.as_ref()),
            is_patroni,
            problems,
            &mut notes,
        );
        let mut guest = guest::plan(config, is_patroni, problems, &mut notes);
        let credentials = credentials::plan(config, &names, &roles, is_patroni, problems);
        let secrets = (postgresql.max_slot_wal_keep_size, &credentials);
        let ip = ip::plan(config, &names, guest.os, problems);
        let archive = archive::plan(config, &names, &roles, guest.family, secrets, &ip, problems);
        if let Some(archive) = &archive {
            guest.install_too(archive);
        }
        let pending = archive.as_ref().map(|archive| archive.max_pending_wal);
        let needs = Needs::new(config, &pgbench, &postgresql, ledger.as_ref(), pending);
        let monitoring = monitoring::plan(config, replica_count, guest.family, problems);
        let tls = tls::plan(config, &names, &roles, problems, &mut notes);
        let machines = roles.into_iter().map(|(role, count)| {
            let vm = vm::plan(config, role, &needs, problems, &mut notes);
            Machines { role, count, vm }
        });
        let machines = machines.collect();
        let upstream = upstream::plan(config, &names, &ip, problems, &mut notes);
        let chaos = chaos_network::plan(config, &names, replica_count, &failover, problems, &mut notes);
        let slots = postgresql.max_slot_wal_keep_size;
        let wal_player =
            wal_player::plan(config, &names, &annotations, replica_count, slots, problems, &mut notes);
        Self {
            origin: source.origin(),
            namespace: config.namespace.get().map(ToString::to_string),
            labels,
            annotations,
            replica_count,
            failover,
            machines,
            pgbench,
            postgresql,
            guest,
            service: service::plan(config, replica_count, &ip, problems, &mut notes),
            network_policy: network_policy::plan(config, &ip, &mut notes).filter(|_| has_database),
            ip,
            kustomization: config.kustomization.or(false),
            credentials,
            upstream,
            tls,
            archive,
            chaos,
            monitoring,
            ledger,
            wal_player,
            names,
            notes: once(notes),
        }
    }
}

/// What holds for both roles is noted for each; people read it once.
fn once(notes: Vec<Note>) -> Vec<Note> {
    let mut once = Vec::new();
    for note in notes {
        if !once.contains(&note) {
            once.push(note);
        }
    }
    once
}

impl<T: Clone + Default> Field<T> {
    /// The section, or one in which every key is absent.
    pub(crate) fn or_default(&self) -> T {
        self.get().cloned().unwrap_or_default()
    }
}
