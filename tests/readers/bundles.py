"""Judges every golden bundle by the strict schemas and by what its objects say of each other, and unpacks its guests.

bundles.py SCHEMAS BUNDLES GUESTS: below GUESTS, each user-data that differs gets a folder with `user-data`, and each set
of scripts that differs also `root` (the files where the guest has them) and `scripts` (the same, with sourced files
found below that folder, for shellcheck).
"""

import base64
import json
import pathlib
import re
import sys

import cloudinit.config.schema
import jsonschema
import yaml

SCHEMAS, BUNDLES, GUESTS = map(pathlib.Path, sys.argv[1:])
faults = []


def validators():
    """For (apiVersion, kind): the name and validator of the newest schema and of each older one."""
    found = {}
    for path in sorted(SCHEMAS.glob("*.json")) + sorted(SCHEMAS.glob("older/*.json")):
        schema = json.loads(path.read_text())
        properties = schema["properties"]
        key = properties["apiVersion"]["const"], properties["kind"]["const"]
        found.setdefault(key, []).append((path.name, jsonschema.Draft202012Validator(schema)))
    return found


def top_level_keys():
    """What cloud-init knows; its own schema lets unknown keys pass."""
    schema = cloudinit.config.schema.get_schema()
    modules = (schema["$defs"][part["$ref"].removeprefix("#/$defs/")] for part in schema["allOf"])
    return {key for module in modules for key in module.get("properties", {})}


VALIDATORS = validators()
TOP_LEVEL_KEYS = top_level_keys()


def expected_selections(case, pods):
    """The VMs that each Service has to lead to. `pods` are their labels, by name."""
    config = yaml.safe_load((BUNDLES / case / "gen.yaml").read_text()) or {}
    nodes = {name for name, labels in pods.items() if labels["virtwork/role"] != "client"}
    databases = {name for name in nodes if pods[name]["virtwork/role"] != "witness"}
    if any(labels["virtwork/role"] == "node" for labels in pods.values()):
        # HAProxy of each node leads on
        return {"primary": databases, "replicas": databases, "nodes": nodes, "metrics": databases}
    now = config.get("primary-node", "primary-0")
    primary = {name for name in pods if name.endswith(f"-{now}")}
    # no selector leaves one out of many
    replicas = databases if now != "primary-0" and len(databases) > 2 else databases - primary
    return {"primary": primary, "replicas": replicas, "nodes": nodes, "metrics": databases}


def needed_passwords(case, patroni):
    """What the Secret has to hold."""
    tls = (yaml.safe_load((BUNDLES / case / "gen.yaml").read_text()) or {}).get("tls", False)
    tls = {"enabled": tls} if isinstance(tls, bool) else tls
    is_on = tls.get("enabled", True)
    derived = is_on and not tls.keys() & {"existing-secret", "cert-manager"}
    yield "client-password"
    if not (is_on and tls.get("client-certificates")):
        yield "replication-password"
    if patroni or derived:
        yield "ca-seed"


