"""The cluster's network of one lab: pods behind masquerade, Services, DNS, DHCP and NetworkPolicy.

A hub namespace routes between the pods, as a node does, and has no link to anything else. Each pod is a namespace with
addresses of its own; its VM sits behind it as 10.0.2.2 and fd10:0:2::2, the addresses that every VM has under KubeVirt's
masquerade. Services have virtual addresses that the hub translates to the ready pods, as kube-proxy does. A cluster has one
IP family or both, the first one first.

With a router.Router the cluster has a second node, the edge, which is on a network that it shares with other clusters: it
gives pods its own address on their way out, and leads load balancers' addresses and node ports in. What enters comes from the
edge, or with `externalTrafficPolicy: Local` from whom it comes; NetworkPolicies see the same.
"""

import contextlib
import ctypes
import dataclasses
import functools
import http.client
import http.server
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse

import kubevirt
from shell import CommandFailed, end, in_netns, run

MIRROR = "192.0.2.10"
"""Where `mirror.test` is, the package repository."""
PROXY = "192.0.2.20"
EDGE = "169.254.2.2"
"""The edge, on the hub's link to it."""
HALF_REACHED = {"public.test": "2001:db8::10", "private.test": "fd00:10:99::10"}
"""Names of the mirror with an IPv6 address, too, at which nobody is: one of the Internet, one of a site."""
OUTSIDE = [f"{MIRROR} mirror.test", f"{PROXY} proxy.test",
           *(f"{address} {name}" for name, other in HALF_REACHED.items() for address in (MIRROR, other))]
"""Lines for the DNS server."""
CLONE_NEWNET = 0x40000000
UNVERIFIED = ssl._create_unverified_context()


@dataclasses.dataclass(frozen=True)
class Family:
    """An IP family of the cluster. `own` are the pods of the lab's namespace, `services` all Services; `guest` is a VM's
    address behind masquerade, `bridge` the pod's beside it."""

    nft: str
    bits: int
    dns: str
    gateway: str
    own: str
    stranger: str
    services: str
    guest: str
    bridge: str

    def pod(self, number):
        return f"10.244.{number // 250}.{number % 250 + 1}" if self.nft == "ip" else f"fd00:10:244::{number:x}"

    def service(self, number):
        return f"10.96.1.{number}" if self.nft == "ip" else f"fd00:10:96::1:{number:x}"

    def nat(self):
        """KubeVirt's masquerade."""
        return f"""
            table {self.nft} nat {{
              chain prerouting {{ type nat hook prerouting priority dstnat; iifname "eth0" dnat to {self.guest}; }}
              chain postrouting {{ type nat hook postrouting priority srcnat; {self.nft} saddr {self.guest} masquerade; }}
            }}
            """


FAMILIES = {
    "IPv4": Family("ip", 32, "10.96.0.10", "169.254.1.1", "10.244.0.0/17", "10.244.200.1", "10.96.0.0/16",
                   "10.0.2.2", "10.0.2.1/24"),
    "IPv6": Family("ip6", 128, "fd00:10:96::a", "fe80::1", "fd00:10:244::/64", "fd00:10:244:1::1",
                   "fd00:10:96::/112", "fd10:0:2::2", "fd10:0:2::1/120"),
}


class Pod:
    """A pod: `netns` is its namespace, `addresses` its addresses by family, `address` the one of the cluster's first.
    With `guest_netns` the VM is a container with a veth pair; without, a machine with the tap device `guest0` of the
    pod's namespace."""

    def __init__(self, netns, addresses, guest_netns=None):
        self.netns = netns
        self.addresses = addresses
        self.address = next(iter(addresses.values()))
        self.guest_netns = guest_netns
        self.dhcp = None


def enter_netns(netns):
    """Moves the calling thread, and nothing else, to a network namespace."""
    with open(f"/run/netns/{netns}", "rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")


