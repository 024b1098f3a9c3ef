//! `archive:` where WAL and base backups go, and `restore:` what a lab begins with that is made from them.

use super::fields::{Field, Fields, Value, short_form};
use super::keys::{Key, Shape, section};
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::value::{
    ArchivePrefix, ArchiveTool, ArchiveType, BucketName, Calendar, Certificates, Moment, NfsExport,
    ObjectName, PgSize, RegionName, RestorePoint, SecretKey, StoreUrl, WalPosition,
};

section! {
    /// The keys of `archive`.
    pub struct Archive {
        /// What the archive is: a store that speaks S3, or a directory that an NFS server exports.
        "type" => kind: ArchiveType {
            default: Words("none: it has to be given"),
            example: "s3",
            with: "bucket: backups, existing-secret: archive-keys",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// What writes and reads it. `pgbackrest` is in Debian and Ubuntu, `barman-cloud` in all; of another one the archive
        /// cannot be read.
        "tool" => tool: ArchiveTool {
            default: Words("`pgbackrest` on Debian and Ubuntu, and for `posix`; `barman-cloud` otherwise"),
            example: "barman-cloud",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            with_lab: "guest: {image: \"quay.io/containerdisks/debian:13\"}",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Where the store is, over TLS.
        "endpoint" => endpoint: StoreUrl {
            default: Words("Amazon's of the region"),
            example: "https://s3.example.com:9000",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            also: &["url", "endpoint-url", "host"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The bucket, which has to be there.
        "bucket" => bucket: BucketName {
            default: Words("none: for `s3` it has to be given"),
            example: "backups",
            with: "type: s3, existing-secret: archive-keys",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// Its region.
        "region" => region: RegionName {
            default: Literal("us-east-1"),
            example: "eu-central-1",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The part of the bucket, or of the export, that is this lab's. Two sites of one database have the same.
        "prefix" => prefix: ArchivePrefix {
            default: Words("the name of the lab"),
            example: "labs/db",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            also: &["path", "stanza"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Whether the bucket stands in the path of the URL and not in its host, as most stores beside Amazon's want it.
        "path-style" => path_style: bool {
            default: Literal("false"),
            example: "true",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Certificates of the CAs that vouch for the store, in PEM.
        "ca" => ca: Certificates {
            default: Words("those that the image trusts"),
            example: "\"-----BEGIN CERTIFICATE-----\\nMAA=\\n-----END CERTIFICATE-----\\n\"",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// The Secret of the cluster with the keys of the store. Only the nodes with a database are given it, as a disk.
        "existing-secret" => existing_secret: ArchiveSecret {
            default: Words("none: for `s3` it has to be given"),
            example: "archive-keys",
            with: "type: s3, bucket: backups",
            also: &["secret"],
            objects: &["ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// The export of an NFS server, which postgres may write to.
        "nfs" => nfs: NfsExport {
            default: Words("none: for `posix` it has to be given"),
            example: "nfs.example.com:/srv/archive",
            with: "type: posix",
            with_lab: "guest: {image: \"quay.io/containerdisks/debian:13\"}",
            objects: &["Secret", "ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// Seconds after which a segment that is not full is archived, too, where something was written: what a lost primary
        /// takes with it at most.
        #[whole(10..=86_400, "seconds", "each is a segment of 16 MB before it is compressed")]
        "archive-timeout" => archive_timeout: u32 {
            default: Literal("60"),
            example: "300",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            also: &["timeout"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// WAL that may wait for an archive that is full or away. Beyond it WAL goes without having been archived, and the
        /// disk does not fill: the archive then begins anew with a base backup. At least 128MB.
        "max-pending-wal" => max_pending_wal: PgSize {
            default: Words("`postgresql.max-slot-wal-keep-size`, at least 256MB"),
            example: "8GB",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            also: &["queue-size", "max-queue"],
            objects: &["ConfigMap", "DataVolume"],
            change: Room,
        }
        /// Base backups. The first is made as soon as something is archived.
        "backup" => backup: Backup {
            with: "type: s3, bucket: backups, existing-secret: archive-keys"
        }
        /// Full backups that are kept, with the WAL that they need to be restored to any time since.
        #[whole(1..=1000, "backups", "one is what is restored; a second is there while the next is made")]
        "retention" => retention: u32 {
            default: Literal("2"),
            example: "7",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            also: &["keep"],
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// When the newest backup is restored beside the data of the last node, where there is room, and has to become
        /// consistent.
        "check-schedule" => check_schedule: Calendar {
            default: Literal("weekly"),
            example: "Sun 05:00",
            with: "type: s3, bucket: backups, existing-secret: archive-keys",
            also: &["check"],
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}

section! {
    /// `archive.existing-secret`: a name, or `{name, access-key, secret-key}`.
    pub struct ArchiveSecret or name {
        /// Name of the Secret.
        "name" => name: ObjectName {
            default: Words("none: it has to be given"),
            example: "archive-keys",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Restart,
        }
        /// Its key with the store's access key.
        "access-key" => access_key: SecretKey {
            default: Literal("access-key"),
            example: "AWS_ACCESS_KEY_ID",
            with: "name: archive-keys",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Its key with the store's secret key.
        "secret-key" => secret_key: SecretKey {
            default: Literal("secret-key"),
            example: "AWS_SECRET_ACCESS_KEY",
            with: "name: archive-keys",
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}

section! {
    /// `archive.backup`.
    pub struct Backup {
        /// When the primary makes one, as systemd's timers have it, by the clock of the guests.
        "schedule" => schedule: Calendar {
            default: Literal("daily"),
            example: "\"*-*-* 00/6:00\"",
            objects: &["ConfigMap"],
            change: Restart,
        }
        /// Of so many backups one is full; the others hold what changed since it. pgBackRest's alone.
        #[whole(1..=100, "backups", "each of the others needs the full one before it")]
        "full-every" => full_every: u32 {
            default: Literal("1"),
            example: "7",
            with: "schedule: daily",
            with_lab: "guest: {image: \"quay.io/containerdisks/debian:13\"}",
            objects: &["ConfigMap"],
            change: Restart,
        }
    }
}

section! {
    /// `restore`: from which archive, and until when.
    pub struct Restore {
        /// The prefix of the archive that the lab is made from, in the bucket or export of `archive`. This lab archives to another.
        "from" => from: ArchivePrefix {
            default: Words("none: it has to be given"),
            example: "labs/production",
            with: "latest: true",
            with_lab: "archive: {type: s3, bucket: backups, existing-secret: archive-keys}",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Lab,
        }
        /// The moment that is restored: what was committed until then.
        #[instead_of(lsn, name, latest)]
        "time" => time: Moment {
            default: Words("none"),
            example: "2026-01-31 12:00:00+00",
            with: "from: production",
            with_lab: "archive: {type: s3, bucket: backups, existing-secret: archive-keys}",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Lab,
        }
        /// The position in the WAL that is restored.
        #[instead_of(time, name, latest)]
        "lsn" => lsn: WalPosition {
            default: Words("none"),
            example: "1/4F000028",
            with: "from: production",
            with_lab: "archive: {type: s3, bucket: backups, existing-secret: archive-keys}",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Lab,
        }
        /// The restore point that is restored, which `pg_create_restore_point` made.
        #[instead_of(time, lsn, latest)]
        "name" => name: RestorePoint {
            default: Words("none"),
            example: "before-the-upgrade",
            with: "from: production",
            with_lab: "archive: {type: s3, bucket: backups, existing-secret: archive-keys}",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Lab,
        }
        /// Whether all is restored that the archive has.
        #[instead_of(time, lsn, name)]
        "latest" => latest: bool {
            default: Words("`false`"),
            example: "true",
            with: "from: production",
            with_lab: "archive: {type: s3, bucket: backups, existing-secret: archive-keys}",
            objects: &["ConfigMap", "VirtualMachine"],
            change: Lab,
        }
    }
}
