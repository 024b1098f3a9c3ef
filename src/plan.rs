//! What the config means: every default and every cross-check.

mod credentials;
mod guest;
pub mod instancetypes;
mod ip;
mod metadata;
mod names;
mod needs;
mod network_policy;
mod pgbench;
mod postgresql;
mod release;
mod sizing;
mod vm;

pub use credentials::CredentialsPlan;
pub use guest::{Family, GuestPlan, RootPlan};
pub use ip::IpPlan;
pub use metadata::AnnotationsPlan;
pub use pgbench::PgbenchPlan;
pub use postgresql::PostgresqlPlan;
pub use vm::{Compute, TolerationPlan, VmPlan};

use crate::config::Config;
use crate::config::fields::Field;
use crate::diagnostic::{Note, Problems, Report};
use crate::names::{Names, Role};
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
    /// IP families of Services and guests.
    pub ip: IpPlan,
    /// The addresses beside the namespace's pods that the NetworkPolicy lets in; `None`: no policy.
    pub network_policy: Option<Vec<Cidr>>,
    /// Whether a directory gets a `kustomization.yaml`.
    pub kustomization: bool,
    /// The passwords' source.
    pub credentials: CredentialsPlan,
    /// Advice for stderr.
    pub notes: Vec<Note>,
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
        let replica_count = config.replica_count.or(1);
        let names = names::plan(config, replica_count, problems);
        let labels = metadata::labels(&config.labels, problems);
        let annotations = metadata::annotations(config, &labels, problems, &mut notes);
        let pgbench = pgbench::plan(config, problems, &mut notes);
        let postgresql = postgresql::plan(config, replica_count, pgbench.clients, problems, &mut notes);
        let needs = Needs::new(config, &pgbench, &postgresql);
        let guest = guest::plan(config, problems, &mut notes);
        let ip = ip::plan(config, &names, problems);
        let credentials = credentials::plan(config, &names, problems);
        let replica = if replica_count > 0 {
            vm::plan(&config.replica, &config.vm, &needs, problems, &mut notes)
        } else {
            // what their section asks for may stay until there are some
            vm::plan(&config.replica, &config.vm, &needs, &mut Problems::default(), &mut Vec::new())
        };
        Self {
            origin: source.origin(),
            namespace: config.namespace.get().map(ToString::to_string),
            labels,
            annotations,
            replica_count,
            primary: vm::plan(&config.primary, &config.vm, &needs, problems, &mut notes),
            replica,
            pgbench,
            postgresql,
            guest,
            network_policy: network_policy::plan(config, &ip, &mut notes),
            ip,
            kustomization: config.kustomization.or(false),
            credentials,
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
