//! The values a config is made of. Each is parsed once and carries its meaning from then on.

use crate::config::fields::{Value, listed, nearest};
use crate::diagnostic::{Diagnostic, Problems};
use crate::node::{Node, NodeValue};
use std::net::IpAddr;

/// Why a text is not the value it should be.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl Refusal {
    /// A refusal with its remedy.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// A value that is written as text.
pub trait FromText: Sized {
    /// What the text is for a message: `a PostgreSQL size`.
    const WHAT: &'static str;
    /// How one looks.
    const EXAMPLE: &'static str;
    /// Parses the text.
    fn from_text(text: &str) -> Result<Self, Refusal>;
}

/// Reads a node as text of the given kind.
fn read_text<T: FromText>(node: &Node, problems: &mut Problems) -> Option<T> {
    let fault = match &node.value {
        NodeValue::Text(text) => match T::from_text(text) {
            Ok(value) => return Some(value),
            Err(refusal) => Diagnostic::new(node.span.clone(), refusal.message).help(refusal.help),
        },
        _ => Diagnostic::new(node.span.clone(), format!("expected {}, found {}", T::WHAT, node.kind()))
            .help(format!("write it like `{}`", T::EXAMPLE)),
    };
    problems.push(fault);
    None
}

/// A text value kept as it was written, after a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $example:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&$name> for $crate::yaml::Yaml {
            fn from(value: &$name) -> Self {
                value.0.clone().into()
            }
        }

        impl FromText for $name {
            const WHAT: &'static str = $what;
            const EXAMPLE: &'static str = $example;
            fn from_text(text: &str) -> Result<Self, Refusal> {
                let check: fn(&str) -> Result<(), Refusal> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl Value for $name {
            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                read_text(node, problems)
            }
        }
    };
}

/// A value that is one of a few words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// The word as the config and the bundle write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl From<$name> for $crate::yaml::Yaml {
            fn from(value: $name) -> Self {
                value.as_str().into()
            }
        }

        impl FromText for $name {
            const WHAT: &'static str = concat!("one of" $(, " `", $text, "`")+);
            const EXAMPLE: &'static str = [$($text),+][0];
            fn from_text(text: &str) -> Result<Self, Refusal> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(unknown_word(text, &[$($text),+])),
                }
            }
        }

        impl Value for $name {
            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                read_text(node, problems)
            }
        }
    };
}

fn unknown_word(text: &str, words: &[&str]) -> Refusal {
    let message = format!("`{}` is not one of {}", text.escape_debug(), listed(words));
    match nearest(text, words) {
        Some(near) => Refusal::new(message, format!("did you mean `{near}`?")),
        None => Refusal::new(message, format!("write {}", listed(words).replace(" and ", " or "))),
    }
}

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
    /// An entry of `spec.accessModes` of a volume. CDI refuses `ReadWriteOncePod` before 1.58, and a blank disk
    /// cannot be `ReadOnlyMany`.
    AccessMode {
        /// One node; no live migration.
        ReadWriteOnce = "ReadWriteOnce",
        /// Many nodes: what live migration needs.
        ReadWriteMany = "ReadWriteMany",
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
    /// `type` of the Services.
    ServiceType {
        /// Reachable inside the cluster.
        ClusterIp = "ClusterIP",
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

impl Os {
    /// All of them, for inference from an image's name.
    pub const ALL: [Self; 6] =
        [Self::Fedora, Self::CentosStream, Self::Rhel, Self::Almalinux, Self::Debian, Self::Ubuntu];
}

/// Letters, digits and inner hyphens, lower case: RFC 1123. `None` when it is fine.
fn label_fault(text: &str, longest: usize) -> Option<String> {
    if text.is_empty() {
        Some("it is empty".to_owned())
    } else if text.len() > longest {
        Some(format!("it has {} characters, {longest} are allowed", text.len()))
    } else if let Some(c) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some(format!("`{}` is not allowed", c.escape_debug()))
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("it begins or ends with a hyphen".to_owned())
    } else {
        None
    }
}

fn subdomain_fault(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some(format!("it has {} characters, 253 are allowed", text.len()));
    }
    text.split('.').find_map(|label| label_fault(label, 253))
}

fn named(text: &str, what: &str, fault: Option<String>, help: &str) -> Result<(), Refusal> {
    match fault {
        None => Ok(()),
        Some(fault) => Err(Refusal::new(format!("`{}` is not {what}: {fault}", shortened(text)), help)),
    }
}

