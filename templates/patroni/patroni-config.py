"""patroni-config.py NODE BINDIR PGDATA PKI PGPASSFILE: prints Patroni's configuration, as JSON, which YAML is a
superset of. `dynamic` as the only argument prints that part of it which the whole lab has in common, in etcd.

Values are those of lab.env and of the lab's postgresql.conf; passwords come from the password file.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import sys
from typing import Any

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402

# Settings that have to be alike on all nodes, or that a standby must not have less of than its primary: Patroni takes them
# from etcd alone, and sees to the order of restarts.
COMMON = {"max_connections", "max_locks_per_transaction", "max_prepared_transactions", "max_replication_slots",
          "max_wal_senders", "max_worker_processes", "track_commit_timestamp", "wal_keep_size", "wal_level", "wal_log_hints"}
# Patroni's own.
IGNORED = {"hot_standby", "listen_addresses", "port", "cluster_name", "synchronous_standby_names", "primary_conninfo",
           "primary_slot_name"}
# A standby site follows another one. This file has the CAs of both.
UPSTREAM = "UPSTREAM_HOST" in lab.LAB
CAS = "/run/postgresql/virtwork.tls/sites.crt"


def settings() -> dict[str, str]:
    """The lab's postgresql.conf: `name = 'value'` lines, in which the last of two counts."""
    found = {}
    for line in pathlib.Path("/etc/virtwork/postgresql.conf").read_text().splitlines():
        match = re.fullmatch(r"([\w.]+) = (?:'((?:[^'\\]|''|\\.)*)'|([^\s#']+))", line.strip())
        if match:
            quoted, bare = match.group(2, 3)
            found[match[1]] = unescape(quoted) if bare is None else bare
    return {name: value for name, value in found.items() if name not in IGNORED}


def unescape(text: str) -> str:
    """As guc-file.l reads it."""
    letters = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
    return re.sub(r"''|\\(.)", lambda match: "'" if match[1] is None else letters.get(match[1], match[1]), text)


def dynamic() -> dict[str, Any]:
    synchronous = int(lab.LAB["SYNCHRONOUS_COUNT"])
    mode: Any = False
    if synchronous:
        mode = "quorum" if lab.LAB["SYNCHRONOUS_METHOD"] == "any" and patroni_major() >= 4 else True
    return {
        "ttl": int(lab.LAB["PATRONI_TTL"]),
        "loop_wait": int(lab.LAB["PATRONI_LOOP_WAIT"]),
        "retry_timeout": int(lab.LAB["PATRONI_RETRY_TIMEOUT"]),
        # A leader that crashed gets time to come back in its place: only it is sure to have all that was acknowledged. With
        # synchronous standbys another one has it, too, and takes over at once.
        "primary_start_timeout": 0 if synchronous else 60,
        # What a standby may be behind and still take over. What it lacks stays on the disk of the former leader, which keeps
        # it aside; in synchronous mode it lacks nothing.
        "maximum_lag_on_failover": 16 << 20,
        "check_timeline": True,
        "failsafe_mode": True,
        "synchronous_mode": mode,
        "synchronous_node_count": max(synchronous, 1),
        "standby_cluster": standby_cluster(),
        # How long the slot of a member that is away holds WAL back, at most as much as max_slot_wal_keep_size.
        "member_slots_ttl": 3600,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            # Nothing is removed that virtwork-rejoin.py has not judged.
            "remove_data_directory_on_rewind_failure": False,
            "remove_data_directory_on_diverged_timelines": False,
            "parameters": {name: value for name, value in settings().items() if name in COMMON},
        },
    }


def standby_cluster() -> dict[str, Any] | None:
    """Whom a standby site follows, through one slot for whichever of its nodes is at its head. Whether it still does is for
    virtwork-etcd.py to say."""
    if not UPSTREAM:
        return None
    return {"host": lab.LAB["UPSTREAM_HOST"], "port": int(lab.LAB["UPSTREAM_PORT"]),
            "primary_slot_name": lab.LAB["LAB"].replace("-", "_"), "create_replica_methods": ["virtwork"]}


def patroni_major() -> int:
    try:
        from patroni.version import __version__
    except ImportError:
        return 0
    return int(__version__.partition(".")[0])


