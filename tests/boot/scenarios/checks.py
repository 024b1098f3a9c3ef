"""Steps that several stories take."""

from shell import CommandFailed, run, wait_until
from story import Story, expect, expect_equal

# A program that prints what a URL answers.
SCRAPE = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


class Checks(Story):
    """A story with a lab that has formed: `systems` holds the system identifier of each node, `writer` writes rows."""

    def all_ready(self, seconds=60):
        wait_until("all are ready", lambda: all(node.ready for node in self.lab.nodes.values()), seconds)

    def formed(self):
        """Waits until the lab has formed, and remembers its identity."""
        lab = self.lab
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.systems = {name: self.identifier(name) for name in lab.database_nodes}
        expect_equal(len(set(self.systems.values())), 1, "number of system identifiers")

    def copy_disks(self, name):
        """Copies of a VM's database disks as they are now, by DataVolume. Those of a running VM are crash-consistent: the
        file systems are frozen for the moment, the programs are not told."""
        node = self.lab.nodes[name]
        copies = {volume: self.lab.disk(volume).with_suffix(".copy") for volume in node.vm.database_disks()}
        mounts = node.on and self.in_data(
            name, "for d in $PGDATA $PGDATA/pg_wal/; do findmnt -nro TARGET --target $d; done | sort -ru").split()
        for mount in mounts or []:
            node.guest.run("fsfreeze", "--freeze", mount)
        try:
            for volume, copy in copies.items():
                run("cp", "--sparse=always", self.lab.disk(volume), copy)
        finally:
            for mount in mounts or []:
                node.guest.run("fsfreeze", "--unfreeze", mount)
        return copies

    def restore(self, copies):
        for volume, copy in copies.items():
            copy.replace(self.lab.disk(volume))

    def restarted(self, *names):
        self.lab.restart(*names)
        self.settled(*names)

    def settled(self, *names):
        """After a start of `names`: all stream, nothing was made anew, no acknowledged row is missing anywhere."""
        lab = self.lab
        lab.wait_for_primary()
        lab.wait_for_streaming()
        for name in names:
            self.not_in_journal(name, "cloning", "initialising", "is blank", "building the pgbench tables")
            expect_equal(self.identifier(name), self.systems[name], f"system identifier of {name}")
        self.no_rows_missing()
        self.load_runs()

    def no_rows_missing(self):
        lab = self.lab
        count = len(self.writer.acknowledged)
        wait_until("the writer gets on", lambda: len(self.writer.acknowledged) > count + 5, 60)
        for name in lab.database_nodes:
            # Before the position that is waited for: a row that is acknowledged later may not have arrived yet.
            acknowledged = list(self.writer.acknowledged)
            if name != lab.primary:
                lab.wait_for_replay(name)
            expect_equal(self.writer.missing(name, acknowledged), [],
                         f"acknowledged rows up to {acknowledged[-1]} that are missing on {name}")

    def load_runs(self):
        lab = self.lab
        wait_until("pgbench writes", lambda: lab.sql(
            lab.primary, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") > "0", 60)

    def lose_slots(self, *names):
        """Writes WAL until the slots of these replicas are lost."""
        lab = self.lab
        slots = ", ".join(f"'{name.replace('-', '_')}'" for name in names)

        def lost():
            switch = "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'boot', repeat('x', 100000));\n"
            lab.superuser(lab.primary, switch * 4 + "CHECKPOINT;")
            return lab.sql(lab.primary, "SELECT bool_and(wal_status = 'lost') FROM pg_replication_slots "
                           f"WHERE slot_name IN ({slots})") in ("t", "")

        wait_until(f"the slots {slots} are lost", lost, 120)

    def identifier(self, name):
        return self.lab.superuser(name, "SELECT system_identifier FROM pg_control_system()")

    def in_data(self, name, command):
        """A shell command in the guest, with $PGDATA and PostgreSQL's programs."""
        return self.lab.guest(name).run("bash", "-c", f"""
            . /usr/local/lib/virtwork/family.sh
            PATH=$(binary_directory):$PATH
            PGDATA=$(data_directory "$(postgres --version | sed -E 's/^.*\\) ([0-9]+).*$/\\1/')")
            {command}""")

    def data_directory(self, name):
        """What a new initdb or clone would change: inode and birth of the data directory."""
        return self.in_data(name, "stat -c '%i %W' $PGDATA/PG_VERSION")

    def in_journal(self, name, *texts):
        journal = self.lab.journal(name)
        for text in texts:
            expect(text in journal, f"the journal of {name} does not say {text!r}")

    def in_journal_either(self, name, *texts):
        journal = self.lab.journal(name)
        expect(any(text in journal for text in texts), f"the journal of {name} says none of {texts}")

    def not_in_journal(self, name, *texts):
        journal = self.lab.journal(name)
        for text in texts:
            expect(text not in journal, f"the journal of {name} says {text!r}")

    def refused(self, messages, name, statement, user="pgbench", password=None, database="pgbench", stranger=False,
                local=None):
        """A statement must fail with one of the messages, which are separated by bars."""
        try:
            if local:
                self.lab.guest(name).run("setpriv", "--reuid=nobody", "--clear-groups", "psql", "-wXc", statement,
                                         f"host=/run/postgresql user={local} dbname=pgbench")
            else:
                self.lab.sql(name, statement, user, password, database, stranger)
        except CommandFailed as error:
            expect(any(message in str(error) for message in messages.split("|")), f"refused, but because: {error}")
        else:
            raise AssertionError(f"{name} lets {local or user} in to {database!r}")

    def unreadable(self, guest, name, path):
        """A file with a password in it must be closed to everybody but its owner."""
        modes = guest.run(
            "bash", "-c", 'p=$1; while stat -c "%a" "$p"; [ "$p" != / ]; do p=$(dirname "$p"); done', "-", path)
        own, *above = (int(mode, 8) for mode in modes.split())
        reachable = own & 0o004 and all(mode & 0o001 for mode in above)
        expect(not reachable, f"a password in {path} of {name}, which everybody can read")

    def copies(self, name):
        return self.in_data(name, "ls -d $PGDATA.previous* 2>/dev/null | sort -V || true").split()

    def rows_kept(self, name, directory, table, options=""):
        """Counts in a copy that was kept aside, with the commands of docs/operations.md."""
        return self.in_data(name, f"""
            . /usr/local/lib/virtwork/lib.sh && find_binaries && unset PGOPTIONS
            copy={directory}
            as_postgres pg_ctl -D "$copy" -w -t 30 -l /tmp/kept.log start -o "-c port=5433 -c listen_addresses='' \
              -c primary_conninfo='' -c primary_slot_name='' -c archive_mode=off -c unix_socket_directories=/run/postgresql {options}" >/dev/null ||
              {{ cat /tmp/kept.log >&2; exit 1; }}
            as_postgres psql -XAtqw -h /run/postgresql -p 5433 -d pgbench -c 'SELECT count(*) FROM {table}'
            as_postgres pg_ctl -D "$copy" -w stop >/dev/null""")

    def fill(self, name, leave=0):
        """Fills a data disk but for so many MiB."""
        self.in_data(name, f"""
            free=$(df -k --output=avail $PGDATA | tail -n 1)
            fallocate -l $((free - {leave} * 1024))K $(dirname $PGDATA)/filler""")