/// A value of the user for a message: on one line, and not longer than a line.
fn shortened(text: &str) -> String {
    let escaped: String = text.escape_debug().take(60).collect();
    if text.chars().count() > 60 { format!("{escaped}…") } else { escaped }
}

checked_text!(
    /// The prefix of every object's name: a DNS-1035 label, because Services and host names are made of it.
    LabName,
    "a name",
    "database-lab",
    |text| {
        let fault = label_fault(text, 63)
            .or_else(|| text.starts_with(|c: char| c.is_ascii_digit()).then(|| "it begins with a digit".to_owned()));
        named(text, "a name for a lab", fault, "use lower-case letters, digits and hyphens, beginning with a letter")
    }
);

checked_text!(
    /// A namespace: a DNS-1123 label.
    Namespace,
    "a namespace",
    "databases",
    |text| named(text, "a namespace", label_fault(text, 63), "use up to 63 lower-case letters, digits and hyphens")
);

checked_text!(
    /// The name of an object that the bundle refers to: a DNS-1123 subdomain.
    ObjectName,
    "the name of an object",
    "fast-storage",
    |text| named(
        text,
        "the name of a Kubernetes object",
        subdomain_fault(text),
        "use lower-case letters, digits, hyphens and dots"
    )
);

checked_text!(
    /// A key of a Secret's data, which is also a file name on the guest's credentials disk.
    SecretKey,
    "a key of a Secret",
    "replication-password",
    |text| {
        let fault = if text.is_empty() || text.len() > 63 {
            Some(format!("it has {} characters, 1 to 63 are allowed", text.len()))
        } else if text.starts_with('.') {
            Some("it begins with a dot".to_owned())
        } else {
            text.chars()
                .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.'))
                .map(|c| format!("`{}` is not allowed", c.escape_debug()))
        };
        named(text, "a key of a Secret", fault, "use letters, digits, `-`, `_` and `.`")
    }
);

/// The part of a label or annotation key after the prefix, and label values.
fn qualified_part_fault(text: &str) -> Option<String> {
    let edge = |c: char| c.is_ascii_alphanumeric();
    if text.len() > 63 {
        Some(format!("it has {} characters, 63 are allowed", text.len()))
    } else if let Some(c) = text.chars().find(|c| !edge(*c) && !matches!(c, '-' | '_' | '.')) {
        Some(format!("`{}` is not allowed", c.escape_debug()))
    } else if !text.starts_with(edge) || !text.ends_with(edge) {
        Some("it must begin and end with a letter or digit".to_owned())
    } else {
        None
    }
}

fn qualified_name_fault(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    prefix.and_then(subdomain_fault).or_else(|| qualified_part_fault(name))
}

const QUALIFIED_NAME_HELP: &str = "write `name` or `example.com/name` with letters, digits, `-`, `_` and `.`";

checked_text!(
    /// The key of a label, node label or taint: an optional DNS prefix and a name.
    LabelKey,
    "a label key",
    "example.com/team",
    |text| named(text, "a label key", qualified_name_fault(text), QUALIFIED_NAME_HELP)
);

checked_text!(
    /// The key of an annotation.
    AnnotationKey,
    "an annotation key",
    "example.com/owner",
    |text| named(
        text,
        "an annotation key",
        qualified_name_fault(&text.to_ascii_lowercase()),
        QUALIFIED_NAME_HELP
    )
);

checked_text!(
    /// The value of a label.
    LabelValue,
    "a label value",
    "storage-team",
    |text| {
        let fault = if text.is_empty() { None } else { qualified_part_fault(text) };
        named(text, "a label value", fault, "use up to 63 letters, digits, `-`, `_` and `.`")
    }
);

checked_text!(
    /// A reference to a container image: `[registry[:port]/]path[:tag][@digest]`.
    ImageReference,
    "an image reference",
    "quay.io/containerdisks/fedora:42",
    |text| {
        let fault = image_fault(text);
        named(text, "an image reference", fault, "write `registry/path:tag`, such as `quay.io/containerdisks/fedora:42`")
    }
);

