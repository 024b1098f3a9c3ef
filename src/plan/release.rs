//! What the name of an image says: its system, its release, and the PostgreSQL that comes with that.

use crate::config::guest::Guest;
use crate::value::{FromText, ImageReference, MAJORS, Majors, Os, Packages};

/// The image where the config names none.
pub(super) const DEFAULT_IMAGE: &str = "quay.io/containerdisks/fedora:44";

/// Releases by the tags of their images, with the major of their unversioned PostgreSQL packages.
const RELEASES: [(Os, &[&str], u8); 13] = [
    (Os::Fedora, &["40", "41", "42"], 16),
    (Os::Fedora, &["43", "44"], 18),
    (Os::CentosStream, &["9"], 13),
    (Os::CentosStream, &["10"], 16),
    (Os::Rhel, &["9"], 13),
    (Os::Rhel, &["10"], 16),
    (Os::Almalinux, &["9"], 13),
    (Os::Almalinux, &["10"], 16),
    (Os::Debian, &["11", "bullseye"], 13),
    (Os::Debian, &["12", "bookworm"], 15),
    (Os::Debian, &["13", "trixie"], 17),
    (Os::Ubuntu, &["22.04", "jammy"], 14),
    (Os::Ubuntu, &["24.04", "noble"], 16),
];

/// The system of the guest, as far as the config says it.
pub fn os(guest: &Guest) -> Option<Os> {
    let image = guest.image.get().map_or(DEFAULT_IMAGE, ImageReference::as_str);
    match guest.os.get() {
        Some(os) => Some(*os),
        None if guest.os.is_present() || guest.data_source.is_present() => None,
        None => infer_os(image),
    }
}

/// The release of the guest, where its image is a published one and installs its own packages.
pub fn release(guest: &Guest) -> Option<(Os, &str)> {
    let chosen = guest.data_source.is_present() || guest.packages.get() == Some(&Packages::Preinstalled);
    let image = guest.image.get().map_or(DEFAULT_IMAGE, ImageReference::as_str);
    release_of(image).filter(|(os, _)| !chosen && guest.os.get().is_none_or(|said| said == os))
}

/// The majors that the guest can have: one where a distribution's own image installs its own packages, else all.
pub fn majors(guest: &Guest) -> Majors {
    release(guest)
        .and_then(|(os, release)| RELEASES.iter().find(|(of, tags, _)| *of == os && tags.contains(&release)))
        .map_or(MAJORS, |(_, _, major)| *major..=*major)
}

/// The release that an image is of. Only the published ones (`…/containerdisks/debian:12`, `…/rhel-guest-image:9.6`) and
/// their mirrors say it in the tag; the tag of somebody's own image is a version of that image.
pub fn release_of(image: &str) -> Option<(Os, &str)> {
    let (path, tag) = path_and_tag(image);
    let is_published = matches!(path[..], [.., "containerdisks", _] | [.., "rhel-guest-image"]);
    let (os, tag) = (infer_os(image)?, tag.filter(|_| is_published)?);
    let release = tag.split('-').next().unwrap_or(tag);
    // minor releases of the others keep their PostgreSQL
    Some((os, if os == Os::Ubuntu { release } else { release.split('.').next().unwrap_or(release) }))
}

/// The components of an image's path and its tag, without the digest.
fn path_and_tag(image: &str) -> (Vec<&str>, Option<&str>) {
    let named = image.split('@').next().unwrap_or(image);
    let mut components: Vec<&str> = named.split('/').collect();
    let last = components.pop().unwrap_or(named);
    let (name, tag) = last.split_once(':').map_or((last, None), |(name, tag)| (name, Some(tag)));
    components.push(name);
    (components, tag)
}

/// The system that an image is named after: `…/fedora:44`, and Red Hat's `…/rhel9/rhel-guest-image`.
/// Not by prefix: `fedora-coreos` is no Fedora with cloud-init and packages.
pub fn infer_os(image: &str) -> Option<Os> {
    match path_and_tag(image).0.last().copied().unwrap_or_default() {
        "rhel-guest-image" => Some(Os::Rhel),
        name => Os::from_text(name).ok(),
    }
}
