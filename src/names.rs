//! Every name and label of the lab, in one place.

/// Label: what the VMs run.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Label: which lab.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: which part of the lab.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: what the lab is part of.
pub const LABEL_PART_OF: &str = "app.kubernetes.io/part-of";
/// Label: what wrote the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: what a VM was made as.
pub const LABEL_ROLE: &str = "virtwork/role";
/// Label: which VM of the lab, `replica-0`.
pub const LABEL_NODE: &str = "virtwork/node";
/// Value of [`LABEL_COMPONENT`].
pub const COMPONENT: &str = "database";
/// The same of what uses the databases and is none.
pub const CLIENT_COMPONENT: &str = "client";
/// The same of what measures consumers of WAL.
pub const PLAYER_COMPONENT: &str = "wal-player";
/// The same of what tells Prometheus about the lab.
pub const MONITORING_COMPONENT: &str = "monitoring";
/// The port of PostgreSQL, on pods and Services alike: SELinux lets the walreceiver connect to no other.
pub const POSTGRESQL_PORT: u32 = 5432;
/// Where HAProxy of a node leads to the leader, in labs under Patroni.
pub const LEADER_PORT: u32 = 5000;
/// Where it leads to the standbys.
pub const STANDBYS_PORT: u32 = 5001;
/// etcd's port for clients.
pub const ETCD_CLIENT_PORT: u32 = 2379;
/// etcd's port for its other members.
pub const ETCD_PEER_PORT: u32 = 2380;
/// Where the guest answers the readiness probe, with the path [`READINESS_PATH`], and what other nodes ask; under Patroni
/// this is its REST API.
pub const READINESS_PORT: u32 = 8008;
/// The guest answers the same to any path; this one says what is asked.
pub const READINESS_PATH: &str = "/readiness";
/// Where each node serves its metrics.
pub const METRICS_PORT: u32 = 9188;
/// Where postgres_exporter serves its own.
pub const EXPORTER_PORT: u32 = 9187;
/// Key of the replication password in the secrets file and in our Secret.
pub const REPLICATION_KEY: &str = "replication-password";
/// Key of the client password in the secrets file and in our Secret.
pub const CLIENT_KEY: &str = "client-password";
/// Key of what nodes derive their certificates from, in labs under Patroni.
pub const CA_SEED_KEY: &str = "ca-seed";
/// The disk of the database, by which the guest knows it, too.
pub const DATA_DISK: &str = "data";
/// The disk of the WAL where that has one of its own.
pub const WAL_DISK: &str = "wal";
/// The disk of the servers' certificate, where it comes from a Secret.
pub const TLS_DISK: &str = "tls";
/// The same of the role `replicator`.
pub const REPLICATOR_TLS_DISK: &str = "tls-replicator";
/// The disk with the keys of the archive's store.
pub const ARCHIVE_DISK: &str = "archive";
/// The longest name of an object that becomes a host name, a label value or a replication slot.
pub const MAX_NAME: usize = 63;

/// What a VM does in the lab when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes writes at first.
    Primary,
    /// Follows the primary at first.
    Replica,
    /// Does what Patroni says.
    Node,
    /// Is the third member of etcd, and has no database.
    Witness,
    /// Uses the database from outside.
    Client,
}

/// A VM of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// What it was made as.
    pub role: Role,
    /// Its number among those.
    pub index: u32,
}

impl Node {
    /// The value of [`LABEL_NODE`]: `replica-0`.
    pub fn label(self) -> String {
        [self.role.as_str(), "-", &self.index.to_string()].concat()
    }
}

impl Role {
    /// The word in names and in [`LABEL_ROLE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Node => "node",
            Self::Witness => "witness",
            Self::Client => "client",
        }
    }
}

/// The DataVolume of a VM's disk.
pub fn disk(vm: &str, disk: &str) -> String {
    [vm, "-", disk].concat()
}

/// The names of a lab's objects.
#[derive(Debug, Clone)]
pub struct Names {
    lab: String,
}

impl Names {
    /// The names of the lab called `lab`.
    pub fn new(lab: impl Into<String>) -> Self {
        Self { lab: lab.into() }
    }

    /// The lab.
    pub fn lab(&self) -> &str {
        &self.lab
    }

    /// The Service of the primary, and its host name for the replicas.
    pub fn primary_service(&self) -> String {
        [&self.lab, "-primary"].concat()
    }

    /// The Service of the replicas.
    pub fn replicas_service(&self) -> String {
        [&self.lab, "-replicas"].concat()
    }

    /// The headless Service that gives each VM its host name.
    pub fn nodes_service(&self) -> String {
        [&self.lab, "-nodes"].concat()
    }

    /// The headless Service by which Prometheus finds the nodes, and what tells it so.
    pub fn metrics(&self) -> String {
        [&self.lab, "-metrics"].concat()
    }

    /// The ConfigMap of the dashboard.
    pub fn dashboard(&self) -> String {
        [&self.lab, "-dashboard"].concat()
    }

    /// The Secret of the passwords.
    pub fn credentials(&self) -> String {
        [&self.lab, "-credentials"].concat()
    }

    /// The servers' certificate of cert-manager, and its Secret.
    pub fn tls(&self) -> String {
        [&self.lab, "-tls"].concat()
    }

    /// The same of the role `replicator`.
    pub fn replicator_tls(&self) -> String {
        [&self.lab, "-replicator-tls"].concat()
    }

    /// The NetworkPolicy of the clients.
    pub fn client_policy(&self) -> String {
        [&self.lab, "-", CLIENT_COMPONENT].concat()
    }

    /// The ConfigMap of the guests' files.
    pub fn guest(&self) -> String {
        format!("{}-guest", self.lab)
    }

    /// Everything of the WAL player, and the cluster that it plays.
    pub fn wal_player(&self) -> String {
        [&self.lab, "-", PLAYER_COMPONENT].concat()
    }

    /// The Secret of the user-data of a role.
    pub fn cloudinit(&self, role: Role) -> String {
        [&self.lab, "-", role.as_str(), "-cloudinit"].concat()
    }

    /// A VM, which is also its host name.
    pub fn vm(&self, role: Role, index: u32) -> String {
        [&self.lab, "-", role.as_str(), "-", &index.to_string()].concat()
    }
}
