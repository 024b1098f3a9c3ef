"""The documents of a bundle, read as KubeVirt reads them."""

import base64
import dataclasses
import json
import re

import yaml

CLUSTER_DOMAIN = "cluster.local"
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk of a VM. `kind` is one of container-disk, cloud-init, secret, config-map, data-volume."""

    name: str
    kind: str
    source: dict
    serial: str | None
    readonly: bool


def read(text):
    """The objects of a YAML stream by (kind, name)."""
    return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(text) if d}


def quantity(value):
    """A Kubernetes quantity in bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(value)).groups()
    return int(float(number) * UNITS[unit])


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def service_families(spec, cluster):
    """The IP families of a Service in a cluster with these: what the API server makes of `ipFamilies` and
    `ipFamilyPolicy`, and refuses."""
    families = list(spec.get("ipFamilies", cluster[:1]))
    policy = spec.get("ipFamilyPolicy", "SingleStack")
    if len(families) > 1 and policy == "SingleStack":
        raise ValueError("ipFamilyPolicy: must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are "
                         "specified")
    if policy == "RequireDualStack" and len(cluster) < 2:
        raise ValueError("ipFamilyPolicy: this cluster is not configured for dual-stack services")
    if not set(families) <= set(cluster):
        raise ValueError(f"ipFamilies: {families}: not configured on this cluster")
    if policy != "SingleStack" and len(families) == 1:
        families += [family for family in cluster if family not in families]
    return families


def secret_files(secret):
    """The files of a Secret: name to bytes."""
    files = {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}
    files.update({key: value.encode() for key, value in secret.get("stringData", {}).items()})
    return files


def files(disk, objects):
    """The files of a Secret's or ConfigMap's disk: name to bytes."""
    if disk.kind == "secret":
        return secret_files(objects["Secret", disk.source["secretName"]])
    return {key: text.encode() for key, text in objects["ConfigMap", disk.source["name"]]["data"].items()}


class VirtualMachine:
    """A VirtualMachine document and what virt-launcher takes from it."""

    def __init__(self, document):
        self.name = document["metadata"]["name"]
        template = document["spec"]["template"]
        spec = template["spec"]
        self.labels = template["metadata"]["labels"]
        self.hostname = spec.get("hostname", self.name)
        self.subdomain = spec.get("subdomain")
        self.grace_period = spec["terminationGracePeriodSeconds"]
        self.probe = spec["readinessProbe"]
        self.uuid = spec["domain"]["firmware"]["uuid"]
        self.memory = quantity(spec["domain"].get("memory", {}).get("guest", "2Gi"))
        self.root_templates = {t["metadata"]["name"]: t for t in document["spec"].get("dataVolumeTemplates", [])}
        self.watchdog = spec["domain"]["devices"].get("watchdog")
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        self.disks = [self._disk(disk, volumes) for disk in spec["domain"]["devices"]["disks"]]
        if spec["domain"]["devices"]["interfaces"] != [{"name": "default", "masquerade": {}}]:
            raise ValueError(f"{self.name}: the harness knows one interface, with masquerade")

    def _disk(self, disk, volumes):
        volume = dict(volumes[disk["name"]])
        volume.pop("name")
        (key, source), = volume.items()
        kind = {"containerDisk": "container-disk", "cloudInitNoCloud": "cloud-init", "secret": "secret",
                "configMap": "config-map", "dataVolume": "data-volume"}[key]
        return Disk(disk["name"], kind, source, disk.get("serial"), disk["disk"].get("readonly", False))

    @property
    def persistent_root(self):
        return any(d.kind == "data-volume" and d.source["name"] in self.root_templates for d in self.disks)

    def is_root(self, disk):
        return disk.kind == "container-disk" or disk.source.get("name") in self.root_templates

    def file_disks(self):
        """The disks with the files of Secrets and ConfigMaps."""
        return [disk for disk in self.disks if disk.kind in ("secret", "config-map")]

    def database_disks(self):
        """The disks that outlive the VM, by DataVolume."""
        return {d.source["name"]: d for d in self.disks if d.kind == "data-volume" and not self.is_root(d)}

    def seed(self, objects):
        """The files of the NoCloud image: virt-launcher makes it anew at each start."""
        source, = (d.source for d in self.disks if d.kind == "cloud-init")
        files = {
            "user-data": secret_files(objects["Secret", source["secretRef"]["name"]])["userdata"],
            "meta-data": json.dumps({"instance-id": self.uuid, "local-hostname": self.hostname}).encode(),
        }
        if "networkDataSecretRef" in source:
            network = secret_files(objects["Secret", source["networkDataSecretRef"]["name"]])
            files["network-config"] = network["networkdata"]
        return files

    def search_domains(self, namespace):
        """What KubeVirt's DHCP offers: the subdomain's own, then the pod's search list."""
        pod = [f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
        return ([f"{self.subdomain}.{pod[0]}"] if self.subdomain else []) + pod