class Network:
    """The network of one lab. `prefix` begins the names of its namespaces, `directory` holds its files, `router` leads to other
    clusters."""

    def __init__(self, prefix, directory, namespace, families=("IPv4",), router=None):
        self.families = families
        self.prefix = prefix
        self.directory = pathlib.Path(directory)
        self.namespace = namespace
        self.hub = f"{prefix}-hub"
        self.numbers = iter(range(2, 30000))
        self.service_addresses = {}
        self.balancers = {}
        self.node_ports = {}
        self.router = router
        self.edge = router and f"{prefix}-edge"
        self.link = None
        self.pods = []
        self.servers = []
        self.published = None
        self.directory.mkdir(parents=True)
        run("ip", "netns", "add", self.hub)
        self._ip(self.hub, "link set lo up")
        for family in self._families():
            self._ip(self.hub, f"address add {family.dns}/{family.bits} dev lo",
                     f"route add unreachable {family.services}")
        self._forward(self.hub)
        if router:
            self._add_edge()
        self.hosts = self.directory / "hosts"
        self.hosts.write_text("".join(f"{line}\n" for line in OUTSIDE))
        self.dns = self._dnsmasq(
            self.hub, "dns", *(f"--listen-address={family.dns}" for family in self._families()), "--bind-interfaces",
            "--no-resolv", "--no-hosts", f"--addn-hosts={self.hosts}", f"--local=/{kubevirt.CLUSTER_DOMAIN}/",
            "--local=/test/")
        self.client = self.add_pod("client")
        self.stranger = self.add_pod("stranger", is_stranger=True)

    def _add_edge(self):
        run("ip", "netns", "add", self.edge)
        self._forward(self.edge)
        self._ip(self.edge, "link set lo up", f"link add cluster type veth peer name edge netns {self.hub}",
                 "link set cluster up", f"address add {EDGE}/30 dev cluster")
        self._ip(self.hub, "link set edge up", "address add 169.254.2.1/30 dev edge", f"route add default via {EDGE}")
        self._ip(self.edge, "route add 10.244.0.0/16 via 169.254.2.1")
        self.link = self.router.join(self.edge)

    def _families(self):
        return [FAMILIES[name] for name in self.families]

    def _forward(self, netns):
        """Lets a namespace route. With IPv6 the kernel would wait a second before it uses an address."""
        run(*in_netns(netns, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                      "net.ipv6.conf.default.accept_dad=0"))

    def _ip(self, netns, *commands):
        run("ip", "-netns", netns, "-batch", "-", stdin="\n".join(commands) + "\n")

    def _dnsmasq(self, netns, name, *options):
        with open(self.directory / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                in_netns(netns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
                         "--group=root", "--pid-file=", "--log-facility=-", *options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def add_pod(self, name, is_stranger=False):
        """A pod without VM: its own addresses and the routes of a node. A stranger is of another namespace."""
        number = next(self.numbers)
        addresses = {name: FAMILIES[name].stranger if is_stranger else FAMILIES[name].pod(number)
                     for name in self.families}
        pod = Pod(f"{self.prefix}-{name}", addresses)
        link = f"pod{number}"
        run("ip", "netns", "add", pod.netns)
        run(*in_netns(pod.netns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"))
        self._ip(self.hub, f"link add {link} type veth peer name eth0 netns {pod.netns}", f"link set {link} up")
        self._ip(pod.netns, "link set lo up", "link set eth0 up")
        for family, address in zip(self._families(), addresses.values(), strict=True):
            # the same gateway on every link, as Calico has it
            scope = "scope link" if family.nft == "ip" else ""
            self._ip(self.hub, f"address add {family.gateway}/{family.bits} dev {link}",
                     f"route add {address}/{family.bits} dev {link}")
            self._ip(pod.netns, f"address add {address}/{family.bits} dev eth0",
                     f"route add {family.gateway} dev eth0 {scope}", f"route add default via {family.gateway} dev eth0")
        self.pods.append(pod)
        return pod

    def add_vm(self, vm, container):
        """A pod with a VM behind it, a new address at each start."""
        pod = self.add_pod(vm.name)
        if container:
            pod.guest_netns = f"{pod.netns}-vm"
            run("ip", "netns", "add", pod.guest_netns)
            self._ip(pod.netns, f"link add guest0 type veth peer name enp1s0 netns {pod.guest_netns}")
        else:
            self._ip(pod.netns, "tuntap add guest0 mode tap")
        self._forward(pod.netns)
        self._ip(pod.netns, "link set guest0 up", *(f"address add {f.bridge} dev guest0" for f in self._families()))
        run(*in_netns(pod.netns, "nft", "-f", "-"), stdin="".join(family.nat() for family in self._families()))
        pod.dhcp = self._dnsmasq(
            pod.netns, f"dhcp-{vm.name}", "--port=0", "--interface=guest0", "--bind-interfaces", "--dhcp-authoritative",
            *self._dhcp(vm), f"--dhcp-leasefile={self.directory / f'leases-{pod.address}'}")
        return pod

    def _dhcp(self, vm):
        """What KubeVirt's DHCP offers, of each family that the pod has. Of IPv6 that is an address, since 1.7 with DNS
        servers, which are not here; never search domains or, without router advertisements, a route."""
        domains = vm.search_domains(self.namespace)
        if "IPv4" in self.families:
            yield "--dhcp-range=10.0.2.2,10.0.2.2,255.255.255.0,infinite"
            yield "--dhcp-option=option:router,10.0.2.1"
            yield f"--dhcp-option=option:dns-server,{FAMILIES['IPv4'].dns}"
            yield f"--dhcp-option=option:domain-name,{max(domains, key=len)}"
            yield f"--dhcp-option=option:domain-search,{','.join(domains)}"
        if "IPv6" in self.families:
            yield "--dhcp-range=fd10:0:2::2,fd10:0:2::2,120,infinite"
            yield "--dhcp-option=option6:dns-server"

    def cut(self, pod, off=True):
        """Takes the cable out, or puts it in again."""
        self._ip(pod.netns, f"link set guest0 {'down' if off else 'up'}")

    @contextlib.contextmanager
    def delayed(self, pod, host, milliseconds):
        """Connections that this guest makes meanwhile to a host's PostgreSQL take so much longer each way. What it yields changes
        that, with the bytes of a second that may come from there."""
        port = 15432
        run(*in_netns(pod.netns, "nft", "-f", "-"), stdin=f"""
            table ip delayed {{
              chain prerouting {{
                type nat hook prerouting priority dstnat - 1;
                ip daddr {host} tcp dport 5432 redirect to :{port}
              }}
            }}
            """)
        proxy = subprocess.Popen(in_netns(pod.netns, sys.executable, str(pathlib.Path(__file__).with_name("delay.py")),
                                          str(port), host, str(milliseconds)),
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

        def change(milliseconds, rate=0):
            proxy.stdin.write(f"{milliseconds} {rate}\n".encode())
            proxy.stdin.flush()

        try:
            if proxy.stdout.readline() != b"listening\n":
                raise RuntimeError("delay.py does not listen")
            yield change
        finally:
            run(*in_netns(pod.netns, "nft", "delete", "table", "ip", "delayed"))
            end(proxy)
            proxy.stdin.close()
            proxy.stdout.close()

    def remove_pod(self, pod):
        if pod.dhcp:
            end(pod.dhcp)
        for netns in filter(None, (pod.guest_netns, pod.netns)):
            run("ip", "netns", "delete", netns, check=False)
        self.pods.remove(pod)

    def service_address(self, name, family=None):
        """Its address of a family, of the cluster's first if none is given."""
        number = self.service_addresses.setdefault(name, len(self.service_addresses) + 1)
        return FAMILIES[family or self.families[0]].service(number)

    def balancer_address(self, name):
        """The address that a Service of type LoadBalancer has outside."""
        return self.link.balancer(self.balancers.setdefault(name, len(self.balancers) + 1))

    def node_port(self, name, port):
        """The port of the edge that leads to a Service: the one that it asks for, or the next."""
        return port.get("nodePort") or self.node_ports.setdefault(name, 31000 + len(self.node_ports))

    def publish(self, objects, running):
        """Names, endpoints and policies, for `running`: (VirtualMachine, Pod, ready) of each VM that is on."""
        hosts = list(OUTSIDE)
        if self.router:
            hosts += [f"{address} {name}" for name, address in sorted(self.router.names.items())]
        exposed = []
        translations, policies = ({family: [] for family in self.families} for _ in range(2))
        for (kind, name), document in sorted(objects.items()):
            if kind == "Service":
                spec = document["spec"]
                domain = f"{name}.{self.namespace}.svc.{kubevirt.CLUSTER_DOMAIN}"
                chosen = [entry for entry in running if kubevirt.selects(spec["selector"], entry[0].labels)]
                for family in kubevirt.service_families(spec, self.families):
                    if spec.get("clusterIP") == "None":
                        for vm, pod, ready in chosen:
                            if ready or spec.get("publishNotReadyAddresses"):
                                hosts.append(f"{pod.addresses[family]} {domain}")
                                if vm.subdomain == name:
                                    hosts.append(f"{pod.addresses[family]} {vm.hostname}.{domain}")
                    else:
                        address = self.service_address(name, family)
                        hosts.append(f"{address} {domain}")
                        port, = spec["ports"]
                        targets = [pod.addresses[family] for _, pod, ready in chosen if ready]
                        translations[family] += _translate(FAMILIES[family].nft, address, port, targets)
                        if self.router and family == "IPv4" and spec.get("type", "ClusterIP") != "ClusterIP":
                            exposed += self._expose(name, spec, port, targets)
            elif kind == "NetworkPolicy":
                selected = [pod for vm, pod, _ in running
                            if kubevirt.selects(document["spec"]["podSelector"]["matchLabels"], vm.labels)]
                for family in self.families:
                    policies[family] += _police(FAMILIES[family], document["spec"],
                                                [pod.addresses[family] for pod in selected], running, family)
        rules = "".join(_table(FAMILIES[family].nft, translations[family], policies[family])
                        for family in self.families)
        if (hosts, rules, exposed) != self.published:
            run(*in_netns(self.hub, "nft", "-f", "-"), stdin=rules)
            if self.router:
                run(*in_netns(self.edge, "nft", "-f", "-"), stdin=_edge_table(exposed, self.link.node))
            self.hosts.write_text("".join(f"{line}\n" for line in hosts))
            self.dns.send_signal(signal.SIGHUP)
            self.published = (hosts, rules, exposed)

    def _expose(self, name, spec, port, targets):
        """How the edge leads in to a Service: pairs of what it translates, and what gets the edge's address then."""
        ways = [(self.link.node, self.node_port(name, port), "")]
        if spec["type"] == "LoadBalancer":
            ranges = spec.get("loadBalancerSourceRanges")
            source = f"ip saddr {{ {', '.join(ranges)} }} " if ranges else ""
            ways.append((self.balancer_address(name), port["port"], source))
        for address, number, source in ways:
            way = {"port": number, "targetPort": port.get("targetPort", port["port"])}
            # Those within the cluster would be answered past the edge.
            own = 'iifname "cluster" ' if spec.get("externalTrafficPolicy") == "Local" else ""
            for rule in _translate("ip", address, way, targets):
                yield source + rule, f"{own}meta l4proto tcp ct original ip daddr {address} ct original proto-dst {number}"


    def answers(self, address, probe):
        """Whether a readiness probe succeeds, as the kubelet asks from the calling thread's namespace."""
        seconds = probe.get("timeoutSeconds", 1)
        if "tcpSocket" in probe:
            try:
                socket.create_connection((address, probe["tcpSocket"]["port"]), seconds).close()
            except OSError:
                return False
            return True
        get = probe["httpGet"]
        if get.get("scheme") == "HTTPS":
            # The kubelet does not look at certificates.
            connection = http.client.HTTPSConnection(address, get["port"], timeout=seconds, context=UNVERIFIED)
        else:
            connection = http.client.HTTPConnection(address, get["port"], timeout=seconds)
        try:
            connection.request("GET", get["path"])
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def serve_packages(self, directories):
        """Serves {first part of the path: directory} as http://mirror.test/, and as a proxy at http://proxy.test:3128;
        returns the list of requested paths, which grows."""
        self._ip(self.hub, f"address add {MIRROR}/32 dev lo", f"address add {PROXY}/32 dev lo")
        requests = []
        handler = functools.partial(_Repository, directories, requests)
        for address in ((MIRROR, 80), (PROXY, 3128)):
            server = _serve_in(self.hub, address, handler)
            self.servers.append(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return requests

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        for pod in list(self.pods):
            self.remove_pod(pod)
        end(self.dns)
        for netns in filter(None, (self.edge, self.hub)):
            run("ip", "netns", "delete", netns, check=False)


def _table(nft, translations, policies):
    """The hub's rules of a family, in the place of those that were there."""
    return "\n".join([
        f"table {nft} cluster", f"delete table {nft} cluster", f"table {nft} cluster {{",
        "chain services { type nat hook prerouting priority dstnat;", *translations, "}",
        "chain policies { type filter hook forward priority filter; ct state established,related accept", *policies,
        "}", "}"]) + "\n"


def _edge_table(exposed, node):
    """The edge's rules. A connection that has been translated is marked, because the device it came from is not known any more
    when it gets its source."""
    return "\n".join([
        "table ip edge", "delete table ip edge", "table ip edge {",
        "chain in { type nat hook prerouting priority dstnat;", *(rule for rule, _ in exposed), "}",
        "chain marks { type filter hook forward priority filter;", *(f"{match} ct mark set 1" for _, match in exposed), "}",
        f'chain out {{ type nat hook postrouting priority srcnat; oifname "wan" snat to {node}; ct mark 1 snat to {node}; }}',
        "}"]) + "\n"


def _translate(nft, address, port, targets):
    """kube-proxy: no rule without endpoints, the address is unreachable then."""
    match = f"{nft} daddr {address} tcp dport {port['port']}"
    target_port = port.get("targetPort", port["port"])
    if len(targets) == 1:
        target = f"[{targets[0]}]" if nft == "ip6" else targets[0]
        return [f"{match} dnat to {target}:{target_port}"]
    if targets:
        choices = ", ".join(f"{i} : {target} . {target_port}" for i, target in enumerate(targets))
        return [f"{match} dnat {nft} to numgen random mod {len(targets)} map {{ {choices} }}"]
    return []


def _police(family, spec, pods, running, name):
    """Ingress rules of a NetworkPolicy for these pods, in the shapes that a bundle has; `name` is the family's."""
    if not pods:
        return []
    nft = family.nft
    to = f"{nft} daddr {{ {', '.join(pods)} }}"
    rules = []
    for rule in spec["ingress"]:
        ports = ", ".join(str(port["port"]) for port in rule["ports"])
        for peer in rule.get("from", [None]):
            if peer is None:
                source = ""
            elif peer == {"podSelector": {}}:
                source = f"{nft} saddr {family.own} "
            elif peer == {"namespaceSelector": {}}:
                source = f"{nft} saddr {{ {family.own}, {family.stranger} }} "
            elif "podSelector" in peer:
                own = [pod.addresses[name] for vm, pod, _ in running
                       if kubevirt.selects(peer["podSelector"]["matchLabels"], vm.labels)]
                source = f"{nft} saddr {{ {', '.join(own)} }} "
            elif (":" in peer["ipBlock"]["cidr"]) != (nft == "ip6"):
                continue
            else:
                source = f"{nft} saddr {peer['ipBlock']['cidr']} "
            rules.append(f"{source}{to} tcp dport {{ {ports} }} accept")
    # The hub stands for the node, which may always probe; what it sends itself is not forwarded.
    return rules + [f"{to} drop"]


def _serve_in(netns, address, handler):
    """An HTTP server whose socket lives in a namespace: made by a thread that goes there and ends."""
    result = []

    def make():
        enter_netns(netns)
        result.append(http.server.ThreadingHTTPServer(address, handler))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not result:
        raise CommandFailed(f"no HTTP server on {address} in {netns}")
    return result[0]


class _Repository(http.server.SimpleHTTPRequestHandler):
    """Files, also when asked for with a whole address, as a client asks a proxy."""

    protocol_version = "HTTP/1.1"

    def __init__(self, directories, requests, *arguments):
        self.directories = directories
        self.requests = requests
        super().__init__(*arguments)

    def translate_path(self, path):
        via = "proxy " if path.startswith("http://") else ""
        path = urllib.parse.unquote(path.removeprefix("http://mirror.test"))
        self.requests.append(via + path)
        first, _, rest = path.strip("/").partition("/")
        if first not in self.directories or ".." in rest:
            return os.path.join(os.devnull, "nothing")
        return os.path.join(self.directories[first], rest)

    def log_message(self, *arguments):
        pass
