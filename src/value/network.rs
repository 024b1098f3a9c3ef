//! References to what is elsewhere: images, proxies, addresses, keys.

use super::names::{label_fault, subdomain_fault};
use super::{FromText, IpFamily, Refusal, Value, checked_text, named, read_text, shortened};
use crate::diagnostic::{Code, Problems};
use crate::node::Node;
use crate::yaml::needs_escape;
use std::net::{IpAddr, Ipv4Addr};

checked_text!(
    /// A reference to a container image: `[registry[:port]/]path[:tag][@digest]`.
    ImageReference,
    "an image reference",
    "quay.io/containerdisks/fedora:44",
    |text| {
        let fault = image_fault(text);
        named(text, Code::NotAnImageReference, "an image reference", fault, "write `registry/path:tag`, such as `quay.io/containerdisks/fedora:44`")
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
        const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];
        let (algorithm, hex) = digest.split_once(':').unwrap_or((digest, ""));
        if !ALGORITHMS.contains(&(algorithm, hex.len()))
            || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Some(
                "the digest is not `sha256:` and 64, or `sha512:` and 128, hexadecimal digits".to_owned(),
            );
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
        let (host, port) = host_and_port(first);
        let label_fine = |label: &str| label_fault(&label.to_ascii_lowercase(), 63).is_none();
        let host_fine = ipv6_in_brackets(host).unwrap_or_else(|| host.split('.').all(label_fine));
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
    let wrong = components.iter().find(|component| !component_fine(component))?;
    Some(format!("`{}` is not a part of a path", wrong.escape_debug()))
}

/// A host and its port; `1` stands for a port that is not said.
fn host_and_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, port),
        _ => (authority, "1"),
    }
}

/// Whether a host in brackets is an IPv6 address; `None`: it is in no brackets.
fn ipv6_in_brackets(host: &str) -> Option<bool> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'))?;
    Some(address.parse::<std::net::Ipv6Addr>().is_ok())
}

checked_text!(
    /// A public key as `authorized_keys` holds it, without options.
    SshKey,
    "an SSH public key",
    "ssh-ed25519 AAAA… user@host",
    |text| {
        let help = "paste one line of a `.pub` file, such as `ssh-ed25519 AAAA… user@host`";
        if text.contains("PRIVATE KEY") {
            return Err(Refusal::new(Code::SecretInConfig, "this is a private key, which nobody else should ever see", help).of_secret());
        }
        named(text, Code::NotAnSshKey, "an SSH public key", ssh_key_fault(text), help)
    }
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
    if text.chars().any(needs_escape) {
        return Some("it has more than one line, or a control or invisible character".to_owned());
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
                return Err(Refusal::new(
                    Code::SecretInConfig,
                    "the proxy URL holds a user or password, which would stand readable in the bundle",
                    "write `http://host:port`; let the proxy admit the guests by their address",
                )
                .of_secret());
            }
            Some(rest) => {
                let authority = rest.strip_suffix('/').unwrap_or(rest);
                let (host, port) = host_and_port(authority);
                let host_fine = ipv6_in_brackets(host)
                    .unwrap_or_else(|| subdomain_fault(&host.to_ascii_lowercase()).is_none());
                (!host_fine || port.parse::<u16>().map_or(true, |port| port == 0))
                    .then(|| "it is not `http://host:port`".to_owned())
            }
        };
        named(text, Code::NotAProxyUrl, "a proxy URL", fault, "write `http://host:port`")
    }
);

checked_text!(
    /// The address of a host, without brackets and zone.
    IpAddress,
    "an IP address",
    "fd00:10:96::a",
    |text| named(text, Code::NotAnIpAddress, "an IP address", address_fault(text), "write it like `10.96.0.10` or `fd00:10:96::a`")
);

checked_text!(
    /// What a certificate may say of a host: a DNS name, of which the first part may be `*`, or an IP address.
    HostName,
    "a DNS name or an IP address",
    "db.example.com",
    |text| {
        let fault = if is_meant_as_address(text) { address_fault(text) } else { name_fault(text.strip_prefix("*.").unwrap_or(text)) };
        named(text, Code::NotAHostName, "a DNS name or an IP address", fault, "write it like `db.example.com` or `192.0.2.10`")
    }
);

impl HostName {
    /// Whether it is an address.
    pub fn is_address(&self) -> bool {
        self.0.parse::<IpAddr>().is_ok()
    }
}

