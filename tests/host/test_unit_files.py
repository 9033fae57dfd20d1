"""What the units promise, read from the files and from systemd's own tools."""

import re
import shutil
import subprocess
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.install import givenup, tlsfolder
from tests.box.reach import EXPECTED
from tests.support.unit_files import SYSTEMD, scratch_root, services, settings, values

ROOT_STEP = "sealift-install@.service"
SETTLE = "sealift-settle.service"
CONFIG = "--config /etc/sealift/sealift.toml"
# What runs as root and reaches more than one service may: the two steps that change the host.
ON_THE_HOST = {ROOT_STEP, SETTLE}
# Where the hour that is left out in spring begins at one, at two, at two, at three.
FORWARD = ("Europe/London", "Europe/Berlin", "America/New_York", "Europe/Helsinki")
# Users and groups of Debian's own base-passwd.
DEBIANS = {"root", "www-data", "video", "disk", "cdrom"}
DOORS = {
    "ledger-gateway": ("sealift-gateway", "0660"),
    "ledger-admin": ("sealift-admin", "0660"),
    "ledger-promoter": ("sealift-promoter", "0660"),
    "ledger-actions": ("sealift-receive", "0660"),
    "promoter-admin": ("sealift-admin", "0660"),
    "promoter-actions": ("root", "0600"),
    "lease": ("root", "0600"),
    "announce": ("sealift-standby", "0660"),
    "ledger-metrics": ("sealift-metrics", "0660"),
    "ledger-siem": ("sealift-siem", "0660"),
    "review-gateway": ("sealift-gateway", "0660"),
    "review-admin": ("sealift-admin", "0660"),
    "review-operator": ("sealift-operators", "0660"),
    "metrics": ("www-data", "0660"),
    "alerts": ("root", "0600"),
    "gateway": ("www-data", "0660"),
    "gateway-%i": ("www-data", "0660"),
    "gateway-test": ("www-data", "0660"),
    "gateway-admin": ("sealift-admin", "0660"),
    "gateway-test-admin": ("sealift-admin", "0660"),
    "ledger-test": ("sealift-gateway-test", "0660"),
    "admin": ("www-data", "0660"),
    "ledger-bench": ("sealift-bench", "0660"),
    "ledger-switch": ("sealift-switch", "0660"),
    "ledger-operator": ("sealift-operators", "0660"),
    "promoter-operator": ("sealift-operators", "0660"),
    "promoter-judge": ("sealift-switch", "0660"),
    "jobs-admin": ("sealift-admin", "0660"),
    "jobs-operator": ("sealift-operators", "0660"),
    "jobs-bench": ("sealift-bench", "0660"),
    "jobs-switch": ("sealift-switch", "0660"),
    "jobs-receive": ("sealift-receive", "0660"),
    "engine-test-%i": ("sealift-test-callers", "0660"),
    "engine-production-%i": ("sealift-engine-callers", "0660"),
}
CREDENTIALS = {
    "sealift-ledger.service": {"ledger-checkpoint", "ledger-mldsa"},
    "sealift-gateway.service": {"api-key-pepper", "identity-hmac", "content-hmac", "phi-map"},
    "sealift-gateway@.service": {"api-key-pepper", "identity-hmac", "content-hmac", "phi-map"},
    "sealift-review.service": {"retention"},
    "sealift-gateway-test.service": {
        *("test-api-key-pepper", "test-identity-hmac", "test-content-hmac", "test-phi-map"),
    },
    "sealift-admin.service": {"session"},
    "sealift-standby.service": {"box-channel.pem"},
    "sealift-standby-sync.service": {"ledger-checkpoint", "api-key-pepper", "box-channel.pem", "box-sealing.x25519"},
    "sealift-try-nginx@.service": {"server.key"},
    "sealift-backup.service": {"api-key-pepper", "identity-hmac", "content-hmac", "passwords"},
    "sealift-drill.service": {"api-key-pepper", "identity-hmac", "content-hmac", "passwords"},
}

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
# Makes and destroys versions of keys, so it has their folder; it is a oneshot and reaches little else.
RETENTION = "sealift-retention.service"
confined = [path for path in services() if path.name not in {*ON_THE_HOST, RETENTION}]


