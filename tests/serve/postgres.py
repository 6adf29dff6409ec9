"""A PostgreSQL of our own for the tests: made in a temporary folder, stopped and removed afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def missing():
    """Why there is none, or None."""
    if _binary("initdb") is None:
        return (
            "no PostgreSQL here: install the system's package `postgresql` (its initdb and postgres are run)"
        )
    if os.getuid() == 0 and (shutil.which("runuser") is None or _user() is None):
        return (
            "PostgreSQL does not run as root, and there is no user `postgres`: install the system's package"
        )
    return None


@contextlib.contextmanager
def server():
    """The address of a server that lives as long as the context."""
    folder = Path(tempfile.mkdtemp(prefix="caretrace-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data, port = folder / "data", _free_port()
        _run(_binary("initdb"), "-D", str(data), "-U", "caretrace", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=40"
        _run(_binary("pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://caretrace@127.0.0.1:{port}/postgres"
        finally:
            _run(_binary("pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _user():
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return None


def _binary(name):
    found = [str(place / name) for place in PLACES if (place / name).is_file()]
    return found[0] if found else shutil.which(name)


def _run(*command):
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*prefix, *command],
        cwd="/",
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout.decode(errors='replace')[-1000:]}")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
