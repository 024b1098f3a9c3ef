"""Runs the guest's sampler here: launch.py NODE PORT SOCKET-DIRECTORY SERVER-PORT LAB-ENV. It serves metrics at PORT."""

import os
import pathlib
import runpy
import socket
import sys
import types

TEMPLATES = pathlib.Path(__file__).resolve().parents[2] / "templates"


def main():
    node, port, directory, server_port, env = sys.argv[1:]
    lab = types.ModuleType("lab")
    source = (TEMPLATES / "common/lab.py").read_text().replace("/etc/virtwork/lab.env", env)
    exec(compile(source, "lab.py", "exec"), vars(lab))
    lab.NODE = node
    sys.modules["lab"] = lab
    sys.path.insert(0, str(TEMPLATES / "common"))
    import libpq
    connection = libpq.Connection
    libpq.Connection = lambda application, **given: connection(
        application, host=directory, port=server_port, options=libpq.SETTINGS.replace(" -c search_path=pg_catalog", ""), **given)
    if int(port):
        listener = socket.create_server(("127.0.0.1", int(port)))
        os.dup2(listener.fileno(), 3)
        if listener.fileno() == 3:
            listener.detach()
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    sys.argv = ["virtwork-monitor"]
    runpy.run_path(str(TEMPLATES / "monitoring/virtwork-monitor.py"), run_name="__main__")


main()