@needs_systemd_analyze
def test_systemd_accepts_every_unit_without_a_word(tmp_path: Path) -> None:
    root = scratch_root(tmp_path / "root")
    names = [
        path.name.replace("@.", f"@{'a' * 12}.")
        for path in SYSTEMD.iterdir()
        if path.suffix in {".service", ".socket", ".target"}
    ]

    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", "--recursive-errors=yes", *names],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", confined, ids=lambda path: path.name)
def test_no_service_can_read_key_files_it_only_gets_credentials(path: Path) -> None:
    hidden = " ".join(values(path, "InaccessiblePaths")).split()

    assert "-/etc/sealift/keys" in hidden
    assert {line.partition(":")[0] for line in values(path, "LoadCredential")} == CREDENTIALS.get(path.name, set())


@pytest.mark.parametrize("path", confined, ids=lambda path: path.name)
def test_only_the_ledger_reaches_the_ledger_folder(path: Path) -> None:
    reaches = "sealift/ledger" in values(path, "StateDirectory")
    hidden = "-/var/lib/sealift/ledger" in " ".join(values(path, "InaccessiblePaths")).split()

    assert reaches is (path.name == "sealift-ledger.service")
    assert hidden is not reaches


def test_of_run_units_of_root_write_what_their_files_name_and_no_rule_or_unit_that_others_read() -> None:
    """Two install, and may write what is read there; what destroys keys of years writes units anyway."""
    of_root = {path.name: path for path in services() if values(path, "User") in (["root"], [])}
    may_more = {ROOT_STEP, SETTLE, RETENTION}
    found = {
        name: [one for one in " ".join(values(path, "ReadWritePaths")).split() if one.lstrip("-").startswith("/run")]
        for name, path in of_root.items()
        if name not in may_more
    }

    assert may_more < set(of_root)
    assert found == {
        "sealift-jobs.service": ["-/run/sealift/exporting"],
        "sealift-standby-sync.service": ["/run/sealift"],
        "sealift-tls@.service": [],
    }
    for name in found:
        assert "/run" in " ".join(values(of_root[name], "ReadOnlyPaths")).split(), name


def test_whoever_may_not_see_the_authoritys_key_sees_no_key_beside_it() -> None:
    hardened = SYSTEMD.parent / "ansible/roles/nginx/templates/hardening.conf.j2"
    hidden = {path.name: " ".join(values(path, "InaccessiblePaths")).split() for path in (*services(), hardened)}
    from_the_key = {name: found for name, found in hidden.items() if "-/etc/sealift/tls/ca.key" in found}

    assert {"sealift-try-nginx@.service", "hardening.conf.j2"} <= set(from_the_key)
    for name, found in from_the_key.items():
        assert {f"-/etc/sealift/tls/{folder}" for folder in tlsfolder.HIDDEN} <= set(found), name


def test_only_what_destroys_keys_of_years_may_write_keys() -> None:
    writes = {path.name for path in services() if "/etc/sealift/keys" in " ".join(values(path, "ReadWritePaths"))}
    hidden = " ".join(values(SYSTEMD / RETENTION, "InaccessiblePaths")).split()

    assert writes == {RETENTION}
    assert {"-/var/lib/sealift/ledger", "-/var/lib/sealift/promoter", "-/var/lib/sealift/trust"} <= set(hidden)
    assert not values(SYSTEMD / RETENTION, "LoadCredential")


@pytest.mark.parametrize("name", [ROOT_STEP, SETTLE])
def test_the_root_steps_cannot_reach_trust_state_or_ledger(name: str) -> None:
    path = SYSTEMD / name

    assert values(path, "InaccessiblePaths") == ["-/var/lib/sealift/ledger -/var/lib/sealift/trust"]
    assert values(path, "ReadOnlyPaths") == ["-/etc/sealift/trust -/var/lib/sealift/store"]


