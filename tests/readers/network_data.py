"""What cloud-init makes of the network data of guests with IPv6, with each writer that their distributions use.

network_data.py GEN: a directory of its own is used for configs and for what is written.
"""

import configparser
import pathlib
import shlex
import subprocess
import sys
import tempfile

import cloudinit.distros.rhel  # before cloudinit.net.sysconfig, which newer cloud-init cannot import first
import yaml
from cloudinit.net import netplan, network_manager, network_state, sysconfig

GEN = pathlib.Path(sys.argv[1]).resolve()
SERVER = "fd00:10:96::a"
ADDRESS, GATEWAY = "fd10:0:2::2/120", "fd10:0:2::1"
DOMAINS = [f"{name}lab.svc.cluster.local" for name in ("db-nodes.", "")] + ["svc.cluster.local", "cluster.local"]
SERVICES = {
    "both": {"ip-families": ["IPv4", "IPv6"]},
    "both, with DNS": {"ip-families": ["IPv6", "IPv4"], "dns-servers": [SERVER]},
    "IPv6": {"ip-families": ["IPv6"], "dns-servers": [SERVER]},
}


def written(image, service, writer, options):
    """The files that the writer makes of the network data of a lab, by path."""
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory, "gen.yaml")
        config.write_text(yaml.safe_dump({"name": "db", "namespace": "lab", "guest": {"image": image}, "service": service}))
        bundle = subprocess.run([GEN, config], check=True, capture_output=True, text=True).stdout
        data = {document["stringData"]["networkdata"] for document in yaml.safe_load_all(bundle)
                if "networkdata" in document.get("stringData", {})}
        text, = data
        renderer = writer.Renderer(dict(options))
        root = pathlib.Path(directory, "root")
        root.mkdir()
        renderer.render_network_state(network_state.parse_net_config_data(yaml.safe_load(text), renderer=renderer),
                                      target=str(root))
        return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def ini(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


def from_sysconfig(files, interface):
    """What NetworkManager and the C library read there: whether DHCPv4 is on, address, gateway, servers and domains; the
    last two are None where DHCP's are taken."""
    text = files[f"etc/sysconfig/network-scripts/ifcfg-{interface}"]
    found = dict(line.split("=", 1) for line in shlex.split(text, comments=True))
    dhcp = {"dhcp": True, "none": False}[found["BOOTPROTO"]]
    servers, domains = None, None
    if ini(files.get("etc/NetworkManager/conf.d/99-cloud-init.conf", "")).get("main", "dns", fallback="") == "none":
        lines = [line.split() for line in files["etc/resolv.conf"].splitlines()]
        servers = [words[1] for words in lines if words[:1] == ["nameserver"]]
        domains = [domain for words in lines if words[:1] == ["search"] for domain in words[1:]]
    return dhcp, found["IPV6ADDR"], found["IPV6_DEFAULTGW"], servers, domains


def from_network_manager(files, interface):
    """The same of a keyfile. NetworkManager adds DHCP's servers and domains to these."""
    found = ini(files[f"etc/NetworkManager/system-connections/cloud-init-{interface}.nmconnection"])

    def listed(key):
        return [entry for entry in found["ipv6"].get(key, "").split(";") if entry] or None

    dhcp = "ipv4" in found and found["ipv4"]["method"] == "auto"
    if found["ipv6"]["method"] != "manual":
        raise SystemExit(f"{interface}: {found['ipv6']['method']}")
    return dhcp, found["ipv6"]["address1"], found["ipv6"]["gateway"], listed("dns"), listed("dns-search")


def from_netplan(files, interface):
    """The same of netplan's file, which cloud-init hands on as it is."""
    found = yaml.safe_load(files["etc/netplan/50-cloud-init.yaml"])["network"]["ethernets"][interface]
    route, = found["routes"]
    address, = found["addresses"]
    names = found.get("nameservers", {})
    dhcp = found.get("dhcp4", False)
    if route["to"] != "::/0" or (dhcp and not found["dhcp4-overrides"]["use-domains"]):
        raise SystemExit(f"{interface}: {found}")
    return dhcp, address, route["via"], names.get("addresses"), names.get("search")


EL = "quay.io/containerdisks/centos-stream:9"
WRITERS = [
    ("sysconfig", EL, sysconfig, cloudinit.distros.rhel.Distro.renderer_configs["sysconfig"], from_sysconfig,
     ["enp1s0", "eth0"]),
    ("NetworkManager", EL, network_manager, {}, from_network_manager, ["enp1s0", "eth0"]),
    ("NetworkManager", "quay.io/containerdisks/fedora:44", network_manager, {}, from_network_manager, ["enp1s0", "eth0"]),
    ("netplan", "quay.io/containerdisks/debian:13", netplan, {"netplan_path": "etc/netplan/50-cloud-init.yaml",
                                                             "postcmds": False}, from_netplan, ["pod"]),
]

faults = []
for name, image, writer, options, read, interfaces in WRITERS:
    for title, service in SERVICES.items():
        servers = service.get("dns-servers")
        # where DHCP's domains are lost with a server of ours, they have to be told
        told = title == "IPv6" or (servers and image == EL)
        wanted = (title != "IPv6", ADDRESS, GATEWAY, servers, DOMAINS if told else None)
        files = written(image, service, writer, options)
        for interface in interfaces:
            found = read(files, interface)
            if found != wanted:
                faults.append(f"{name}, {image}, {title}, {interface}: {found}, expected {wanted}")
for fault in faults:
    print(fault, file=sys.stderr)
sys.exit(bool(faults))
