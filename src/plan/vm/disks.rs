//! The database disks: their sizes and access modes.

use crate::config::fields::{Field, Involved, Spanned};
use crate::config::vm::Vm;
use crate::diagnostic::{Code, Diagnostic, Note, Problems};
use crate::plan::needs::Needs;
use crate::plan::sizing;
use crate::value::{AccessMode, Quantity};

impl Needs<'_> {
    /// The keys behind the need for WAL.
    fn wal_keys(&self) -> [(&dyn Involved, &'static str); 4] {
        let slots: (&dyn Involved, _) = match self.replicas_set_cap {
            true => (&self.config.replica_count, "for the WAL of their slots"),
            false => (&self.postgresql.max_slot_wal_keep_size, "for the WAL of slots"),
        };
        [
            (&self.config.wal_keep_size, "for this WAL"),
            slots,
            (&self.max_pending_wal, "for what waits for the archive"),
            (&self.settings, "with these settings"),
        ]
    }

    pub(super) fn data_disk(&self, vm: &Vm, problems: &mut Problems) -> Quantity {
        if let Some(instead) = self.instead {
            let (usual, holds) = (Quantity::gib(instead.disk), format!("{} needs", instead.name));
            return disk(&vm.data_disk_size, self.data_and_wal, usual, &holds, &[], problems);
        }
        let tables = (&self.config.pgbench_scale as &dyn Involved, "for these tables");
        if vm.wal_disk_size.is_present() {
            disk(
                &vm.data_disk_size,
                self.data_only,
                sizing::round_up(self.data_only),
                "the tables need",
                &[tables],
                problems,
            )
        } else {
            let [keep, slots, pending, settings] = self.wal_keys();
            let holds = "the tables and the retained WAL need";
            let keys = [tables, keep, slots, pending, settings];
            disk(
                &vm.data_disk_size,
                self.data_and_wal,
                sizing::round_up(self.data_and_wal),
                holds,
                &keys,
                problems,
            )
        }
    }

    pub(super) fn wal_disk(&self, vm: &Vm, problems: &mut Problems) -> Option<Quantity> {
        let need = self.wal_only;
        vm.wal_disk_size.is_present().then(|| {
            disk(
                &vm.wal_disk_size,
                need,
                sizing::round_up(need),
                "the retained WAL needs",
                &self.wal_keys(),
                problems,
            )
        })
    }
}

/// The size of a disk, checked against `need` bytes, or the usual one.
fn disk(
    size: &Field<Quantity>,
    need: u128,
    usual: Quantity,
    holds: &str,
    because: &[(&dyn Involved, &str)],
    problems: &mut Problems,
) -> Quantity {
    if let Some(given) = size.spanned()
        && given.value.bytes() < need
    {
        let least = sizing::in_gib(need);
        let keys: Vec<_> =
            std::iter::once((size as &dyn Involved, "too small")).chain(because.iter().copied()).collect();
        problems.contradiction(
            Code::DiskTooSmall,
            &keys,
            format!("`{}` {} is too small: {holds} {least}", given.path, given.value),
            // CDI refuses another size of a disk that is there (docs/changes.md)
            format!("raise it to at least `{least}`, or leave it out; where the disk is there already, make a lab of another name"),
        );
    }
    size.or(usual)
}

pub(super) fn access_modes(
    field: &Field<Vec<Spanned<AccessMode>>>,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Vec<AccessMode> {
    let modes = field.or_default();
    let twice = modes.iter().enumerate().find_map(|(position, mode)| {
        Some((mode, modes[..position].iter().find(|earlier| earlier.value == mode.value)?))
    });
    if let Some((mode, first)) = twice {
        let message = format!("`{}` is listed twice", mode.value.as_str());
        problems.push(
            Diagnostic::new(Code::ConflictingAccessModes, mode.span.clone(), message)
                .mark(first.span.clone(), "first listed here")
                .help("remove one of the two"),
        );
    }
    if let (Some(spanned), 0) = (field.spanned(), modes.len()) {
        problems.push(
            Diagnostic::new(Code::NoValue, spanned.span.clone(), format!("`{}` is empty", spanned.path))
                .help("leave the key out to get what the storage profile says"),
        );
    }
    if let Some(alone) = modes.iter().find(|mode| mode.value == AccessMode::ReadWriteOncePod) {
        if let Some(other) = modes.iter().find(|mode| mode.value != alone.value) {
            problems.contradiction(
                Code::ConflictingAccessModes,
                &[(alone, "one pod alone"), (other, "and more")],
                "`ReadWriteOncePod` excludes other access modes",
                "keep one of the two",
            );
        }
        let text = "`ReadWriteOncePod` needs CDI 1.58 or newer, and excludes live migration";
        notes.push(Note::new(Code::NeedsNewerCdi, text));
    }
    modes.into_iter().map(|mode| mode.value).collect()
}
