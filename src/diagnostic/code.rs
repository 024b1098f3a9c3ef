//! The codes of all messages: what scripts, searches and docs/messages.md know a message by.
//!
//! A code names a kind of fault as a user thinks of it, not the place in the program that finds it. It is stable:
//! words of messages change, a code is neither renamed nor given to another kind of fault.

use std::fmt;

/// Declares the codes, section by section: `Variant = "name"` for each. Comments are what users read in
/// docs/messages.md: of a section its heading, of a code what it means and how that is mended.
macro_rules! codes {
    ($(
        $(#[doc = $heading:literal])+
        $section:ident {
            $($(#[doc = $about:literal])+ $code:ident = $name:literal,)+
        }
    )+) => {
        /// What a code is about: the sections of docs/messages.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Section {
            $($(#[doc = $heading])+ $section,)+
        }

        impl Section {
            /// Every section, in the order of the page.
            pub const ALL: &'static [Self] = &[$(Self::$section),+];

            /// Its heading.
            pub fn heading(self) -> &'static str {
                match self {
                    $(Self::$section => concat!($($heading),+).trim_ascii(),)+
                }
            }
        }

        /// The kind of a message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($($(#[doc = $about])+ $code,)+)+
        }

        impl Code {
            /// Every code, section by section.
            pub const ALL: &'static [Self] = &[$($(Self::$code),+),+];

            /// The code as messages show it.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$code => $name,)+)+
                }
            }

            /// What it means, and how that is mended.
            pub fn about(self) -> &'static str {
                match self {
                    $($(Self::$code => concat!($($about),+).trim_ascii(),)+)+
                }
            }

            /// Its section.
            pub fn section(self) -> Section {
                match self {
                    $($(Self::$code)|+ => Section::$section,)+
                }
            }
        }
    };
}

