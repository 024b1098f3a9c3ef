"""Running gen."""

import json
import pathlib
import subprocess

import yaml

from shell import run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Generator:
    """`path` is gen; without one it is built."""

    def __init__(self, path=None):
        if path is None:
            subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=REPOSITORY, check=True)
            path = target_directory() / "release/gen"
        self.path = pathlib.Path(path).resolve()

    def bundle(self, directory, config, passwords=None):
        """What gen prints for `config`, and the passwords of its secrets file: `passwords`, or gen's own."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "gen.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        secrets = directory / "gen.secrets.yaml"
        if passwords is not None:
            secrets.write_text(yaml.safe_dump(passwords, allow_unicode=True))
        text = run(self.path, directory / "gen.yaml")
        return text, yaml.safe_load(secrets.read_text()) if secrets.exists() else {}


def target_directory():
    """Where cargo builds: CARGO_TARGET_DIR and cargo's configuration have a say in it."""
    metadata = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=REPOSITORY, check=True,
                              capture_output=True)
    return pathlib.Path(json.loads(metadata.stdout)["target_directory"])
