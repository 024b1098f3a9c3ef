//! The two files that are made from the config: values for the scripts, settings for the server.

use super::files;
use super::template::{Renderer, Template, conf, template};
use crate::names::POSTGRESQL_PORT;
use crate::plan::{
    ArchivePlan, ChaosPlan, EffectsPlan, FailoverPlan, LedgerPlan, MonitoringPlan, PatroniPlan, PlacePlan,
    Plan, ReplicationPlan, RestorePlan, ShapedPlan, StorePlan, SynchronousPlan, TlsPlan, UpstreamPlan,
    WalPlayerPlan,
};
use crate::value::{Schedule, StandbyMode, SynchronousMethod};
use minijinja::context;
use minijinja::value::Value;
use std::fmt::Write as _;

/// `/etc/virtwork/lab.env`: every value that a script uses, as shell assignments. It holds no secret.
pub const LAB_ENV: Template = template!("lab.env");
/// What labs under Patroni have in it besides.
pub const PATRONI_ENV: Template = template!("patroni.env");
/// What labs with a WAL player of their own have in it besides.
pub const WAL_PLAYER_ENV: Template = template!("wal-player.env");
/// What labs with a load of its own shape have in it besides.
pub const LOAD_ENV: Template = template!("load.env");
/// What labs with chaos on their network have in it besides.
pub const CHAOS_ENV: Template = template!("chaos.env");
/// What labs with a sampler have in it besides.
pub const MONITORING_ENV: Template = template!("monitoring.env");
/// What labs with clients have in it besides.
pub const CLIENT_ENV: Template = template!("client.env");
/// What standby sites have in it besides.
pub const UPSTREAM_ENV: Template = template!("upstream.env");
/// What labs with TLS have in it besides.
pub const TLS_ENV: Template = template!("tls.env");
/// What labs with an archive have in it besides.
pub const ARCHIVE_ENV: Template = template!("archive.env");
/// What labs that are made from an archive have in it besides.
pub const RESTORE_ENV: Template = template!("restore.env");
/// The managed settings of `/etc/virtwork/postgresql.conf`.
pub const POSTGRESQL_CONF: Template = template!("postgresql.conf");

/// What fills the holes of [`LAB_ENV`].
pub fn lab_env(plan: &Plan) -> Value {
    let pgbench = &plan.pgbench;
    let (replication_key, client_key) = plan.credentials.keys();
    let wal_disks = plan.machines.iter().filter(|machines| machines.vm.wal_disk.is_some());
    let wal_disks = wal_disks.map(|machines| machines.role.as_str());
    let synchronous = plan.postgresql.synchronous.as_ref();
    context! {
        lab => plan.names.lab(),
        nodes_host => plan.names.nodes_service(),
        replica_count => plan.replica_count.to_string(),
        standby_mode => plan.postgresql.standby_mode.as_str(),
        synchronous_count => synchronous.map_or(0, |synchronous| synchronous.count).to_string(),
        packages => plan.guest.packages.join(" "),
        http_proxy_url => plan.guest.http_proxy.as_deref().unwrap_or_default(),
        replication_key => if plan.needs_replication_password() { replication_key } else { "" },
        client_key => client_key,
        wal_disks => wal_disks.collect::<Vec<_>>().join(" "),
        pgbench_scale => pgbench.scale.to_string(),
        pgbench_clients => pgbench.clients.to_string(),
        pgbench_threads => pgbench.threads.to_string(),
        pgbench_duration => pgbench.duration.to_string(),
        pgbench_pause => pgbench.pause.to_string(),
        pgbench_rate => pgbench.rate.map(|rate| rate.to_string()).unwrap_or_default(),
        pgbench_protocol => pgbench.protocol.as_str(),
        pgbench_partitions => pgbench.partitions.to_string(),
    }
}

/// What fills the holes of [`PATRONI_ENV`].
pub fn patroni_env(plan: &Plan, patroni: &PatroniPlan) -> Value {
    let etcd = patroni.etcd.iter().map(|node| node.vm(&plan.names));
    let synchronous = plan.postgresql.synchronous.as_ref();
    context! {
        ttl => patroni.ttl.to_string(),
        loop_wait => patroni.loop_wait.to_string(),
        retry_timeout => patroni.retry_timeout.to_string(),
        watchdog => patroni.watchdog.as_str(),
        synchronous_method => synchronous.map_or("", |synchronous| synchronous.method.as_str()),
        etcd_nodes => etcd.collect::<Vec<_>>().join(" "),
        witness_packages => plan.guest.witness_packages.join(" "),
        ca_seed_key => plan.credentials.ca_seed_key(),
    }
}

