//! The table of keys. A section declares each of its keys once, with `section!`; from the declaration come the
//! section's type, its reader and `over`, and the rows that messages, the example and docs/config.md are made of.

use super::Config;
use std::ops::RangeInclusive;

/// One key of the config, as its section declares it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key as it is written, without its section.
    pub name: &'static str,
    /// What it means, in whole sentences.
    pub about: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// What holds where the key is left out.
    pub default: Fallback,
    /// A value other than the default, as YAML on one line.
    pub example: &'static str,
    /// Keys beside it, `a: b, c: d`, without which the example is refused.
    pub with: &'static str,
    /// Keys of the top level, likewise.
    pub with_lab: &'static str,
    /// The least size that the plan lets pass, and why.
    pub least: Option<(&'static str, &'static str)>,
    /// The keys of the section that exclude it, by the names of their fields.
    pub instead_of: &'static [&'static str],
    /// What people write for it.
    pub also: &'static [&'static str],
    /// The section whose keys it has, to stand over them.
    pub over: Option<&'static str>,
    /// The kinds of the objects that it takes part in.
    pub objects: &'static [&'static str],
    /// What a running lab needs after a change of it.
    pub change: Change,
}

impl Key {
    /// A key of which nothing is said: columns that a declaration leaves out. A key that is nothing but a section says
    /// no more, because its keys say it.
    pub const UNSAID: Self = Self {
        name: "",
        about: "",
        shape: Shape::Flag,
        default: Fallback::Words(""),
        example: "",
        with: "",
        with_lab: "",
        least: None,
        instead_of: &[],
        also: &[],
        over: None,
        objects: &[],
        change: Change::Nothing,
    };
}

/// What the value of a key looks like.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number(&'static Whole),
    /// Text of some kind, named for a message: `a PostgreSQL size`.
    Text(&'static str),
    /// One of a few words.
    Words(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A mapping whose keys the user chooses.
    Entries(&'static Shape, &'static Shape),
    /// A mapping with keys of its own, and the one of them that may stand for all: `NAME` for `{name: NAME}`.
    Section(&'static [Key], Option<&'static str>),
}

/// A whole number within bounds.
#[derive(Debug)]
pub struct Whole {
    /// The least and the most.
    pub bounds: RangeInclusive<u32>,
    /// What it counts.
    pub unit: &'static str,
    /// Why the bounds are what they are.
    pub reason: &'static str,
}

/// What holds where a key is left out. The plan decides it; these are its words.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// The value that means the same when it is written out.
    Literal(&'static str),
    /// What it depends on.
    Words(&'static str),
}

/// What a running lab needs after a change of a key and `oc apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it is of files outside the cluster, or of nothing by itself.
    Nothing,
    /// Nothing more.
    Apply,
    /// Nothing more; what the bundle has no longer stays in the cluster.
    Leftovers,
    /// The same; the other nodes count with it from their next start on.
    Members,
    /// Nothing more; a VM that was stopped by hand is asked about.
    Stopped,
    /// A restart of the VMs.
    Restart,
    /// A restart; an older KubeVirt needs more.
    Instancetype,
    /// A restart, and larger disks where the need passes their default size.
    Room,
    /// A restart where the root disk is ephemeral, otherwise new VMs on the same database disks.
    Root,
    /// The same, and new Services where the first family is another one.
    Families,
    /// New disks: the spec of a DataVolume cannot change.
    Disks,
    /// New nodes: the WAL does not move to another disk.
    Nodes,
    /// Another run of the WAL player.
    Run,
    /// Another lab.
    Lab,
    /// Another lab; or, where it is written down for the lab that runs, another firmware UUID.
    Identity,
}

impl Key {
    /// The keys that exclude it, as they are written.
    pub fn rivals(&self) -> impl Iterator<Item = String> {
        self.instead_of.iter().map(|field| field.replace('_', "-"))
    }
}

impl Change {
    /// What is needed, in words, and the section of docs/changes.md that says more.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Nothing => ("nothing", ""),
            Self::Apply => ("apply", ""),
            Self::Leftovers | Self::Members => ("apply, delete what stays", "what-stays-behind"),
            Self::Stopped => ("apply", "stopping-and-starting"),
            Self::Restart => ("restart", ""),
            Self::Instancetype => ("restart", "instancetypes-and-preferences"),
            Self::Room => ("restart, perhaps larger disks", "a-datavolume-is-refused"),
            Self::Root => ("restart or new VMs", "persistent-roots"),
            Self::Families => ("restart or new VMs, perhaps new Services", "ip-families"),
            Self::Disks => ("new or larger disks", "a-datavolume-is-refused"),
            Self::Nodes => ("new nodes", "wal-disks"),
            Self::Run => ("delete the Job, apply", "a-job-is-refused"),
            Self::Lab => ("another lab", "what-stays-behind"),
            Self::Identity => ("another lab", "namespace"),
        }
    }
}

