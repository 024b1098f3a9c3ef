//! The table of keys says what is true: each row is tried, and docs/config.md is made of it.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod pages;

use pages::assert_page;
use serde_yaml::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use virtwork_gen::config::keys::{Change, Fallback, Key, Row, Shape, keys, rows};
use virtwork_gen::document::Manifest;
use virtwork_gen::plan::CredentialsPlan;
use virtwork_gen::{Bundle, Passwords, Plan, Report, Source};

/// The text of each object of a bundle, by kind and name.
type Objects = BTreeMap<(String, String), String>;

fn bundle(config: &str) -> Result<Bundle, String> {
    let refused = |report: Report| format!("{config}\n{}", report.render(false));
    let source = Source::new("gen.yaml", config);
    let plan = Plan::new(&source).map_err(refused)?;
    // each secrets file has passwords of its own
    let passwords = match &plan.credentials {
        CredentialsPlan::File(path) => {
            let passwords = Passwords::new(&format!("replicate {path}"), &format!("measure {path}"));
            passwords.and_then(|passwords| passwords.with_ca_seed("seed of all the keys")).ok()
        }
        CredentialsPlan::ExistingSecret { .. } => None,
    };
    Bundle::new(plan, passwords.as_ref()).map_err(refused)
}

fn objects(config: &str) -> Result<Objects, String> {
    let bundle = bundle(config)?;
    let mut text = String::new();
    let rendered = |document: Manifest| {
        document.render(&mut text);
        ((document.kind.to_owned(), document.name.clone()), text.clone())
    };
    Ok(bundle.documents().map(rendered).collect())
}

/// The rows as they can be written: those of `vm` below `primary` and `replica`, too. A witness has defaults of its own.
fn everywhere() -> Vec<Row> {
    let mut all = rows();
    for over in
        keys().iter().filter(|key| key.name != "witness").filter_map(|key| Some((key.name, key.over?)))
    {
        let (section, base) = over;
        all.extend(
            rows()
                .into_iter()
                .filter(|row| row.section.split(['.', '[']).next() == Some(base))
                .map(|row| Row { section: row.section.replacen(base, section, 1), ..row }),
        );
    }
    all
}

/// The rows that say something; of a section its keys do.
fn leaves() -> Vec<Row> {
    everywhere().into_iter().filter(|row| !row.key.example.is_empty()).collect()
}

/// A config with some keys of a section, and with what the section needs beside it.
fn config(section: &str, entries: &[String]) -> String {
    let entries: Vec<_> = entries.iter().filter(|entry| !entry.is_empty()).map(String::as_str).collect();
    let inner = format!("{{{}}}", entries.join(", "));
    if section.is_empty() {
        return inner;
    }
    let (path, inner) = match section.strip_suffix("[]") {
        Some(path) => (path, format!("[{inner}]")),
        None => (section, inner),
    };
    let row = everywhere().into_iter().find(|row| row.path() == path).unwrap();
    if entries.is_empty() {
        return in_lab(&row, config(&row.section, &[row.key.with.to_owned()]));
    }
    given(&row, &inner)
}

/// A config with a value for a key and with what stands beside it.
fn given(row: &Row, value: &str) -> String {
    let entries = [row.key.with.to_owned(), format!("{}: {value}", row.key.name)];
    in_lab(row, config(&row.section, &entries))
}

/// The config with what the row needs at the top level.
fn in_lab(row: &Row, config: String) -> String {
    match (row.key.with_lab, config.strip_prefix('{')) {
        ("", _) => config,
        (lab, Some("}")) => format!("{{{lab}}}"),
        (lab, rest) => format!("{{{lab}, {}", rest.unwrap()),
    }
}

/// The objects without the key.
fn without(row: &Row) -> Objects {
    // what the example needs may need the key in turn
    let config = in_lab(row, config(&row.section, &[row.key.with.to_owned()]));
    objects(&config).unwrap_or_else(|_| objects("").unwrap())
}

/// The objects that are not the same in both.
fn changed<'o>(before: &'o Objects, after: &'o Objects) -> BTreeSet<&'o (String, String)> {
    before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect()
}