def passwords(path: str) -> dict[str, str]:
    """By role, from a password file: `*:*:*:ROLE:PASSWORD` with : and \\ escaped."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        role, _, password = line.removeprefix("*:*:*:").partition(":")
        found[role] = re.sub(r"\\(.)", r"\1", password)
    return found


def replicator(passfile: str) -> dict[str, str]:
    """How Patroni, and the standbys that it configures, log in: by a password, with TLS to whom they can verify, or by a
    certificate alone."""
    options = {"username": "replicator", **libpq.tls()}
    if UPSTREAM:
        # Patroni has one way to connect, to the other site and to nodes of this one.
        options["sslmode"] = lab.LAB["UPSTREAM_SSLMODE"]
        options.pop("sslrootcert", None)
        if options["sslmode"].startswith("verify"):
            options["sslrootcert"] = CAS
    if lab.LAB.get("TLS_REPLICATOR") == "certificate":
        directory = pathlib.Path(CAS).parent
        return {**options, "sslcert": f"{directory}/replicator.crt", "sslkey": f"{directory}/replicator.key"}
    return {**options, "password": passwords(passfile)["replicator"]}


def configuration(node: str, bindir: str, data: str, pki: str, passfile: str) -> dict[str, Any]:
    tls = {"cafile": f"{pki}/ca.crt", "certfile": f"{pki}/node.crt", "keyfile": f"{pki}/node.key"}
    role = replicator(passfile)
    hba = pathlib.Path("/etc/virtwork/pg_hba.conf").read_text().splitlines()
    watchdog = os.environ.get("VIRTWORK_WATCHDOG", "")
    own = {name: value for name, value in settings().items() if name not in COMMON}
    # A setting of standbys, which Patroni has apart.
    recovery = {"restore_command": own.pop("restore_command")} if "ARCHIVE_TYPE" in lab.LAB else {}
    rejoin = "/usr/local/sbin/virtwork-rejoin.py"
    # Labs that may have another site beside them have it.
    has_site = pathlib.Path("/usr/local/lib/virtwork/patroni-site.sh").exists()
    site = {"pre_promote": "/usr/local/sbin/virtwork-etcd.py leave-out"} if has_site else {}
    result: dict[str, Any] = {
        "scope": lab.LAB["LAB"],
        "name": node,
        "log": {"level": "INFO", "format": "%(levelname)s: %(message)s", "deduplicate_heartbeat_logs": True},
        "etcd3": {"hosts": [f"{name}:2379" for name in lab.ETCD_NODES], "protocol": "https", "cacert": tls["cafile"],
                  "cert": tls["certfile"], "key": tls["keyfile"]},
        # Everybody may ask, as readiness probes and HAProxy do; who changes something needs a certificate of the lab.
        "restapi": {"listen": "*:8008", "connect_address": f"{node}:8008", "verify_client": "optional", **tls},
        "ctl": {"cacert": tls["cafile"], "certfile": tls["certfile"], "keyfile": tls["keyfile"]},
        "watchdog": {"mode": "required" if watchdog else "off", "device": watchdog or "/dev/watchdog", "safety_margin": 5},
        "postgresql": {
            "listen": "*:5432",
            "connect_address": f"{node}:5432",
            "bin_dir": bindir,
            "bin_name": {"pg_rewind": rejoin, "postgres": "/usr/local/sbin/virtwork-postgres.sh"},
            "data_dir": data,
            "pgpass": "/run/postgresql/virtwork.patroni.pgpass",
            "use_unix_socket": True,
            "authentication": {"superuser": {"username": "postgres"}, "replication": role, "rewind": role},
            "pg_hba": [line for line in hba if line and not line.startswith("#")],
            "parameters": {**own, "unix_socket_directories": "/run/postgresql"},
            **({"recovery_conf": recovery} if recovery else {}),
            **site,
            "create_replica_methods": ["virtwork"],
            "virtwork": {"command": f"{rejoin} clone", "keep_data": True},
        },
    }
    # One node alone may make a new database: the one that founds etcd's cluster, which is nothing that happens beside data.
    if node == lab.ETCD_NODES[0]:
        result["bootstrap"] = {
            "dcs": {name: value for name, value in dynamic().items() if value is not None},
            "method": "virtwork",
            "virtwork": {"command": f"{rejoin} initialise", "no_params": False, "keep_existing_recovery_conf": False},
        }
    return result


def main() -> None:
    if sys.argv[1:] == ["dynamic"]:
        document = dynamic()
    else:
        document = configuration(*sys.argv[1:])
    print(json.dumps(document, indent=1))


main()
