"""Two sites in one network: a standby site that follows, is promoted, and lets the old production follow in turn."""

from scenarios.checks import Checks
from shell import CommandFailed, wait_until
from story import config, expect, expect_equal, pause, scenario

ROWS = 200


class SitePair(Checks):
    title = "two sites in one network, failover by hand"

    def setup(self):
        self.lab = self.new_lab()
        exposed = {"service": {"type": "NodePort", "insecure": True}, "postgresql": {"allowed-clients": ["0.0.0.0/0"]}}
        self.production = config(self.system, name="production", replica_count=1, **exposed)
        self.standby = config(self.system, name="standby", replica_count=1, **exposed,
                              upstream={"host": "production-primary", "sslmode": "disable"})
        self.lab.apply(self.production)
        self.sites = {"production": ["production-primary-0", "production-replica-0"],
                      "standby": ["standby-primary-0", "standby-replica-0"]}

    def follows(self, name, source, seconds=180):
        """Until a node streams from another, through a slot of its own name."""
        wait_until(f"{name} streams from {source}", lambda: self.lab.superuser(
            source, f"SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid"
                    f" WHERE application_name = '{name}' AND slot_name = '{name.replace('-', '_')}' AND state = 'streaming'"
            ) == "1", seconds, 0.5)

    def write(self, name, table):
        self.lab.superuser(name, f"CREATE TABLE {table} AS SELECT generate_series(1, {ROWS}) AS n", database="pgbench")

    def has(self, name, table, seconds=60):
        wait_until(f"{name} has the rows of {table}", lambda: self.lab.superuser(
            name, f"SELECT count(*) FROM {table}", database="pgbench") == str(ROWS), seconds)

    def refuses_writes(self, name):
        try:
            self.lab.superuser(name, "CREATE TABLE forbidden (n int)", database="pgbench", timeout=20)
        except CommandFailed:
            return
        raise AssertionError(f"{name} accepts writes")

    @scenario("a standby site forms: the head clones the other site's primary, the replica the head; no load, no roles of its own")
    def forms(self):
        lab = self.lab
        lab.start(*self.sites["production"])
        self.follows("production-replica-0", "production-primary-0")
        lab.apply(self.standby)
        with self.timed("blank disks of a standby site -> all of it streams"):
            lab.start(*self.sites["standby"])
            self.follows("standby-primary-0", "production-primary-0")
            self.follows("standby-replica-0", "standby-primary-0")
        wait_until("the standby site is ready", lambda: all(lab.nodes[name].ready for name in self.sites["standby"]), 60)
        self.write("production-primary-0", "before")
        for name in self.sites["standby"]:
            self.has(name, "before")
            self.refuses_writes(name)
            self.not_in_journal(name, "initialising", "have the Secret's passwords", "building the pgbench tables", "this node is the primary")
        expect("standby site of production-primary" in lab.guest("standby-replica-0").run("virtwork-status"), "status names no site")
        self.in_journal("standby-primary-0", "the server is a standby: no load here")

    @scenario("restart of the standby site, and of production: all go on with the data that they have")
    def restarts(self):
        lab = self.lab
        lab.restart(*self.sites["standby"])
        self.follows("standby-primary-0", "production-primary-0")
        self.follows("standby-replica-0", "standby-primary-0")
        lab.restart("production-primary-0")
        self.follows("standby-primary-0", "production-primary-0")
        for name in self.sites["standby"]:
            self.not_in_journal(name, "cloning", "keeping the data")

    @scenario("its slot lost, the head clones again, and the replica from it; production has all that both had, so nothing is kept")
    def head_clones_again(self):
        lab = self.lab
        newest = lab.superuser("production-primary-0", "SELECT name FROM virtwork.server_starts ORDER BY number DESC LIMIT 1")
        for name in self.sites["standby"]:
            # else nothing would prove where its data comes from
            wait_until(f"{name} notes the newest start", lambda name=name: self.in_data(name, "cat $PGDATA/virtwork.server-start") == newest, 30)
        lab.stop("standby-primary-0")
        self.lose_slots("standby-primary-0")
        lab.start("standby-primary-0")
        self.follows("standby-primary-0", "production-primary-0")
        self.follows("standby-replica-0", "standby-primary-0")
        self.in_journal("standby-primary-0", "the clone is complete")
        self.write("production-primary-0", "after_the_clone")
        self.has("standby-replica-0", "after_the_clone")
        for name in self.sites["standby"]:
            expect_equal(self.copies(name), [], f"copies on {name}")

    @scenario("production restarted with an `upstream` by mistake: it stays away from its data, and goes on without")
    def by_mistake(self):
        lab = self.lab
        lab.apply({**self.production, "upstream": {"host": "standby-primary", "sslmode": "disable"}})
        lab.restart("production-primary-0")
        lab.wait_for_journal("production-primary-0", "not starting: the config has `upstream`")
        pause(5)
        lab.apply(self.production)
        lab.restart("production-primary-0")
        wait_until("it accepts writes", lambda: lab.nodes["production-primary-0"].ready, 120)
        self.not_in_journal("production-primary-0", "cloning", "keeping the data")
        self.follows("standby-primary-0", "production-primary-0")

    @scenario("`virtwork-promote` on the head: production stops first, and no row is lost; the replica goes on")
    def promoted(self):
        lab = self.lab
        self.write("production-primary-0", "before_promotion")
        with self.timed("virtwork-promote of a site"):
            output = lab.guest("standby-primary-0").run("virtwork-promote", timeout=240)
        expect("production-primary accepts no more writes" in output, output)
        expect("may be missing" not in output, output)
        self.in_journal("production-primary-0", "fencing this node: standby is on timeline 2")
        self.has("standby-primary-0", "before_promotion")
        self.write("standby-primary-0", "on_the_standby_site")
        self.has("standby-replica-0", "on_the_standby_site")
        lab.restart("production-primary-0")
        lab.wait_for_journal("production-primary-0", "the site standby has taken over on timeline 2")
        lab.restart("standby-primary-0")
        wait_until("the promoted site goes on after a restart", lambda: lab.nodes["standby-primary-0"].ready, 120)
        self.in_journal("standby-primary-0", "this site was promoted: it goes on")

    @scenario("fail back: the old production gets an `upstream`, follows without a clone, and is promoted by `promote: true`")
    def failed_back(self):
        lab = self.lab
        lab.apply({**self.standby, "upstream": {"host": "production-primary", "sslmode": "disable", "promote": True}})
        lab.restart("standby-primary-0")
        wait_until("the promoted site goes on with what its config says now", lambda: lab.nodes["standby-primary-0"].ready, 120)
        follower = {**self.production, "upstream": {"host": "standby-primary", "sslmode": "disable"}}
        lab.apply(follower)
        lab.restart(*self.sites["production"])
        self.follows("production-primary-0", "standby-primary-0")
        self.follows("production-replica-0", "production-primary-0")
        self.not_in_journal("production-primary-0", "the clone is complete")
        self.write("standby-primary-0", "before_fail_back")
        self.has("production-replica-0", "before_fail_back")
        follower["upstream"] = {**follower["upstream"], "promote": True}
        lab.apply(follower)
        with self.timed("restart with `promote: true` -> the site accepts writes"):
            lab.restart("production-primary-0")
            lab.wait_for_journal("production-primary-0", "production-primary-0 accepts writes", seconds=180)
        self.has("production-primary-0", "before_fail_back")
        self.write("production-primary-0", "on_production_again")
        self.has("production-replica-0", "on_production_again")
        lab.wait_for_journal("standby-primary-0", "fencing this node: production is on timeline 3")
        lab.wait_for_journal("standby-primary-0", "`promote: true` was done with timeline 2", seconds=180)

    @scenario("and the standby site follows again, its replica with it")
    def follows_again(self):
        lab = self.lab
        lab.apply(self.standby)
        lab.restart(*self.sites["standby"])
        self.follows("standby-primary-0", "production-primary-0")
        self.follows("standby-replica-0", "standby-primary-0")
        self.has("standby-replica-0", "on_production_again")

    @scenario("the network between them cut, the site promoted by force: production stops as soon as it is seen again")
    def by_force(self):
        lab = self.lab
        lab.network.cut(lab.nodes["production-primary-0"].pod)
        self.refused_promotion("standby-primary-0", "nothing proves that it accepts no writes any more")
        lab.superuser("production-primary-0", f"CREATE TABLE only_there AS SELECT generate_series(1, {ROWS}) AS n", database="pgbench")
        lab.guest("standby-primary-0").run("virtwork-promote", "--force", timeout=240)
        self.write("standby-primary-0", "by_force")
        lab.network.cut(lab.nodes["production-primary-0"].pod, off=False)
        lab.wait_for_journal("production-primary-0", "fencing this node: ", seconds=120)
        lab.apply({**self.production, "upstream": {"host": "standby-primary", "sslmode": "disable"}})
        lab.restart(*self.sites["production"])
        self.follows("production-primary-0", "standby-primary-0", seconds=300)
        self.follows("production-replica-0", "production-primary-0", seconds=300)
        self.has("production-replica-0", "by_force")
        self.in_journal("production-primary-0", "keeping the data as it was")
        expect_equal(len(self.copies("production-primary-0")), 1, "copies of what only production had")

    def refused_promotion(self, name, reason):
        try:
            output = self.lab.guest(name).run("virtwork-promote", timeout=240)
        except CommandFailed as error:
            expect(reason in str(error), f"virtwork-promote says {error}")
            return
        raise AssertionError(f"{name} was promoted: {output}")
