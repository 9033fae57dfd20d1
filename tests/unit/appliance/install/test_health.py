"""Whether installed services answer, asked of small real servers on sockets."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.config import Places
from appliance.errors import InstallError
from appliance.install import health
from media.clock import SystemClock
from tests.support.supervisor import FakeSupervisor


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    run = Path(tempfile.mkdtemp(prefix="sl-"))
    yield Places(root=tmp_path, run=run)
    shutil.rmtree(run)


@pytest.fixture
def supervisor() -> FakeSupervisor:
    made = FakeSupervisor()
    for name in health.SERVICES:
        made.start(name)
    return made


def listen(places: Places, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(places.socket(name)))
    listener.listen(8)
    return listener


def serve_http(listener: socket.socket, status: str) -> None:
    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    threading.Thread(target=answer, daemon=True).start()


def head(_peer: wire.Peer, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"size": 1}


@pytest.mark.parametrize(("status", "is_good"), [("200 OK", True), ("503 Busy", True), ("500 Broken", False)])
def test_services_are_healthy_when_all_of_them_answer(
    places: Places, supervisor: FakeSupervisor, *, status: str, is_good: bool
) -> None:
    listeners = [listen(places, name) for name in ("gateway", "admin", "ledger-actions")]
    serve_http(listeners[0], status)
    serve_http(listeners[1], "200 OK")
    wire.serve({"ledger-actions": listeners[2]}, head)

    found = health.check(places, supervisor)
    for listener in listeners:
        listener.close()

    assert found.is_good is is_good


def test_a_unit_that_does_not_run_is_named(places: Places, supervisor: FakeSupervisor) -> None:
    supervisor.stop("sealift-promoter.service")

    assert health.check(places, supervisor).wrong == ("sealift-promoter.service is inactive",)


def test_silence_is_named_for_each_service(places: Places, supervisor: FakeSupervisor) -> None:
    assert len(health.check(places, supervisor).wrong) == 3


def test_waiting_ends_with_an_error_that_says_what_is_silent(places: Places, supervisor: FakeSupervisor) -> None:
    with pytest.raises(InstallError) as caught:
        health.require(places, supervisor, clock=SystemClock(), seconds=0)

    assert "gateway does not answer" in caught.value.why


def test_a_supervisor_that_is_gone_is_one_finding(places: Places) -> None:
    from appliance.install.supervisor import RunUnitsSupervisor

    found = health.check(places, RunUnitsSupervisor(places.socket("units")))

    assert found.wrong == ("no supervisor answers",)