/// What fills the holes of [`WAL_PLAYER_ENV`].
pub fn wal_player_env(player: &ReplicationPlan) -> Value {
    let schedule = match player.schedule {
        Schedule::Hourly => "3600",
        Schedule::Daily => "86400",
        Schedule::Manual | Schedule::Once => player.schedule.as_str(),
    };
    context! {
        length => player.length.to_string(),
        jobs => player.jobs.to_string(),
        rate => player.rate.unwrap_or(0).to_string(),
        compressed_percent => player.compressed_percent.to_string(),
        replica_timeout => player.replica_timeout.to_string(),
        schedule => schedule,
    }
}

/// What fills the holes of [`LOAD_ENV`].
pub fn load_env(shaped: &ShapedPlan) -> Value {
    context! {
        shape => shaped.shape.as_str(),
        period => shaped.period.map(|period| period.to_string()).unwrap_or_default(),
        script => shaped.script.as_str(),
        readers => shaped.readers.unwrap_or(0).to_string(),
    }
}

/// What fills the holes of [`CHAOS_ENV`].
pub fn chaos_env(chaos: &ChaosPlan) -> Value {
    let words = |effects: &EffectsPlan| {
        let mut words = effects.words.clone();
        if !effects.targets.is_empty() {
            words.push(format!("target={}", effects.targets.join(",")));
        }
        words
    };
    let windows = chaos.windows.iter().map(|window| {
        let times = [("at", Some(window.at)), ("for", window.seconds), ("every", window.every)];
        let times = times.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        times.chain(words(&window.effects)).collect::<Vec<_>>().join(" ")
    });
    context! {
        effects => words(&chaos.effects).join(" "),
        windows => windows.collect::<Vec<_>>().join("; "),
    }
}

/// What fills the holes of [`MONITORING_ENV`].
pub fn monitoring_env(monitoring: &MonitoringPlan) -> Value {
    context! { interval => monitoring.interval.to_string() }
}

/// What fills the holes of [`CLIENT_ENV`].
pub fn client_env(plan: &Plan, ledger: &LedgerPlan) -> Value {
    context! {
        client_packages => plan.guest.client_packages.join(" "),
        rate => ledger.rate.to_string(),
        read_rate => ledger.read_rate.to_string(),
        retain => ledger.retain.to_string(),
    }
}

/// What fills the holes of [`UPSTREAM_ENV`]. The head is whom the Service of the primary leads to.
pub fn upstream_env(plan: &Plan, upstream: &UpstreamPlan) -> Value {
    let head = match &plan.failover {
        FailoverPlan::Manual { primary } => primary.vm(&plan.names),
        FailoverPlan::Patroni(_) => String::new(),
    };
    context! {
        host => upstream.host.as_str(),
        port => upstream.port.to_string(),
        sslmode => upstream.sslmode.as_str(),
        ca => upstream.ca.as_ref().map_or("", |_| files::UPSTREAM_CA.1),
        head => head,
        promote => if upstream.promote { "yes" } else { "no" },
    }
}

/// What fills the holes of [`TLS_ENV`].
pub fn tls_env(plan: &Plan, tls: &TlsPlan) -> Value {
    let names = tls.names.iter().map(ToString::to_string);
    context! {
        source => if tls.is_derived() { "derived" } else { "secret" },
        seed_key => if tls.is_derived() { plan.credentials.ca_seed_key() } else { "" },
        replicator => if tls.has_client_certificates { "certificate" } else { "password" },
        names => names.collect::<Vec<_>>().join(" "),
    }
}

/// What fills the holes of [`ARCHIVE_ENV`].
pub fn archive_env(archive: &ArchivePlan) -> Value {
    let store = archive.store();
    let of_store = |value: fn(&StorePlan) -> &str| store.map(value).unwrap_or_default().to_owned();
    context! {
        kind => if store.is_some() { "s3" } else { "posix" },
        tool => archive.tool.as_str(),
        host => of_store(|store| &store.host),
        port => of_store(|store| &store.port),
        region => of_store(|store| &store.region),
        bucket => of_store(|store| &store.bucket),
        path_style => of_store(|store| if store.path_style { "yes" } else { "no" }),
        ca => of_store(|store| store.ca.as_ref().map_or("", |_| files::ARCHIVE_CA.1)),
        access_key => of_store(|store| &store.access_key),
        secret_key => of_store(|store| &store.secret_key),
        nfs => match &archive.place {
            PlacePlan::Nfs(export) => export.as_str(),
            PlacePlan::Store(_) => "",
        },
        prefix => archive.prefix.as_str(),
        max_pending_bytes => archive.max_pending_wal.bytes().to_string(),
        schedule => archive.schedule.as_str(),
        full_every => archive.full_every.to_string(),
        retention => archive.retention.to_string(),
        check_schedule => archive.check_schedule.as_str(),
    }
}

fn archive_command(archive: &ArchivePlan) -> String {
    format!("/usr/local/sbin/virtwork-archive-command push %f %p {}", archive.tool.as_str())
}

/// What fills the holes of [`RESTORE_ENV`].
pub fn restore_env(restore: &RestorePlan) -> Value {
    context! {
        from => restore.from.as_str(),
        target => restore.target,
        value => restore.value.as_str(),
    }
}

