"""What lies between the clusters of several sites: a router with a link to each, names that all of them know, and servers that
belong to none, such as a store of objects.

Clusters do not know each other's pods: what leaves one has the address of its node, and what enters goes to an address of a load
balancer or to a port of the node. The addresses of pods and Services may be the same on both sides.
"""

import contextlib
import subprocess
import sys
import pathlib

from shell import CommandFailed, end, in_netns, run

TABLE = 100
"""The routing table that leads through the slow link."""
OUTSIDE = "203.0.113.0/24"


class Link:
    """A place that the router leads to, by number from 1. `node` is its address on the link, `balancers` the network of
    addresses that lead to it besides."""

    def __init__(self, number):
        self.number = number
        self.device = f"link{number}"
        self.gateway = f"198.18.{number}.1"
        self.node = f"198.18.{number}.2"
        self.balancers = f"203.0.113.{16 * number}/28"

    def balancer(self, number):
        """An address of a load balancer."""
        return f"203.0.113.{16 * self.number + number}"


class Router:
    """`prefix` begins the names of its namespaces. Names are those of the world, {name: address}: every site's DNS has them."""

    def __init__(self, prefix, directory):
        self.prefix = prefix
        self.netns = f"{prefix}-router"
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.links = {}
        self.names = {}
        self.lost = set()
        self.slow = None
        run("ip", "netns", "add", self.netns)
        self._ip("link set lo up")
        # Packets come back from the slow link by another device than they would leave by.
        run(*in_netns(self.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
                      "net.ipv4.conf.default.rp_filter=0"))

    def _ip(self, *commands, netns=None):
        run("ip", "-netns", netns or self.netns, "-batch", "-", stdin="\n".join(commands) + "\n")

    def join(self, netns):
        """A link to a namespace, whose end is the device `wan` there."""
        link = Link(len(self.links) + 1)
        self.links[netns] = link
        self._ip(f"link add {link.device} type veth peer name wan netns {netns}", f"link set {link.device} up",
                 f"address add {link.gateway}/30 dev {link.device}")
        self._ip("link set wan up", f"address add {link.node}/30 dev wan", f"route add {OUTSIDE} via {link.gateway}",
                 f"route add 198.18.0.0/16 via {link.gateway}", f"route add unreachable {link.balancers}", netns=netns)
        self._ip(f"route add {link.balancers} via {link.node}")
        return link

    def add_host(self, name):
        """A namespace of its own at the router, which ends with it, and its link."""
        netns = f"{self.prefix}-{name}"
        run("ip", "netns", "add", netns)
        self._ip("link set lo up", netns=netns)
        link = self.join(netns)
        self.names[f"{name}.test"] = link.node
        return netns, link

    def cut(self, *links, off=True):
        """Loses what goes through these links, or carries it again. Nobody is told, as when a cable is cut far away, and connections
        stay as they are. Not while it is delayed."""
        self._lose({(link.device, other.device) for link in links for other in self.links.values() if other is not link}, off)

    def part(self, one, other, off=True):
        """The same of what goes between two links, and of nothing else."""
        self._lose({(one.device, other.device)}, off)

    def _lose(self, pairs, off):
        pairs |= {(other, one) for one, other in pairs}
        self.lost = self.lost | pairs if off else self.lost - pairs
        elements = ", ".join(f'"{one}" . "{other}"' for one, other in sorted(self.lost))
        rules = f"iifname . oifname {{ {elements} }} drop;" if elements else ""
        run(*in_netns(self.netns, "nft", "-f", "-"), stdin=f"""
            table inet cut
            delete table inet cut
            table inet cut {{
              chain forward {{ type filter hook forward priority filter; {rules} }}
            }}
            """)

    @contextlib.contextmanager
    def parted(self, one, other):
        self.part(one, other)
        try:
            yield
        finally:
            self.part(one, other, off=False)

    @contextlib.contextmanager
    def delayed(self, milliseconds):
        """All that crosses the router takes so much longer, each way; what it yields changes that."""
        slow = subprocess.Popen(in_netns(self.netns, sys.executable, str(pathlib.Path(__file__).with_name("slow.py")), "slow"),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

        def change(milliseconds):
            slow.stdin.write(f"{milliseconds}\n")
            slow.stdin.flush()

        rules = [f"rule add iif {link.device} lookup {TABLE}" for link in self.links.values()]
        try:
            if slow.stdout.readline() != "ready\n":
                raise CommandFailed("slow.py has no device")
            change(milliseconds)
            self._ip("link set slow mtu 1500 up", f"route add default dev slow table {TABLE}", *rules)
            yield change
        finally:
            for rule in rules:
                run("ip", "-netns", self.netns, *rule.replace("add", "delete", 1).split(), check=False)
            end(slow)
            slow.stdin.close()
            slow.stdout.close()

    def close(self):
        for netns in (*(netns for netns in self.links if netns.startswith(f"{self.prefix}-")), self.netns):
            run("ip", "netns", "delete", netns, check=False)
