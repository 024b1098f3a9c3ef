"""Random valid configs: what gen prints for each is checked, and ten of them boot."""

import pathlib
import random
import tempfile

import images
import kubevirt
from scenarios import random_config
from scenarios.checks import Checks
from shell import CommandFailed, run
from story import expect, expect_equal, scenario

SEED = 20251121
COUNT = 100
BOOTS = 10

VALIDATE = """
import sys, yaml
from cloudinit.config.schema import get_schema, validate_cloudconfig_schema
schema = get_schema()
for path in sys.argv[1:]:
    with open(path) as file:
        validate_cloudconfig_schema(yaml.safe_load(file), schema, strict=True)
"""


def booted_for(guest):
    """The system that stands for an image: its own, or one of its family."""
    debian = guest.get("os", guest.get("image", "").rpartition("/")[2].partition(":")[0]) in ("debian", "ubuntu")
    return next((system for system in images.SYSTEMS if system.image == guest.get("image")),
                images.DEBIAN_13 if debian else images.FEDORA_44)


class RandomConfigs(Checks):
    title = f"{COUNT} random valid configs"

    def setup(self):
        draw = random.Random(SEED)
        self.cases = [random_config.draw(draw) for _ in range(COUNT)]

    @scenario("the user-data of each role passes cloud-init schema, the scripts bash -n and shellcheck")
    def checked(self):
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            directory = pathlib.Path(directory)
            userdata = directory / "user-data"
            scripts = directory / "scripts"
            userdata.mkdir()
            scripts.mkdir()
            contents = set()
            for number, (config, passwords) in enumerate(self.cases):
                try:
                    text, _ = self.generator.bundle(directory / str(number), config, passwords)
                except CommandFailed as error:
                    raise AssertionError(f"gen refuses the valid config {number}: {error}\n{config}") from error
                for (kind, name), document in kubevirt.read(text).items():
                    if kind == "Secret" and "userdata" in document.get("stringData", {}):
                        text = document["stringData"]["userdata"]
                        expect(text.startswith("#cloud-config\n"), f"config {number}: no cloud-config header")
                        (userdata / f"{number}-{name}").write_text(text)
                    if kind == "ConfigMap":
                        contents.update(content for key, content in document["data"].items()
                                        if key.endswith((".sh", ".env")))
            files = []
            for number, content in enumerate(sorted(contents)):
                files.append(scripts / f"{number}.sh")
                files[-1].write_text(content)
            for file in files:
                run("bash", "-n", file)
            # Without what a script sources: what only that calls, too, seems to be out of reach.
            run("shellcheck", "--shell=bash", "--severity=style", "--exclude=SC1091,SC2034,SC2154,SC2153,SC2317", *files)
            # as in the guest: cloud-init's own Python, in the image
            run("unshare", "--mount", "bash", "-ec", 'mount --bind "$1" "$2/mnt"; exec chroot "$2" bash -c '
                '\'python3 -c "$1" /mnt/*\' - "$3"', "-", userdata, images.DEBIAN_12.layers("plain")[0], VALIDATE)

    @scenario(f"{BOOTS} of them boot, and form the lab that the config says")
    def booted(self):
        for config, passwords in random_config.choose(self.cases, BOOTS):
            self.boot(config, passwords)

    def boot(self, config, passwords):
        system = booted_for(config["guest"])
        lab = self.lab = self.new_lab(system)
        try:
            preinstalled = config["guest"]["packages"] == "preinstalled"
            requests = lab.network.serve_packages(system.packages())
            lab.apply(config, passwords)
            lab.provide(config, passwords)
            lab.start(*lab.nodes, image="golden" if preinstalled else "plain")
            self.formed()
            self.load_runs()
            expect_equal(lab.sql(lab.primary, "SELECT count(*) FROM pgbench_branches"), str(config["pgbench-scale"]),
                         "branches")
            expect_equal(len(lab.replicas), config["replica-count"], "replicas")
            for name in lab.nodes:
                expect_equal(lab.sql(name, "SHOW wal_keep_size"), config["wal-keep-size"], f"wal_keep_size on {name}")
                for parameter, value in config.get("postgresql", {}).get("parameters", {}).items():
                    if isinstance(value, str):
                        expect_equal(lab.superuser(name, f"SHOW {parameter}"), value, f"{parameter} on {name}")
            if preinstalled:
                expect_equal(requests, [], "requests to the package mirror")
            elif "http-proxy" in config["guest"]:
                expect(requests and all(r.startswith("proxy ") for r in requests), f"past the proxy: {requests}")
        except Exception as error:
            raise AssertionError(f"{error}\nwith the config {config}") from error
        self.stack.close()
