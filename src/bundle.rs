//! The documents of a bundle: which, and in which order.

use crate::diagnostic::{Code, Note, Report};
use crate::document::{Document, Manifest};
use crate::guest::Guest;
use crate::manifest;
use crate::names::Node;
use crate::plan::{Plan, VmPlan, WalPlayerPlan};
use crate::secrets::Passwords;
use crate::source::one_line;
use std::fmt;

/// The API server's limit on the values of a ConfigMap, and of a Secret.
const MAX_VALUES: usize = 1 << 20;

/// What a client-side `oc apply` can copy into its annotation: the API server's limit on all of an object's, without room
/// for the user's own and for the object's metadata.
const MAX_CLIENT_SIDE: usize = 240 << 10;

/// Everything a lab consists of. All that can fail has happened; documents render while they are read.
pub struct Bundle {
    plan: Plan,
    credentials: Option<Passwords>,
    guest: Option<Guest>,
}

impl Bundle {
    /// The bundle of a plan, with the passwords for its credentials Secret where it writes one.
    ///
    /// # Errors
    /// Missing passwords; files or user-data that no object can hold.
    pub fn new(plan: Plan, passwords: Option<&Passwords>) -> Result<Self, Report> {
        let credentials = match (plan.secrets_file(), passwords) {
            (None, _) => None,
            (Some(_), Some(passwords)) if passwords.are_enough_for(&plan) => Some(passwords.clone()),
            (Some(file), _) => {
                return Err(Report::failure(
                    Code::MissingPasswords,
                    plan.names.lab(),
                    format!("the passwords of `{}` are missing", one_line(file)),
                    "give the passwords, or name an existing Secret",
                ));
            }
        };
        if !plan.has_database() {
            return Ok(Self { plan, credentials, guest: None });
        }
        let guest = Guest::new(&plan)?;
        let network_data = guest.network_data.as_ref().map_or(0, String::len);
        let user_data = guest.user_data.iter().map(|(_, text)| text.len() + network_data).max().unwrap_or(0);
        let files = guest.files.iter().map(|(_, content)| content.len()).sum();
        let objects: [(&str, &str, usize, &str); 2] = [
            (
                "guests' files",
                "a ConfigMap",
                files,
                "shorten `postgresql.parameters`, `guest.extra-packages`, `chaos-network.schedule`, or a `ca`: one certificate will do",
            ),
            ("user-data", "a Secret", user_data, "shorten `guest.ssh.authorized-keys`"),
        ];
        match objects.into_iter().find(|(_, _, size, _)| *size > MAX_VALUES) {
            Some((what, object, size, help)) => Err(Report::failure(
                Code::ObjectTooLarge,
                plan.names.lab(),
                format!("the {what} would have {size} bytes; {object} holds {MAX_VALUES}"),
                help,
            )),
            None => Ok(Self { plan, credentials, guest: Some(guest) }),
        }
    }

    /// The plan it was made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What applying it takes, where that is more than usual.
    pub fn note(&self) -> Option<Note> {
        let files = &self.guest.as_ref()?.files;
        let raw: usize = files.iter().map(|(_, content)| content.len()).sum();
        // as JSON they grow by a few percent
        if raw < MAX_CLIENT_SIDE / 4 * 3 {
            return None;
        }
        let size: usize = files.iter().map(|(_, content)| json_length(content)).sum();
        (size > MAX_CLIENT_SIDE).then(|| {
            let text = format!(
                "`{}` has {size} bytes as JSON: apply with `--server-side`, because a client-side apply copies each object \
                 into an annotation, and all of them have 262144",
                self.plan.names.guest()
            );
            Note::new(Code::NeedsServerSideApply, text)
        })
    }

    /// Whether a document holds passwords in clear.
    pub fn holds_passwords(&self) -> bool {
        self.credentials.is_some()
    }

