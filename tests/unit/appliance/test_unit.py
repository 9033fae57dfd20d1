"""What systemd tells a service: kept by the process that it is meant for, and passed on to none that it starts."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from appliance import unit
from appliance.install import hostfiles
from tests.support.notices import received

_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_PROGRAM = re.compile(r"^ExecStart=.* -m (appliance[a-z_.]+)", re.MULTILINE)


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with received(tmp_path, monkeypatch) as notices:
        monkeypatch.setenv("WATCHDOG_USEC", "90000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield notices


def test_a_program_that_a_service_starts_is_told_no_address_and_the_service_goes_on_telling(
    supervisor: socket.socket,
) -> None:
    unit.begin()

    look = [sys.executable, "-c", "import os; print(*os.environ)"]
    sees = subprocess.run(look, check=True, capture_output=True, text=True)
    unit.notify("READY=1")
    unit.notify("WATCHDOG=1")

    assert not set(_NAMES) & set(sees.stdout.split())
    assert unit.watchdog_seconds() == 90.0
    assert [supervisor.recv(100), supervisor.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("read", [unit.Notifier, unit.watchdog_seconds])
@pytest.mark.usefixtures("supervisor")
def test_whatever_is_read_first_takes_all_of_it(read: type[unit.Notifier]) -> None:
    read()

    assert not set(_NAMES) & set(os.environ)


def test_every_program_that_notifies_begins_so_before_it_starts_another() -> None:
    found = {}
    for file in sorted(hostfiles.folder("systemd").glob("*.service")):
        text = file.read_text()
        program = _PROGRAM.search(text)
        if "Type=notify" in text and program is not None:
            spec = find_spec(program[1])
            assert spec is not None
            assert spec.origin is not None
            main = Path(spec.origin).read_text().partition("\ndef main(")[2]
            found[file.name] = "unit.begin()" in main or "unit.Notifier()" in main

    assert len(found) >= 9
    assert [name for name, begins in found.items() if not begins] == []


def test_an_ending_is_told_by_a_signal_that_comes_while_its_lock_is_held() -> None:
    """Scenario: a unit is stopped in the instant in which it begins to wait for that."""
    ending = unit.Ending()
    before = signal.signal(signal.SIGUSR1, lambda *_: ending.set())
    try:
        with vars(ending)["_cond"]:  # as the wait of another event does; an Ending's own takes no lock
            os.kill(os.getpid(), signal.SIGUSR1)
            assert ending.wait(30)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_ending_wakes_every_thread_that_waits_for_it_and_stays() -> None:
    ending = unit.Ending()
    assert not ending.wait(0.01)
    waiting = [threading.Thread(target=ending.wait) for _ in range(3)]
    for one in waiting:
        one.start()

    ending.set()
    ending.set()

    for one in waiting:
        one.join(30)
    assert not any(one.is_alive() for one in waiting)
    ending.clear()
    assert ending.wait(0)
    assert ending.wait()
