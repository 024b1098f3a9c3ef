"""Which stories each tier tells, the longest first, and the images they need.

Each scenario is told once, on the family where it says most: the default image, but for what Debian does in its own way
(packages that start servers, several majors side by side). The core is told on every major that there are packages of."""

import images
from images import (DEBIAN_11, DEBIAN_12, DEBIAN_13, DEBIAN_13_ARCHIVE, DEBIAN_13_PATRONI, FEDORA_44, FEDORA_44_ARCHIVE, FEDORA_44_NM, FEDORA_44_PATRONI,
                    FEDORA_44_SELINUX, FEDORA_44_SELINUX_PATRONI, FORKY)
from scenarios import patroni, sites
from scenarios.archive import OneArchive
from scenarios.chaos import Chaos, SharedKernel
from scenarios.client import Client, PatroniClient
from scenarios.core import Core
from scenarios.families import DualStack, Ipv6Only, Preferred
from scenarios.faults import Faults
from scenarios.hardship import Hardship
from scenarios.life import Life
from scenarios.load import Load
from scenarios.machines import Ipv6Machines, Machines, PlainMachine
from scenarios.monitoring import Monitoring, PatroniMonitoring
from scenarios.persistent import Persistent
from scenarios.player import Player
from scenarios.random_configs import RandomConfigs
from scenarios.restored import Restored
from scenarios.scale import Scale
from scenarios.selinux import Haproxy, Selinux
from scenarios.site_pair import SitePair
from scenarios.tls import PatroniTls, Tls
from scenarios.topology import Synchronous, Topology, Warm

CONTAINERS = [(patroni.TwoNodes, DEBIAN_13_PATRONI), (sites.Standby, DEBIAN_13_ARCHIVE), (patroni.ThreeNodes, DEBIAN_13_PATRONI),
              (SitePair, DEBIAN_13), (sites.PatroniPair, DEBIAN_13_PATRONI), (sites.Archive, DEBIAN_13_ARCHIVE),
              (OneArchive, FEDORA_44_ARCHIVE),
              (patroni.Life, FEDORA_44_PATRONI), (Life, FEDORA_44), (Hardship, FEDORA_44), (Restored, FEDORA_44),
              (RandomConfigs, None), (Core, DEBIAN_11), (Core, DEBIAN_12), (Core, DEBIAN_13), (Core, FORKY), (Scale, DEBIAN_13),
              (Tls, DEBIAN_13), (sites.Tls, DEBIAN_13_ARCHIVE),
              (Faults, DEBIAN_13), (Persistent, DEBIAN_13), (patroni.Packages, DEBIAN_13_PATRONI),
              (Topology, DEBIAN_13), (Synchronous, DEBIAN_11),
              (Warm, FORKY), (Player, DEBIAN_13), (Load, DEBIAN_11), (SharedKernel, DEBIAN_13),
              (Monitoring, DEBIAN_13), (PatroniMonitoring, DEBIAN_13_PATRONI), (Client, DEBIAN_13), (PatroniClient, DEBIAN_13_PATRONI),
              (PatroniTls, DEBIAN_13_PATRONI),
              (Ipv6Only, FEDORA_44_NM), (DualStack, FEDORA_44_NM),
              (Ipv6Only, DEBIAN_13), (DualStack, DEBIAN_13), (Preferred, FEDORA_44_NM), (Preferred, DEBIAN_13)]
# Scale has a scenario that only Debian's directories make sense of. What the roads between two clusters let through, the other
# stories of two sites need, too.
FAMILIES = [(sites.Roads, DEBIAN_13_ARCHIVE), (OneArchive, DEBIAN_13_ARCHIVE), (Life, DEBIAN_13), (Hardship, DEBIAN_13), (Restored, DEBIAN_13), (Faults, FEDORA_44),
            (Persistent, FEDORA_44), (Tls, FEDORA_44), (SitePair, FEDORA_44)]
MACHINES = [(Machines, DEBIAN_13), (PlainMachine, DEBIAN_13)]
# An hour more without KVM.
MORE_MACHINES = [(Selinux, FEDORA_44_SELINUX), (Haproxy, FEDORA_44_SELINUX_PATRONI), (patroni.Watchdog, DEBIAN_13_PATRONI),
                 (Ipv6Machines, DEBIAN_13), (Chaos, DEBIAN_13)]
TIERS = {"containers": CONTAINERS, "machines": MACHINES}


class Choice:
    """A story and the system it is told on, before it begins. One without chooses among all systems."""

    def __init__(self, kind, system):
        self.kind = kind
        self.name = kind.named(system)
        self.scenarios = kind.scenarios
        self.system = system
        self.systems = [system] if system else images.SYSTEMS

    def __call__(self, generator, directory):
        return self.kind(self.system, generator, directory)

    def images(self):
        """What it boots, and what its guests install from."""
        for system in self.systems:
            if self.kind.containers:
                yield from (*system.plain, *system.golden)
            if self.kind.emulated or not self.kind.containers:
                yield system.disks
            yield from system.repository.values()
        yield from self.kind.tools


def tier(name, only="", everything=False):
    """The stories of a tier whose name, or the title of one of their scenarios, contains `only`. With `everything` all
    stories of containers are told on both families, and those of machines that take long."""
    entries = TIERS[name]
    if name == "machines" and (everything or only):
        entries = entries + MORE_MACHINES
    if everything and name == "containers":
        # whose core is told by its life then
        entries = FAMILIES + [entry for entry in entries if entry != (Core, DEBIAN_13)]
    choices = [Choice(*entry) for entry in entries]
    return [choice for choice in choices
            if only in choice.name or any(only in method.title for method in choice.scenarios())]
