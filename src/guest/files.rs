//! The scripts and units that go into user-data word for word.

use crate::names::Role::{self, Primary, Replica};
use crate::plan::Family::{self, Debian, Rpm};

/// A file of `templates/` and its place in the guest.
pub struct File {
    /// Absolute path in the guest.
    pub path: &'static str,
    /// The file, word for word.
    pub content: &'static str,
    role: Option<Role>,
    family: Option<Family>,
}

impl File {
    /// The mode as cloud-init wants it: a string. What lies in `sbin` is run, the rest is read.
    pub fn permissions(&self) -> &'static str {
        if self.path.starts_with("/usr/local/sbin/") { "0755" } else { "0644" }
    }
}

macro_rules! files {
    ($($template:literal => $path:literal for $role:expr, $family:expr;)+) => {
        [$(File {
            path: $path,
            content: include_str!(concat!("../../templates/", $template)),
            role: $role,
            family: $family,
        }),+]
    };
}

/// All files, in the order in which a reader meets them: what happens at boot, then what it calls.
static FILES: &[File] = &files! {
    "primary/virtwork-setup.service" => "/etc/systemd/system/virtwork-setup.service" for Some(Primary), None;
    "primary/virtwork-db-replication-setup.sh" => "/usr/local/sbin/virtwork-db-replication-setup.sh" for Some(Primary), None;
    "primary/database.sh" => "/usr/local/lib/virtwork/database.sh" for Some(Primary), None;
    "replica/virtwork-setup.service" => "/etc/systemd/system/virtwork-setup.service" for Some(Replica), None;
    "replica/virtwork-db-replica-setup.sh" => "/usr/local/sbin/virtwork-db-replica-setup.sh" for Some(Replica), None;
    "replica/standby.sh" => "/usr/local/lib/virtwork/standby.sh" for Some(Replica), None;
    "common/node.sh" => "/usr/local/lib/virtwork/node.sh" for None, None;
    "common/wal.sh" => "/usr/local/lib/virtwork/wal.sh" for None, None;
    "common/disks.sh" => "/usr/local/lib/virtwork/disks.sh" for None, None;
    "common/lib.sh" => "/usr/local/lib/virtwork/lib.sh" for None, None;
    "rpm/family.sh" => "/usr/local/lib/virtwork/family.sh" for None, Some(Rpm);
    "debian/family.sh" => "/usr/local/lib/virtwork/family.sh" for None, Some(Debian);
    "debian/createcluster.conf" => "/etc/postgresql-common/createcluster.d/virtwork.conf" for None, Some(Debian);
    "common/pg_hba.conf" => "/etc/virtwork/pg_hba.conf" for None, None;
    "rpm/postgresql.service.d-virtwork.conf" => "/etc/systemd/system/postgresql.service.d/virtwork.conf" for None, Some(Rpm);
    "debian/postgresql.service" => "/usr/local/share/virtwork/postgresql.service" for None, Some(Debian);
    "common/virtwork-server-start.sh" => "/usr/local/sbin/virtwork-server-start.sh" for None, None;
    "common/virtwork-ready.socket" => "/etc/systemd/system/virtwork-ready.socket" for None, None;
    "common/virtwork-ready@.service" => "/etc/systemd/system/virtwork-ready@.service" for None, None;
    "common/virtwork-ready.sh" => "/usr/local/sbin/virtwork-ready.sh" for None, None;
    "common/virtwork-database.service" => "/etc/systemd/system/virtwork-database.service" for None, None;
    "common/virtwork-database.sh" => "/usr/local/sbin/virtwork-database.sh" for None, None;
    "primary/virtwork-primary-watch.service" => "/etc/systemd/system/virtwork-primary-watch.service" for Some(Primary), None;
    "primary/virtwork-primary-watch.sh" => "/usr/local/sbin/virtwork-primary-watch.sh" for Some(Primary), None;
    "replica/virtwork-replica-watch.service" => "/etc/systemd/system/virtwork-replica-watch.service" for Some(Replica), None;
    "replica/virtwork-replica-watch.sh" => "/usr/local/sbin/virtwork-replica-watch.sh" for Some(Replica), None;
    "common/virtwork-refresh.service" => "/etc/systemd/system/virtwork-refresh.service" for None, None;
};

/// The files of a role on a family.
pub fn of(role: Role, family: Family) -> impl Iterator<Item = &'static File> {
    FILES.iter().filter(move |file| {
        file.role.is_none_or(|wanted| wanted == role) && file.family.is_none_or(|wanted| wanted == family)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_script_fits_a_block() {
        for file in super::FILES {
            assert!(crate::yaml::fits_block(file.content), "{}", file.path);
        }
    }
}
