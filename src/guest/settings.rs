//! The two files that are made from the config: values for the scripts, settings for the server.

use crate::names::{POSTGRESQL_PORT, Role};
use crate::plan::Plan;
use std::fmt::Write;

/// `/etc/virtwork/lab.env`: every value that a script uses, as shell assignments. It holds no secret.
pub fn lab_env(plan: &Plan, role: Role) -> String {
    let pgbench = &plan.pgbench;
    let vm = plan.vm(role);
    let (replication_key, client_key) = plan.credentials.keys();
    let mut file = ShellFile::default();
    file.comment("Values of the lab, read by every script.");
    file.set("PRIMARY_HOST", &plan.names.primary_service());
    file.comment("The same by its own name, too: the Service leads nowhere while the primary is not ready.");
    let hosts = [plan.names.primary_service(), plan.names.vm(Role::Primary, 0)];
    file.set("PRIMARY_HOSTS", &hosts.join(","));
    file.comment("Installed where they are missing; with no name here the package manager is never called.");
    file.set("PACKAGES", &plan.guest.packages.join(" "));
    file.set("HTTP_PROXY_URL", plan.guest.http_proxy.as_deref().unwrap_or(""));
    file.comment("File names on the credentials disk.");
    file.set("REPLICATION_KEY", replication_key);
    file.set("CLIENT_KEY", client_key);
    file.comment("Whether the WAL has a disk of its own.");
    file.set("WAL_DISK", if vm.wal_disk.is_some() { "yes" } else { "no" });
    file.comment("The load. Durations in seconds; no rate: as many transactions as possible.");
    file.set("PGBENCH_SCALE", &pgbench.scale.to_string());
    file.set("PGBENCH_CLIENTS", &pgbench.clients.to_string());
    file.set("PGBENCH_THREADS", &pgbench.threads.to_string());
    file.set("PGBENCH_DURATION", &pgbench.duration.to_string());
    file.set("PGBENCH_PAUSE", &pgbench.pause.to_string());
    file.set("PGBENCH_RATE", &pgbench.rate.map(|rate| rate.to_string()).unwrap_or_default());
    file.set("PGBENCH_PROTOCOL", pgbench.protocol.as_str());
    file.set("PGBENCH_PARTITIONS", &pgbench.partitions.to_string());
    file.0
}

/// Shell assignments, each value in single quotes.
#[derive(Default)]
struct ShellFile(String);

impl ShellFile {
    fn comment(&mut self, text: &str) {
        let _ = writeln!(self.0, "# {text}");
    }

    fn set(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{name}='{}'", value.replace('\'', r"'\''"));
    }
}

/// `/etc/virtwork/postgresql.conf`: the managed settings, then the user's own.
pub fn postgresql_conf(plan: &Plan) -> String {
    let postgresql = &plan.postgresql;
    let senders = postgresql.max_wal_senders.to_string();
    let mut file = String::new();
    let mut section = |comment: &str, settings: &[(&str, &str)]| {
        let settings: Vec<_> = settings
            .iter()
            // PostgreSQL takes the last of two; a reader should see one
            .filter(|(name, _)| !postgresql.parameters.iter().any(|(set, _)| set == name))
            .collect();
        if !settings.is_empty() {
            let _ = writeln!(file, "# {comment}");
        }
        for (name, value) in settings {
            file.push_str(&setting(name, value));
        }
    };
    section(
        "Connections. pg_hba.conf asks each for its password.",
        &[
            ("listen_addresses", "*"),
            ("port", &POSTGRESQL_PORT.to_string()),
            ("password_encryption", "scram-sha-256"),
            ("max_connections", &postgresql.max_connections.to_string()),
        ],
    );
    section(
        "Replication, the same on primary and replicas: a standby must not have less than its primary.",
        &[
            ("wal_level", "replica"),
            ("hot_standby", "on"),
            ("max_wal_senders", &senders),
            ("max_replication_slots", &senders),
            ("wal_keep_size", &postgresql.wal_keep_size.to_string()),
            ("max_slot_wal_keep_size", &postgresql.max_slot_wal_keep_size.to_string()),
        ],
    );
    section(
        "Power loss sends no FIN: with the default of a minute a replica waits that long for a dead primary.",
        &[("wal_receiver_timeout", "10s")],
    );
    section(
        "A WAL sender that writes to a peer which is gone blocks the checkpointer when its slot is given up.",
        &[("tcp_user_timeout", "30s")],
    );
    section(
        "To the journal.",
        &[("log_destination", "stderr"), ("logging_collector", "off"), ("log_line_prefix", "[%p] %q%u@%d ")],
    );
    if !postgresql.parameters.is_empty() {
        file.push_str("# postgresql.parameters of the config.\n");
    }
    for (name, value) in &postgresql.parameters {
        file.push_str(&setting(name, value));
    }
    file
}

/// A line of postgresql.conf. Between its quotes a backslash escapes and a quote is doubled (guc-file.l).
fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', r"\\").replace('\'', "''"))
}
