"""Real services that hang: stopped, or with one part stuck. Each is killed by its watchdog and comes back by itself.

The units are the real ones with a shorter WatchdogSec; `run-units` does what systemd does on a box, where the same is
shown by tests/box.
"""

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from appliance import config as configuration
from appliance import wire
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.install.run_units import RunningUnits, unit_files
from appliance.keys.files import create_missing
from appliance.serve.client import EngineClient
from tests.support.ledger import intent
from tests.support.unit_files import SYSTEMD
from tests.support.versions import short_folder, store_version

pytestmark = pytest.mark.fault

ROOT = Path(__file__).resolve().parents[2]
PEER = wire.Peer(door="units", pid=0, uid=0, gid=0)
SECONDS = 4
PATIENCE = 90


@pytest.fixture
def site() -> Iterator[Config]:
    with short_folder() as root:
        text = (
            f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
            "[service]\ngateway_port = 0\nadmin_port = 0\n"
        )
        config = configuration.parse(text.encode())
        for folder in (config.at.run, config.at.config_file.parent, config.at.state):
            folder.mkdir(parents=True)
        config.at.config_file.write_text(text)
        create_missing(config.at.key_files)
        yield config


def hurried(site: Config, **changed: str) -> RunningUnits:
    """Return the real units with a short limit; `changed` gives an engine's ExecStart another program."""
    folder = site.at.state / "units"
    shutil.copytree(SYSTEMD, folder)
    for path in folder.glob("*.service"):
        text = re.sub(r"(?m)^WatchdogSec=.*$", f"WatchdogSec={SECONDS}", path.read_text())
        for old, new in changed.items():
            text = re.sub(rf"(?m)^{old}=.*$", f"{old}={new}", text)
        path.write_text(text)
    return RunningUnits(site, unit_files(site, site.at.config_file, folder), {})


def status(units: RunningUnits, name: str) -> dict[str, object]:
    return dict(units.control(PEER, {"do": "status", "unit": name}))


def until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline
        sleep(0.05)


def came_back(units: RunningUnits, name: str, before: object) -> Callable[[], bool]:
    def asked() -> bool:
        now = status(units, name)
        return now["state"] == "active" and now["pid"] not in {before, None}

    return asked


def test_a_ledger_that_is_stopped_comes_back_and_has_every_record(site: Config) -> None:
    units, name = hurried(site), "sealift-ledger.service"
    units.start(name)
    first = status(units, name)["pid"]
    ledger = SocketLedger(site.at.socket("ledger-gateway"))
    last = ledger.append("request.intent", intent("a"))
    ledger.close()

    os.kill(int(str(first)), signal.SIGSTOP)
    until(came_back(units, name, first))
    ledger = SocketLedger(site.at.socket("ledger-gateway"))
    again = ledger.append("request.intent", intent("b"))
    ledger.close()
    why = status(units, name)["why"]
    units.stop_all()

    assert again.sequence > last.sequence
    assert "no sign of life" in str(why)


def test_a_service_of_gunicorn_comes_back_whether_its_master_or_its_worker_is_stopped(site: Config) -> None:
    units, name = hurried(site), "sealift-alerts.service"
    units.start(name)
    master = int(str(status(units, name)["pid"]))
    until(lambda: bool(_children(master)))
    asked = _status_line(site)

    os.kill(_children(master)[0], signal.SIGSTOP)
    until(came_back(units, name, master))
    second = int(str(status(units, name)["pid"]))
    os.kill(second, signal.SIGSTOP)
    until(came_back(units, name, second))
    again = _status_line(site)
    units.stop_all()

    assert asked == again
    assert asked.startswith(b"HTTP/1.1 ")


def test_an_engine_whose_decoder_hangs_comes_back(site: Config) -> None:
    _, descriptor = store_version(site)
    instance = f"test-{descriptor.model_digest[:12]}"
    program = site.at.state / "engine.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.support import taken_over_engine\ntaken_over_engine.main()\n"
    )
    units = hurried(
        site, ExecStart=f"{sys.executable} -I {program} --config {site.at.config_file} --instance {instance}"
    )
    name = f"sealift-engine-test@{descriptor.model_digest[:12]}.service"
    units.start(name)
    first = status(units, name)["pid"]
    socket_path = site.at.socket(f"engine-{instance}")

    with EngineClient(socket_path) as client:
        asked = client.complete({"prompt": "abc", "max_tokens": 8})["choices"][0]["text"]
    with EngineClient(socket_path, read_seconds=PATIENCE) as client, pytest.raises(ApplianceError):
        client.complete({"prompt": "hang", "max_tokens": 8})
    until(came_back(units, name, first))
    with EngineClient(socket_path) as client:
        again = client.complete({"prompt": "abc", "max_tokens": 8})["choices"][0]["text"]
    units.stop_all()

    assert (asked, again) == ("ABC", "ABC")


def _children(master: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def _status_line(site: Config) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(site.at.socket("alerts")))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return connection.recv(4096).partition(b"\r\n")[0]
