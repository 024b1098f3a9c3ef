"""What else happens to a lab on golden images with ephemeral roots, up to the loss of its disks."""

import base64

from scenarios.core import Core
from story import ArgumentWatch, config, expect, expect_equal, scenario

CORES = {"replication-password": "Kor7Repl", "client-password": "Kor7Client", "new": "Kor7New"}
"""Parts of the passwords that no quoting changes: what is looked for where no password may be."""
HOSTILE = {
    "replication-password": f" ' \\ : \" $HOME {CORES['replication-password']} `id` $(id) ü%s\\'{{}}!",
    "client-password": f"it's \"{CORES['client-password']}\" \\:\\\\ $1 ;-- é ß 日本 #",
}
ROTATED = {key: f"{CORES['new']} '{key}' \\ :" for key in HOSTILE}


class Life(Core):
    title = "life, golden image, ephemeral roots"

    def setup(self):
        self.lab = self.new_lab()
        self.watch = ArgumentWatch(*CORES.values())
        self.stack.callback(self.watch.stop)
        self.config = config(self.system, replica_count=2)
        self.config["postgresql"]["parameters"]["max_connections"] = 130
        self.lab.apply(self.config, HOSTILE)

    @scenario("each replica has its name, its slot, the rows and the configured values", fatal=False)
    def values(self):
        lab = self.lab
        expect_equal(lab.sql(lab.primary, "SELECT slot_name FROM pg_replication_slots ORDER BY 1").split(),
                     [name.replace("-", "_") for name in lab.replicas], "slots")
        for name in lab.nodes:
            lab.wait_for_replay(name) if name != lab.primary else None
            for setting, value in {"wal_keep_size": "32MB", "max_slot_wal_keep_size": "64MB", "data_checksums": "on",
                                   "password_encryption": "scram-sha-256", "max_wal_senders": "64"}.items():
                expect_equal(lab.sql(name, f"SHOW {setting}"), value, f"{setting} on {name}")
            expect_equal(lab.sql(name, "SELECT count(*) FROM pgbench_branches"), "2", f"branches on {name}")
            expect_equal(lab.sql(name, "SELECT count(*) FROM pgbench_accounts"), "200000", f"accounts on {name}")
            expect_equal(lab.sql(name, "SELECT pg_is_in_recovery()"), "f" if name == lab.primary else "t", name)
        roles = lab.superuser(lab.primary, "SELECT rolname FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$%'")
        expect_equal(set(roles.split()), {"replicator", "pgbench"}, "roles with a SCRAM verifier")
        roles = lab.superuser(lab.primary, "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NULL")
        expect_equal(roles, "postgres", "roles without a password")
        self.load_runs()

    @scenario("the passwords arrive intact, and nobody gets in without one", fatal=False)
    def doors(self):
        lab = self.lab
        replication = lab.passwords["replication-password"]
        self.refused("cannot execute INSERT in a read-only transaction", lab.replicas[0],
                     "INSERT INTO pgbench_history VALUES (1)")
        for name in (lab.primary, lab.replicas[0]):
            for user in ("pgbench", "replicator", "postgres"):
                self.refused("no password supplied|rejects connection", name, "SELECT 1", user=user, password="")
                self.refused("password authentication failed|rejects connection", name, "SELECT 1", user=user,
                             password="wrong")
            for database in ("pgbench", "template1"):
                self.refused("rejects connection", name, "SELECT 1", "replicator", replication, database)
        identify = lab.sql(lab.primary, "IDENTIFY_SYSTEM", "replicator", replication, "pgbench replication=true")
        expect_equal(identify.split("|")[0], self.systems[lab.primary], "IDENTIFY_SYSTEM as replicator")
        self.refused("rejects connection|no pg_hba.conf entry", lab.primary,
                     "IDENTIFY_SYSTEM", "pgbench", None, "pgbench replication=true")
        for user in ("pgbench", "replicator"):
            self.refused("fe_sendauth: no password supplied|rejects connection|authentication failed", lab.primary,
                         "SELECT 1", local=user)
        self.refused("timeout expired", lab.primary, "SELECT 1", stranger=True)

    @scenario("the passwords stand in no readable file, argument, journal or user-data", fatal=False)
    def secrecy(self):
        lab = self.lab
        expect(self.watch.sweeps > 10, "the watch over arguments did not run")
        expect_equal(self.watch.found, set(), "arguments with a password")
        encoded = [base64.b64encode(lab.passwords[key].encode()).decode() for key in HOSTILE]
        needles = "\n".join([*(CORES[key] for key in HOSTILE), *encoded])
        for name in lab.nodes:
            guest = lab.guest(name)
            seed = lab.nodes[name].vm.seed(lab.objects)
            everything = {"the journal": guest.journal("--output=cat"), **{k: v.decode() for k, v in seed.items()}}
            for place, text in everything.items():
                expect(not any(needle in text for needle in needles.split("\n")), f"a password in {place} of {name}")
            hits = guest.run(
                "grep", "-rslF", "--binary-files=text", "--exclude-dir=proc", "--exclude-dir=sys", "--file=-", "/",
                stdin=needles, check=False, timeout=300).split()
            expect("/run/postgresql/virtwork.pgpass" in hits, f"the search missed the pgpass file, it found {hits}")
            for path in hits:
                self.unreadable(guest, name, path)

    @scenario("restart of a replica, fresh root: no second clone")
    def restart_replica(self):
        lab = self.lab
        name = lab.replicas[0]
        before = self.data_directory(name)
        lab.restart(name)
        lab.wait_for_streaming()
        expect_equal(self.data_directory(name), before, f"data directory of {name}")
        self.not_in_journal(name, "cloning", "is blank")

    @scenario("restart of the primary, fresh root: no row lost, nothing made anew")
    def restart_primary(self):
        lab = self.lab
        before = self.data_directory(lab.primary)
        self.restarted(lab.primary)
        expect_equal(self.data_directory(lab.primary), before, "data directory of the primary")

    @scenario("a changed wal-keep-size is in effect after stop and start, and a lowered max_connections strands no standby")
    def changed_setting(self):
        lab = self.lab
        self.writer.stop()
        self.config["wal-keep-size"] = "48MB"
        del self.config["postgresql"]["parameters"]["max_connections"]
        lab.apply(self.config, ROTATED)
        expect_equal(lab.sql(lab.primary, "SHOW wal_keep_size", password=HOSTILE["client-password"]), "32MB",
                     "wal_keep_size before the restart")
        lab.restart(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        for name in lab.nodes:
            expect_equal(lab.sql(name, "SHOW wal_keep_size"), "48MB", f"wal_keep_size on {name}")
            # All were restarted at once: a standby cannot have replayed the record of the lower value yet.
            expect_equal(lab.sql(name, "SHOW max_connections"), "100" if name == lab.primary else "130",
                         f"max_connections on {name}")

    @scenario("the rotated passwords work after it, and the old ones do not", fatal=False)
    def rotated(self):
        lab = self.lab
        self.refused("password authentication failed", lab.primary, "SELECT 1", password=HOSTILE["client-password"])
        self.refused("password authentication failed", lab.primary, "IDENTIFY_SYSTEM", "replicator",
                     HOSTILE["replication-password"], "pgbench replication=true")
        expect_equal(self.watch.found, set(), "arguments with a password")
        expect(CORES["new"] not in lab.guest(lab.primary).journal("--output=cat"), "a new password in the journal")
        self.watch.stop()
        self.writer = self.new_writer()

    @scenario("a running replica cut off until its slot is lost clones again")
    def cut_off(self):
        lab = self.lab
        name = lab.replicas[0]
        lab.network.cut(lab.nodes[name].pod)
        self.lose_slots(name)
        lab.network.cut(lab.nodes[name].pod, off=False)
        lab.wait_for_journal(name, "the clone is complete", 300)
        lab.wait_for_streaming()

    @scenario("the primary's disk replaced while no replica runs: those keep the old data aside and clone the new system")
    def blank_primary(self):
        lab = self.lab
        self.writer.stop()
        lab.stop(*lab.nodes)
        lab.blank_disk(f"{lab.primary}-data")
        lab.start(lab.primary)
        lab.wait_for_primary()
        lab.start(*lab.replicas)
        lab.wait_for_streaming(seconds=300)
        new = self.identifier(lab.primary)
        expect(new != self.systems[lab.primary], "the new primary has the old system identifier")
        for name in lab.replicas:
            expect_equal(self.identifier(name), new, f"system identifier of {name}")
            old = self.in_data(name, "pg_controldata -D $PGDATA.previous")
            expect(self.systems[name] in old, f"{name} does not keep the data of the old system, but {old}")
            self.in_journal(name, "keeping the data")