/// The grammar of container image references (distribution/reference).
fn image_fault(text: &str) -> Option<String> {
    if text.contains("://") {
        return Some("it begins with a scheme".to_owned());
    }
    if text.len() > 255 {
        return Some("it is longer than 255 characters".to_owned());
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or("");
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Some("the digest is not `sha256:` and 64 hexadecimal digits".to_owned());
        }
    }
    let after_slash = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[after_slash..].find(':') {
        Some(colon) => (&name[..after_slash + colon], Some(&name[after_slash + colon + 1..])),
        None => (name, None),
    };
    if let Some(tag) = tag {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let fine = tag.bytes().next().is_some_and(word)
            && tag.len() <= 128
            && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if !fine {
            return Some("the tag is not letters, digits, `_`, `.` and `-`".to_owned());
        }
    }
    let mut components: Vec<&str> = path.split('/').collect();
    let first = components.first().copied().unwrap_or("");
    if components.len() > 1 && (first.contains(['.', ':']) || first == "localhost") {
        let (host, port) = first.split_once(':').unwrap_or((first, "1"));
        let host_fine = host.split('.').all(|label| label_fault(&label.to_ascii_lowercase(), 63).is_none());
        if !host_fine || port.parse::<u16>().is_err() {
            return Some(format!("`{}` is not a registry", first.escape_debug()));
        }
        components.remove(0);
    }
    let component_fine = |component: &&str| {
        let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = component.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|b| edge(b) || matches!(b, b'.' | b'_' | b'-'))
            && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|run| component.contains(run))
    };
    match components.iter().find(|component| !component_fine(component)) {
        Some(component) => Some(format!("`{}` is not a part of a path", component.escape_debug())),
        None => None,
    }
}

checked_text!(
    /// The name of a package, as the guest's package manager takes it.
    PackageName,
    "a package name",
    "sysstat",
    |text| {
        let word = |c: char| c.is_ascii_alphanumeric();
        let fault = if !text.starts_with(word) || text.len() > 128 {
            Some("it must begin with a letter or digit".to_owned())
        } else {
            text.chars()
                .find(|c| !word(*c) && !matches!(c, '.' | '+' | '-' | '_' | ':' | '~'))
                .map(|c| format!("`{}` is not allowed", c.escape_debug()))
        };
        named(text, "a package name", fault, "name one package in each item, without options or versions")
    }
);

checked_text!(
    /// The name of a user in the guest.
    UserName,
    "a user name",
    "lab",
    |text| {
        let fault = if matches!(text, "root" | "postgres") {
            Some("it is a system user".to_owned())
        } else if text.is_empty() || text.len() > 32 {
            Some(format!("it has {} characters, 1 to 32 are allowed", text.len()))
        } else if !text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            || !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        {
            Some("a user name is lower-case letters, digits, `_` and `-`, beginning with a letter".to_owned())
        } else {
            None
        };
        named(text, "a user name", fault, "choose a name such as `lab`")
    }
);

checked_text!(
    /// A public key as `authorized_keys` holds it, without options.
    SshKey,
    "an SSH public key",
    "ssh-ed25519 AAAA… user@host",
    |text| named(
        text,
        "an SSH public key",
        ssh_key_fault(text),
        "paste one line of a `.pub` file, such as `ssh-ed25519 AAAA… user@host`"
    )
);

fn ssh_key_fault(text: &str) -> Option<String> {
    use base64::Engine as _;
    const TYPES: [&str; 7] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    if text.contains("PRIVATE KEY") {
        return Some("it is a private key".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Some("it has more than one line or a control character".to_owned());
    }
    let mut words = text.split(' ');
    let kind = words.next().unwrap_or("");
    if !TYPES.contains(&kind) {
        return Some(format!("`{}` is not a type of key", shortened(kind)));
    }
    let blob = words.next().unwrap_or("");
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(blob) else {
        return Some("the key is not base64".to_owned());
    };
    // the blob begins with its type as an SSH string: four bytes of length, then the text (RFC 4253, 6.6)
    let announced = bytes.get(4..4 + kind.len());
    let length = u32::try_from(kind.len()).unwrap_or(0).to_be_bytes();
    if !bytes.starts_with(&length) || announced != Some(kind.as_bytes()) || bytes.len() < 4 + kind.len() + 32
    {
        return Some("the key is cut short or not of the type it names".to_owned());
    }
    None
}

checked_text!(
    /// A forward proxy for the guest's package manager.
    ProxyUrl,
    "a proxy URL",
    "http://proxy.example.com:3128",
    |text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let fault = match rest {
            None => Some("it does not begin with `http://` or `https://`".to_owned()),
            Some(rest) if rest.contains('@') => {
                Some("it holds a user or password, which would stand readable in the bundle".to_owned())
            }
            Some(rest) => {
                let authority = rest.strip_suffix('/').unwrap_or(rest);
                let (host, port) = match authority.rsplit_once(':') {
                    Some((host, port)) if !authority.ends_with(']') => (host, port),
                    _ => (authority, "1"),
                };
                let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
                let host_fine = match bracketed {
                    Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                    None => subdomain_fault(&host.to_ascii_lowercase()).is_none(),
                };
                (!host_fine || port.parse::<u16>().map_or(true, |port| port == 0))
                    .then(|| "it is not `http://host:port`".to_owned())
            }
        };
        named(text, "a proxy URL", fault, "write `http://host:port`")
    }
);

