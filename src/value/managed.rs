//! Settings of PostgreSQL that are not the user's.

/// Settings that `postgresql.parameters` may not hold, with the reason or the key that sets them. What is read-only
/// the table of settings knows.
const MANAGED: &[(&str, &str)] = &[
    ("wal_keep_size", "it is `wal-keep-size` at the top level of the config"),
    ("max_slot_wal_keep_size", "it is `postgresql.max-slot-wal-keep-size`"),
    ("max_wal_senders", "gen derives it from `replica-count`"),
    ("max_replication_slots", "gen derives it from `replica-count`"),
    ("hot_standby", "it is `postgresql.standby-mode`: `hot` or `warm`"),
    ("listen_addresses", "it is `*`; the NetworkPolicy says who may connect"),
    ("port", "Services, probes and SELinux expect 5432"),
    ("unix_socket_directories", "the guest's scripts use the distribution's own"),
    ("unix_socket_group", "the guest's scripts come through the socket"),
    ("unix_socket_permissions", "the guest's scripts come through the socket"),
    ("password_encryption", "it is `scram-sha-256`"),
    ("primary_conninfo", "each replica writes its own"),
    ("primary_slot_name", "each replica writes its own"),
    ("synchronous_standby_names", "it is `postgresql.synchronous`"),
    // the WAL receiver starts when all local WAL is replayed, or held back no more (xlogrecovery.c)
    ("recovery_min_apply_delay", "a fresh replica would not stream until the delay is over"),
    ("data_directory", "the data disk is mounted there"),
    ("config_file", "it lies on the data disk"),
    ("hba_file", "it lies on the data disk"),
    ("ident_file", "it lies on the data disk"),
    ("external_pid_file", "systemd watches the server"),
    ("include", "list the settings themselves instead"),
    ("include_dir", "list the settings themselves instead"),
    ("include_if_exists", "list the settings themselves instead"),
    ("ssl", "it is `tls` at the top level of the config"),
    ("allow_in_place_tablespaces", "it is for PostgreSQL's own tests"),
    ("recovery_target_timeline", "standbys follow the latest"),
    ("recovery_target_action", "standbys follow without end"),
    ("recovery_target_inclusive", "standbys follow without end"),
    ("promote_trigger_file", "`pg_ctl promote` promotes a standby"),
    ("default_transaction_read_only", "the load writes"),
    ("default_table_access_method", "there is no other than `heap` when the pgbench tables are made"),
    ("superuser_reserved_connections", "the connections are counted with its default"),
    ("reserved_connections", "the connections are counted with its default"),
    ("pre_auth_delay", "it delays each connection past the lab's own time limits"),
    ("post_auth_delay", "it delays each connection past the lab's own time limits"),
];

/// Families of them.
const MANAGED_PREFIXES: &[(&str, &str)] = &[
    ("ssl_", "`tls` at the top level of the config sets it"),
    ("recovery_target", "it would stop each standby"),
];

/// Why a setting is not for `postgresql.parameters`: a reason, or the key that sets it.
pub fn managed(name: &str) -> Option<&'static str> {
    let exact = MANAGED.iter().find(|(managed, _)| *managed == name);
    let (_, reason) =
        exact.or_else(|| MANAGED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)))?;
    Some(reason)
}
