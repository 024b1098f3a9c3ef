"""Which stories each tier tells, the longest first, and the images they need."""

import images
from scenarios.faults import Faults
from scenarios.hardship import Hardship
from scenarios.life import Life
from scenarios.machines import Machines, PlainMachine
from scenarios.persistent import Persistent
from scenarios.random_configs import RandomConfigs
from scenarios.restored import Restored
from scenarios.scale import Scale

CONTAINERS = [(Life, "debian"), (Life, "rpm"), (Hardship, "rpm"), (Restored, "debian"), (Hardship, "debian"),
              (Restored, "rpm"), (RandomConfigs, ""), (Faults, "rpm"), (Faults, "debian"), (Persistent, "debian"),
              (Persistent, "rpm"), (Scale, "debian")]
MACHINES = [(Machines, "debian"), (PlainMachine, "debian")]
TIERS = {"containers": CONTAINERS, "machines": MACHINES}
IMAGES = {"containers": [images.GOLDEN, images.FEDORA_GOLDEN, images.RPMS], "machines": [images.MACHINE]}


class Choice:
    """A story and the family it is told for, before it begins."""

    def __init__(self, kind, family):
        self.kind = kind
        self.name = kind.named(family)
        self.scenarios = kind.scenarios
        self.family = family

    def __call__(self, generator, directory):
        return self.kind(self.family, generator, directory)


def tier(name, only=""):
    """The stories of a tier whose name, or the title of one of their scenarios, contains `only`."""
    choices = [Choice(*entry) for entry in TIERS[name]]
    return [choice for choice in choices
            if only in choice.name or any(only in method.title for method in choice.scenarios())]
