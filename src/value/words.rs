//! Values that are one of a few words.

use super::{FromText, Refusal, Value, choice, read_text, unknown_word};
use crate::diagnostic::Problems;
use crate::node::Node;

choice! {
    /// How pgbench sends its queries (`pgbench -M`).
    Protocol {
        /// The simple query protocol.
        Simple = "simple",
        /// The extended query protocol.
        Extended = "extended",
        /// The extended query protocol with prepared statements.
        Prepared = "prepared",
    }
}

choice! {
    /// How the rate of the load changes over a period.
    LoadShape {
        /// Not at all.
        Steady = "steady",
        /// Quiet, then as fast as it may be for a fifth of the period.
        Burst = "burst",
        /// Faster with each of ten steps.
        Ramp = "ramp",
        /// The hours of a day.
        Diurnal = "diurnal",
    }
}

choice! {
    /// What a transaction of the load does: pgbench's own scripts.
    LoadScript {
        /// Reads and writes.
        Tpcb = "tpcb",
        /// Reads one account.
        Select = "select",
        /// Writes without the tables that clients wait for each other at.
        Simple = "simple",
    }
}

choice! {
    /// Who decides which node takes writes.
    FailoverMode {
        /// A person, who promotes a standby.
        Manual = "manual",
        /// Patroni, by itself.
        Patroni = "patroni",
    }
}

choice! {
    /// Whether a node that Patroni loses sight of is reset by its watchdog (`watchdog.mode` of Patroni).
    Watchdog {
        /// One is expected: a node without one says so in its journal.
        Required = "required",
        /// A watchdog is used where there is one.
        Automatic = "automatic",
        /// The VMs have none.
        Off = "off",
    }
}

choice! {
    /// What standbys are for beside taking over.
    StandbyMode {
        /// They answer queries (`hot_standby`).
        Hot = "hot",
        /// They refuse connections until they are promoted.
        Warm = "warm",
    }
}

choice! {
    /// Which standbys a commit waits for (`synchronous_standby_names`).
    SynchronousMethod {
        /// Any of them.
        Any = "any",
        /// The first of the list that are there.
        First = "first",
    }
}

choice! {
    /// What a commit waits for on a synchronous standby (`synchronous_commit`).
    SynchronousCommit {
        /// Its WAL is on disk.
        On = "on",
        /// Its WAL was handed to the operating system.
        RemoteWrite = "remote_write",
        /// It was replayed.
        RemoteApply = "remote_apply",
    }
}

choice! {
    /// The operating system of the guest, as far as its packages and paths differ.
    Os {
        /// Fedora.
        Fedora = "fedora",
        /// CentOS Stream.
        CentosStream = "centos-stream",
        /// Red Hat Enterprise Linux.
        Rhel = "rhel",
        /// AlmaLinux.
        Almalinux = "almalinux",
        /// Debian.
        Debian = "debian",
        /// Ubuntu.
        Ubuntu = "ubuntu",
    }
}

choice! {
    /// Whether the root disk outlives a stop of the VM.
    RootDisk {
        /// A containerDisk: every start begins from the image.
        Ephemeral = "ephemeral",
        /// A DataVolume of the VM's own, deleted with it.
        Persistent = "persistent",
    }
}

choice! {
    /// Where the guest's packages come from.
    Packages {
        /// The guest installs what is missing from its repositories.
        Install = "install",
        /// The image holds everything; the package manager is never called.
        Preinstalled = "preinstalled",
    }
}

choice! {
    /// `spec.volumeMode` of a volume.
    VolumeMode {
        /// A raw block device.
        Block = "Block",
        /// A disk image in a file system.
        Filesystem = "Filesystem",
    }
}

choice! {
    /// An entry of `spec.accessModes` of a volume. A blank disk cannot be `ReadOnlyMany`.
    AccessMode {
        /// One node; no live migration.
        ReadWriteOnce = "ReadWriteOnce",
        /// Many nodes: what live migration needs.
        ReadWriteMany = "ReadWriteMany",
        /// One pod; CDI refuses it before 1.58.
        ReadWriteOncePod = "ReadWriteOncePod",
    }
}

choice! {
    /// Whether two VMs of the lab may share a node.
    AntiAffinity {
        /// Rather not.
        Preferred = "preferred",
        /// Never.
        Required = "required",
        /// Nothing is said.
        None = "none",
    }
}