checked_text!(
    /// A block of IP addresses; the bits after the prefix are zero.
    Cidr,
    "a CIDR",
    "192.0.2.0/24",
    |text| named(text, "a CIDR", cidr_fault(text), "write `address/prefix`, such as `192.0.2.0/24` or `2001:db8::/32`")
);

fn cidr_fault(text: &str) -> Option<String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Some("the `/prefix` is missing".to_owned());
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Some(format!("`{}` is not an IP address", shortened(address)));
    };
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (prefix == "0" || !prefix.starts_with('0'));
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            return Some("it is an IPv4 address written as IPv6".to_owned());
        }
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    match prefix.parse::<u32>() {
        Ok(length) if plain && length <= width => {
            let host_bits = if length == 128 { 0 } else { bits << length };
            (host_bits != 0).then(|| format!("bits are set after the first {length}"))
        }
        _ => Some(format!("the prefix must be a number from 0 to {width}")),
    }
}

checked_text!(
    /// The name of a PostgreSQL setting, of the server (`work_mem`) or of an extension (`auto_explain.log_nested_statements`).
    ParameterName,
    "the name of a PostgreSQL setting",
    "work_mem",
    |text| {
        let part = |part: &str| {
            part.len() <= 63
                && part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let fine = match text.split_once('.') {
            Some((extension, name)) => part(extension) && part(name),
            None => part(text),
        };
        let fault = (!fine).then(|| "a setting is lower-case letters, digits and underscores".to_owned());
        named(text, "the name of a PostgreSQL setting", fault, "write it as in postgresql.conf: `work_mem`")
    }
);

/// The value of a PostgreSQL setting, as it is written between the quotes of postgresql.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterValue(pub String);

impl Value for ParameterValue {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = match &node.value {
            NodeValue::Text(text) | NodeValue::Number(text) => text.clone(),
            NodeValue::Bool(value) => if *value { "on" } else { "off" }.to_owned(),
            _ => {
                problems.push(
                    Diagnostic::new(node.span.clone(), format!("expected a setting, found {}", node.kind()))
                        .help("give text, a number, `true` or `false`"),
                );
                return None;
            }
        };
        if text.chars().any(char::is_control) {
            problems.push(
                Diagnostic::new(node.span.clone(), "the value of a setting must stand on one line")
                    .help("remove line breaks and control characters; postgresql.conf cannot hold them"),
            );
            return None;
        }
        if text.len() > 900 {
            problems.push(
                Diagnostic::new(
                    node.span.clone(),
                    format!("the value of a setting has {} bytes", text.len()),
                )
                .help("keep it under 900; the guest reads postgresql.conf line by line"),
            );
            return None;
        }
        Some(Self(text))
    }
}

/// An amount of memory in PostgreSQL's units, in whole MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgSize {
    mib: u64,
}

impl PgSize {
    /// The largest value of `wal_keep_size` and `max_slot_wal_keep_size`: an `int` of megabytes.
    const MAX_MIB: u64 = i32::MAX as u64;

    /// A size of whole MiB.
    pub const fn mib(mib: u64) -> Self {
        Self { mib }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u128 {
        u128::from(self.mib) << 20
    }
}

impl std::fmt::Display for PgSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.mib {
            mib if mib > 0 && mib % (1 << 20) == 0 => write!(f, "{}TB", mib >> 20),
            mib if mib > 0 && mib % (1 << 10) == 0 => write!(f, "{}GB", mib >> 10),
            mib => write!(f, "{mib}MB"),
        }
    }
}