codes! {
    /// YAML
    Yaml {
        /// The text is not YAML, in a way that has no code of its own. Look at the indentation, colons, quotes and
        /// brackets of the line and of the one above it.
        YamlSyntax = "yaml-syntax",
        /// A key, its colon and its value touch, so that YAML takes them for one word. Write a blank after the colon.
        NoBlankAfterColon = "no-blank-after-colon",
        /// A value holds what means something else in YAML, such as a second colon. Put it in quotes.
        ValueNeedsQuotes = "value-needs-quotes",
        /// A quote or a bracket is opened and not closed. Close it.
        NotClosed = "not-closed",
        /// A line is indented unlike those it belongs to. Give all keys of a mapping, and all items of a list, the same
        /// indentation.
        WrongIndentation = "wrong-indentation",
        /// A tab stands where YAML wants blanks. Write blanks.
        TabForBlanks = "tab-for-blanks",
        /// The text holds a control character, which YAML does not know or a file of the guest cannot hold. Remove it.
        CharacterNotAllowed = "character-not-allowed",
        /// YAML that a file which people review does not need: anchors, aliases, tags, a second document, keys that are
        /// no text, very deep nesting. Write it out.
        UnsupportedYaml = "unsupported-yaml",
    }

    /// Keys and values
    Keys {
        /// No such key is known at this place. The remedy names the key that is meant, where one is like it.
        UnknownKey = "unknown-key",
        /// A key is given twice in one mapping. Remove one of the two.
        DuplicateKey = "duplicate-key",
        /// A key that has to be there is not: the `name` of an object that the config refers to. Add it.
        MissingKey = "missing-key",
        /// A key stands there without a value, or with an empty list. Give it one, or remove the key to get the default.
        NoValue = "no-value",
        /// The value is of another kind: text for a number, a number for text, no mapping, no list. The remedy shows how it is
        /// written.
        WrongType = "wrong-type",
        /// The number has a fraction, an exponent, a leading zero or another base. Write it in plain decimal digits.
        NotAWholeNumber = "not-a-whole-number",
        /// A number or a size is less or more than the key can have.
        OutOfBounds = "out-of-bounds",
        /// The value is one of a few words, and this is none of them. Capitals and small letters differ.
        UnknownWord = "unknown-word",
        /// Kubernetes does not read this as a size. Write a number and `Mi`, `Gi` or `Ti`.
        NotAQuantity = "not-a-quantity",
        /// PostgreSQL does not read this as a size. Write a number and `MB`, `GB` or `TB`.
        NotAPostgresqlSize = "not-a-postgresql-size",
        /// Two keys say the same thing in different ways, or cannot hold together. Keep one.
        ExclusiveKeys = "exclusive-keys",
        /// A key would do nothing because of what another one says. Remove it, or change the other.
        KeyWithoutEffect = "key-without-effect",
        /// Something secret, such as a private key or the password of a proxy, would stand readable in the bundle. Take it
        /// out; where the file was shared, replace the secret itself.
        SecretInConfig = "secret-in-config",
    }

    /// Names, labels and annotations
    Names {
        /// A name is empty, too long by itself or taken by the system, or has characters that its kind cannot have: the name
        /// of the lab, of a namespace, an object, a key of a Secret, a package or a user.
        NotAName = "not-a-name",
        /// The names of the lab's objects would grow past 63 characters. Shorten `name`.
        NameTooLong = "name-too-long",
        /// The name is that of an object which the bundle holds. Choose another one.
        NameTaken = "name-taken",
        /// Kubernetes takes no such key or value of a label, and of a taint. Write up to 63 letters, digits, `-`, `_` and `.`;
        /// before a key may stand a DNS name and `/`.
        NotALabel = "not-a-label",
        /// Kubernetes takes no such key or value of an annotation, or would change it on its way. Keys are written like those
        /// of labels.
        NotAnAnnotation = "not-an-annotation",
        /// A label or annotation of this name is set by gen, by KubeVirt or by kubectl. Choose another name.
        ReservedMetadata = "reserved-metadata",
        /// With this label or annotation a GitOps tool would delete disks and make them anew. Remove it.
        MetadataDeletesDisks = "metadata-deletes-disks",
        /// An object would be larger than the API server takes: by labels and annotations, or by what stands in the
        /// files of the guests.
        ObjectTooLarge = "object-too-large",
    }

    /// Virtual machines and guests
    Machines {
        /// A disk is smaller than what is going to lie on it. Raise its size or leave it out; a data disk that a cluster
        /// has already keeps its size.
        DiskTooSmall = "disk-too-small",
        /// The guest, or the instancetype that is chosen for it, has less memory than the lab needs.
        MemoryTooSmall = "memory-too-small",
        /// The preference requires more CPUs or memory than the VM has; KubeVirt would refuse the VM.
        PreferenceNotMet = "preference-not-met",
        /// Two access modes cannot stand together in one list, or are the same.
        ConflictingAccessModes = "conflicting-access-modes",
        /// The keys of a toleration contradict each other; the API server would refuse the pods.
        ConflictingToleration = "conflicting-toleration",
        /// This names no container image. Write `registry/path:tag`.
        NotAnImageReference = "not-an-image-reference",
        /// What the root disk is made from does not tell its operating system. Set `guest.os`.
        UnknownOs = "unknown-os",
        /// The release has a PostgreSQL before 13, or a systemd that the guest's units cannot use. Choose a newer one.
        ReleaseTooOld = "release-too-old",
        /// This is no public key as a `.pub` file holds it.
        NotAnSshKey = "not-an-ssh-key",
        /// A user is named and no key, so nobody could log in. Add `guest.ssh.authorized-keys`.
        UserWithoutKey = "user-without-key",
        /// This is no address of a proxy. Write `http://host:port`.
        NotAProxyUrl = "not-a-proxy-url",
        /// This is no block of IP addresses. Write `address/prefix`, with zeros behind the prefix.
        NotACidr = "not-a-cidr",
        /// This is no IP address of a host. Write it without brackets, zone and prefix.
        NotAnIpAddress = "not-an-ip-address",
        /// An IP family is listed twice, or there are two where the policy has room for one; the API server would refuse
        /// the Services.
        ConflictingIpFamilies = "conflicting-ip-families",
        /// An address is of an IP family that the guests do not have, so that they could not reach it.
        OfAnotherIpFamily = "of-another-ip-family",
    }

    /// PostgreSQL and pgbench
    Postgresql {
        /// The guest's PostgreSQL has no setting of this name.
        UnknownSetting = "unknown-setting",
        /// The setting is one of another version of PostgreSQL than the guest has. Remove it, or choose another image.
        SettingOfAnotherVersion = "setting-of-another-version",
        /// The setting is decided by gen, some by a key of their own. Remove it; the remedy says why, or names the key.
        ManagedSetting = "managed-setting",
        /// The setting is read-only, or belongs to a session and not to the server. Remove it.
        SettingNotConfigurable = "setting-not-configurable",
        /// The number is less or more than PostgreSQL takes for the setting.
        SettingOutOfBounds = "setting-out-of-bounds",
        /// The number has a unit that PostgreSQL does not know.
        SettingWrongUnit = "setting-wrong-unit",
        /// PostgreSQL does not take the value for the setting: it is no number, not on or off, empty, no list of names, no
        /// time zone, no encoding.
        SettingValueRefused = "setting-value-refused",
        /// The value does not fit on a line of postgresql.conf: it has a line break, a tab or a control character, or 900
        /// bytes and more.
        SettingNotOneLine = "setting-not-one-line",
        /// With this value the servers of a lab do not start, damage data or cannot be followed. Remove it.
        SettingBreaksLab = "setting-breaks-lab",
        /// Archiving is on, but nothing says where to, so that WAL fills the disk. Say it, or turn archiving off.
        NothingIsArchived = "nothing-is-archived",
        /// Slots would keep less WAL than is kept without them. Raise `postgresql.max-slot-wal-keep-size`.
        SlotWalBelowWalKeepSize = "slot-wal-below-wal-keep-size",
        /// `max_connections` leaves no room for the load. Raise it, or leave it out.
        TooFewConnections = "too-few-connections",
        /// A server would run more processes than PostgreSQL can. Ask for fewer connections, workers or replicas.
        TooManyProcesses = "too-many-processes",
        /// There are more threads than clients, with which pgbench refuses to run.
        MoreThreadsThanClients = "more-threads-than-clients",
    }

    /// Failover
    Failover {
        /// The lab has no such node. Name one that it has.
        NoSuchNode = "no-such-node",
        /// A lab under Patroni has too few or too many replicas. Change `replica-count`.
        ReplicasForPatroni = "replicas-for-patroni",
        /// The distribution has no packages of Patroni and etcd that fit. Choose another image, or one that has them
        /// installed.
        NoPatroniPackages = "no-patroni-packages",
        /// The image's Patroni is too old for what the config asks of it. Choose another image, or ask for less.
        PatroniTooOld = "patroni-too-old",
        /// The nodes cannot have the watchdog that the config asks for: KubeVirt has it on amd64 alone, and the kernel of
        /// Debian 12's cloud images has no driver of it. Ask for less in `failover.watchdog`, or choose another image.
        NoWatchdog = "no-watchdog",
        /// Patroni does not take this setting as it is: it decides it itself, or replaces what is below its own bound by its
        /// own default. Remove it, or raise it.
        PatroniSetting = "patroni-setting",
        /// A leader would lose its office while it still tries to renew it. Raise `failover.ttl`.
        PatroniTiming = "patroni-timing",
        /// A commit would wait for more standbys than there are. Ask for fewer, or for more replicas.
        TooFewStandbys = "too-few-standbys",
        /// The directory holds the lab with another `failover`. Its nodes and disks have other names, and nothing moves the
        /// data: give the new lab another `name` and another directory.
        FailoverChanged = "failover-changed",
    }

    /// Services and sites
    Sites {
        /// The databases would be reached from outside of the cluster, and clients would talk to them in clear. Say how they are
        /// encrypted, or that they need not be, with `service.insecure`.
        ExposedWithoutTls = "exposed-without-tls",
        /// Two Services cannot have the same port on the nodes of the cluster. Choose another one, or let the cluster choose.
        SameNodePort = "same-node-port",
        /// This is no host. Write its name in DNS or its address.
        NotAHost = "not-a-host",
        /// This is no certificate of a CA in PEM. Paste its file.
        NotACertificate = "not-a-certificate",
        /// `upstream` leads back to this lab, or to one of the same name. Sites follow each other by the names of their nodes, so
        /// that each needs a `name` of its own: with the same, synchronous replication would count one node for another.
        SameNameOnBothSites = "same-name-on-both-sites",
        /// Patroni has one `sslmode` for all its connections, those to the other site and those within this one. Have `tls` on both
        /// sites, or on none.
        SslmodeUnderPatroni = "sslmode-under-patroni",
    }

    /// TLS
    Tls {
        /// This is neither a DNS name nor an IP address. Write it without port and scheme.
        NotAHostName = "not-a-host-name",
        /// A certificate with so many names would be larger than TLS carries. List fewer; or let each node sign its own, or ask for
        /// fewer replicas.
        CertificateTooLarge = "certificate-too-large",
    }

    /// Monitoring
    Monitoring {
        /// The distribution has no package of postgres_exporter. Leave it out, or choose an image of Debian or Ubuntu.
        NoExporterPackage = "no-exporter-package",
    }

    /// The archive
    Archive {
        /// This is no URL of a store over TLS. Write `https://host:port`.
        NotAStoreUrl = "not-a-store-url",
        /// This is nothing that an NFS server exports. Write `server:/path`.
        NotAnExport = "not-an-export",
        /// This is no time of a calendar as systemd's timers have it. Write `daily`, or `Sun 03:00`.
        NotACalendar = "not-a-calendar",
        /// This is no moment. Write a date, a time of day and a zone.
        NotAMoment = "not-a-moment",
        /// This is no position in the WAL. Write it as PostgreSQL does.
        NotAWalPosition = "not-a-wal-position",
        /// The distribution has no package of the program that is to write the archive. Choose the other one, another image, or
        /// one that has it installed.
        NoArchiveTool = "no-archive-tool",
        /// The bucket would be a part of the name of the host, where it is in no DNS or in no certificate. Have it in the path.
        NeedsPathStyle = "needs-path-style",
        /// Less WAL may wait for the archive than is written while it is looked after. Raise `archive.max-pending-wal`.
        PendingWalTooSmall = "pending-wal-too-small",
        /// A restored lab would archive to where it came from, and the two histories would overwrite each other. Give one of
        /// them another prefix.
        RestoreIntoItsArchive = "restore-into-its-archive",
    }

    /// The WAL player
    Player {
        /// No PostgreSQL has WAL files of this size. Write a power of two from `1MB` to `1GB`.
        NotASegmentSize = "not-a-segment-size",
        /// More files would be sent at the same time than there are. Lower `jobs`, or raise `length`.
        MoreJobsThanFiles = "more-jobs-than-files",
        /// The lab's own WAL player measures replicas, and there are none. Ask for some, or remove `wal-player`.
        PlayerWithoutReplicas = "player-without-replicas",
        /// More sessions would write WAL than a server keeps connections for. Lower `jobs`.
        TooManyWriters = "too-many-writers",
        /// This is no address of a server. Write a host and its port.
        NotAnAddress = "not-an-address",
        /// The config leaves out the database and asks for nothing else. Add `wal-player`, or remove `database`.
        NothingToGenerate = "nothing-to-generate",
    }

    /// Chaos on the network
    Chaos {
        /// This is no delay. Write a whole number with `us`, `ms` or `s`.
        NotADelay = "not-a-delay",
        /// This is no part of packets. Write a number and `%`.
        NotAPercentage = "not-a-percentage",
        /// This is no rate of a link. Write a whole number with `kbit`, `mbit` or `gbit`.
        NotABitRate = "not-a-bit-rate",
        /// A delay cannot vary by more than itself. Lower `jitter`, or raise `latency`.
        JitterAboveLatency = "jitter-above-latency",
        /// A window has nothing to do. Say what, in it or beside the schedule.
        ChaosWithoutEffect = "chaos-without-effect",
        /// Two windows are at the same time, or one comes again before it is over. Give them other times.
        WindowsOverlap = "windows-overlap",
    }

    /// Passwords and the secrets file
    Passwords {
        /// A password is not text, or empty, or longer than 128 bytes, or has a line break or a control character; or
        /// `ca-seed` is shorter than 16 bytes.
        NotAPassword = "not-a-password",
        /// Passwords are needed and not there. `--check` never adds any: bring the secrets file that the directory was
        /// written with.
        MissingPasswords = "missing-passwords",
        /// Random passwords cannot be added to the secrets file. Write them yourself, one on each line.
        CannotAddPasswords = "cannot-add-passwords",
        /// The directory holds passwords that random ones would replace. If it is of this lab, bring its secrets file back.
        OtherPasswords = "other-passwords",
        /// `credentials.file` cannot be a path.
        NotAPath = "not-a-path",
    }

    /// Files and streams
    Files {
        /// There is no such config, or none at all where one has to be.
        ConfigNotFound = "config-not-found",
        /// A config seems to be given, and gen would not read it: a file of nearly the right name, or standard input
        /// without `-`.
        IgnoredConfig = "ignored-config",
        /// A file or a directory cannot be read, or is of another kind.
        CannotRead = "cannot-read",
        /// The file is larger than a config or a secrets file can be. Is it the right one?
        FileTooLarge = "file-too-large",
        /// The file is not UTF-8. Save it as UTF-8.
        NotUtf8 = "not-utf8",
        /// `--output` names what is no directory.
        NotADirectory = "not-a-directory",
        /// A file that gen did not write has the name of one of the bundle. Move it away; gen replaces none but its own.
        FileInTheWay = "file-in-the-way",
        /// The directory holds the files of another lab. One directory holds one lab.
        DirectoryOfAnotherLab = "directory-of-another-lab",
        /// The output would take the place of the config or of the secrets file.
        OutputOverInput = "output-over-input",
        /// Standard output is closed, or not open for writing.
        StdoutClosed = "stdout-closed",
        /// A file, a directory or the output cannot be written.
        CannotWrite = "cannot-write",
    }

    /// Notes
    Notes {
        /// With this setting a node that loses power may come back with damaged data. Some measure with it, and know.
        DataAtRisk = "data-at-risk",
        /// The servers start or take connections only where the guest has something that not every image has: a library, a
        /// locale, a time zone, a directory.
        GuestMustHave = "guest-must-have",
        /// Replicas that clone together may push each other over the limit on the WAL of slots, and start again.
        SlotWalSmallForClones = "slot-wal-small-for-clones",
        /// More pgbench clients than units of scale wait for each other's row locks rather than for the disk.
        MoreClientsThanScale = "more-clients-than-scale",
        /// Commits wait for standbys that are not there; without them the primary takes no writes until somebody says so.
        CommitsWait = "commits-wait",
        /// The Service of the replicas leads to the node that takes writes, too.
        ReplicasServiceHasPrimary = "replicas-service-has-primary",
        /// The guest's distribution gives packages to subscribers only.
        SubscriptionNeeded = "subscription-needed",
        /// The preference is for Windows, and the guests are Linux.
        WindowsPreference = "windows-preference",
        /// A CDI before the version that is named refuses what the config asks for.
        NeedsNewerCdi = "needs-newer-cdi",
        /// An annotation of the config would weaken what protects the database disks; they keep theirs.
        DiskProtectionKept = "disk-protection-kept",
        /// A client-side `oc apply` cannot carry an object of this size. Apply with `--server-side`.
        NeedsServerSideApply = "needs-server-side-apply",
        /// `postgresql.allowed-clients` does nothing without a NetworkPolicy.
        AllowedClientsWithoutNetworkPolicy = "allowed-clients-without-network-policy",
        /// `postgresql.allowed-clients` lets in addresses of an IP family that the guests do not have. Give them both
        /// families, or take the block out.
        AllowedClientsOfAnotherFamily = "allowed-clients-of-another-family",
        /// The Services are exposed, and the NetworkPolicy lets in nobody from outside. Name who may come in
        /// `postgresql.allowed-clients`.
        ExposedToNobody = "exposed-to-nobody",
        /// Until it is promoted a standby site has no node that takes writes: its Services lead to standbys.
        StandbySite = "standby-site",
        /// The `name` of the other site cannot be told from its address. It has to be another than that of this one.
        NamesOfBothSites = "names-of-both-sites",
        /// The upstream is named by an address, and the guests' PostgreSQL, older than 15, verifies names alone. Name it by its name
        /// in DNS, or verify the authority alone.
        AddressNotVerified = "address-not-verified",
        /// Two lists say where clients come from, and they have no address in common: no client passes both.
        NobodyInBothLists = "nobody-in-both-lists",
        /// Most API servers refuse this port for the nodes of the cluster; some are set up for it.
        UnusualNodePort = "unusual-node-port",
        /// A certificate of cert-manager has the names that hold within its namespace alone. Clients elsewhere need longer ones: say
        /// which namespace it is, or list them.
        ShortNamesOnly = "short-names-only",
        /// Nothing but the primary is a target of `chaos-network`, and no WAL goes to it. Name replicas, unless another node is to be
        /// the primary by then.
        ChaosTargetIsPrimary = "chaos-target-is-primary",
        /// Something may stand in standard input, and it is not read; `gen -` reads it.
        StdinNotRead = "stdin-not-read",
        /// Random passwords were added to the secrets file. Keep it, and keep it out of Git.
        PasswordsAdded = "passwords-added",
        /// A file of the bundle holds the passwords in clear. Keep it out of Git, or use `credentials.existing-secret`.
        PasswordsInClear = "passwords-in-clear",
        /// Others than you can, or could, read a file with passwords.
        PasswordsReadableByOthers = "passwords-readable-by-others",
        /// The passwords in the directory change; VMs that run take them at their next start.
        PasswordsChange = "passwords-change",
        /// A cluster that has the DataVolume refuses its new spec, and takes the rest of the bundle.
        DiskSpecChanges = "disk-spec-changes",
        /// A cluster that has the Job of the WAL player, or its volume, refuses another one. Delete it first.
        JobSpecChanges = "job-spec-changes",
        /// Kubernetes will delete the Job, with the log that holds the results; a GitOps tool makes it anew then, and it
        /// runs again.
        JobIsDeleted = "job-is-deleted",
        /// A run of the lab's own WAL player is more WAL than a slot holds back. A replica that is away meanwhile is cloned
        /// again: let it, play less, or raise `max-slot-wal-keep-size`.
        RunExceedsSlots = "run-exceeds-slots",
        /// Files that are no longer part of the bundle were removed from the directory.
        StaleFilesRemoved = "stale-files-removed",
        /// Another run of gen is at work in the directory; this one goes on after it.
        WaitingForAnotherRun = "waiting-for-another-run",
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
