"""How the processes of what gunicorn runs end: at once when nothing is left to do, with the code that they had."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.versions import short_folder

APP = """
import atexit, sys

atexit.register(lambda: print("Python took its way", flush=True))

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"answered"]
"""
SETTINGS = """
import atexit
from appliance.watchdog import leaving

atexit.register(lambda: print("Python took its way", flush=True))
bind, workers, worker_class, threads = "unix:{socket}", 1, "gthread", 2
control_socket_disable = True
on_exit, worker_exit = leaving.master, leaving.worker
"""


@contextmanager
def started(folder: Path, app: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "app_here.py").write_text(app)
    (folder / "settings_here.py").write_text(SETTINGS.format(socket=folder / "s"))
    command = [sys.executable, "-m", "gunicorn", "--config", "settings_here.py", "app_here:app"]
    path = os.pathsep.join((str(folder), *filter(None, sys.path)))
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def asked(place: Path) -> bytes:
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(place))
            except OSError:
                time.sleep(0.05)
                continue
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            told = b""
            while piece := client.recv(4096):
                told += piece
            return told
    raise AssertionError("nobody listened")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_told_to_stop_ends_without_taking_itself_apart(number: signal.Signals) -> None:
    with short_folder() as folder, started(folder, APP) as process:
        assert b"answered" in asked(folder / "s")
        process.send_signal(number)
        told, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "Python took its way" not in told


def test_a_service_whose_worker_cannot_start_ends_with_gunicorns_own_code() -> None:
    with short_folder() as folder, started(folder, "raise ImportError('broken')\n") as process:
        told, _ = process.communicate(timeout=30)

    assert process.returncode == 3
    assert "Worker failed to boot" in told
    assert "Python took its way" in told