def check_bundle(case, text, documents):
    def fault(where, message):
        faults.append(f"{case}: {where}: {message}")

    names = [(d["kind"], d["metadata"]["name"]) for d in documents]
    for name in {name for name in names if names.count(name) > 1}:
        fault(name, "more than one of this name")
    passwords = BUNDLES / case / "passwords.yaml"
    passwords = yaml.safe_load((passwords if passwords.exists() else BUNDLES / "passwords.yaml").read_text())
    for document, (kind, name) in zip(documents, names):
        schemas = VALIDATORS.get((document["apiVersion"], kind))
        if not schemas:
            fault(name, f"no schema for {kind}")
        for schema, validator in schemas or []:
            for error in validator.iter_errors(document):
                fault(f"{kind} {name}", f"{schema}: {error.json_path}: {error.message[:300]}")
        # One annotation of a client-side `oc apply` holds the whole object. Of the guests' files gen itself says when that is too
        # much; the API server takes a megabyte of them.
        if len(json.dumps(document)) > (1 << 20 if kind == "ConfigMap" else 262144):
            fault(name, "too large")
        if kind == "Secret" and "data" in document:
            patroni = any(kind == "VirtualMachine" and "-node-" in name for kind, name in names)
            wanted = {key: value for key, value in passwords.items() if key in needed_passwords(case, patroni)}
            read = {key: base64.b64decode(value, validate=True).decode() for key, value in document["data"].items()}
            if read != wanted:
                fault(name, "does not hold the passwords of the case")
        else:
            shown = json.dumps(document, ensure_ascii=False)
            for password in passwords.values():
                encoded = base64.b64encode(password.encode()).decode()
                if json.dumps(password, ensure_ascii=False)[1:-1] in shown or encoded in shown:
                    fault(name, "holds a password")

    def of(kind):
        return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}

    secrets, maps, services, volumes, vms = map(of, ("Secret", "ConfigMap", "Service", "DataVolume", "VirtualMachine"))
    pods = {name: vm["spec"]["template"] for name, vm in vms.items()}

    def selected(selector):
        return {name for name, pod in pods.items() if selector.items() <= pod["metadata"]["labels"].items()}

    expected = expected_selections(case, {name: pod["metadata"]["labels"] for name, pod in pods.items()})
    for name, service in services.items():
        if selected(service["spec"]["selector"]) != expected[name.rsplit("-", 1)[1]]:
            fault(name, "selects other VMs")
    for name, policy in of("NetworkPolicy").items():
        of_clients = set(pods) - expected["nodes"]
        if selected(policy["spec"]["podSelector"]["matchLabels"]) != (of_clients if name.endswith("-client") else expected["nodes"]):
            fault(name, "does not select the VMs")
    policies = [policy["spec"]["podSelector"]["matchLabels"] for policy in of("NetworkPolicy").values()]
    databases = [service["spec"]["selector"] for service in services.values()] + policies
    for name, job in of("Job").items():
        template = job["spec"]["template"]
        if any(selector.items() <= template["metadata"]["labels"].items() for selector in databases):
            fault(name, "is taken for a database")
        for reason in unrestricted(template["spec"]):
            fault(name, f"Pod Security `restricted` refuses it: {reason}")
        check_pod(name, template["spec"], maps, of("PersistentVolumeClaim"), of("Certificate"), fault)
    for name, monitor in of("ServiceMonitor").items():
        found = [s for s in services.values()
                 if monitor["spec"]["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()]
        ports = [{port["name"] for port in service["spec"]["ports"]} for service in found]
        if ports != [{endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}]:
            fault(name, "does not find its one Service and all its ports")
        open_ports = {port["port"] for policy in of("NetworkPolicy").values() for rule in policy["spec"]["ingress"]
                      if {"namespaceSelector": {}} in rule.get("from", []) for port in rule["ports"]}
        if of("NetworkPolicy") and open_ports != {port["port"] for service in found for port in service["spec"]["ports"]}:
            fault(name, "the policy lets others in than Prometheus, or not that")
    for name, config_map in maps.items():
        for key, text in config_map["data"].items():
            if key.endswith(".json") and not json.loads(text)["panels"]:
                fault(name, "has a dashboard of nothing")
    attached = []
    for name, vm in vms.items():
        pod = pods[name]["spec"]
        devices = pod["domain"]["devices"]
        disks = [disk["name"] for disk in devices["disks"]]
        if disks != [volume["name"] for volume in pod["volumes"]] or len(set(disks)) != len(disks):
            fault(name, "disks and volumes differ")
        if [i["name"] for i in devices["interfaces"]] != [n["name"] for n in pod["networks"]]:
            fault(name, "interfaces and networks differ")
        if not all(disk["disk"]["bus"] == "virtio" and len(disk.get("serial", "")) <= 20 for disk in devices["disks"]):
            fault(name, "a disk is not virtio, or its serial is cut")
        if services.get(pod["subdomain"], {}).get("spec", {}).get("clusterIP") != "None" or pod["hostname"] != name:
            fault(name, "has no stable host name")
        if ("instancetype" in vm["spec"]) == ("memory" in pod["domain"]) or "runStrategy" not in vm["spec"]:
            fault(name, "needs an instancetype or memory, and a runStrategy")
        templates = [t["metadata"]["name"] for t in vm["spec"].get("dataVolumeTemplates", [])]
        for volume in pod["volumes"]:
            if "dataVolume" in volume:
                source = volume["dataVolume"]["name"]
                attached.append(source)
                if (source in volumes) == (source in templates):
                    fault(name, f"{source} must be one DataVolume")
            if "cloudInitNoCloud" in volume:
                for key, data in (("secretRef", "userdata"), ("networkDataSecretRef", "networkdata")):
                    reference = volume["cloudInitNoCloud"].get(key, {}).get("name")
                    held = {n for n, s in secrets.items() if data in s.get("stringData", {})}
                    if reference not in (held if reference or key == "secretRef" else {None}):
                        fault(name, f"{key} names {reference}")
                    if reference is None and data in secrets[volume["cloudInitNoCloud"]["secretRef"]["name"]]["stringData"]:
                        fault(name, f"{key} is missing")
            if "configMap" in volume:
                source = volume["configMap"]
                if source["name"] not in maps or source.get("volumeLabel", "cidata").lower() == "cidata":
                    fault(name, f"no ConfigMap {source['name']}, or cloud-init takes it for its own")
                userdata = secrets[f"{name.rpartition('-')[0]}-cloudinit"]["stringData"]["userdata"]
                role = pods[name]["metadata"]["labels"]["virtwork/role"]
                unpack(f"{case}: {name}", userdata, maps[source["name"]]["data"], role, fault)
            if "secret" in volume:
                source = volume["secret"]["secretName"]
                if volume["name"] != "credentials":
                    made = {c["spec"]["secretName"] for c in of("Certificate").values()}
                    # the keys of an archive are nobody's certificate
                    if made and source not in made and volume["name"] != "archive" or source in secrets:
                        fault(name, f"no Certificate makes {source}")
                    continue
                ours = any("data" in secret for secret in secrets.values())
                if (source in secrets) != ours:
                    fault(name, f"no Secret {source}")
    if sorted(attached) != sorted({*attached}) or not volumes.keys() <= set(attached):
        fault("disks", "a DataVolume is attached twice or nowhere")
    uuids = [pod["spec"]["domain"]["firmware"]["uuid"] for pod in pods.values()]
    if len(set(uuids)) != len(uuids):
        fault("firmware", "two VMs have the same UUID")
    for name, config_map in maps.items():
        if not all(re.fullmatch(r"[-._a-zA-Z0-9]+", key) for key in config_map["data"]):
            fault(name, "has a key that is no key")
        if sum(len(content.encode()) for content in config_map["data"].values()) > 1 << 20:
            fault(name, "is larger than 1 MiB")


def unrestricted(pod):
    """What the Pod Security level `restricted` forbids, and OpenShift's `restricted-v2`: users and groups are its choice."""
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "runs as root, or without the seccomp profile"
    if security.keys() - {"runAsNonRoot", "seccompProfile", "fsGroup"}:
        yield "more than it may say of the pod"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "serviceAccountName")):
        yield "uses the host, or a service account"
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a token of the API server"
    for container in pod["initContainers"] + pod["containers"]:
        if container.get("securityContext") != {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }:
            yield f"privileges of {container['name']}"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"a port of the host in {container['name']}"
    for volume in pod["volumes"]:
        if volume.keys() - {"name", "configMap", "secret", "persistentVolumeClaim"}:
            yield f"the volume {volume['name']}"