/// Whether an object that is in both has something else at a place.
fn differ_at(before: &Objects, after: &Objects, kind: &str, place: &[&str]) -> bool {
    let at = |object: &str| {
        let object: Value = serde_yaml::from_str(object).unwrap();
        place.iter().fold(object, |value, key| value[*key].clone())
    };
    changed(before, after).into_iter().filter(|name| name.0 == kind).any(
        |name| matches!((before.get(name), after.get(name)), (Some(old), Some(new)) if at(old) != at(new)),
    )
}

/// Whether its example is all that it can be, the default.
fn has_one_value(key: &Key) -> bool {
    matches!(key.default, Fallback::Literal(literal) if literal == key.example)
}

#[test]
fn every_row_is_complete() {
    for row in rows() {
        let (path, key) = (row.path(), row.key);
        assert!(
            key.about.starts_with(char::is_uppercase) && key.about.ends_with('.'),
            "{path}: {}",
            key.about
        );
        let is_section = matches!(key.shape, Shape::Section(_, None));
        assert_eq!(is_section, matches!(key.default, Fallback::Words("")), "{path}: no default");
        assert!(!key.example.is_empty() || is_section, "{path}: no example");
        assert_eq!(
            key.objects.is_empty(),
            key.change == Change::Nothing || is_section || has_one_value(key),
            "{path}"
        );
    }
}

#[test]
fn the_example_of_each_row_is_accepted_and_changes_the_objects_it_names() {
    for row in leaves().iter().filter(|row| row.key.over.is_none()) {
        let (path, key) = (row.path(), row.key);
        let (before, after) = (without(row), objects(&given(row, key.example)).unwrap());
        let kinds: BTreeSet<_> =
            changed(&before, &after).into_iter().map(|(kind, _)| kind.as_str()).collect();
        let named: BTreeSet<_> = key.objects.iter().copied().collect();
        assert!(kinds.is_subset(&named), "`{path}` changes {kinds:?}, the row says {named:?}");
        assert_eq!(
            kinds.is_empty(),
            named.is_empty(),
            "`{path}`: its example changes {kinds:?}, the row says {named:?}"
        );
    }
}

#[test]
fn what_a_change_needs_fits_what_it_changes() {
    for row in leaves().iter().filter(|row| row.key.over.is_none()) {
        let (path, change) = (row.path(), row.key.change);
        let (before, after) = (without(row), objects(&given(row, row.key.example)).unwrap());
        // CDI refuses every change of the spec of a DataVolume
        let disks = differ_at(&before, &after, "DataVolume", &["spec"]);
        let needs_disks = matches!(change, Change::Disks | Change::Room | Change::Nodes | Change::Lab);
        assert!(!disks || needs_disks, "`{path}` changes disks that are there, the row says {change:?}");
        // KubeVirt leaves the root disk of a VM that is there alone
        let roots = differ_at(&before, &after, "VirtualMachine", &["spec", "dataVolumeTemplates"]);
        assert!(!roots || matches!(change, Change::Root | Change::Lab), "`{path}`: root disks, {change:?}");
        // a guest reads all three when it starts
        let guests = differ_at(&before, &after, "VirtualMachine", &["spec", "template"])
            || differ_at(&before, &after, "ConfigMap", &["data"])
            || ["stringData", "data"].iter().any(|part| differ_at(&before, &after, "Secret", &[*part]));
        let at_once = matches!(change, Change::Nothing | Change::Apply | Change::Leftovers | Change::Stopped);
        assert!(
            !(guests && at_once),
            "`{path}` changes what guests read at their start, the row says {change:?}"
        );
        if change == Change::Restart && !has_one_value(row.key) {
            assert!(guests, "`{path}` changes nothing that guests read at their start");
        }
        if matches!(change, Change::Disks | Change::Room) {
            assert!(disks, "`{path}`: no disk changes, the row says {change:?}");
        }
    }
}

