"""Two sites: clusters with a router between them, and a store of objects that both reach."""

import images
from authority import Authority
from router import Router
from scenarios.topology import Promotions
from shell import CommandFailed, run, wait_until
from store import ObjectStore
from story import config, expect, expect_equal, scenario

PRODUCTION, STANDBY = "west", "east"
"""The names of the two labs: those of their nodes are unique then."""


class Sites(Promotions):
    """A story with two labs: `lab` is the one that it looks at, in turn `production` and `standby`, which are what they were
    made as. Each has a name of its own outside, production.test and standby.test, that leads to its primary's Service."""

    tools = (images.VERSITYGW,)

    def setup(self):
        self.router = self.closed_at_the_end(Router(f"{self.unique()}", self.directory / self.unique() / "router"))
        self.authority = Authority(self.place("authority"))
        self.store = self.closed_at_the_end(ObjectStore(images.VERSITYGW.path / "versitygw", self.router, self.authority,
                                                        self.place("store")))
        self.production = self.new_lab(router=self.router)
        self.standby = self.new_lab(router=self.router)
        self.lab = self.production
        self.configs = {}
        for lab, name in ((self.production, PRODUCTION), (self.standby, STANDBY)):
            self.router.names[self.outside(lab)] = lab.network.balancer_address(f"{name}-primary")

    def outside(self, lab):
        """What the world calls a site."""
        return "production.test" if lab is self.production else "standby.test"