def check_pod(name, pod, maps, claims, certificates, fault):
    """Volumes and mounts fit each other and what the bundle has; arguments name files that are there."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in pod["initContainers"] + pod["containers"]:
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        if mounts.values() - volumes.keys() or len(mounts) != len(container["volumeMounts"]):
            fault(name, f"{container['name']} mounts what is not there")
        for argument in container["command"][1:]:
            path = argument.partition("=")[2] or argument
            if path.startswith("/") and path not in mounts and str(pathlib.Path(path).parent) not in mounts:
                fault(name, f"{container['name']} has no {path}")
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
    if volumes["data"]["persistentVolumeClaim"]["claimName"] not in claims:
        fault(name, "has no volume")
    config = maps[volumes["config"]["configMap"]["name"]]["data"]
    for argument in pod["containers"][0]["command"]:
        if argument.startswith("--config=/config/") and argument.rpartition("/")[2] not in config:
            fault(name, "is given a config that is not there")
    config = yaml.safe_load(config["klio-config.yaml"])["client"]
    made = {certificate["spec"]["secretName"]: certificate["spec"] for certificate in certificates.values()}
    client = volumes["client-cert"]["secret"]["secretName"]
    if made and client not in made:
        fault(name, "does not use the certificate of the bundle")
    if client in made and made[client]["commonName"] != f"klio@{config['cluster_name']}":
        fault(name, "its certificate is of another cluster")
    for key in ("server_cert_path", "client_cert_path", "client_key_path"):
        path = pathlib.Path(config["wal"][key])
        secret = mounts[str(path.parent)]["secret"]
        if path.name not in {item["path"] for item in secret.get("items", [{"path": "tls.crt"}, {"path": "tls.key"}])}:
            fault(name, f"{key} names no file of a Secret")


guests = {}
script_sets = set()


def unpack(origin, text, data, role, fault):
    """Lays out the files of a VM as its guest would, once for those that are alike."""
    if text in guests:
        guests[text].open("a").write(origin + "\n")
    else:
        folder = GUESTS / "user-data" / str(len(guests))
        folder.mkdir(parents=True)
        (folder / "user-data").write_text(text)
        guests[text] = folder / "user-data.goldens"
        guests[text].write_text(origin + "\n")
        if len(text.encode()) >= 1 << 20 or not text.startswith("#cloud-config\n"):
            fault(origin, "is not user-data of less than 1 MiB")
    user_data = yaml.safe_load(text)
    for key in user_data.keys() - TOP_LEVEL_KEYS:
        fault(origin, f"cloud-init knows no {key}")
    if ["systemctl", "start", "--no-block", f"virtwork-install@{role}.service"] not in user_data["bootcmd"]:
        fault(origin, f"does not install the files of the {role}")
    commands = "\n".join(command for command in user_data["bootcmd"] if isinstance(command, str))
    files, rows = {}, [line.split() for line in data["files.txt"].splitlines() if not line.startswith("#")]
    if {key for _, _, key, _ in rows} != data.keys() - {"install.sh", "files.txt"}:
        fault(origin, "the list and the files differ")
    modes = {}
    for owner, mode, key, path in rows:
        if owner in ("all", role):
            if path in files:
                fault(origin, f"installs {path} twice")
            files[path], modes[path] = data.get(key, ""), int(mode, 8)
    note_variables(files)
    code = {path: content for path, content in files.items() if path not in GENERATED}
    if (key := frozenset([*code.items(), commands])) in script_sets:
        return
    script_sets.add(key)
    folder = GUESTS / str(len(script_sets))
    # what the boot writes itself, where systemd-analyze looks for it
    own = re.findall(r"^cat >(\S+) <<'END'\n(.*?)^END$", commands, flags=re.M | re.S)
    for path, content in own:
        write(folder / "root", path.replace("/run/", "/etc/"), content)
    write(folder / "scripts", "/bootcmd.sh", f"#!/bin/sh\n{commands}\n")
    for path, content in files.items():
        write(folder / "root", path, content, modes[path])
        # the directives of the templates are relative to the repository, and shellcheck takes no other root
        content = re.sub(r"^# shellcheck source=.*\n", "", content, flags=re.M)
        sourced = re.sub(r"^(\s*(?:\.|source) )/", rf"\1{folder.resolve()}/scripts/", content, flags=re.M)
        write(folder / "scripts", path, sourced)
    complete_root(folder / "root", {**files, **dict(own)})


GENERATED = {"/etc/virtwork/lab.env", "/etc/virtwork/postgresql.conf"}


variables = {}


def note_variables(files):
    """Which values of lab.env some script uses. It is one file for all guests, so some guest must use each."""
    code = "\n".join(content for path, content in files.items() if path not in GENERATED)
    code = re.sub(r"^\s*#.*", "", code, flags=re.M)
    for name in re.findall(r"^([A-Z_]+)=", files["/etc/virtwork/lab.env"], flags=re.M):
        # ((NAME * 2)) needs no dollar; Python asks for "NAME"
        uses = rf"\$\{{?{name}\b|\(\(.*\b{name}\b|\"{name}\""
        variables[name] = variables.get(name) or bool(re.search(uses, code))


def complete_root(root, files):
    """What systemd-analyze wants to find beside our own: the distribution's unit and other people's commands."""
    shared = "/usr/local/share/virtwork/postgresql.service"
    if shared in files:
        write(root, "/etc/systemd/system/postgresql.service", files[shared])
    else:
        write(root, "/usr/lib/systemd/system/postgresql.service", "[Service]\nExecStart=/usr/bin/postgres\n")
        write(root, "/usr/bin/postgres", "", 0o755)
    for content in files.values():
        for command in re.findall(r"^Exec[A-Za-z]+=[-+!@:]*(\S+)", content, flags=re.M):
            path = command if command.startswith("/") else f"/usr/bin/{command}"
            if not path.startswith("/usr/local/"):
                write(root, path, "", 0o755)


def write(root, path, content, mode=0o644):
    path = root / path.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


cases = sorted(path for path in BUNDLES.iterdir() if path.is_dir())
for path in cases:
    text = (path / "bundle.snap.yaml").read_text()
    check_bundle(path.name, text, list(yaml.load_all(text, yaml.CSafeLoader)))
faults += [f"lab.env: no script of any guest uses {name}" for name, used in variables.items() if not used]
for fault in faults[:50]:
    print(fault)
if faults or len(cases) < 16 or len(script_sets) < 4:
    sys.exit(f"{len(faults)} faults in {len(cases)} bundles, {len(script_sets)} sets of scripts")
