"""What the doctor sees of disks, drivers, ports, units and leftovers, and what it may mend."""

import errno
import json
import os
import shutil
import socket
import stat
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions import doctor_machine, doctor_services, mend, nettest
from appliance.actions.doctor import doctor
from appliance.actions.findings import Finding
from appliance.actions.netprobes import Check
from appliance.audit.spool import Spool
from appliance.config import BackupSection, Config, NetworkSection, PlacesSection, StandbySection
from appliance.errors import EngineLoadError, EngineUnavailableError, NotPromotedError, PreflightError, UnitError
from appliance.install.supervisor import UnitState
from appliance.install.unit_result import Ending, from_run_units, from_systemd
from appliance.keys.files import create_missing
from appliance.standby import permit
from appliance.verify.fit import Machine
from bundler.cuda import require_driver
from bundler.errors import SourceError
from bundler.target import Target
from media.clock import FixedClock, SystemClock
from tests.support import mounts
from tests.support.clocks import TODAY
from tests.support.supervisor import FakeSupervisor

ENGINE = "sealift-engine-production@0123456789ab.service"
LOCAL = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    run = Path(tempfile.mkdtemp(prefix="sl-"))
    made = Config(site="s", environment="demo", places=PlacesSection(root=str(tmp_path), run=str(run)))
    made.at.state.mkdir(parents=True)
    create_missing(made.at.key_files)
    yield made
    shutil.rmtree(run)


def one(findings: Iterator[Finding], name: str) -> Finding:
    return next(found for found in findings if found.name == name)


def test_every_bad_finding_says_what_why_and_what_helps(config: Config) -> None:
    wide = config.at.key_files / "session.v1"
    wide.chmod(0o644)

    bad = [found for found in doctor(config, clock=SystemClock())[0] if found.is_good is False]

    assert {found.name for found in bad} == {"keys"}
    assert all(found.text and found.why and found.fix for found in bad)


def test_the_disk_is_measured_and_nothing_is_left_of_it(config: Config) -> None:
    found = list(doctor_machine.disk_speed(config))

    assert [one.name for one in found] == ["disk speed", "disk commit"]
    assert "MiB/s" in found[0].text
    assert list(config.at.state.iterdir()) == []


@pytest.mark.parametrize(
    ("apart", "told"),
    [
        ((), ["state, ledger, store"]),
        (("ledger",), ["state, store", "ledger"]),
        (("ledger", "store"), ["state", "ledger", "store"]),
    ],
)
def test_each_file_system_of_state_ledger_and_store_is_measured_once_and_named(
    config: Config, apart: tuple[str, ...], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []

    def device_of(path: Path) -> int:
        return apart.index(path.name) + 2 if path.name in apart else 1

    def write(probe: Path) -> tuple[float, float]:
        looked.append(probe.parent)
        return 100.0, 1.0

    monkeypatch.setattr(doctor_machine, "_write", write)
    for folder in (config.at.ledger, config.at.store):
        folder.mkdir()
    found = list(doctor_machine.disk_speed(config, device_of))

    assert [one.text.partition(":")[0] for one in found] == [each for each in told for _ in "rc"]
    assert looked == [config.at.state, *(getattr(config.at, name) for name in apart)]
    waits = {one.text.partition(":")[0]: one.why for one in found if one.name == "disk commit"}
    assert {places for places, why in waits.items() if "each answer waits" in why} == {
        places for places in told if "ledger" in places
    }


def test_a_disk_that_is_as_good_as_full_is_not_written_to(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil's answer
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30, 2**24))

    assert list(doctor_machine.disk_speed(config)) == []


@pytest.mark.parametrize(
    ("kind", "is_good"), [*((kind, True) for kind in mounts.LOCAL), *((kind, False) for kind in mounts.NOT_LOCAL)]
)
def test_a_file_system_that_the_ledger_would_refuse_is_named(
    config: Config, tmp_path: Path, kind: str, *, is_good: bool
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"{LOCAL}30 21 0:40 / {config.at.state} rw - {kind} server:/state rw\n")

    found = one(doctor_machine.file_systems(config, table), "file systems")

    assert found.is_good is is_good
    assert is_good or kind in found.text