def test_a_plan_is_made_without_one_right_by_a_user_of_its_own() -> None:
    path = SYSTEMD / "sealift-plan@.service"
    hidden = " ".join(values(path, "InaccessiblePaths")).split()

    assert values(path, "User") == ["sealift-plan"]
    assert not [value for _, _, value in settings(path) if value.startswith(("+", "!"))], "no part of it is root's"
    assert values(path, "CapabilityBoundingSet") == [""]
    assert values(path, "ReadWritePaths") == ["/var/lib/sealift/plans"]
    assert {"-/var/lib/sealift/trust", "-/var/lib/sealift/promoter", "-/var/lib/sealift/registry"} <= set(hidden)


def test_what_changes_the_host_reaches_no_network_and_no_more_rights_than_installing_takes() -> None:
    path = SYSTEMD / ROOT_STEP
    rights = set(values(path, "CapabilityBoundingSet")[0].split())

    assert values(path, "PrivateNetwork") == ["yes"]
    assert values(path, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert rights == {
        *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETUID", "CAP_SETGID"),
    }
    assert not rights & {
        "CAP_SYS_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_BOOT",
        "CAP_KILL",
    }
    assert values(path, "ReadWritePaths") == ["/etc /opt /run /usr /var"]
    assert values(path, "NoNewPrivileges") == ["yes"]


@pytest.mark.parametrize(
    ("kind", "right", "families"), [("nginx", "", "AF_INET AF_INET6"), ("nftables", "CAP_NET_ADMIN", "AF_NETLINK")]
)
def test_what_tries_a_file_has_at_most_the_right_of_that_one_program_in_an_empty_network(
    kind: str, right: str, families: str
) -> None:
    path = SYSTEMD / f"sealift-try-{kind}@.service"
    lines = [line.split() for line in (SYSTEMD / "tmpfiles.d/sealift.conf").read_text().splitlines()]
    made = {line[1]: line[3] for line in lines if line[:1] == ["d"]}
    written = [*values(path, "ReadWritePaths"), *values(path, "BindPaths")]

    assert values(path, "PrivateNetwork") == ["yes"]
    assert values(path, "CapabilityBoundingSet") == values(path, "AmbientCapabilities") == [right]
    assert values(path, "RestrictAddressFamilies") == [families]
    assert values(path, "RestrictNamespaces") == ["yes"]
    assert values(path, "ExecStart")[0].endswith(f" appliance.install.tryunit {CONFIG} {kind} %i")
    # It writes its verdict there, and nobody but root hands anything over.
    assert written == [f"/run/sealift/tried/{kind}"]
    assert made["/run/sealift/tried"] == "root"
    assert made[f"/run/sealift/tried/{kind}"] == values(path, "User")[0] != "root"
    assert not [line for line in path.read_text().splitlines() if line.startswith("Condition")], "it would not run"


def test_taking_an_install_back_is_confined_as_the_install_is() -> None:
    ours = {"ExecStart", "Environment"}
    found = [
        {(key, value) for section, key, value in settings(SYSTEMD / name) if section == "Service" and key not in ours}
        for name in (ROOT_STEP, SETTLE)
    ]

    assert found[0] == found[1]
    assert values(SYSTEMD / ROOT_STEP, "OnFailure") == [SETTLE]


def test_the_job_service_is_started_again_by_a_timer_once_its_tries_are_counted_anew() -> None:
    service, timer = SYSTEMD / "sealift-jobs.service", SYSTEMD / "sealift-jobs.timer"
    (pause,) = values(timer, "OnActiveSec")
    (counted,) = values(service, "StartLimitIntervalSec")

    assert values(service, "OnFailure") == [timer.name]
    assert pause == "3min"
    assert int(counted) < givenup.PAUSE_SECONDS == 180
    # Started anew whenever the service is given up, and gone where people stop it.
    assert values(timer, "RemainAfterElapse") == ["no"]
    assert set(values(timer, "PartOf")[0].split()) == {"sealift.target", service.name}
    assert timer.name not in (SYSTEMD / "sealift.target").read_text(), "it runs only after a failure"
    assert not [key for _, key, _ in settings(timer) if key.startswith("On") and key != "OnActiveSec"]


def test_media_are_decided_about_and_written_to_by_two_users_without_a_right() -> None:
    decides, writes = SYSTEMD / "sealift-media@.service", SYSTEMD / "sealift-export@.service"
    lines = [line.split() for line in (SYSTEMD / "tmpfiles.d/sealift.conf").read_text().splitlines()]
    made = {line[1]: line[2:4] for line in lines if line[:1] == ["d"]}

    assert (values(decides, "User"), values(writes, "User")) == (["sealift-media"], ["sealift-export"])
    for path in (decides, writes):
        assert (values(path, "PrivateUsers"), values(path, "CapabilityBoundingSet")) == (["yes"], [""])
        mounts = [value for _, _, value in settings(path) if "/usr/bin/mount " in value]
        assert all(" --internal-only " in line for line in mounts), "a table would name a program for root to run"
    # Its groups may write to disks; the unit may not.
    assert values(decides, "DevicePolicy") == ["closed"]
    assert {line.split()[1] for line in values(decides, "DeviceAllow")} == {"r"}
    # What another user says never chooses the device or the place, and what is mounted to be written to is root's word.
    for path in (decides, writes):
        for line in (value for _, _, value in settings(path) if "/run/sealift/arrived/" in value and "mount" in value):
            assert "--options-source-force --options ro,nosuid,nodev,noexec --source /dev/%i --target" in line
    assert made["/run/sealift/arrived"] == ["0755", "sealift-media"]
    assert made["/run/sealift/exporting"] == ["0755", "root"]
    assert values(writes, "ReadWritePaths") == ["/run/sealift/export"]


def test_the_job_service_sees_root_alone_and_those_whom_the_ledger_introduces() -> None:
    path = SYSTEMD / "sealift-jobs.service"

    assert (values(path, "User"), values(path, "CapabilityBoundingSet")) == (["root"], [""])
    assert values(path, "PrivateUsers") == ["yes"]
    assert not values(SYSTEMD / "sealift-ledger.service", "PrivateUsers"), "nobody would see who asks"


def test_the_clock_is_set_by_a_user_of_its_own_and_roots_line_takes_nothing() -> None:
    path = SYSTEMD / "sealift-clock-set@.service"
    hidden = " ".join(values(path, "InaccessiblePaths")).split()

    assert values(path, "User") == ["sealift-clock-set"]
    assert values(path, "CapabilityBoundingSet") == values(path, "AmbientCapabilities") == ["CAP_SYS_TIME"]
    # `!` is root in this sandbox; `+` would be root without one.
    assert [value for _, _, value in settings(path) if value.startswith(("+", "-+"))] == []
    assert values(path, "ExecStartPost") == [
        "-!/opt/sealift/current/server/bin/python -I -m appliance.timekeeping.hardwareclock"
    ]
    assert values(path, "DeviceAllow") == ["char-rtc rw"]
    assert {"-/etc/sealift/keys", "-/etc/sealift/tls", "-/var/lib/sealift/trust"} <= set(hidden)


def test_one_unit_sees_the_nodes_of_gpus_and_the_gateways_see_no_device() -> None:
    path = SYSTEMD / "sealift-gpus.service"
    lines = [line.split() for line in (SYSTEMD / "tmpfiles.d/sealift.conf").read_text().splitlines()]
    made = {line[1]: line[2:4] for line in lines if line[:1] == ["d"]}
    seen = " ".join(values(path, "BindPaths")).split()

    assert values(path, "ConditionPathExists") == ["/dev/nvidiactl"]
    assert seen == ["-/dev/nvidiactl", *(f"-/dev/nvidia{number}" for number in range(16))]
    assert values(path, "DevicePolicy") == ["closed"]
    assert {line.split()[0] for line in values(path, "DeviceAllow")} == {
        *("char-nvidiactl", "char-nvidia", "char-nvidia-frontend"),
    }
    assert (values(path, "PrivateDevices"), values(path, "PrivateNetwork")) == (["yes"], ["yes"])
    # It writes there and nowhere else, and whoever wants it reads.
    assert values(path, "ReadWritePaths") == ["/run/sealift/gpus"]
    assert made["/run/sealift/gpus"] == ["0755", values(path, "User")[0]]
    for gateway in SYSTEMD.glob("sealift-gateway*.service"):
        assert (values(gateway, "PrivateDevices"), values(gateway, "DeviceAllow")) == (["yes"], [])
    assert "sealift-gpus.service" in values(SYSTEMD / "sealift-metrics.service", "Wants")


def test_each_door_lets_exactly_its_own_user_in() -> None:
    found = {
        _place(path): (values(path, "SocketGroup")[0], values(path, "SocketMode")[0])
        for path in SYSTEMD.glob("*.socket")
    }

    assert found == DOORS


def test_each_socket_lies_at_its_doors_path() -> None:
    for path in SYSTEMD.glob("*.socket"):
        door = values(path, "FileDescriptorName")[0]
        assert _place(path) == door or (door == "engine" and _place(path).startswith("engine-"))


def test_the_gateways_sockets_outlast_a_restart_of_the_target_and_not_its_stop() -> None:
    for path in SYSTEMD.glob("sealift-gateway*.socket"):
        # systemd.unit(5): PartOf= hands on stop and restart, StopPropagatedFrom= the stop alone.
        assert values(path, "PartOf") == []
        assert values(path, "StopPropagatedFrom") == ["sealift.target"]
    for path in SYSTEMD.glob("sealift-gateway*.service"):
        assert values(path, "PartOf") == ["sealift.target"]


def _place(path: Path) -> str:
    return values(path, "ListenStream")[0].removeprefix("/run/sealift/").removesuffix(".sock")


def test_neither_stage_of_engines_can_be_reached_by_the_others_callers() -> None:
    test, production = DOORS["engine-test-%i"][0], DOORS["engine-production-%i"][0]
    lines = [line.split() for line in (SYSTEMD / "sysusers.d/sealift.conf").read_text().splitlines()]
    members = {group: {one[1] for one in lines if one[:1] == ["m"] and one[2] == group} for group in (test, production)}

    assert members[production] == {"sealift-gateway", "sealift-switch"}
    assert members[test] == {"sealift-gateway-test", "sealift-bench"}
    assert values(SYSTEMD / "sealift-engine-test@.service", "User") == ["sealift-engine-test"]
    assert values(SYSTEMD / "sealift-engine-production@.service", "User") == ["sealift-engine-prod"]


def test_the_test_stages_gateway_has_nothing_of_productions() -> None:
    path, production = SYSTEMD / "sealift-gateway-test.service", SYSTEMD / "sealift-gateway.service"
    hidden = " ".join(values(path, "InaccessiblePaths")).split()
    made = [
        line.split()[1] for line in (SYSTEMD / "tmpfiles.d/sealift.conf").read_text().splitlines() if line[:1] == "d"
    ]

    for key in ("User", "Group", "StateDirectory", "Sockets"):
        assert values(path, key) != values(production, key)
    assert not set(values(path, "LoadCredential")) & set(values(production, "LoadCredential"))
    assert values(path, "Environment")[1:] == ["SEALIFT_STAGE=test"]
    for place in ("gateway", "census", "review", "store", "registry/evals", "registry/reviews", "registry/evidence"):
        assert f"-/var/lib/sealift/{place}" in hidden
    # What is not there when a unit starts is not hidden from it later.
    assert {f"/var/lib/sealift/registry/{one}" for one in ("evals", "reviews", "evidence")} <= set(made)
    assert {"/var/lib/sealift/census", "/var/lib/sealift/review", "/var/lib/sealift/store"} <= set(made)


def test_services_own_no_runtime_directory_that_would_take_the_sockets_with_it() -> None:
    assert not [path for path in services() if values(path, "RuntimeDirectory")]


def test_services_run_isolated_from_the_environment_they_start_in() -> None:
    for path in services():
        command = values(path, "ExecStart")[0].split()
        # What takes an install back runs by the code of the release before.
        own = "/opt/sealift/before/" if path.name == SETTLE else "/opt/sealift/current/"
        assert command[0].startswith((own, "/opt/sealift/engines/%i/"))
        assert command[0].endswith("/gunicorn") or command[1] == "-I"


def test_what_is_run_as_a_module_runs_when_it_is() -> None:
    for path in services():
        command = values(path, "ExecStart")[0].split()
        if "-m" in command:
            source = SYSTEMD.parent / (command[command.index("-m") + 1].replace(".", "/") + ".py")
            assert 'if __name__ == "__main__":' in source.read_text()


def test_every_user_and_group_of_a_unit_is_declared() -> None:
    lines = [line.split() for line in (SYSTEMD / "sysusers.d/sealift.conf").read_text().splitlines()]
    declared = {line[1] for line in lines if line and line[0] in {"u", "g"}} | DEBIANS
    used = {
        name
        for path in (*SYSTEMD.iterdir(), *(SYSTEMD / "variants").iterdir())
        if path.is_file()
        for _, key, value in settings(path)
        if key in {"User", "Group", "SupplementaryGroups", "SocketUser", "SocketGroup"}
        for name in value.split()
    }

    assert used <= declared


def test_only_the_production_engine_and_the_switch_read_promotions() -> None:
    lines = [line.split() for line in (SYSTEMD / "sysusers.d/sealift.conf").read_text().splitlines()]
    readers = {line[1] for line in lines if line[:1] == ["m"] and line[2] == "sealift-promotions"}

    assert readers == {"sealift-engine-prod", "sealift-switch"}
    assert values(SYSTEMD / "sealift-promoter.service", "StateDirectoryMode") == ["0750"]


def test_the_folders_of_data_are_no_python_packages() -> None:
    assert not list(SYSTEMD.rglob("__init__.py"))


def test_the_booted_box_asks_of_every_user_what_it_reaches() -> None:
    lines = [line.split() for line in (SYSTEMD / "sysusers.d/sealift.conf").read_text().splitlines()]
    users = {line[1] for line in lines if line and line[0] == "u"}

    assert users <= set(EXPECTED)


@pytest.mark.parametrize("stage", ["test", "production"])
def test_an_engine_has_five_minutes_and_more_to_load_its_model(stage: str) -> None:
    (limit,) = values(SYSTEMD / f"sealift-engine-{stage}@.service", "TimeoutStartSec")
    assert int(limit) >= 300


@pytest.mark.parametrize(
    ("timer", "months", "days"),
    [("drill", set(range(1, 13)), 1), ("report", {1, 4, 7, 10}, 92), ("backup", set(range(1, 13)), 1)],
)
def test_what_is_due_by_the_calendar_comes_as_often_as_it_says(timer: str, months: set[int], days: int) -> None:
    (calendar,) = values(SYSTEMD / f"sealift-{timer}.timer", "OnCalendar")
    told = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=13", "--base-time=2026-01-01 00:00:00 UTC", calendar],
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    turns = [
        datetime.fromisoformat(found) for found in re.findall(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(?= UTC)", told)
    ]

    assert {one.month for one in turns} <= months
    assert all(0 < (after - before).days <= days for before, after in pairwise(turns))


@pytest.mark.parametrize("zone", FORWARD)
@pytest.mark.parametrize("timer", ["backup", "drill", "report", "retention", "scrub", "tls"])
def test_no_turn_of_a_timer_is_left_out_where_clocks_go_forward(timer: str, zone: str) -> None:
    (calendar,) = values(SYSTEMD / f"sealift-{timer}.timer", "OnCalendar")

    assert _turns(calendar, zone) == _turns(calendar, "UTC")


def _turns(calendar: str, zone: str) -> list[str]:
    told = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=400", "--base-time=2026-12-31 12:00:00 UTC", calendar],
        env={"TZ": zone, "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.findall(r"(?:elapse|#\d+): \w{3} (\S+ \S+)", told)
