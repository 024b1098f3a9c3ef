"""Disk images as virt-launcher makes them."""

import pathlib
import shutil
import tempfile
import time

from shell import CommandFailed, run


def iso(path, label, files):
    """An ISO 9660 image with Joliet and Rock Ridge names, all files 0644."""
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            file = pathlib.Path(directory, name)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o644)
        # Debian 12's xorriso dies of a SIGSEGV once in some thousand calls.
        for last in (False, False, True):
            path.unlink(missing_ok=True)
            try:
                run("xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-V", label, "-o", path, directory)
                return
            except CommandFailed as error:
                if last or "SIGSEGV" not in str(error):
                    raise


def files_iso(path, label, files):
    """A volume of a Secret or ConfigMap: the keys, and the entries of the atomic writer that stand beside them in the pod."""
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.123456789")
    entries = {f"{directory}{name}": content for directory in ("", "..data/", f"{stamp}/")
               for name, content in files.items()}
    iso(path, label, entries)


def blank(path, size):
    """A sparse file of `size` bytes."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