#[test]
fn a_default_means_the_same_when_it_is_written_out() {
    for row in leaves() {
        if let Fallback::Literal(literal) = row.key.default {
            let written = objects(&given(&row, literal)).unwrap();
            assert!(
                changed(&without(&row), &written).is_empty(),
                "`{}: {literal}` is not the default",
                row.path()
            );
        }
    }
}

#[test]
fn bounds_are_where_the_table_says() {
    let mut numbers = 0;
    for row in leaves() {
        let path = row.path();
        if let Shape::Number(whole) = row.key.shape {
            numbers += 1;
            let (least, most) = (i64::from(*whole.bounds.start()), i64::from(*whole.bounds.end()));
            for number in [least, most] {
                bundle(&given(&row, &number.to_string())).unwrap();
            }
            for number in [least - 1, most + 1] {
                let refused = bundle(&given(&row, &number.to_string())).unwrap_err();
                let shown = path.replace("[]", "[0]");
                assert!(
                    refused.contains(&format!("`{shown}` must be between {least} and {most}")),
                    "{refused}"
                );
                assert!(refused.contains(whole.reason), "{refused}");
            }
        }
        if let Some((least, reason)) = row.key.least {
            let bytes = least.strip_suffix("Gi").unwrap().parse::<u64>().unwrap() << 30;
            bundle(&given(&row, &format!("\"{bytes}\""))).unwrap();
            let refused = bundle(&given(&row, &format!("\"{}\"", bytes - 1))).unwrap_err();
            assert!(refused.contains(&format!("at least `{least}`")), "{path}: {reason}: {refused}");
        }
    }
    assert!(numbers > 10, "{numbers}");
}

/// Whoever adds a key decides whether it says something of a bundle without the database.
#[test]
fn without_the_database_its_keys_are_refused_once() {
    let others = ["name", "namespace", "labels", "annotations", "database", "kustomization", "wal-player"];
    for key in keys().iter().filter(|key| !others.contains(&key.name)) {
        let example = if matches!(key.shape, Shape::Section(..)) { "{}" } else { key.example };
        let refused = bundle(&format!("database: false\nwal-player: klio\n{}: {example}", key.name));
        let message = refused.err().unwrap_or_else(|| panic!("`{}` has no effect", key.name));
        assert_eq!(message.matches("error[").count(), 1, "{message}");
        assert!(message.contains("error[key-without-effect]: the key is about the database"), "{message}");
    }
}

#[test]
fn keys_that_exclude_each_other_are_refused_together() {
    for row in everywhere() {
        for rival in row.key.rivals() {
            let siblings = everywhere();
            let other = siblings.iter().find(|other| other.section == row.section && other.key.name == rival);
            let other = other.unwrap_or_else(|| panic!("`{}`: no key `{rival}` beside it", row.path()));
            let pair = |row: &Row| format!("{}: {}", row.key.name, row.key.example);
            let both = config(&row.section, &[row.key.with.to_owned(), pair(&row), pair(other)]);
            bundle(&both).expect_err(&both);
            assert!(
                other.key.rivals().any(|name| name == row.key.name),
                "`{}` does not exclude back",
                other.path()
            );
        }
    }
}

/// `primary` and `replica` stand over `vm`, key by key.
#[test]
fn a_key_of_a_role_takes_the_place_of_what_vm_says() {
    let of_role = |objects: Objects, role: &str| -> Objects {
        objects
            .into_iter()
            .filter(|((kind, name), _)| {
                ["DataVolume", "VirtualMachine"].contains(&kind.as_str())
                    && name.contains(&format!("-{role}-"))
            })
            .collect()
    };
    let keys: Vec<_> = rows().into_iter().filter(|row| row.section == "vm").collect();
    for row in &keys {
        let entry = |row: &Row| format!("{}: {}", row.key.name, row.key.example);
        for role in ["primary", "replica"] {
            let of_vm = of_role(objects(&format!("vm: {{{}}}", entry(row))).unwrap(), role);
            let own = objects(&format!("{role}: {{{}}}", entry(row))).unwrap();
            assert_eq!(of_role(own, role), of_vm, "{}", row.path());
        }
        // what excludes it goes, and nothing else
        for rival in row.key.rivals() {
            let below = keys.iter().find(|row| row.key.name == rival).unwrap();
            let over = format!("vm: {{{}}}\nprimary: {{{}}}", entry(below), entry(row));
            let alone = format!("primary: {{{}}}", entry(row));
            assert_eq!(
                of_role(objects(&over).unwrap(), "primary"),
                of_role(objects(&alone).unwrap(), "primary")
            );
        }
    }
}

