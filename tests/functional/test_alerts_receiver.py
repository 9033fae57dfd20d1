"""What takes alerts, started as its unit starts it: on both sockets that systemd hands to it."""

import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.actions import alerts
from media.clock import SystemClock
from tests.support.gateway_server import ACTIVATE
from tests.support.ledger import ROOT
from tests.support.unit_files import SYSTEMD, values

pytestmark = pytest.mark.slow  # a whole process, a second or two
_ONE = {"status": "firing", "labels": {"alertname": "WebServerDown"}, "annotations": {"summary": "down"}}
_MESSAGE = json.dumps({"version": "4", "alerts": [_ONE]}).encode()


def test_alertmanager_posts_to_the_unit_by_tcp_and_the_console_tells(tmp_path: Path) -> None:
    site, folder = tmp_path / "sealift.toml", tmp_path / "alerts"
    site.write_text(f'site = "s"\n[places]\nroot = "{tmp_path}"\n')
    folder.mkdir()
    _, *words = shlex.split(values(SYSTEMD / "sealift-alerts.service", "ExecStart")[0])
    with (
        socket.create_server(str(tmp_path / "alerts.sock"), family=socket.AF_UNIX) as door,
        socket.create_server(("127.0.0.1", 0)) as port,
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, f"{door.fileno()},{port.fileno()}", "-m", "gunicorn", *words],
            cwd=ROOT,
            pass_fds=[door.fileno(), port.fileno()],
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SEALIFT_CONFIG": str(site), "STATE_DIRECTORY": str(folder)},
        ) as process,
    ):
        try:
            # What is posted before it listens waits in the kernel's queue, as on a box.
            connection = http.client.HTTPConnection("127.0.0.1", port.getsockname()[1], timeout=30)
            connection.request("POST", "/alerts", body=_MESSAGE, headers={"Content-Type": "application/json"})
            posted = connection.getresponse().status
            connection.close()
            with socket.socket(socket.AF_UNIX) as other:
                other.settimeout(30)
                other.connect(door.getsockname())
                other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                health = other.recv(15)
            deadline = time.monotonic() + 30
            while b"WebServerDown" not in (tmp_path / "stderr").read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.terminate()

    assert (posted, health[:12]) == (204, b"HTTP/1.1 204")
    assert [one.name for one in alerts.firing(folder, clock=SystemClock())] == ["WebServerDown"]
