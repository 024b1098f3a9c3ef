"""A lab with an archive, in one cluster: what it does for its own standbys, and a lab that is made from it."""

import json

import images
from authority import Authority
from router import Router
from scenarios.topology import Promotions
from shell import wait_until
from store import ObjectStore
from story import config, expect, expect_equal, scenario


class OneArchive(Promotions):
    title = "an archive of one lab"
    tools = (images.VERSITYGW,)
    failover = {}

    def setup(self):
        name, directory = self.new_place()
        self.router = Router(name, directory / "router")
        self.stack.callback(self.router.close)
        self.authority = Authority(directory / "authority")
        self.store = ObjectStore(images.VERSITYGW.path / "versitygw", self.router, self.authority, directory / "store")
        self.stack.callback(self.store.close)
        self.lab = self.new_lab(router=self.router)
        self.lab.objects["Secret", "archive-keys"] = self.store.secret()
        self.config = config(self.system, archive={**self.store.config("archive-keys", "labs/db"), "archive-timeout": 15},
                             **self.failover)
        self.lab.apply(self.config)

    def signals(self, name, kind):
        lines = [line for line in self.lab.journal(name).splitlines() if f'"signal": "{kind}"' in line]
        return [json.loads(line[line.index("{"):]) for line in lines]

    def archived(self, seconds=120):
        lab = self.lab
        file = lab.superuser(lab.primary, "SELECT pg_walfile_name(pg_current_wal_lsn()) FROM pg_switch_wal()")
        wait_until(f"{file} is archived", lambda: lab.superuser(
            lab.primary, f"SELECT last_archived_wal >= '{file}' FROM pg_stat_archiver") == "t", seconds)

    @scenario("the lab forms and archives; the first base backup is made by itself")
    def forms(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        self.writer = self.new_writer()
        self.archived()
        with self.timed("formed -> the first base backup"):
            made = wait_until("the first base backup", lambda: self.signals(lab.primary, "archive-backup"), 180)
        expect(made[0]["result"] == "ok", f"{made}")
        for name in lab.replicas:
            expect_equal(self.signals(name, "archive-backup"), [], f"base backups by {name}")
        wait_until("the timers are set", lambda: "virtwork-archive-backup.timer" in lab.guest(lab.primary).run(
            "systemctl", "list-timers", "--no-pager"), 30)

    @scenario("the restore check takes the newest base backup, beside the data of the last node")
    def checked(self):
        name = self.lab.database_nodes[-1]
        self.lab.guest(name).run("systemctl", "start", "virtwork-archive-check.service", timeout=300)
        told = self.signals(name, "archive-check")
        expect(told and told[-1]["result"] == "ok" and "pgbench" in told[-1]["databases"], f"{told}")

    @scenario("a replica that was away for longer than the slot's cap catches up from the archive, and streams; nothing is cloned")
    def catches_up(self):
        lab = self.lab
        name = lab.replicas[0]
        before = self.data_directory(name)
        lab.power_loss(name)
        self.lose_slots(name)
        self.archived()
        with self.timed("slot lost, start -> it streams"):
            lab.start(name)
            lab.wait_for_streaming(name)
        expect_equal(self.data_directory(name), before, "its data directory")
        self.not_in_journal(name, "cloning ", "removing ", "restored from the archive")
        self.no_rows_missing()

    @scenario("a replica with a blank disk is made of the base backup and the archive's WAL, not of the primary")
    def blank(self):
        lab = self.lab
        name = lab.replicas[0]
        lab.stop(name)
        for volume in lab.nodes[name].vm.database_disks():
            lab.disk(volume).unlink()
            lab.blank_disk(volume)
        with self.timed("blank disk -> it streams"):
            lab.start(name)
            lab.wait_for_streaming(name)
        self.in_journal(name, "restored from the archive")
        self.not_in_journal(name, "cloning ")
        self.no_rows_missing()

    @scenario("the store is away: the primary goes on and says so once; a standby starts and streams all the same; then all is archived")
    def away(self):
        lab = self.lab
        lab.guest(lab.primary).run("journalctl", "--rotate")
        count = len(self.signals(lab.primary, "archive-away"))
        self.store.stop()
        self.lab.superuser(lab.primary, "SELECT pg_switch_wal()")
        wait_until("the primary says so", lambda: len(self.signals(lab.primary, "archive-away")) > count, 150)
        lab.restart(lab.replicas[0])
        lab.wait_for_streaming(lab.replicas[0])
        self.no_rows_missing()
        expect_equal(len(self.signals(lab.primary, "archive-away")), count + 1, "times that it is said")
        self.store.start()
        self.archived(180)
        wait_until("that it is back is said", lambda: self.signals(lab.primary, "archive-back"), 60)

    @scenario("the archive is another database's: nothing is fetched from it, nothing put there, the primary goes on and says so")
    def claimed(self):
        lab = self.lab
        name = lab.replicas[0]
        claim = self.store.root / "data" / self.store.bucket / "labs/db/virtwork-archive.json"
        file = lab.superuser(lab.primary, "SELECT last_archived_wal FROM pg_stat_archiver")
        own = claim.read_text()

        def fetched():
            # As it begins anew, which it does at each boot.
            return lab.guest(name).run("bash", "-c", "systemctl restart virtwork-archive; sleep 2; cd /tmp; runuser -u postgres -- "
                                       f"virtwork-archive-command get {file[:24]} /run/postgresql/virtwork.archive/fetched; echo $?").strip()

        expect_equal(fetched(), "0", "fetching from its own archive")
        claim.write_text(json.dumps({**json.loads(own), "system": "42"}))
        expect_equal(fetched(), "1", "fetching from another one's")
        lab.guest(lab.primary).run("systemctl", "restart", "virtwork-archive")
        lab.superuser(lab.primary, "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'boot', 'x')")
        wait_until("the primary says so", lambda: any("another database" in line["reason"] for line in self.signals(
            lab.primary, "archive-away")), 60)
        self.no_rows_missing()
        claim.write_text(own)
        self.archived(180)
        expect_equal(claim.read_text(), own, "the claim")

    @scenario("another node is promoted: it archives on a new timeline, and makes the backups")
    def promoted(self):
        lab = self.lab
        old, new = lab.primary, lab.replicas[0]
        lab.stop(old)
        self.promote(new)
        self.archived()
        lab.guest(new).run("systemctl", "start", "virtwork-archive-backup.service", timeout=300)
        told = self.signals(new, "archive-backup")
        expect(told and told[-1]["result"] == "ok", f"{told}")
        lab.start(old)
        lab.wait_for_journal(old, "virtwork-rejoin")
        lab.guest(old).run("virtwork-rejoin", timeout=300)
        lab.wait_for_streaming()
        self.no_rows_missing()

    @scenario("a table is dropped; a lab that is made from the archive has it, and archives to a place of its own")
    def restored(self):
        lab = self.lab
        lab.sql(lab.primary, "CREATE TABLE precious AS SELECT generate_series(1, 1000) AS n")
        moment = lab.sql(lab.primary, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')")
        wait_until("a second passes", lambda: lab.sql(
            lab.primary, f"SELECT clock_timestamp() > timestamptz '{moment}' + interval '1 second'") == "t", 10, 0.2)
        lab.sql(lab.primary, "DROP TABLE precious")
        self.archived()
        third = self.new_lab(router=self.router)
        third.objects["Secret", "archive-keys"] = self.store.secret()
        third.apply(config(self.system, name="third", archive=self.store.config("archive-keys", "labs/third"),
                           restore={"from": "labs/db", "time": moment}, **self.failover))
        with self.timed("blank disks -> the restored lab takes writes"):
            third.start(*third.nodes)
            third.wait_for_primary(300)
        expect_equal(third.sql(third.primary, "SELECT count(*) FROM precious"), "1000", "rows of the dropped table")
        third.wait_for_streaming()
        third.sql(third.primary, "CREATE TABLE afterwards (n int)")
        wait_until("it archives to its own place", lambda: self.store.objects("labs/third"), 120)
        before = self.store.objects("labs/db/virtwork-archive.json")
        third.restart(*third.nodes)
        third.wait_for_primary(300)
        expect_equal(third.sql(third.primary, "SELECT count(*) FROM precious, afterwards"), "0", "after a restart")
        expect_equal(self.store.objects("labs/db/virtwork-archive.json"), before, "the archive that it came from")

    @scenario("no key is in arguments, journals or where others can read it")
    def secret(self):
        for name in self.lab.database_nodes:
            guest = self.lab.guest(name)
            expect(self.store.secret_key not in self.lab.journal(name), f"a key in the journal of {name}")
            for path in guest.run("find", "/run", "/etc/virtwork", "-xdev", "-type", "f", "-size", "-64k").split("\n"):
                if self.store.secret_key in guest.run("cat", path, check=False):
                    self.unreadable(guest, name, path)