/// A preference goes with the instancetype that it came with, and stays where no instancetype is replaced.
#[test]
fn a_preference_goes_with_its_instancetype() {
    let preference = |config: &str| {
        let objects = objects(config).unwrap();
        let is_primary =
            |name: &&(String, String)| name.0 == "VirtualMachine" && name.1.contains("-primary-");
        let vm: Value = serde_yaml::from_str(&objects[objects.keys().find(is_primary).unwrap()]).unwrap();
        vm["spec"]["preference"]["name"].as_str().map(str::to_owned)
    };
    let both = "vm: {instancetype: u1.medium, preference: fedora}\nprimary: ";
    assert_eq!(preference(&format!("{both}{{storage-class: fast}}")).as_deref(), Some("fedora"));
    assert_eq!(preference(&format!("{both}{{memory: 8Gi}}")), None);
    assert_eq!(preference(&format!("{both}{{instancetype: u1.large}}")), None);
    assert_eq!(
        preference(&format!("{both}{{instancetype: u1.large, preference: rhel.9}}")).as_deref(),
        Some("rhel.9")
    );
    assert_eq!(preference("vm: {preference: fedora}\nprimary: {memory: 8Gi}").as_deref(), Some("fedora"));
    assert_eq!(preference("vm: {preference: fedora}\nprimary: {instancetype: u1.large}"), None);
}

#[test]
fn what_people_write_for_a_key_leads_to_it() {
    for row in everywhere() {
        for slip in row.key.also {
            let refused = bundle(&config(&row.section, &[format!("{slip}: 1")])).unwrap_err();
            assert!(refused.contains(&format!("did you mean `{}`?", row.key.name)), "{refused}");
        }
    }
}

#[test]
fn a_setting_outside_of_the_parameters_is_sent_there_only_where_they_take_it() {
    for section in ["", "postgresql"] {
        let help = |setting: &str| bundle(&config(section, &[format!("{setting}: 1")])).unwrap_err();
        let sent = help("work_mem");
        assert!(
            sent.contains("a setting of PostgreSQL is a key of `postgresql.parameters`: `work_mem`"),
            "{sent}"
        );
        for (setting, reason) in
            [("port", "expect 5432"), ("max-wal-senders", "derives it from `replica-count`")]
        {
            let refused = help(setting);
            assert!(refused.contains("help: remove it: ") && refused.contains(reason), "{refused}");
        }
    }
}

// docs/config.md

const INTRODUCTION: &str = "\
# The config

Every key of `gen.yaml`. All are optional; what is left out has the default. `gen --print example` prints them as a
file to start from. This page is made of the table of keys in `src/config`, which the tests hold to what gen does.

- **Sizes** come in two notations, both in powers of 1024. A *PostgreSQL size* is `256MB`, `2GB`, `1TB`; a *Kubernetes
  quantity* is `512Mi`, `10Gi`, `1Ti`.
- **Change** is what a lab that runs needs after the new bundle: *apply* (`oc apply` is enough), *restart* (of each VM
  it is about, after apply), or more; the links say how. [changes.md](changes.md) has the whole story.
- **Objects** are the kinds of the bundle that the key takes part in: what a reviewer sees change.
";

fn document() -> String {
    let mut out = INTRODUCTION.to_owned();
    let (plain, sections): (Vec<&Key>, Vec<&Key>) =
        keys().iter().partition(|key| !matches!(key.shape, Shape::Section(..)));
    out.push_str("\n## Top level\n\n");
    table(&mut out, plain);
    for key in sections {
        section(&mut out, key, "");
    }
    out
}