    /// The objects in the order they are applied: Secret, ConfigMap, Service, NetworkPolicy, Certificate, DataVolume,
    /// VirtualMachine; then those of the WAL player, and what Prometheus is told.
    pub fn documents(&self) -> impl Iterator<Item = Manifest<'_>> {
        let plan = &self.plan;
        let credentials =
            self.credentials.iter().map(|passwords| manifest::secret::credentials(plan, passwords));
        let guest = self.guest.as_ref();
        let cloudinit = guest.into_iter().flat_map(|guest| {
            let each = guest.user_data.iter();
            each.map(|(role, user_data)| manifest::secret::cloudinit(plan, guest, *role, user_data))
        });
        let policy =
            plan.network_policy.iter().map(|clients| manifest::network_policy::database(plan, clients));
        let of_clients = plan.network_policy.iter().filter(|_| plan.ledger.is_some());
        let of_clients = of_clients.map(|_| manifest::network_policy::client(plan));
        credentials
            .chain(cloudinit)
            .chain(guest.map(|guest| manifest::config_map::guest(plan, guest)))
            .chain(
                plan.metrics()
                    .filter(|metrics| metrics.dashboard)
                    .map(|_| manifest::config_map::dashboard(plan)),
            )
            .chain(guest.into_iter().flat_map(|_| manifest::service::all(plan)))
            .chain(policy)
            .chain(of_clients)
            .chain(guest.into_iter().flat_map(|_| manifest::certificate::tls(plan)))
            .chain(vms(plan).flat_map(|(vm, node)| manifest::data_volume::disks(plan, vm, node)))
            .chain(vms(plan).map(|(vm, node)| manifest::virtual_machine::vm(plan, vm, node)))
            .chain(wal_player(plan))
            .chain(monitoring(plan))
            .map(|document| self.manifest(document))
    }

    /// The files of a directory: the objects, and those of kustomize where the config asks for them.
    pub fn files(&self) -> impl Iterator<Item = Manifest<'_>> {
        let kustomization = self.plan.kustomization.then(|| {
            let resources = self.documents().map(|document| document.file_name()).collect();
            manifest::kustomization::files(resources).map(|file| self.manifest(file))
        });
        self.documents().chain(kustomization.into_iter().flatten())
    }

    fn manifest<'b>(&'b self, document: Document<'b>) -> Manifest<'b> {
        Manifest::new(document, &self.plan.origin)
    }
}

impl fmt::Debug for Bundle {
    /// Names the lab; what it holds is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("lab", &self.plan.names.lab()).finish_non_exhaustive()
    }
}

/// The length of a text in kubectl's JSON, which also escapes what HTML would read.
fn json_length(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\t' => 2,
            b'<' | b'>' | b'&' => 6,
            _ => 1,
        })
        .sum()
}

/// The objects of Klio's player; the lab's own is among the guests' files.
fn wal_player(plan: &Plan) -> impl Iterator<Item = Document<'_>> {
    let klio = plan.wal_player.as_ref().and_then(WalPlayerPlan::klio);
    klio.into_iter().flat_map(|player| {
        std::iter::once(manifest::persistent_volume_claim::wal_player(plan, player))
            .chain(manifest::certificate::wal_player(plan, player))
            .chain([manifest::config_map::wal_player(plan, player), manifest::job::wal_player(plan, player)])
    })
}

/// What Prometheus reads beside the metrics themselves.
fn monitoring(plan: &Plan) -> impl Iterator<Item = Document<'_>> {
    plan.metrics().into_iter().flat_map(|metrics| {
        let rules = metrics.rules.as_ref();
        std::iter::once(manifest::service_monitor::metrics(plan, metrics))
            .chain(rules.map(|rules| manifest::prometheus_rule::replication(plan, rules)))
    })
}

fn vms(plan: &Plan) -> impl Iterator<Item = (&VmPlan, Node)> {
    plan.machines.iter().flat_map(|machines| machines.nodes().map(|node| (&machines.vm, node)))
}
