"""Draws valid configs, over every section and key."""

import base64
import struct

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PASSWORD = LETTERS + LETTERS.upper() + "0123456789 '\"\\:$`;&|<>()[]{}!?*#%=@~^,.-_+/äßé€日本🐘"
PARAMETERS = {
    "work_mem": ["1MB", "8MB"],
    "cluster_name": ["it's $HOME \\n", "a b", "100%"],
    "search_path": ['"$user", public'],
    "log_min_duration_statement": [250],
    "autovacuum_naptime": ["15s"],
    "random_page_cost": [1.1],
    "jit": [False],
    "datestyle": ["ISO, DMY"],
    "max_connections": [120],
}
IMAGES = {"quay.io/containerdisks/fedora:44": None, "quay.io/containerdisks/debian:12": None,
          "quay.io/containerdisks/centos-stream:9": None, "quay.io/containerdisks/ubuntu:24.04": None,
          "registry.example:5000/golden/pg@sha256:" + "0" * 64: ["fedora", "rhel", "almalinux", "debian", "ubuntu"]}


def draw(random):
    """A config and the passwords for its secrets file."""

    def maybe(chance, value):
        return value() if random.random() < chance else None

    def mapping(**keys):
        return {key.replace("_", "-"): value for key, value in keys.items() if value is not None}

    def label(least, most):
        middle = "".join(random.choice(LETTERS + "0123456789-") for _ in range(random.randint(least, most) - 2))
        return random.choice(LETTERS) + middle + random.choice(LETTERS)

    def vm(wal_disk):
        sized = random.random() < 0.7
        return mapping(
            cpu_cores=maybe(0.5, lambda: random.randint(1, 8)) if sized else None,
            memory=maybe(0.7, lambda: random.choice(["2Gi", "4096Mi", "3G"])) if sized else None,
            instancetype=None if sized else random.choice(
                ["u1.medium", {"name": "site", "kind": "VirtualMachineInstancetype"}]),
            wal_disk_size="8Gi" if wal_disk else None,
            storage_class=maybe(0.3, lambda: label(3, 20)),
            access_modes=maybe(0.3, lambda: ["ReadWriteMany"]),
            volume_mode=maybe(0.3, lambda: random.choice(["Block", "Filesystem"])),
            node_selector=maybe(0.2, lambda: {"example.com/disks": random.choice(["nvme", "yes", "1"])}),
            tolerations=maybe(0.2, lambda: [{"key": "example.com/db", "operator": "Exists", "effect": "NoSchedule"}]),
            anti_affinity=maybe(0.3, lambda: random.choice(["preferred", "required", "none"])),
            run_strategy=maybe(0.3, lambda: random.choice(["Always", "Halted", "Manual", "RerunOnFailure"])),
            dedicated_io_thread=maybe(0.3, lambda: random.random() < 0.5),
            block_multiqueue=maybe(0.3, lambda: random.random() < 0.5),
            network_multiqueue=maybe(0.3, lambda: random.random() < 0.5),
            io_threads_policy=maybe(0.2, lambda: random.choice(["shared", "auto"])))

    def guest():
        image = random.choice(list(IMAGES))
        install = random.random() < 0.5
        systems = IMAGES[image]
        source = {"image": image, "os": random.choice(systems) if systems else None}
        if random.random() < 0.15:
            source = {"data_source": {"name": "golden", "namespace": "images"}, "os": random.choice(["rhel", "ubuntu"])}
        root = None if "data_source" in source else maybe(0.5, lambda: random.choice(["ephemeral", "persistent"]))
        return mapping(
            **source, root_disk=root, packages="install" if install else "preinstalled",
            root_disk_size=maybe(0.5, lambda: "20Gi") if root == "persistent" or "data_source" in source else None,
            extra_packages=maybe(0.4, lambda: random.sample(["tree", "jq"], random.randint(1, 2))) if install else None,
            http_proxy=maybe(0.4, lambda: "http://proxy.test:3128") if install else None,
            ssh=maybe(0.3, lambda: mapping(user=maybe(0.5, lambda: "dba"), authorized_keys=[ssh_key(random)])))

    scale = random.choice([1, 1, 2, 3, 5, 40])
    clients = maybe(0.5, lambda: random.randint(1, scale))
    wal_disk = random.random() < 0.3
    config = mapping(
        name=maybe(0.6, lambda: label(2, 48)),
        namespace=maybe(0.3, lambda: label(2, 40)),
        replica_count=random.choice([0, 1, 1, 2, 2, 3, 7, 40]),
        wal_keep_size=random.choice(["16MB", "48MB", "64MB"]),
        pgbench_scale=scale,
        labels=maybe(0.3, lambda: {"team": random.choice(["storage", "no", "1.10"]), "example.com/cost-center": "42"}),
        annotations=maybe(0.3, lambda: {"example.com/note": "it's \"quoted\": yes\n# two lines"}),
        pgbench=mapping(
            clients=clients, threads=maybe(0.4, lambda: 1), duration=random.randint(5, 30), pause=random.randint(0, 3),
            rate=random.choice([10, 30, 50]),
            protocol=maybe(0.5, lambda: random.choice(["simple", "extended", "prepared"])),
            partitions=maybe(0.3, lambda: random.randint(0, 5))),
        postgresql=mapping(
            max_slot_wal_keep_size=maybe(0.5, lambda: random.choice(["64MB", "1GB"])),
            parameters={"max_wal_size": "64MB", "min_wal_size": "32MB",
                        **{name: random.choice(PARAMETERS[name]) for name in random.sample(list(PARAMETERS), 3)}},
            allowed_clients=maybe(0.3, lambda: ["192.0.2.0/24", "2001:db8::/32"])),
        guest=guest(),
        vm=vm(wal_disk),
        primary=maybe(0.2, lambda: {"storage-class": "fast"}),
        replica=maybe(0.2, lambda: {"anti-affinity": "none"}),
        service=maybe(0.2, lambda: {"annotations": {"example.com/a": "b"}, "ip-family-policy": random.choice(
            ["SingleStack", "PreferDualStack"])}),
        monitoring=maybe(0.3, lambda: mapping(interval=maybe(0.5, lambda: random.randint(1, 60)), metrics=True, rules=maybe(
            0.5, lambda: {"lag": random.randint(1, 600)}), dashboard=maybe(0.5, lambda: random.random() < 0.5))),
        network_policy=maybe(0.4, lambda: random.random() < 0.5),
        credentials=maybe(0.3, lambda: {"existing-secret": random.choice(
            ["lab-passwords", {"name": "other", "replication-key": "repl.key", "client-key": "client_key"}])}))
    if config["replica-count"] == 0 and "rules" in config.get("monitoring", {}):
        # no thresholds without replicas
        config["monitoring"]["rules"] = {}
    passwords = {key: "".join(random.choice(PASSWORD) for _ in range(random.randint(8, 40))).strip() + "x"
                 for key in ("replication-password", "client-password")}
    return config, passwords