/// The section of a key, and those of the keys in it.
fn section(out: &mut String, key: &Key, parent: &str) {
    let (keys, is_list) = match key.shape {
        Shape::Section(keys, _) => (keys, ""),
        Shape::List(Shape::Section(keys, _)) => (*keys, "[]"),
        _ => return,
    };
    let path = format!("{parent}{}{is_list}", key.name);
    let level = if parent.is_empty() { "##" } else { "###" };
    write!(out, "\n{level} `{path}`\n\n{}\n", key.about).unwrap();
    if key.over.is_some() {
        write!(out, "\n```yaml\n{}: {}\n```\n", key.name, key.example).unwrap();
        return;
    }
    out.push('\n');
    table(out, keys.iter().collect());
    for key in keys {
        section(out, key, &format!("{path}."));
    }
}

fn table(out: &mut String, keys: Vec<&Key>) {
    out.push_str("| Key | Meaning | Value | Default | Objects | Change |\n|---|---|---|---|---|---|\n");
    for key in keys {
        let (default, example) = (default(key), example(key));
        let is_section = matches!(key.shape, Shape::Section(_, None));
        let value =
            if is_section { "a mapping, see below".to_owned() } else { format!("{}{example}", value(key)) };
        let row = [
            format!("`{}`", key.name),
            meaning(key),
            value,
            default,
            key.objects.join(", "),
            if is_section { String::new() } else { change(key.change) },
        ];
        writeln!(out, "| {} |", row.join(" | ")).unwrap();
    }
}

fn meaning(key: &Key) -> String {
    let rivals: Vec<_> = key.rivals().map(|rival| format!("`{rival}`")).collect();
    let mut text = key.about.to_owned();
    if !rivals.is_empty() {
        write!(text, " Not together with {}.", rivals.join(" or ")).unwrap();
    }
    text
}

fn example(key: &Key) -> String {
    match key.shape {
        Shape::Flag | Shape::Words(_) | Shape::Section(_, None) => String::new(),
        _ => {
            // the shape of a key says no more than its beginning
            let short = match key.example.split_once(" AAAA") {
                Some((kind, _)) => format!("{kind} AAAA…]"),
                None => key.example.to_owned(),
            };
            format!(", such as `{short}`")
        }
    }
}

fn value(key: &Key) -> String {
    let least = key.least.map(|(least, reason)| format!(", at least `{least}` ({reason})"));
    format!("{}{}", shape(&key.shape), least.unwrap_or_default())
}

fn shape(shape: &Shape) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match shape {
        Shape::Flag => "`true`, `false`".to_owned(),
        Shape::Number(whole) => format!("{} to {} {}", whole.bounds.start(), whole.bounds.end(), whole.unit),
        Shape::Text(what) => (*what).to_owned(),
        Shape::Words(choices) => words(choices),
        Shape::List(Shape::Section(..)) => "a list of mappings, see below".to_owned(),
        Shape::List(Shape::Text(what)) => {
            format!("a list, each item {what}")
        }
        Shape::List(item) => format!("a list of {}", self::shape(item)),
        Shape::Entries(key, value) => format!("a mapping of {} to {}", self::shape(key), self::shape(value)),
        Shape::Section(_, Some(name)) => format!("its `{name}`, or a mapping, see below"),
        Shape::Section(_, None) => "a mapping, see below".to_owned(),
    }
}

fn default(key: &Key) -> String {
    match key.default {
        Fallback::Literal(literal) => format!("`{literal}`"),
        Fallback::Words(words) => words.to_owned(),
    }
}

fn change(change: Change) -> String {
    match change.words() {
        (words, "") => words.to_owned(),
        (words, place) => format!("[{words}](changes.md#{place})"),
    }
}

#[test]
fn the_page_of_the_config_is_what_the_table_says() {
    assert_page("config.md", &document(), "keys");
}

#[test]
fn the_page_links_to_sections_that_exist() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/changes.md")).unwrap();
    let headings: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    for row in rows() {
        let (_, place) = row.key.change.words();
        assert!(place.is_empty() || headings.contains(place), "{}: {place} of {headings:?}", row.path());
    }
}
