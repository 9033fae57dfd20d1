"""What takes alerts, started as its unit starts it: on both sockets that systemd hands to it, with a console.

A terminal stands in for the machine's console, and a socket of this process for the site's syslog collector.
"""

import http.client
import json
import os
import pty
import shlex
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import alerts
from media.clock import SystemClock
from tests.support.gateway_server import ACTIVATE
from tests.support.ledger import ROOT
from tests.support.unit_files import SYSTEMD, values

pytestmark = pytest.mark.slow  # a whole process, a second or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit: its folder of state, its two doors, and the terminal that it writes to."""

    folder: Path
    door: str
    port: int
    console: int

    def post(self, name: str, **labels: str) -> int:
        """Post as Alertmanager does; what comes before it listens waits in the kernel's queue, as on a box."""
        one = {"status": "firing", "labels": {"alertname": name, **labels}, "annotations": {"summary": "down"}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            message = json.dumps({"version": "4", "alerts": [one]}).encode()
            connection.request("POST", "/alerts", body=message, headers={"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    def untold(self) -> Any:
        """What it says that the collector did not take."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/untold")
            return json.loads(connection.getresponse().read())["untold"]
        finally:
            connection.close()

    def reads(self, text: bytes) -> bytes:
        """Wait until whoever stands at the console sees a text; return all that is on it by then."""
        seen, deadline = b"", time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(self.console, 4096)
        return seen


@contextmanager
def running(tmp_path: Path, *, site: str = "") -> Iterator[Unit]:
    (tmp_path / "sealift.toml").write_text(f'site = "s"\n[places]\nroot = "{tmp_path}"\n{site}')
    folder = tmp_path / "alerts"
    folder.mkdir(exist_ok=True)
    console, written = pty.openpty()
    tty.setraw(written)
    _, *words = shlex.split(values(SYSTEMD / "sealift-alerts.service", "ExecStart")[0])
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SEALIFT_CONFIG": str(tmp_path / "sealift.toml"),
        "STATE_DIRECTORY": str(folder),
    }
    with (
        socket.create_server(str(tmp_path / "alerts.sock"), family=socket.AF_UNIX) as door,
        socket.create_server(("127.0.0.1", 0)) as port,
        subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, f"{door.fileno()},{port.fileno()}", "-m", "gunicorn", *words],
            cwd=ROOT,
            pass_fds=[door.fileno(), port.fileno()],
            stderr=written,
            env=surroundings,
        ) as process,
    ):
        try:
            yield Unit(folder=folder, door=door.getsockname(), port=port.getsockname()[1], console=console)
        finally:
            process.terminate()
            process.wait(60)
            os.close(written)
            os.close(console)


def test_alertmanager_posts_to_the_unit_by_tcp_and_the_console_tells(tmp_path: Path) -> None:
    with running(tmp_path) as unit:
        posted = unit.post("WebServerDown", severity="critical")
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(30)
            other.connect(unit.door)
            other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            health = other.recv(15)
        told = unit.reads(b"WebServerDown: down\n")
        repeated = unit.post("WebServerDown", severity="critical")
        unit.post("LedgerDown", severity="critical")
        later = unit.reads(b"LedgerDown: down\n")

    assert (posted, repeated, health[:12]) == (204, 204, b"HTTP/1.1 204")
    # systemd takes the priority off before the console shows the line.
    assert told.splitlines()[-1] == b"<2>CRITICAL WebServerDown: down"
    assert later == b"<2>CRITICAL LedgerDown: down\n", "each is told once"
    found = [one.name for one in alerts.firing(unit.folder, clock=SystemClock())]
    assert found == ["LedgerDown", "WebServerDown"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_on_a_full_disk_the_console_tells_and_once_and_the_page_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "alerts"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        with suppress(OSError), (disk / "hog").open("ab", buffering=0) as hog:
            while True:
                hog.write(bytes(4096))
        with running(tmp_path) as unit:
            answers = [unit.post("DiskFull", severity="critical") for _ in range(2)]
            told = unit.reads(b"DiskFull: down\n")
            shown = alerts.firing(disk, clock=SystemClock())
            (disk / "hog").unlink()
            answers.append(unit.post("DiskFull", severity="critical"))
            found = [one.name for one in alerts.firing(disk, clock=SystemClock())]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

    assert answers == [503, 503, 204]
    assert told.count(b"DiskFull") == 1
    assert (shown, found) == ((), ["DiskFull"])


def test_the_collector_that_the_site_file_names_gets_what_it_missed_when_it_is_back(tmp_path: Path) -> None:
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))  # nobody listens there yet: it is away
        collector.settimeout(30)
        site = f'[alerts]\nsyslog = "tcp 127.0.0.1 {collector.getsockname()[1]}"\n'
        with running(tmp_path, site=site) as unit:
            assert unit.post("DiskFull", place="state") == 204, "the page shows it all the same"
            said = unit.reads(b"did not take an alert")
            missed = unit.untold()
            collector.listen(1)
            assert unit.post("DiskFull", place="state") == 204
            line, _ = collector.accept()
            with line:
                line.settimeout(30)
                received = line.makefile("rb").read().decode()
            deadline = time.monotonic() + 30
            while unit.untold():
                assert time.monotonic() < deadline

    assert b"WARNING DiskFull (state): down" in said
    assert missed == [{"name": "DiskFull", "tries": 1}]
    length, _, text = received.partition(" ")
    assert int(length) == len(text)
    assert text.startswith("<132>1 ")
    assert text.endswith(" sealift - DiskFull - WARNING DiskFull (state): down")