def ssh_key(random):
    """An authorized_keys line; nobody has the private half."""
    fields = (b"ssh-ed25519", random.randbytes(32))
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} dba@example.com"


def choose(cases, count):
    """Of the cases that two cores can boot beside other labs those that differ most."""
    left = [case for case in cases if case[0]["replica-count"] <= 2 and case[0]["pgbench-scale"] <= 5]
    chosen, seen = [], set()
    while len(chosen) < count:
        best = max(left, key=lambda case: len(features(case[0]) - seen))
        left.remove(best)
        chosen.append(best)
        seen |= features(best[0])
    return chosen


def features(config):
    """What makes a guest boot differently, each alone and each on its family of images."""
    guest = config["guest"]
    family = guest.get("os") or guest["image"].rpartition("/")[2].partition(":")[0]
    found = {f"packages {guest['packages']}", f"root {guest.get('root-disk', 'data-source' in guest)}",
             f"replicas {config['replica-count']}", f"protocol {config['pgbench'].get('protocol')}"}
    found |= {key for key in ("http-proxy", "extra-packages", "ssh") if key in guest}
    found |= {key for key in ("namespace", "credentials", "monitoring") if key in config}
    found |= {f"addresses {config['service']['ip-family-policy']}"} if "service" in config else set()
    found |= {f"parameter {name}" for name in config["postgresql"]["parameters"]}
    found |= {"wal disk"} if "wal-disk-size" in config["vm"] else set()
    found |= {"partitions"} if config["pgbench"].get("partitions") else set()
    deb = family in ("debian", "ubuntu")
    return found | {f"{feature} ({'debian' if deb else 'rpm'})" for feature in found} | {f"os {family}"}