choice! {
    /// `spec.runStrategy` of a VirtualMachine.
    RunStrategy {
        /// Start it and start it again whenever it stops.
        Always = "Always",
        /// Do not start it.
        Halted = "Halted",
        /// Start and stop it by hand.
        Manual = "Manual",
        /// Start it again only after a failure.
        RerunOnFailure = "RerunOnFailure",
    }
}

choice! {
    /// `ioThreadsPolicy` of a domain.
    IoThreadsPolicy {
        /// One thread for all disks but those with a dedicated one.
        Shared = "shared",
        /// Threads in a pool that grows with the CPUs.
        Auto = "auto",
    }
}

choice! {
    /// `ipFamilyPolicy` of a Service.
    IpFamilyPolicy {
        /// One address family.
        SingleStack = "SingleStack",
        /// Both where the cluster has both.
        PreferDualStack = "PreferDualStack",
        /// Both, or the Service is refused.
        RequireDualStack = "RequireDualStack",
    }
}

choice! {
    /// An entry of `ipFamilies` of a Service.
    IpFamily {
        /// IPv4.
        Ipv4 = "IPv4",
        /// IPv6.
        Ipv6 = "IPv6",
    }
}

choice! {
    /// `type` of the Services.
    ServiceType {
        /// Reachable inside the cluster.
        ClusterIp = "ClusterIP",
        /// At a port of every node of the cluster.
        NodePort = "NodePort",
        /// At an address of its own outside of the cluster.
        LoadBalancer = "LoadBalancer",
    }
}

choice! {
    /// `externalTrafficPolicy` of a Service.
    TrafficPolicy {
        /// Any node of the cluster leads on, with its own address in the place of the client's.
        Cluster = "Cluster",
        /// Only a node that has such a pod does, and the client keeps its address.
        Local = "Local",
    }
}

choice! {
    /// What a client asks of a server's encryption, in libpq's words.
    SslMode {
        /// Clear text.
        Disable = "disable",
        /// Encrypted, by whoever answers.
        Require = "require",
        /// By somebody whom the CA knows.
        VerifyCa = "verify-ca",
        /// By the one whose name was asked for.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// `operator` of a toleration.
    TolerationOperator {
        /// The taint's value must be the given one.
        Equal = "Equal",
        /// Any value.
        Exists = "Exists",
    }
}

choice! {
    /// `effect` of a toleration.
    TaintEffect {
        /// Not scheduled there.
        NoSchedule = "NoSchedule",
        /// Rather not scheduled there.
        PreferNoSchedule = "PreferNoSchedule",
        /// Not scheduled there and evicted from there.
        NoExecute = "NoExecute",
    }
}

choice! {
    /// What an archive is.
    ArchiveType {
        /// A store of objects.
        S3 = "s3",
        /// A directory.
        Posix = "posix",
    }
}

choice! {
    /// What writes and reads an archive.
    ArchiveTool {
        /// pgBackRest.
        Pgbackrest = "pgbackrest",
        /// Barman's programs for stores of objects.
        BarmanCloud = "barman-cloud",
    }
}

choice! {
    /// What the WAL player sends to.
    WalTarget {
        /// A Klio server.
        Klio = "klio",
        /// The replicas of this lab.
        Replication = "replication",
    }
}

choice! {
    /// When the lab's own WAL player plays.
    Schedule {
        /// When somebody calls it.
        Manual = "manual",
        /// Once in the life of the data.
        Once = "once",
        /// An hour after it began the last time.
        Hourly = "hourly",
        /// A day after it began the last time.
        Daily = "daily",
    }
}

choice! {
    /// The kind of an issuer of cert-manager.
    IssuerKind {
        /// Of the lab's namespace.
        Namespaced = "Issuer",
        /// Of the whole cluster.
        Cluster = "ClusterIssuer",
    }
}

choice! {
    /// The kind of an instancetype.
    InstancetypeKind {
        /// Of the whole cluster.
        Cluster = "VirtualMachineClusterInstancetype",
        /// Of the lab's namespace.
        Namespaced = "VirtualMachineInstancetype",
    }
}

choice! {
    /// The kind of a preference.
    PreferenceKind {
        /// Of the whole cluster.
        Cluster = "VirtualMachineClusterPreference",
        /// Of the lab's namespace.
        Namespaced = "VirtualMachinePreference",
    }
}