def test_an_install_is_refused_before_its_first_change_where_state_lies_in_the_network(
    config: Config, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(LOCAL)
    doctor_machine.require_local(config, table)
    table.write_text(f"{LOCAL}30 21 0:40 / {config.at.state} rw - nfs4 server:/state rw\n")

    with pytest.raises(PreflightError, match="state lies on nfs4"):
        doctor_machine.require_local(config, table)


@pytest.mark.parametrize(
    "folder", ["var/lib/sealift/ledger", "var/lib/sealift/store", "opt/sealift/releases/7", "etc/sealift/keys"]
)
def test_a_folder_with_a_network_file_system_of_its_own_is_named(config: Config, tmp_path: Path, folder: str) -> None:
    own, table = tmp_path / folder, tmp_path / "mountinfo"
    own.mkdir(parents=True, exist_ok=True)
    table.write_text(f"{LOCAL}30 21 0:40 / {own} rw - nfs4 server:/x rw\n")

    found = one(doctor_machine.file_systems(config, table), "file systems")

    assert (found.is_good, found.text) == (False, f"{own} lies on nfs4")


def test_a_ledger_that_a_link_puts_onto_another_machine_is_named_and_backups_may_lie_there(
    config: Config, tmp_path: Path
) -> None:
    far, table = tmp_path / "far", tmp_path / "mountinfo"
    (far / "ledger").mkdir(parents=True)
    (config.at.state / "backups").symlink_to(far)
    table.write_text(f"{LOCAL}30 21 0:40 / {far} rw - nfs4 server:/x rw\n")
    named = config.model_copy(update={"backup": BackupSection(folder=str(config.at.state / "backups"))})

    allowed = one(doctor_machine.file_systems(named, table), "file systems")
    (config.at.state / "ledger").symlink_to(far / "ledger")
    linked = one(doctor_machine.file_systems(named, table), "file systems")

    assert (allowed.is_good, allowed.text) == (True, "all local")
    assert (linked.is_good, linked.text) == (False, f"{config.at.state}/ledger lies on nfs4")


def test_a_backup_on_the_disk_that_it_is_to_outlive_is_found(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    table = tmp_path / "mountinfo"
    chosen = config.model_copy(update={"backup": BackupSection(folder=str(folder))})

    table.write_text(LOCAL)
    same = one(doctor_machine.file_systems(chosen, table), "backup")
    table.write_text(f"{LOCAL}31 21 8:17 / {folder} rw - ext4 /dev/sdb1 rw\n")
    apart = one(doctor_machine.file_systems(chosen, table), "backup")

    assert (same.is_good, apart.is_good) == (False, True)


def test_weights_that_memory_cannot_hold_are_found() -> None:
    assert one(doctor_machine.memory(0), "memory").is_good
    found = one(doctor_machine.memory(1 << 50, context="large 1"), "memory")

    assert found.is_good is False
    assert "large 1" in found.text
    assert "n_ctx" in found.fix


@pytest.mark.parametrize(
    ("driver", "wheel", "verdict"),
    [
        ("550.54.14", "nvidia_cuda_runtime_cu12-12.4.127.dist-info", True),
        ("535.54.3", "nvidia_cuda_runtime_cu12-12.4.127.dist-info", False),
        ("570.86.15", "torch-2.9.0+cu128.dist-info", True),
        ("565.57.1", "torch-2.9.0+cu128.dist-info", False),
        ("470.57.2", "nvidia_cuda_runtime_cu12-12.4.127.dist-info", False),
        ("", "nvidia_cuda_runtime_cu12-12.4.127.dist-info", False),
        ("575.0", "nvidia_cuda_runtime-13.0.48.dist-info", False),
        ("600.1", "nvidia_cuda_runtime-19.0.1.dist-info", None),
    ],
)
def test_a_driver_older_than_the_engines_cuda_is_found(
    config: Config, driver: str, wheel: str, *, verdict: bool | None
) -> None:
    (config.at.current / "engine-vllm/lib/python3.11/site-packages" / wheel).mkdir(parents=True)

    found = one(doctor_machine.gpu(config, replace(Machine.probe("p"), driver=driver)), "GPU driver")

    assert found.is_good is verdict


@pytest.mark.parametrize("cuda", [(11, 8), (12, 0), (12, 1), (12, 4), (12, 7), (12, 8), (12, 9), (13, 0)])
@pytest.mark.parametrize("driver", ["470.57.2", "520.61.05", "525.60.13", "550.54.14", "570.26", "580.65.06", "590.1"])
def test_doctor_says_of_a_driver_what_the_sender_says(config: Config, cuda: tuple[int, int], driver: str) -> None:
    """Scenario: the sender refuses a target's driver, and on such a machine doctor finds nothing wrong."""
    wheel = f"nvidia_cuda_runtime-{cuda[0]}.{cuda[1]}.48.dist-info"
    (config.at.current / "engine-vllm/lib/python3.11/site-packages" / wheel).mkdir(parents=True)
    try:
        require_driver(cuda, Target(profile="gpu", gpu="NVIDIA L40S", driver=driver), label="engine-vllm")
        is_taken = True
    except SourceError:
        is_taken = False

    found = one(doctor_machine.gpu(config, replace(Machine.probe("p"), driver=driver)), "GPU driver")

    assert found.is_good is is_taken


def test_without_a_gpu_engine_nothing_is_asked_of_a_driver(config: Config) -> None:
    assert list(doctor_machine.gpu(config, Machine.probe("p"))) == []


def test_ports_open_on_every_address_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    rows = ["00000000:1F90 00000000:0000 0A", "0100007F:1F91 00000000:0000 0A", "00000000:1F92 0A0A0A0A:0050 01"]
    table.write_text("  sl  local rem st\n" + "".join(f"   0: {row} 0 0\n" for row in rows))

    box = Config(site="s", network=NetworkSection(addresses=[]))
    assert one(doctor_machine.addresses(box, [("tcp", table)]), "listeners").text == "nobody named: tcp 0.0.0.0:8080"


@pytest.mark.parametrize(
    ("holds", "minutes", "is_good", "said"),
    [
        (True, 50, True, "1 checks held at 2027-03-04T08:00:00Z"),
        (True, 180, None, "1 checks held at 2027-03-04T08:00:00Z, 3 hours ago; `systemctl status"),
        (False, 180, False, "egress: open"),
    ],
)
def test_a_self_test_of_hours_ago_says_nothing_good_of_the_network(
    monkeypatch: pytest.MonkeyPatch, *, holds: bool, minutes: int, is_good: bool | None, said: str
) -> None:
    checks = (Check(name="egress", holds=holds, text="open"),)
    tested = nettest.SelfTest(at="2027-03-04T08:00:00Z", ticks=100, checks=checks, counters={})
    monkeypatch.setattr(nettest, "published", lambda _: tested)

    now = FixedClock(TODAY, 100.0 + minutes * 60)
    found = one(doctor_machine.addresses(Config(site="s"), [], clock=now), "packet filter")

    assert found.is_good is is_good
    assert found.text.startswith(said)


@pytest.mark.parametrize("is_box", [True, False])
def test_a_systemd_that_does_not_answer_is_no_silence(
    config: Config, monkeypatch: pytest.MonkeyPatch, *, is_box: bool
) -> None:
    def refuse() -> None:
        raise UnitError(what="systemd does not answer", why="TimeoutExpired", fix="run `systemctl status`")

    supervisor = FakeSupervisor()
    monkeypatch.setattr(supervisor, "units", refuse)
    monkeypatch.setattr(doctor_services, "is_booted_box", lambda _: is_box)

    found = list(doctor_services.units(config, supervisor))

    assert [(each.name, each.is_good, each.text) for each in found] == (
        [("units", False, "systemd does not answer")] if is_box else []
    )


def test_of_keys_nothing_good_is_said_where_nobody_may_look(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert one(doctor_services.keys(config), "keys").is_good is None
    config.at.key_files.chmod(0o750)
    assert one(doctor_services.keys(config), "keys").is_good is False


def test_an_address_of_another_machine_is_found(config: Config) -> None:
    named = config.model_copy(update={"network": NetworkSection(addresses=["127.0.0.1", "203.0.113.9"])})

    found = one(doctor_machine.addresses(named), "addresses")

    assert found.is_good is False
    assert found.text == "not on this machine: 203.0.113.9"


def test_the_service_address_of_two_boxes_is_missed_on_the_one_that_serves_alone(config: Config) -> None:
    standby = StandbySection(lease=True, listen="127.0.0.1", service_address="203.0.113.9", interface="lo")
    network = NetworkSection(addresses=["127.0.0.1", "203.0.113.9"])
    box = config.model_copy(update={"network": network, "standby": standby})

    def said() -> str:
        return one(doctor_machine.addresses(box), "addresses").text

    folder = permit.folder_of(box.at)
    folder.mkdir(parents=True)
    standing_by = said()
    permit.write(folder, until=permit.boottime() + 3600, term=1)
    serving = said()
    witness = config.model_copy(update={"network": NetworkSection(), "standby": StandbySection(listen="203.0.113.3")})

    assert standing_by == "127.0.0.1, 203.0.113.9"
    assert serving == "not on this machine: 203.0.113.9"
    assert one(doctor_machine.addresses(witness), "addresses").text == "not on this machine: 203.0.113.3"


def test_a_service_address_that_goes_to_no_interface_is_found(config: Config) -> None:
    standby = StandbySection(service_address="203.0.113.9")

    found = one(doctor_machine.addresses(config.model_copy(update={"standby": standby})), "addresses")

    assert found.is_good is False
    assert "standby.interface is empty" in found.text


@pytest.mark.parametrize("left_out", ["127.0.0.2", "127.0.0.3"])
def test_an_address_of_two_boxes_that_the_packet_filter_shuts_is_found(config: Config, left_out: str) -> None:
    standby = StandbySection(listen="127.0.0.2", service_address="127.0.0.3", interface="lo")
    network = NetworkSection(addresses=[f"127.0.0.{last}" for last in (1, 2, 3) if f"127.0.0.{last}" != left_out])

    found = one(
        doctor_machine.addresses(config.model_copy(update={"network": network, "standby": standby})), "addresses"
    )

    assert found.is_good is False
    assert f"{left_out} of standby is not among network.addresses" in found.text


def test_an_address_of_a_kind_that_the_kernel_lacks_is_not_on_this_machine(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    named = config.model_copy(update={"network": NetworkSection(addresses=["127.0.0.1", "fd00::7"])})
    monkeypatch.setattr(socket, "socket", without_ipv6)

    assert one(doctor_machine.addresses(named), "addresses").text == "not on this machine: fd00::7"


def test_a_radio_is_found(config: Config, tmp_path: Path) -> None:
    box = config.model_copy(update={"places": PlacesSection(root="/")})
    for name, more in {"eno1": "", "wlan0": "wireless"}.items():
        (tmp_path / "net" / name / more).mkdir(parents=True)
        (tmp_path / "net" / name / "operstate").write_text("up\n")

    assert one(doctor_machine.cards(box, tmp_path / "net"), "network cards").text == "radio: wlan0"


@pytest.mark.parametrize(
    ("said", "ending", "words"),
    [
        ("Result=oom-kill\nExecMainCode=2\nExecMainStatus=9\nNRestarts=3", Ending.MEMORY, "smaller n_ctx"),
        (f"Result=exit-code\nExecMainCode=1\nExecMainStatus={EngineLoadError.exit_code}", Ending.REFUSED, "validate"),
        (f"Result=exit-code\nExecMainCode=1\nExecMainStatus={NotPromotedError.exit_code}", Ending.REFUSED, "promote"),
        (
            f"Result=exit-code\nExecMainCode=1\nExecMainStatus={EngineUnavailableError.exit_code}",
            Ending.MEMORY,
            "more memory",
        ),
        ("Result=signal\nExecMainCode=2\nExecMainStatus=11", Ending.KILLED, "journalctl"),
        ("Result=timeout\nExecMainCode=2\nExecMainStatus=15", Ending.SLOW, "journalctl"),
        ("Result=watchdog\nExecMainCode=2\nExecMainStatus=9\nNRestarts=3", Ending.SILENT, "processor is stuck"),
        ("Result=start-limit-hit\nExecMainCode=1\nExecMainStatus=1", Ending.FAILED, "journalctl"),
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=1", Ending.FAILED, "journalctl"),
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=226", Ending.NO_SANDBOX, "make room"),
        ("Result=resources\nExecMainCode=2\nExecMainStatus=9", Ending.NO_SANDBOX, "make room"),
    ],
)
def test_what_systemd_says_of_an_engine_becomes_a_reason_and_a_remedy(said: str, ending: Ending, words: str) -> None:
    found = from_systemd(ENGINE, f"ActiveState=failed\n{said}\n")

    assert found.ending is ending
    assert words in found.fix
    assert found.why


def test_a_service_that_the_kernel_ended_for_memory_is_told_from_one_that_was_killed() -> None:
    said = "ActiveState=failed\nResult={}\nExecMainCode=2\nExecMainStatus=9\nNRestarts=3\n"

    short = from_systemd("sealift-gateway.service", said.format("oom-kill"))
    killed = from_systemd("sealift-gateway.service", said.format("signal"))

    assert (short.ending, killed.ending) == (Ending.MEMORY, Ending.KILLED)
    assert "started again 3 times" in short.why
    assert "limits.concurrent_requests" in short.fix


def test_a_unit_that_runs_has_not_ended_and_rubbish_is_no_reason() -> None:
    assert from_systemd(ENGINE, "ActiveState=active\nResult=success\nNRestarts=2\n").ending is Ending.NONE
    assert from_systemd(ENGINE, "ActiveState=failed\nResult=\x00\nExecMainStatus=x\n").ending is Ending.FAILED
    assert from_systemd(ENGINE, "").ending is Ending.NONE


def test_a_unit_that_hung_or_gave_up_says_so() -> None:
    said = "ActiveState=failed\nResult={}\nExecMainCode=2\nExecMainStatus=9\nNRestarts=3\n"

    hung = from_systemd("sealift-ledger.service", said.format("watchdog"))
    gave_up = from_systemd("sealift-ledger.service", said.format("start-limit-hit"))
    here = from_run_units(ENGINE, {"state": "failed", "why": "it gave no sign of life in time and starts again"})

    assert "started again 3 times" in hung.why
    assert gave_up.why.endswith("it failed too often in a short time")
    assert (here.ending, hung.ending) == (Ending.SILENT, Ending.SILENT)


def test_without_systemd_a_killed_engine_is_taken_for_a_shortage_of_memory() -> None:
    found = from_run_units(ENGINE, {"state": "failed", "why": "it ended with -9", "restarts": 2})

    assert (found.ending, found.exit_code, found.restarts) == (Ending.MEMORY, -9, 2)
    assert (
        from_run_units("sealift-admin.service", {"state": "failed", "why": "it ended with -9"}).ending is Ending.KILLED
    )
    assert from_run_units(ENGINE, {"state": "active"}).ending is Ending.NONE


def test_a_failed_service_is_named_and_started_once_more(config: Config) -> None:
    supervisor = FakeSupervisor(broken=frozenset({"sealift-admin.service"}))
    with pytest.raises(UnitError):
        supervisor.start("sealift-admin.service")
    supervisor.broken = frozenset()

    findings = list(doctor_services.units(config, supervisor))
    done = mend.mend(config, findings, clock=SystemClock(), supervisor=supervisor)

    assert findings[0].text.startswith("sealift-admin.service")
    assert [(each.repair, each.subject, each.is_done) for each in done] == [
        (doctor_services.START_UNIT, "sealift-admin.service", True)
    ]
    assert supervisor.state("sealift-admin.service") is UnitState.ACTIVE
    recorded = [json.loads(path.read_bytes())["kind"] for path in Spool(config.at.spool).pending()]
    assert recorded == [mend.MENDED]


@pytest.mark.parametrize(
    ("unit", "is_started"),
    [
        (f"sealift-validate@{'a' * 64}.service", False),
        ("sealift-switch@follow.service", False),
        ("sealift-receive@sdb1.service", False),
        ("sealift-report@2026q3.service", False),
        ("sealift-settle.service", False),
        ("sealift-report@due.service", True),
        ("sealift-backup.service", True),
        ("sealift-retention.service", True),
    ],
)
def test_work_that_was_asked_for_once_is_not_begun_anew_by_mending(
    config: Config, unit: str, *, is_started: bool
) -> None:
    """Scenario: a validation of hours failed, or a switch while a window lets engines rest; then somebody mends."""
    supervisor = FakeSupervisor(broken=frozenset({unit}))
    with pytest.raises(UnitError):
        supervisor.start(unit)
    supervisor.broken = frozenset()

    findings = list(doctor_services.units(config, supervisor))
    done = mend.mend(config, findings, clock=SystemClock(), supervisor=supervisor)

    assert (findings[0].is_good, findings[0].text.startswith(unit)) == (False, True)
    assert [each.subject for each in done] == ([unit] if is_started else [])
    assert supervisor.state(unit) is (UnitState.ACTIVE if is_started else UnitState.FAILED)


def test_mending_closes_keys_makes_folders_and_removes_what_nobody_listens_on(config: Config) -> None:
    config.at.current.mkdir(parents=True)
    key = config.at.key_files / "session.v1"
    key.chmod(0o664)
    left, live = config.at.socket("left"), config.at.socket("live")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(live))
        listener.listen(1)

        done = mend.mend(
            config, doctor(config, clock=SystemClock())[0], clock=SystemClock(), supervisor=FakeSupervisor()
        )
        after = doctor(config, clock=SystemClock())[0]

        assert all(each.is_done for each in done)
        assert {each.repair for each in done} == {
            doctor_services.CLOSE,
            doctor_services.MAKE_FOLDER,
            doctor_services.REMOVE_SOCKET,
        }
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert not left.exists()
        assert live.exists()
    assert [found.name for found in after if found.is_good is False] == []


def test_a_key_that_is_a_link_is_not_followed_when_it_is_closed(config: Config, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not ours")
    elsewhere.chmod(0o644)
    (config.at.key_files / "link.v1").symlink_to(elsewhere)

    done = mend.mend(config, doctor_services.keys(config), clock=SystemClock(), supervisor=FakeSupervisor())

    assert [each.is_done for each in done] == [False]
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644


def test_an_unknown_repair_does_nothing(config: Config) -> None:
    odd = Finding(name="x", is_good=False, text="x", repair=("format-disk", "/"))

    done = mend.mend(config, [odd], clock=SystemClock(), supervisor=FakeSupervisor())

    assert [(each.is_done, each.why) for each in done] == [(False, "there is no such repair")]
    assert os.listdir(config.at.state) == []  # noqa: PTH208 - only whether it is empty