impl FromText for PgSize {
    const WHAT: &'static str = "a PostgreSQL size";
    const EXAMPLE: &'static str = "256MB";
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let refuse =
            |help: String| Err(Refusal::new(format!("`{}` is not a PostgreSQL size", shortened(text)), help));
        let general =
            "write a whole number and `MB`, `GB` or `TB` (powers of 1024), such as `256MB`".to_owned();
        let shift = match unit {
            "kB" => 10,
            "MB" => 20,
            "GB" => 30,
            "TB" => 40,
            _ => {
                let meant = match unit.to_ascii_lowercase().as_str() {
                    "mi" | "mib" | "m" | "mb" => "MB",
                    "gi" | "gib" | "g" | "gb" => "GB",
                    "ti" | "tib" | "t" | "tb" => "TB",
                    "ki" | "kib" | "k" | "kb" => "kB",
                    _ => return refuse(general),
                };
                if number.is_empty() {
                    return refuse(general);
                }
                return refuse(format!("PostgreSQL reads this one; in its units that is `{number}{meant}`"));
            }
        };
        match number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)) {
            Some(bytes) if bytes % (1 << 20) != 0 => {
                refuse("it must be whole megabytes, such as `256MB`".to_owned())
            }
            Some(bytes) if bytes >> 20 <= Self::MAX_MIB => Ok(Self { mib: bytes >> 20 }),
            _ if number.is_empty() => refuse(general),
            _ => refuse(format!("PostgreSQL takes at most {}MB", Self::MAX_MIB)),
        }
    }
}

impl Value for PgSize {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let NodeValue::Number(text) = &node.value
            && text.bytes().all(|b| b.is_ascii_digit())
        {
            problems.push(
                Diagnostic::new(node.span.clone(), "a PostgreSQL size needs its unit")
                    .help(format!("if megabytes are meant, write `{text}MB`")),
            );
            return None;
        }
        read_text(node, problems)
    }
}

/// A Kubernetes quantity of bytes, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    bytes: u128,
}

impl Quantity {
    /// A quantity of whole GiB, in Ti where that is shorter.
    pub fn gib(gib: u64) -> Self {
        let text =
            if gib >= 1024 && gib % 1024 == 0 { format!("{}Ti", gib / 1024) } else { format!("{gib}Gi") };
        Self { text, bytes: u128::from(gib) << 30 }
    }

    /// The quantity in bytes.
    pub fn bytes(&self) -> u128 {
        self.bytes
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Quantity> for crate::yaml::Yaml {
    fn from(quantity: &Quantity) -> Self {
        quantity.text.clone().into()
    }
}

impl FromText for Quantity {
    const WHAT: &'static str = "a Kubernetes quantity";
    const EXAMPLE: &'static str = "10Gi";
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let refuse = |help: String| {
            Err(Refusal::new(format!("`{}` is not a Kubernetes quantity", shortened(text)), help))
        };
        let general = "write a number and `Mi`, `Gi` or `Ti` (powers of 1024), such as `10Gi`".to_owned();
        let split = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(split);
        let multiplier: u128 = match unit {
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "Pi" => 1 << 50,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "P" => 1_000_000_000_000_000,
            _ => {
                let meant = match unit.to_ascii_lowercase().as_str() {
                    "mb" | "mib" | "mi" => "Mi",
                    "gb" | "gib" | "gi" | "g" => "Gi",
                    "tb" | "tib" | "ti" | "t" => "Ti",
                    _ => return refuse(general),
                };
                return refuse(format!("Kubernetes reads this one; in its units that is `{number}{meant}`"));
            }
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // bounds that keep the arithmetic exact: 10^12 units, nine decimals
        if whole.is_empty()
            || whole.len() > 12
            || fraction.is_empty()
            || fraction.len() > 9
            || fraction.contains('.')
        {
            return refuse(general);
        }
        let (Ok(integer), Ok(decimals)) = (whole.parse::<u128>(), fraction.parse::<u128>()) else {
            return refuse(general);
        };
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let scaled = (integer * scale + decimals) * multiplier;
        if scaled % scale != 0 {
            return refuse("it must be whole bytes; write it in a smaller unit".to_owned());
        }
        match scaled / scale {
            0 => refuse("it must be more than nothing, such as `10Gi`".to_owned()),
            bytes if bytes > i64::MAX as u128 => refuse("Kubernetes takes less than `8192Pi`".to_owned()),
            bytes => Ok(Self { text: text.to_owned(), bytes }),
        }
    }
}

impl Value for Quantity {
    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        read_text(node, problems)
    }
}