fn address_fault(text: &str) -> Option<String> {
    match text.parse() {
        Err(_) if text.contains(['[', ']', '%', '/']) => Some("it has more than an address".to_owned()),
        Err(_) => Some("it is no address".to_owned()),
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Some("it is an IPv4 address written as IPv6".to_owned())
        }
        Ok(address)
            if address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address == IpAddr::V4(Ipv4Addr::BROADCAST) =>
        {
            Some("no other host has it".to_owned())
        }
        Ok(_) => None,
    }
}

impl IpAddress {
    /// Its family.
    pub fn family(&self) -> IpFamily {
        family_of(&self.0)
    }
}

impl Cidr {
    /// Whether some address is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let (one, other) = (parts(self.as_str()), parts(other.as_str()));
        let (Some((one, first)), Some((other, second))) = (one, other) else { return false };
        let length = first.min(second);
        match (one, other) {
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                (u32::from(one) ^ u32::from(other)).leading_zeros() >= length
            }
            (IpAddr::V6(one), IpAddr::V6(other)) => {
                (u128::from(one) ^ u128::from(other)).leading_zeros() >= length
            }
            _ => false,
        }
    }

    /// Its family.
    pub fn family(&self) -> IpFamily {
        family_of(&self.0)
    }
}

/// Only IPv6 addresses have colons.
fn family_of(address: &str) -> IpFamily {
    if address.contains(':') { IpFamily::Ipv6 } else { IpFamily::Ipv4 }
}

checked_text!(
    /// A host and its port, as a client dials them.
    Endpoint,
    "an address with its port",
    "klio-server:52000",
    |text| {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let is_port = |port: &str| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
        let fault = if text.contains("://") {
            Some("it begins with a scheme".to_owned())
        } else if !ipv6_in_brackets(host).unwrap_or_else(|| subdomain_fault(host).is_none()) {
            Some(format!("`{}` is not a host", shortened(host)))
        } else {
            match port {
                None => {
                    let help = format!("add the port; Klio's is 52000: write `{}:52000`", shortened(text));
                    return named(text, Code::NotAnAddress, "an address", Some("the port is missing".to_owned()), &help);
                }
                Some(port) => (!is_port(port)).then(|| format!("`{}` is not a port", shortened(port))),
            }
        };
        named(text, Code::NotAnAddress, "an address", fault, "write a host and its port, such as `klio-server:52000`")
    }
);

checked_text!(
    /// A host, by its name in DNS or its address.
    Host,
    "a host",
    "db.example.com",
    |text| {
        if text.contains('@') {
            return Err(Refusal::new(
                Code::SecretInConfig,
                "this holds a user or a password beside the host",
                "write the host alone, such as `db.example.com`; the passwords are those of `credentials`",
            )
            .of_secret());
        }
        let fault = if text.contains("://") {
            Some("it begins with a scheme".to_owned())
        } else if text.rsplit_once(':').is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok()) {
            Some("the port has a key of its own".to_owned())
        } else {
            host_fault(text)
        };
        named(text, Code::NotAHost, "a host", fault, "write its name in DNS, in lower case, or its address without brackets, such as `db.example.com`")
    }
);

impl Host {
    /// The family of an address; none of a name.
    pub fn family(&self) -> Option<IpFamily> {
        family_of_address(&self.0)
    }
}

/// The family of an address; none of a name.
pub(super) fn family_of_address(host: &str) -> Option<IpFamily> {
    host.parse::<IpAddr>().is_ok().then(|| family_of(host))
}

/// Whether it is an address, or one with a slip of the pen: no name in DNS ends with digits alone.
fn is_meant_as_address(text: &str) -> bool {
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    text.contains(':') || text.rsplit('.').next().is_some_and(is_number)
}

fn name_fault(text: &str) -> Option<String> {
    subdomain_fault(text).or_else(|| text.split('.').find_map(|label| label_fault(label, 63)))
}

/// What a client connects to that is on another host.
pub(super) fn host_fault(text: &str) -> Option<String> {
    match text {
        "localhost" => Some("no other host has it".to_owned()),
        text if is_meant_as_address(text) => address_fault(text),
        text => name_fault(text),
    }
}

checked_text!(
    /// A block of IP addresses; the bits after the prefix are zero.
    Cidr,
    "a CIDR",
    "192.0.2.0/24",
    |text| named(text, Code::NotACidr, "a CIDR", cidr_fault(text), "write `address/prefix`, such as `192.0.2.0/24` or `2001:db8::/32`")
);

/// The address and the length of a block.
fn parts(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

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
