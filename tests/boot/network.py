"""The cluster's network of one lab: pods behind masquerade, Services, DNS, DHCP and NetworkPolicy.

A hub namespace routes between the pods, as a node does, and has no link to anything else. Each pod is a namespace with
its own address; its VM sits behind it as 10.0.2.2, the address that every VM has under KubeVirt's masquerade. Services
have virtual addresses that the hub translates to the ready pods, as kube-proxy does.
"""

import ctypes
import functools
import http.client
import http.server
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading
import urllib.parse

import kubevirt
from shell import CommandFailed, end, in_netns, run

DNS = "10.96.0.10"
MIRROR = "192.0.2.10"
"""Where `mirror.test` is, the package repository."""
PROXY = "192.0.2.20"
GATEWAY = "169.254.1.1"
CLONE_NEWNET = 0x40000000
UNVERIFIED = ssl._create_unverified_context()

NAT = """
table ip nat {
  chain prerouting { type nat hook prerouting priority dstnat; iifname "eth0" dnat to 10.0.2.2; }
  chain postrouting { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
}
"""


class Pod:
    """A pod: `netns` is its namespace, `address` its address. With `guest_netns` the VM is a container with a veth
    pair; without, a machine with the tap device `guest0` of the pod's namespace."""

    def __init__(self, netns, address, guest_netns=None):
        self.netns = netns
        self.address = address
        self.guest_netns = guest_netns
        self.dhcp = None


def enter_netns(netns):
    """Moves the calling thread, and nothing else, to a network namespace."""
    with open(f"/run/netns/{netns}", "rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")


