"""Disks that were restored from images, as CSI vendors do daily: histories that differ under the same name."""

from scenarios.checks import Checks
from shell import wait_until
from story import config, expect_equal, pause, scenario

PRECIOUS = 1000


class Restored(Checks):
    title = "restored disks"

    def setup(self):
        self.lab = self.new_lab()
        # one family with a disk of its own for the WAL
        disks = {"data-disk-size": "3Gi", "wal-disk-size": "4Gi"} if self.system.family == "rpm" else {}
        self.config = config(self.system, vm=disks)
        self.lab.apply(self.config)
        self.kept = 0

    @scenario("the primary restored under load from an image, its replica running: acknowledged rows are kept aside")
    def under_load(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        self.writer = self.new_writer()
        pause(3)
        copies = self.copy_disks(lab.primary)
        self.precious("under_load")
        self.writer.stop()
        lab.power_loss(lab.primary)
        self.restore(copies)
        lab.start(lab.primary)
        with self.timed("restored under load -> streaming again"):
            self.follows_again("under_load")

    @scenario("the same while the replica is away until its slot is lost")
    def away(self):
        lab = self.lab
        replica, = lab.replicas
        copies = self.copy_disks(lab.primary)
        self.precious("away")
        lab.stop(replica)
        lab.power_loss(lab.primary)
        self.restore(copies)
        lab.start(lab.primary)
        lab.wait_for_primary()
        self.lose_slots(replica)
        lab.start(replica)
        self.follows_again("away")

    @scenario("a cleanly stopped primary restored, and the same statements run again: the replica notices")
    def same_statements(self):
        lab = self.lab
        lab.stop(lab.primary)
        copies = self.copy_disks(lab.primary)
        lab.start(lab.primary)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.precious("same_statements")
        lab.power_loss(lab.primary)
        self.restore(copies)
        lab.start(lab.primary)
        lab.wait_for_primary()
        lab.sql(lab.primary, self.statements("same_statements", 7))
        self.follows_again("same_statements")
        expect_equal(lab.sql(lab.replicas[0], "SELECT max(n) FROM same_statements"), "7", "what the replica has now")

    @scenario("the primary restored while replay is paused on its replica: what was received is kept, too")
    def paused(self):
        lab = self.lab
        replica, = lab.replicas
        lab.superuser(replica, "SELECT pg_wal_replay_pause()")
        copies = self.copy_disks(lab.primary)
        lab.sql(lab.primary, self.statements("paused", PRECIOUS))
        position = lab.sql(lab.primary, "SELECT pg_current_wal_lsn()")
        wait_until("it has received that", lambda: lab.superuser(
            replica, f"SELECT pg_last_wal_receive_lsn() >= '{position}'") == "t", 30)
        lab.network.cut(lab.nodes[replica].pod)
        lab.power_loss(lab.primary)
        self.restore(copies)
        lab.start(lab.primary)
        lab.wait_for_primary()
        pause(5)
        lab.network.cut(lab.nodes[replica].pod, off=False)
        pause(10)
        lab.superuser(replica, "SELECT pg_wal_replay_resume()")
        self.follows_again("paused")

    @scenario("an older backup laid over the files of the primary, in the guest: newer WAL beside it proves nothing")
    def files(self):
        lab = self.lab
        replica, = lab.replicas
        guest = lab.guest(lab.primary)
        guest.run("systemctl", "stop", "postgresql.service", timeout=120)
        self.in_data(lab.primary, "cp -a $PGDATA/. /root/backup")
        guest.run("systemctl", "start", "postgresql.service", timeout=120)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.precious("files")
        lab.stop(replica)
        guest.run("systemctl", "stop", "postgresql.service", timeout=120)
        self.in_data(lab.primary, "cp -a /root/backup/. $PGDATA/ && rm -r /root/backup")
        guest.run("systemctl", "start", "postgresql.service", timeout=120)
        lab.wait_for_primary()
        self.lose_slots(replica)
        lab.start(replica)
        self.follows_again("files")

    @scenario("a kept copy is renamed and the VM restarted: it is still whole")
    def renamed(self):
        lab = self.lab
        replica, = lab.replicas
        self.in_data(replica, "mv $PGDATA.previous $(dirname $PGDATA)/saved")
        lab.restart(replica)
        lab.wait_for_streaming()
        saved = self.in_data(replica, "echo $(dirname $PGDATA)/saved")
        expect_equal(self.rows_kept(replica, saved, "under_load"), str(PRECIOUS), "kept rows of under_load")
        self.in_data(replica, "mv $(dirname $PGDATA)/saved $PGDATA.previous")

    @scenario("the table of starts dropped by somebody: a replica still clones")
    def dropped(self):
        lab = self.lab
        replica, = lab.replicas
        lab.superuser(lab.primary, "DROP SCHEMA virtwork CASCADE")
        lab.stop(replica)
        for volume in lab.nodes[replica].vm.database_disks():
            lab.blank_disk(volume)
        lab.start(replica)
        lab.wait_for_streaming()
        lab.restart(lab.primary)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.kept = 0

    @scenario("an older image of the replica's own disk: it catches up by itself")
    def replica_restored(self):
        lab = self.lab
        replica, = lab.replicas
        copies = self.copy_disks(replica)
        lab.sql(lab.primary, self.statements("later", 10))
        lab.wait_for_replay(replica)
        lab.power_loss(replica)
        self.restore(copies)
        lab.start(replica)
        lab.wait_for_streaming()
        lab.wait_for_replay(replica)
        expect_equal(lab.sql(replica, "SELECT count(*) FROM later"), "10", "rows on the replica")
        self.not_in_journal(replica, "can never catch up", "cloning")

    @scenario("restarts of the primary while the replica is away until its slot is lost: proven, nothing is kept")
    def proven(self):
        lab = self.lab
        replica, = lab.replicas
        newest = lab.sql(lab.primary, "SELECT name FROM virtwork.server_starts ORDER BY number DESC LIMIT 1",
                         database="postgres")
        wait_until("the replica has noted what it goes back to", lambda: self.in_data(
            replica, "cat $PGDATA/virtwork.server-start") == newest, 30)
        lab.stop(*lab.nodes)
        lab.start(lab.primary)
        lab.wait_for_primary()
        lab.power_loss(lab.primary)
        lab.start(lab.primary)
        lab.wait_for_primary()
        self.lose_slots(replica)
        lab.start(replica)
        lab.wait_for_streaming()
        self.in_journal(replica, "can never catch up", "the primary has all of it", "the clone is complete")
        self.not_in_journal(replica, "keeping the data")
        expect_equal(len(self.copies(replica)), self.kept, "copies kept aside")

    @scenario("no room for a clone beside data that must be kept: it stops and says so, and goes on once there is")
    def no_room(self):
        lab = self.lab
        replica, = lab.replicas
        copies = self.copy_disks(lab.primary)
        self.precious("no_room")
        self.fill(replica, leave=64)
        lab.power_loss(lab.primary)
        self.restore(copies)
        lab.start(lab.primary)
        lab.wait_for_primary()
        lab.wait_for_journal(replica, "is kept, because nothing proves that the primary has its data")
        self.in_data(replica, "rm $(dirname $PGDATA)/filler")
        lab.restart(replica)
        self.follows_again("no_room")

    def statements(self, table, rows):
        return f"CREATE TABLE {table} (n bigint); INSERT INTO {table} SELECT generate_series(1, {rows});"

    def precious(self, table):
        """Rows that the primary acknowledges and the replica has."""
        lab = self.lab
        lab.sql(lab.primary, self.statements(table, PRECIOUS))
        lab.wait_for_replay(lab.replicas[0])

    def follows_again(self, table):
        """The replica is a clone of the restored primary, and the table stands in the copy that it kept."""
        lab = self.lab
        replica, = lab.replicas
        lab.wait_for_primary()
        self.kept += 1
        wait_until("the copy kept aside", lambda: len(self.copies(replica)) == self.kept, 120)
        lab.wait_for_streaming(seconds=120)
        lab.wait_for_replay(replica)
        self.in_journal(replica, "can never catch up", "keeping the data", "the clone is complete")
        expect_equal(self.rows_kept(replica, self.copies(replica)[-1], table), str(PRECIOUS), f"kept rows of {table}")
        self.load_runs()
