"""Units without systemd, with small real processes."""

import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from appliance import wire
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install.run_units import (
    PORTS_FILE,
    RunningUnits,
    hold_run_folder,
    listen_for_control,
    listen_on_loopback,
    unit_files,
)
from appliance.install.supervisor import RunUnitsSupervisor, UnitState
from media.errors import UsageError
from tests.support.small_units import configuration, write_unit, write_units

PEER = wire.Peer(door="units", pid=0, uid=0, gid=0)
ENGINE = f"sealift-engine-production@{'a' * 12}.service"


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    made = configuration(tmp_path)
    made.at.state.mkdir(parents=True)
    yield made
    shutil.rmtree(made.at.run)


def running(config: Config, folder: Path) -> RunningUnits:
    return RunningUnits(config, unit_files(config, config.at.config_file, folder), {})


def ask(config: Config, name: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(config.at.socket(name)))
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    facts: dict[str, Any] = json.loads(b"".join(parts))
    return facts


def wait_until_gone(pid: int) -> None:
    deadline = monotonic() + 30
    while is_running(pid):
        assert monotonic() < deadline
        sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it went before it was opened, or as it was read
        return False


def test_a_unit_gets_exactly_what_systemd_would_give(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves")
    write_unit(
        folder,
        "ledger",
        "serves",
        extra="LoadCredential=a-key:/etc/sealift/keys/a-key.v1\nEnvironment=X=/etc/sealift/x",
    )
    config.at.key_files.mkdir(parents=True)
    (config.at.key_files / "a-key.v1").write_text("secret")
    units = running(config, folder)

    units.start_all(["sealift-ledger.service"])
    facts = ask(config, "ledger")
    credential = config.at.run / "credentials/sealift-ledger.service/a-key"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (credential, credential.parent, config.at.ledger)]
    units.stop_all()

    assert facts["names"] == ["ledger"]
    assert facts["credentials"] == {"a-key": "secret"}
    assert facts["environment"] == [
        *["CREDENTIALS_DIRECTORY", "LANG", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "PATH"],
        *["STATE_DIRECTORY", "X"],
    ]
    assert facts["fds"][:4] == [0, 1, 2, 3]
    assert len(facts["fds"]) <= 5
    assert modes == [0o400, 0o700, 0o700]
    assert not credential.exists()
    assert not config.at.socket("ledger").exists()