class Network:
    """The network of one lab. `prefix` begins the names of its namespaces, `directory` holds its files."""

    def __init__(self, prefix, directory, namespace):
        self.prefix = prefix
        self.directory = pathlib.Path(directory)
        self.namespace = namespace
        self.hub = f"{prefix}-hub"
        self.numbers = iter(range(2, 30000))
        self.service_addresses = {}
        self.pods = []
        self.servers = []
        self.published = None
        self.directory.mkdir(parents=True)
        run("ip", "netns", "add", self.hub)
        self._ip(self.hub, "link set lo up", f"address add {DNS}/32 dev lo", "route add unreachable 10.96.0.0/16")
        run(*in_netns(self.hub, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        self.hosts = self.directory / "hosts"
        self.hosts.write_text(f"{MIRROR} mirror.test\n{PROXY} proxy.test\n")
        self.dns = self._dnsmasq(
            self.hub, "dns", f"--listen-address={DNS}", "--bind-interfaces", "--no-resolv", "--no-hosts",
            f"--addn-hosts={self.hosts}", f"--local=/{kubevirt.CLUSTER_DOMAIN}/", "--local=/test/")
        self.client = self.add_pod("client")
        self.stranger = self.add_pod("stranger", "10.244.200.1")

    def _ip(self, netns, *commands):
        run("ip", "-netns", netns, "-batch", "-", stdin="\n".join(commands) + "\n")

    def _dnsmasq(self, netns, name, *options):
        with open(self.directory / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                in_netns(netns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
                         "--group=root", "--pid-file=", "--log-facility=-", *options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def add_pod(self, name, address=None):
        """A pod without VM: its own address and the routes of a node."""
        number = next(self.numbers)
        address = address or f"10.244.{number // 250}.{number % 250 + 1}"
        pod = Pod(f"{self.prefix}-{name}", address)
        link = f"pod{number}"
        run("ip", "netns", "add", pod.netns)
        self._ip(self.hub, f"link add {link} type veth peer name eth0 netns {pod.netns}",
                 f"address add {GATEWAY}/32 dev {link}", f"link set {link} up", f"route add {address}/32 dev {link}")
        self._ip(pod.netns, "link set lo up", f"address add {address}/32 dev eth0", "link set eth0 up",
                 f"route add {GATEWAY} dev eth0 scope link", f"route add default via {GATEWAY}")
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
        self._ip(pod.netns, "address add 10.0.2.1/24 dev guest0", "link set guest0 up")
        run(*in_netns(pod.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        run(*in_netns(pod.netns, "nft", "-f", "-"), stdin=NAT)
        domains = vm.search_domains(self.namespace)
        pod.dhcp = self._dnsmasq(
            pod.netns, f"dhcp-{vm.name}", "--port=0", "--interface=guest0", "--bind-interfaces", "--dhcp-authoritative",
            "--dhcp-range=10.0.2.2,10.0.2.2,255.255.255.0,infinite", "--dhcp-option=option:router,10.0.2.1",
            f"--dhcp-option=option:dns-server,{DNS}", f"--dhcp-option=option:domain-name,{max(domains, key=len)}",
            f"--dhcp-option=option:domain-search,{','.join(domains)}",
            f"--dhcp-leasefile={self.directory / f'leases-{pod.address}'}")
        return pod

    def cut(self, pod, off=True):
        """Takes the cable out, or puts it in again."""
        self._ip(pod.netns, f"link set guest0 {'down' if off else 'up'}")

    def remove_pod(self, pod):
        if pod.dhcp:
            end(pod.dhcp)
        for netns in filter(None, (pod.guest_netns, pod.netns)):
            run("ip", "netns", "delete", netns, check=False)
        self.pods.remove(pod)

    def service_address(self, name):
        return self.service_addresses.setdefault(name, f"10.96.1.{len(self.service_addresses) + 1}")

    def publish(self, objects, running):
        """Names, endpoints and policies, for `running`: (VirtualMachine, Pod, ready) of each VM that is on."""
        hosts = [f"{MIRROR} mirror.test", f"{PROXY} proxy.test"]
        translations, policies = [], []
        for (kind, name), document in sorted(objects.items()):
            if kind == "Service":
                spec = document["spec"]
                domain = f"{name}.{self.namespace}.svc.{kubevirt.CLUSTER_DOMAIN}"
                chosen = [entry for entry in running if kubevirt.selects(spec["selector"], entry[0].labels)]
                if spec.get("clusterIP") == "None":
                    for vm, pod, ready in chosen:
                        if ready or spec.get("publishNotReadyAddresses"):
                            hosts.append(f"{pod.address} {domain}")
                            if vm.subdomain == name:
                                hosts.append(f"{pod.address} {vm.hostname}.{domain}")
                else:
                    address = self.service_address(name)
                    hosts.append(f"{address} {domain}")
                    port, = spec["ports"]
                    targets = [pod.address for _, pod, ready in chosen if ready]
                    translations += _translate(address, port, targets)
            elif kind == "NetworkPolicy":
                pods = [pod.address for vm, pod, _ in running
                        if kubevirt.selects(document["spec"]["podSelector"]["matchLabels"], vm.labels)]
                policies += _police(document["spec"], pods, running)
        rules = "\n".join([
            "table ip cluster", "delete table ip cluster", "table ip cluster {",
            "chain services { type nat hook prerouting priority dstnat;", *translations, "}",
            "chain policies { type filter hook forward priority filter; ct state established,related accept", *policies,
            "}", "}"]) + "\n"
        if (hosts, rules) != self.published:
            run(*in_netns(self.hub, "nft", "-f", "-"), stdin=rules)
            self.hosts.write_text("".join(f"{line}\n" for line in hosts))
            self.dns.send_signal(signal.SIGHUP)
            self.published = (hosts, rules)

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
        run("ip", "netns", "delete", self.hub, check=False)


def _translate(address, port, targets):
    """kube-proxy: no rule without endpoints, the address is unreachable then."""
    match = f"ip daddr {address} tcp dport {port['port']}"
    target_port = port.get("targetPort", port["port"])
    if len(targets) == 1:
        return [f"{match} dnat to {targets[0]}:{target_port}"]
    if targets:
        choices = ", ".join(f"{i} : {target} . {target_port}" for i, target in enumerate(targets))
        return [f"{match} dnat ip to numgen random mod {len(targets)} map {{ {choices} }}"]
    return []


def _police(spec, pods, running):
    """Ingress rules of a NetworkPolicy for these pods, in the shapes that a bundle has. Pods of the namespace are
    those in 10.244.0.0/17."""
    if not pods:
        return []
    to = f"ip daddr {{ {', '.join(pods)} }}"
    rules = []
    for rule in spec["ingress"]:
        ports = ", ".join(str(port["port"]) for port in rule["ports"])
        for peer in rule.get("from", [None]):
            if peer is None:
                source = ""
            elif peer == {"podSelector": {}}:
                source = "ip saddr 10.244.0.0/17 "
            elif "podSelector" in peer:
                own = [pod.address for vm, pod, _ in running
                       if kubevirt.selects(peer["podSelector"]["matchLabels"], vm.labels)]
                source = f"ip saddr {{ {', '.join(own)} }} "
            elif ":" in peer["ipBlock"]["cidr"]:
                continue
            else:
                source = f"ip saddr {peer['ipBlock']['cidr']} "
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