/// `/etc/virtwork/lab.env`.
pub fn env(plan: &Plan, renderer: &Renderer) -> Result<String, String> {
    let mut env = renderer.render(&LAB_ENV, lab_env(plan))?;
    if let Some(shaped) = &plan.pgbench.shaped {
        env.push_str(&renderer.render(&LOAD_ENV, load_env(shaped))?);
    }
    if let Some(patroni) = plan.failover.patroni() {
        env.push_str(&renderer.render(&PATRONI_ENV, patroni_env(plan, patroni))?);
    }
    if let Some(tls) = &plan.tls {
        env.push_str(&renderer.render(&TLS_ENV, tls_env(plan, tls))?);
    }
    if let Some(chaos) = &plan.chaos {
        env.push_str(&renderer.render(&CHAOS_ENV, chaos_env(chaos))?);
    }
    if let Some(player) = plan.wal_player.as_ref().and_then(WalPlayerPlan::replication) {
        env.push_str(&renderer.render(&WAL_PLAYER_ENV, wal_player_env(player))?);
    }
    if let Some(monitoring) = &plan.monitoring {
        env.push_str(&renderer.render(&MONITORING_ENV, monitoring_env(monitoring))?);
    }
    if let Some(ledger) = &plan.ledger {
        env.push_str(&renderer.render(&CLIENT_ENV, client_env(plan, ledger))?);
    }
    if let Some(upstream) = &plan.upstream {
        env.push_str(&renderer.render(&UPSTREAM_ENV, upstream_env(plan, upstream))?);
    }
    if let Some(archive) = &plan.archive {
        env.push_str(&renderer.render(&ARCHIVE_ENV, archive_env(archive))?);
        if let Some(restore) = &archive.restore {
            env.push_str(&renderer.render(&RESTORE_ENV, restore_env(restore))?);
        }
    }
    Ok(env)
}

/// What fills the holes of [`POSTGRESQL_CONF`].
pub fn managed_settings(plan: &Plan) -> Value {
    let postgresql = &plan.postgresql;
    let synchronous = postgresql.synchronous.as_ref();
    context! {
        hot_standby => if postgresql.standby_mode == StandbyMode::Hot { "on" } else { "off" },
        synchronous_commit => synchronous.map_or("", |synchronous| synchronous.commit.as_str()),
        synchronous_standby_names => synchronous
            .filter(|_| plan.failover.patroni().is_none())
            .map(|synchronous| standby_names(plan, synchronous))
            .unwrap_or_default(),
        is_monitored => plan.monitoring.is_some(),
        has_tls => plan.tls.is_some(),
        has_client_certificates => !plan.needs_replication_password(),
        archive_command => plan.archive.as_ref().map(archive_command).unwrap_or_default(),
        archive_timeout => plan.archive.as_ref().map(|archive| format!("{}s", archive.timeout)).unwrap_or_default(),
        port => POSTGRESQL_PORT.to_string(),
        max_connections => postgresql.max_connections.to_string(),
        max_wal_senders => postgresql.max_wal_senders.to_string(),
        max_replication_slots => postgresql.max_wal_senders.to_string(),
        wal_keep_size => postgresql.wal_keep_size.to_string(),
        max_slot_wal_keep_size => postgresql.max_slot_wal_keep_size.to_string(),
    }
}

/// `synchronous_standby_names`: every node, because each may be a standby of another one.
fn standby_names(plan: &Plan, synchronous: &SynchronousPlan) -> String {
    let method = match synchronous.method {
        SynchronousMethod::Any => "ANY",
        SynchronousMethod::First => "FIRST",
    };
    let names: Vec<_> = plan.databases().map(|name| format!("\"{name}\"")).collect();
    format!("{method} {} ({})", synchronous.count, names.join(", "))
}

/// `/etc/virtwork/postgresql.conf`: the managed settings, then the user's own.
pub fn postgresql_conf(plan: &Plan, renderer: &Renderer) -> Result<String, String> {
    let managed = renderer.render(&POSTGRESQL_CONF, managed_settings(plan))?;
    let own = &plan.postgresql.parameters;
    if own.is_empty() {
        return Ok(managed);
    }
    let mut file = without(&managed, own);
    file.push_str("# postgresql.parameters of the config.\n");
    for (name, value) in own {
        let _ = writeln!(file, "{name} = {}", conf(value));
    }
    Ok(file)
}

/// The managed settings without those that the user's replace: PostgreSQL takes the last of two, a reader should see
/// one. A comment goes with the last setting below it.
fn without(managed: &str, own: &[(String, String)]) -> String {
    let mut kept = String::new();
    let mut comment = "";
    for line in managed.split_inclusive('\n') {
        if line.starts_with('#') {
            comment = line;
        } else if !own.iter().any(|(name, _)| line.split(' ').next() == Some(name)) {
            kept.push_str(std::mem::take(&mut comment));
            kept.push_str(line);
        }
    }
    kept
}