def test_no_unit_keeps_to_a_core_here(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves")
    write_unit(folder, "ledger", "serves", extra="Environment=X=1\nEnvironment=SEALIFT_GATEWAY_CORE=0")
    units = running(config, folder)

    units.start_all(["sealift-ledger.service"])
    facts = ask(config, "ledger")
    units.stop_all()

    assert "X" in facts["environment"]
    assert "SEALIFT_GATEWAY_CORE" not in facts["environment"]


def test_a_unit_that_fails_later_starts_again_and_keeps_its_socket(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="fails-once")
    units = running(config, folder)

    units.start("sealift-ledger.service")
    facts = ask(config, "ledger")
    listed = units.control(PEER, {"do": "list"})["units"]
    units.stop_all()

    assert facts["names"] == ["ledger"]
    assert listed[0]["restarts"] == 1


@pytest.mark.parametrize(("code", "starts"), [(9, 3), (50, 1)])
def test_a_unit_that_never_starts_stops_trying(tmp_path: Path, config: Config, code: int, starts: int) -> None:
    folder = write_units(tmp_path, ledger=f"fails {code}")
    units = running(config, folder)

    with pytest.raises(UnitError) as caught:
        units.start("sealift-ledger.service")
    deadline = monotonic() + 30
    while len((config.at.ledger / "starts").read_text().splitlines()) < starts:
        assert monotonic() < deadline
        sleep(0.02)
    sleep(0.1)
    units.stop_all()

    assert len((config.at.ledger / "starts").read_text().splitlines()) == starts
    assert str(code) in caught.value.why
    assert "sealift-ledger.log" in caught.value.fix


def test_a_unit_that_is_not_ready_in_time_is_ended(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="silent")
    write_unit(folder, "ledger", "silent", extra="TimeoutStartSec=300ms\nRestart=no")
    units = running(config, folder)

    with pytest.raises(UnitError) as caught:
        units.start("sealift-ledger.service")
    units.stop_all()

    assert caught.value.why == "it was not ready in time"


def test_a_unit_that_is_killed_comes_back_by_itself_on_its_socket(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves")
    write_unit(folder, "ledger", "serves", extra="RestartSec=100ms")
    units = running(config, folder)
    unit = {"unit": "sealift-ledger.service"}
    with pytest.raises(UnitError):
        units.control(PEER, {"do": "kill", **unit})

    units.start(unit["unit"])
    before = after = ask(config, "ledger")
    units.control(PEER, {"do": "kill", **unit})
    deadline = monotonic() + 30
    while after["pid"] == before["pid"] and monotonic() < deadline:
        with suppress(ValueError, ConnectionError):  # who is dying may still take a connection
            after = ask(config, "ledger")
    units.stop_all()

    assert before["pid"] != after["pid"]
    assert after["names"] == ["ledger"]


def test_a_unit_that_gives_no_sign_of_life_is_killed_and_comes_back(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="stops-once")
    write_unit(folder, "ledger", "stops-once", extra="WatchdogSec=1500ms\nRestartSec=300ms")
    units = running(config, folder)

    units.start("sealift-ledger.service")
    seen = {""}
    deadline = monotonic() + 30
    while not any("no sign of life" in why for why in seen) and monotonic() < deadline:
        seen.add(str(units.control(PEER, {"do": "status", "unit": "sealift-ledger.service"})["why"]))
        sleep(0.02)
    facts = ask(config, "ledger")
    units.stop_all()

    assert "it gave no sign of life in time and starts again" in seen
    assert facts["names"] == ["ledger"]
    assert "WATCHDOG_USEC" in facts["environment"]
    assert len((config.at.ledger / "starts").read_text().splitlines()) >= 2


def test_stopping_leaves_no_grandchild(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="with-child")
    units = running(config, folder)

    units.start("sealift-ledger.service")
    child = int((config.at.ledger / "child").read_text())
    units.stop("sealift-ledger.service")

    wait_until_gone(child)
    assert units.control(PEER, {"do": "status", "unit": "sealift-ledger.service"})["state"] == "inactive"


def test_a_missing_credential_is_named(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves")
    write_unit(folder, "ledger", "serves", extra="LoadCredential=a-key:/etc/sealift/keys/a-key.v1")

    with pytest.raises(UnitError) as caught:
        running(config, folder).start("sealift-ledger.service")

    assert "a-key" in caught.value.what


def test_production_engines_come_back_and_test_engines_do_not(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path)
    write_unit(folder, "engine-production_at", "serves")
    write_unit(folder, "engine-test_at", "serves")
    first, second = running(config, folder), running(config, folder)

    first.start(ENGINE)
    first.start(ENGINE.replace("production", "test"))
    first.rest(ENGINE)
    first.stop_all()
    failed = second.start_wanted_engines()
    facts = ask(config, f"engine-production-{'a' * 12}")
    listed = [row["unit"] for row in second.control(PEER, {"do": "list"})["units"]]
    second.stop(ENGINE)
    third = running(config, folder)
    third.start_wanted_engines()
    second.stop_all()

    assert failed == []
    assert facts["names"] == ["engine-production_at"]
    assert listed == [ENGINE]
    assert third.control(PEER, {"do": "list"})["units"] == []


def test_an_engine_that_was_stopped_is_not_listed_and_one_that_rests_is(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves")
    write_unit(folder, "engine-production_at", "serves")
    write_unit(folder, "engine-test_at", "serves")
    units, tested = running(config, folder), ENGINE.replace("production", "test")
    for name in ("sealift-ledger.service", ENGINE, tested):
        units.start(name)

    def listed() -> list[str]:
        return [row["unit"] for row in units.control(PEER, {"do": "list"})["units"]]

    units.stop(tested)
    units.stop("sealift-ledger.service")
    units.rest(ENGINE)
    resting = listed()
    units.stop(ENGINE)

    assert resting == [ENGINE, "sealift-ledger.service"], "the ledger is missed, and production's engine comes back"
    assert listed() == ["sealift-ledger.service"]
    units.stop_all()


def test_units_start_in_the_order_of_their_after_lines(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, gateway="serves", ledger="serves")
    write_unit(folder, "gateway", "serves", extra="[Unit]\nAfter=sealift-ledger.service")
    units = running(config, folder)

    units.start_all(["sealift-gateway.service", "sealift-ledger.service"])
    pids = ask(config, "ledger")["pid"], ask(config, "gateway")["pid"]
    units.stop_all()

    assert pids[0] != pids[1]
    times = [(config.at.state / name / "starts").stat().st_mtime_ns for name in ("ledger", "gateway")]
    assert times == sorted(times)


def test_units_that_wait_for_each_other_are_refused(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, gateway="serves", ledger="serves")
    write_unit(folder, "gateway", "serves", extra="[Unit]\nAfter=sealift-ledger.service")
    write_unit(folder, "ledger", "serves", extra="[Unit]\nAfter=sealift-gateway.service")

    with pytest.raises(UnitError):
        running(config, folder).start_all(["sealift-gateway.service", "sealift-ledger.service"])


def test_the_control_socket_speaks_the_supervisor_port(tmp_path: Path, config: Config) -> None:
    folder = write_units(tmp_path, ledger="serves")
    units = running(config, folder)
    control = listen_for_control(config.at.run)
    wire.serve({"units": control}, units.control)
    supervisor = RunUnitsSupervisor(config.at.socket("units"))

    supervisor.start("sealift-ledger.service")
    states = [supervisor.state("sealift-ledger.service"), *[facts.state for facts in supervisor.units()]]
    supervisor.stop("sealift-ledger.service")
    states.append(supervisor.state("sealift-ledger.service"))
    control.close()
    units.stop_all()

    assert states == [UnitState.ACTIVE, UnitState.ACTIVE, UnitState.INACTIVE]


def test_unknown_requests_and_units_are_refused(tmp_path: Path, config: Config) -> None:
    units = running(config, write_units(tmp_path))

    with pytest.raises(UsageError):
        units.control(PEER, {"do": "format"})
    with pytest.raises(UnitError):
        units.control(PEER, {"do": "start", "unit": "sealift-absent.service"})
    with pytest.raises(UnitError):
        units.control(PEER, {"do": "start", "unit": "../../etc/passwd"})


def test_shutdown_is_told_to_whoever_waits(tmp_path: Path, config: Config) -> None:
    units = running(config, write_units(tmp_path))

    answer = units.control(PEER, {"do": "shutdown"})

    assert answer == {"pid": os.getpid()}
    assert units.ended.is_set()


def test_one_run_folder_has_one_supervisor(config: Config) -> None:
    lock = hold_run_folder(config.at.run)

    with pytest.raises(UnitError):
        hold_run_folder(config.at.run)
    os.close(lock)
    os.close(hold_run_folder(config.at.run))


def test_port_zero_takes_a_free_port_and_tells_which(config: Config) -> None:
    opened = listen_on_loopback(config)

    ports = json.loads((config.at.run / PORTS_FILE).read_text())
    for listener in opened.values():
        listener.close()

    assert ports["host"] == "127.0.0.1"
    assert ports["gateway"] != ports["admin"] != 0


def test_a_taken_port_names_the_setting(config: Config) -> None:
    opened = listen_on_loopback(config)
    taken = opened["gateway"].getsockname()[1]
    again = config.model_copy(update={"service": config.service.model_copy(update={"gateway_port": taken})})

    with pytest.raises(UnitError) as caught:
        listen_on_loopback(again)
    for listener in opened.values():
        listener.close()

    assert "service.gateway_port" in caught.value.fix