/// Declares a section: `"key" => field: Type { column: value, … }` for each key, with columns of [`Key`]; the doc
/// comment is what users read. In front of a key may stand
/// - `#[whole(bounds, "unit", "why")]`: its value is a whole number, with these bounds;
/// - `#[instead_of(field, …)]`: the keys that exclude it, and whose place it takes in `over`;
/// - `#[goes_with(field)]`: the key that it came with; `over` does not keep it below another.
///
/// `struct Name or field` may also be written as the value of that field alone. After the last key, `..field: Section` adds the
/// keys of another section to its own.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        pub struct $section:ident $(<$kind:ident>)? $(or $short:ident)? {
            $(
                $(#[doc = $about:literal])+
                $(#[whole($bounds:expr, $unit:literal, $why:literal)])?
                $(#[instead_of($($rival:ident),+)])?
                $(#[goes_with($leader:ident)])?
                $key:literal => $field:ident: $type:ty { $($column:ident: $value:expr),* $(,)? }
            )+
            $(..$more:ident: $more_type:ty)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone)]
        pub struct $section $(<$kind>)? {
            $($(#[doc = $about])+ pub $field: Field<$type>,)+
            $(
                /// The keys of another section.
                pub $more: $more_type,
            )?
        }

        impl $(<$kind>)? Default for $section $(<$kind>)? {
            fn default() -> Self {
                Self { $($field: Field::Absent,)+ $($more: <$more_type>::default())? }
            }
        }

        impl $(<$kind: Value + FromText + Clone>)? $section $(<$kind>)? {
            /// The rows of its keys.
            pub const KEYS: &'static [Key] = {
                #[allow(unused_imports)]
                use $crate::config::keys::{Change::*, Fallback::*};
                &[$(Key {
                    name: $key,
                    about: concat!($($about),+).trim_ascii(),
                    shape: section!(@shape $type $(, $bounds, $unit, $why)?),
                    $(instead_of: &[$(stringify!($rival)),+],)?
                    $($column: $value,)*
                    ..Key::UNSAID
                }),+]
            };

            /// These keys over those of `base`, key by key; lists and maps replace. Of `base` goes what excludes a key
            /// of these, and what went with it.
            pub fn over(&self, base: &Self) -> Self {
                #[allow(unused_mut)]
                let mut kept = base.clone();
                $($(if self.$field.is_present() { $(kept.$rival = Field::Absent;)+ })?)+
                $($(
                    let is_replaced = base.$leader.is_present() && !kept.$leader.is_present();
                    if self.$leader.is_present() || is_replaced {
                        kept.$field = Field::Absent;
                    }
                )?)+
                Self { $($field: self.$field.over(&kept.$field),)+ $($more: self.$more.over(&base.$more))? }
            }

            /// Reads its keys, and leaves those of others.
            pub(crate) fn take(fields: &mut Fields) -> Self {
                Self {
                    $($field: section!(@read fields $key $(, $bounds, $unit, $why)?),)+
                    $($more: <$more_type>::take(fields))?
                }
            }
        }

        impl $(<$kind: Value + FromText + Clone>)? Value for $section $(<$kind>)? {
            const SHAPE: Shape = Shape::Section(Self::KEYS, section!(@short $($short)?));

            fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
                $(if let Some($short) = short_form(node, problems) {
                    return $short.map(|$short| Self { $short, ..Self::default() });
                })?
                let mut fields = Fields::of(node, problems)?;
                let section = Self::take(&mut fields);
                section!(@finish fields, Self::KEYS $(, <$more_type>::KEYS)?);
                Some(section)
            }
        }
    };
    (@shape $type:ty) => { <$type as Value>::SHAPE };
    (@shape $type:ty, $($whole:expr),+) => { Shape::Number(section!(@whole $($whole),+)) };
    (@read $fields:ident $key:literal) => { $fields.value($key) };
    (@read $fields:ident $key:literal, $($whole:expr),+) => { $fields.integer($key, section!(@whole $($whole),+)) };
    (@whole $bounds:expr, $unit:expr, $reason:expr) => {
        const { &$crate::config::keys::Whole { bounds: $bounds, unit: $unit, reason: $reason } }
    };
    (@finish $fields:ident, $keys:expr) => { $fields.finish($keys) };
    (@finish $fields:ident, $($keys:expr),+) => { $fields.finish(&[$($keys),+].concat()) };
    (@short) => { None };
    (@short $short:ident) => { Some(stringify!($short)) };
}
pub(crate) use section;

/// The keys of the top level, from which all others are reached.
pub fn keys() -> &'static [Key] {
    Config::KEYS
}

/// A key and the section it stands in.
#[derive(Debug, Clone)]
pub struct Row {
    /// The path of the section: empty at the top level, `guest.ssh`, `vm.tolerations[]` for each item of a list.
    pub section: String,
    /// The key.
    pub key: &'static Key,
}

/// Every row of the table, each key before those below it. Sections over another have no rows of their own.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    add_rows(&mut rows, "", keys());
    rows
}

fn add_rows(rows: &mut Vec<Row>, section: &str, keys: &'static [Key]) {
    for key in keys {
        rows.push(Row { section: section.to_owned(), key });
        let path = rows[rows.len() - 1].path();
        match key.shape {
            Shape::Section(keys, _) if key.over.is_none() => add_rows(rows, &path, keys),
            Shape::List(Shape::Section(keys, _)) => add_rows(rows, &format!("{path}[]"), keys),
            _ => {}
        }
    }
}

impl Row {
    /// The path of the key: `vm.memory`.
    pub fn path(&self) -> String {
        match self.section.as_str() {
            "" => self.key.name.to_owned(),
            section => format!("{section}.{}", self.key.name),
        }
    }
}

/// The sections that have a key of that name, at the top level or right below it; the top level is empty.
pub(super) fn sections_of(name: &str) -> Vec<&'static str> {
    let sections = keys().iter().filter(|key| key.over.is_none()).filter_map(|key| match key.shape {
        Shape::Section(keys, _) => Some((key.name, keys)),
        _ => None,
    });
    let holds = |(_, keys): &(&str, &[Key])| keys.iter().any(|key| key.name == name);
    std::iter::once(("", keys())).chain(sections).filter(holds).map(|(section, _)| section).collect()
}
