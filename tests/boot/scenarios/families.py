"""IP families: pods with both, and pods with IPv6 alone."""

from network import FAMILIES, HALF_REACHED, MIRROR
from scenarios.checks import Checks
from shell import CommandFailed, in_netns, run
from story import config, expect, expect_equal, scenario

PROBE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).status)"
CONNECT = """import socket, sys, time
started = time.monotonic()
peer = socket.create_connection((sys.argv[1], 80)).getpeername()[0]
print(peer, time.monotonic() - started)"""
IPV6 = {"ip-families": ["IPv6"], "dns-servers": [FAMILIES["IPv6"].dns]}


class Families(Checks):
    """Steps for a lab in a cluster of `families`, which lets in strangers of the last of them."""

    def family_config(self, service, **changes):
        family = FAMILIES[self.families[-1]]
        clients = {"allowed-clients": [f"{family.stranger}/{family.bits}"]}
        return config(self.system, namespace="lab", service=service, postgresql=clients, **changes)

    def streams_over_ipv6(self):
        """The primary sees the address of each replica's pod."""
        lab = self.lab
        rows = lab.sql(lab.primary, "SELECT application_name, host(client_addr) FROM pg_stat_replication")
        expect_equal(dict(row.split("|") for row in rows.split()),
                     {name: lab.nodes[name].pod.addresses["IPv6"] for name in lab.replicas}, "who streams from where")

    def guests_have_their_families(self):
        """Address, default route, and names of a single label."""
        lab = self.lab
        for name, node in lab.nodes.items():
            for family, about in FAMILIES.items():
                option, database = ("-6", "ahostsv6") if about.nft == "ip6" else ("-4", "ahostsv4")
                found = node.guest.run("ip", "-oneline", option, "address", "show", "scope", "global")
                route = node.guest.run("ip", option, "route", "show", "default")
                gateway = about.bridge.partition("/")[0]
                expected = family in self.families
                expect_equal(f" {about.guest}/" in found, expected, f"{about.guest} on {name}: {found}")
                expect_equal(f"via {gateway} " in route, expected, f"{family} route of {name}: {route}")
                # its own name is in /etc/hosts
                for host in {f"{lab.prefix}-primary", *lab.nodes} - {name}:
                    answer = node.guest.run("getent", database, host, check=False)
                    known = any("::ffff:" not in line for line in answer.splitlines())
                    expect_equal(known, expected, f"{family} of {host} on {name}: {answer}")

    def each_family_leads_there(self):
        """Services, readiness probes, and the NetworkPolicy."""
        lab = self.lab
        self.all_ready()
        for family in self.families:
            for service, recovery in (("primary", "f"), ("replicas", "t")):
                address = lab.network.service_address(f"{lab.prefix}-{service}", family)
                answer = lab.ask(address, "SELECT pg_is_in_recovery(), family(inet_server_addr())")
                expect_equal(answer, f"{recovery}|{family[-1]}", f"answer of {service} at {address}")
            for name, node in lab.nodes.items():
                address = node.pod.addresses[family]
                host = f"[{address}]" if ":" in address else address
                probe = node.vm.probe["httpGet"]
                url = f"http://{host}:{probe['port']}{probe['path']}"
                expect_equal(run(*in_netns(lab.network.hub, "python3", "-c", PROBE, url)), "200", f"readiness at {url}")
                let_in = family == self.families[-1]
                try:
                    lab.ask(address, "SELECT 1", stranger=True)
                except CommandFailed as error:
                    expect(not let_in and "timeout" in str(error), f"a stranger at {address}: {error}")
                else:
                    expect(let_in, f"{address} lets a stranger in")


class DualStack(Families):
    title = "pods with both IP families, golden image"
    families = ("IPv4", "IPv6")
    service = {"ip-families": ["IPv6", "IPv4"]}

    def setup(self):
        self.lab = self.new_lab()
        self.lab.apply(self.family_config(self.service))

    @scenario("forming: all are ready, stream over IPv6 and have load")
    def forming(self):
        lab = self.lab
        with self.timed("blank disks -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming()
        self.formed()
        self.streams_over_ipv6()
        self.load_runs()
        self.writer = self.new_writer()

    @scenario("a guest has the addresses and default routes of its families, and completes single-label names")
    def addresses(self):
        self.guests_have_their_families()

    @scenario("Services and readiness of each family lead to the database, and the NetworkPolicy knows all")
    def services(self):
        self.each_family_leads_there()

    @scenario("restart of everything, and power loss of the primary: nothing made anew, no row lost, still over IPv6")
    def restart_all(self):
        lab = self.lab
        lab.stop(*lab.nodes)
        with self.timed("start of all -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming()
        self.settled(*lab.nodes)
        lab.power_loss(lab.primary)
        lab.start(lab.primary)
        self.settled(lab.primary)
        self.streams_over_ipv6()


class Ipv6Only(DualStack):
    title = "pods with IPv6 alone, golden image"
    families = ("IPv6",)
    service = IPV6


class Preferred(Families):
    title = "dual stack preferred, pods with IPv4 alone, golden image"

    def setup(self):
        self.lab = self.new_lab()
        self.lab.network.serve_packages({})
        self.lab.apply(self.family_config({"ip-family-policy": "PreferDualStack"}))

    @scenario("forming: all are ready, stream over IPv4 and have load; Services and readiness lead to the database")
    def forming(self):
        lab = self.lab
        with self.timed("blank disks -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming()
        self.formed()
        self.load_runs()
        self.each_family_leads_there()

    @scenario("the guests' IPv6 leads nowhere, and hosts that have both families are reached all the same")
    def reached(self):
        lab = self.lab
        for name in lab.nodes:
            guest = lab.guest(name)
            found = guest.run("ip", "-oneline", "-6", "address", "show", "scope", "global")
            expect(f" {FAMILIES['IPv6'].guest}/" in found, f"addresses of {name}: {found}")
            # by RFC 6724 a private address of one's own is for private ones: then the kernel has to give up first
            for host, seconds in zip(HALF_REACHED, (1, 10), strict=True):
                peer, took = guest.run("python3", "-c", CONNECT, host).split()
                expect(peer == MIRROR and float(took) < seconds, f"{host} from {name}: {peer} after {took} s")
                self.figures.append((f"{name} -> {host}", float(took)))
