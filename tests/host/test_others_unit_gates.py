"""The gate of units that Debian brings and the install hardens: judged whole, Debian's file with our drop-in."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support import nginx
from tests.support.others_units import DEBIAN, NAMES, ROLES, WATCHERS, drop_in, root_with
from tests.support.unit_files import HOST_UNITS, SYSTEMD, settings, values
from tests.support.unit_gates import WITH_NETWORK, exposure, judge, unexplained

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
needs_debian_12 = pytest.mark.skipif("systemd 252" not in judge(), reason="the figures are those of systemd 252")
# A network, low ports and the machine's own users are what a web server is; each says why in its file.
FIGURES: Final = {"nginx": 13}


@needs_systemd_analyze
@pytest.mark.parametrize("name", WATCHERS)
def test_a_watcher_is_as_little_exposed_as_our_own_units_with_a_network(tmp_path: Path, name: str) -> None:
    found = exposure(Path(f"{name}.service"), root=root_with(tmp_path, name))

    assert found.tenths <= WITH_NETWORK, "\n".join(found.weighs[:8])


@needs_debian_12
@pytest.mark.parametrize("name", FIGURES)
def test_what_cannot_be_held_to_that_is_held_to_its_own_figure(tmp_path: Path, name: str) -> None:
    found = exposure(Path(f"{name}.service"), root=root_with(tmp_path, name))

    assert found.tenths == FIGURES[name], "\n".join(found.weighs)


@pytest.mark.parametrize("name", NAMES)
def test_every_relaxation_has_its_reason_next_to_it(name: str) -> None:
    assert unexplained(drop_in(name)) == []


@needs_systemd_analyze
@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_unit_and_drop_in_together(tmp_path: Path, name: str) -> None:
    root = root_with(tmp_path, name)
    # Targets that units name are the machine's own.
    for path in HOST_UNITS.glob("*.target"):
        shutil.copy(path, root / "usr/lib/systemd/system", follow_symlinks=True)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=no", f"{name}.service"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_debians_unit_here_is_the_one_that_is_judged(name: str) -> None:
    installed = HOST_UNITS / f"{name}.service"
    if not installed.exists():
        pytest.skip("the package is not installed here")

    assert settings(installed) == settings(DEBIAN / f"{name}.service")


def test_the_web_server_is_reached_from_the_sites_networks_alone() -> None:
    found = drop_in(
        "nginx",
        sealift_addresses=["10.0.0.7"],
        sealift_clients=["10.1.0.0/16", "10.2.0.0/16"],
        sealift_management=["10.2.0.0/16", "fd00::/64"],
        sealift_operations=["10.3.0.0/16"],
    ).splitlines()

    assert [line for line in found if line.startswith("IPAddress")] == [
        "IPAddressDeny=any",
        *(
            f"IPAddressAllow={one}"
            for one in ("localhost", "10.0.0.7", "10.1.0.0/16", "10.2.0.0/16", "fd00::/64", "10.3.0.0/16")
        ),
    ]


def test_no_part_of_the_web_server_is_root() -> None:
    found = drop_in("nginx").splitlines()

    assert {"User=www-data", "Group=www-data"} <= set(found)
    assert not [line for line in found if line.startswith("Exec") and line.partition("=")[2][:1] in {"+", "!"}]
    rights = [line for line in found if line.startswith(("CapabilityBoundingSet=", "AmbientCapabilities="))]
    assert [line.partition("=")[2] for line in rights] == ["CAP_NET_BIND_SERVICE"] * 2
    calls = [line.partition("=")[2] for line in found if line.startswith("SystemCallFilter=")]
    assert calls == ["@system-service", "~@privileged @resources"]


def test_of_run_the_web_server_writes_the_folder_of_its_number_alone() -> None:
    found = drop_in("nginx").splitlines()

    assert "ReadOnlyPaths=/run" in found
    written = " ".join(line.partition("=")[2] for line in found if line.startswith("ReadWritePaths=")).split()
    assert [path for path in written if path.startswith("/run")] == ["/run/nginx"]
    assert "RuntimeDirectory=nginx" in found
    assert "InaccessiblePaths=-/run/systemd/private -/run/dbus" in found


def test_unit_and_configuration_name_the_same_place_for_the_web_servers_number() -> None:
    (named,) = re.findall(r"^pid (\S+);$", nginx.rendered(), re.MULTILINE)

    found = drop_in("nginx").splitlines()
    assert f"PIDFile={named}" in found
    assert [line for line in found if line.startswith("ExecStop=")][-1].endswith(f" --pidfile {named}")
    trial = " ".join(values(SYSTEMD / "sealift-try-nginx@.service", "TemporaryFileSystem")).split()
    assert f"{Path(named).parent}:mode=0777" in trial, "nginx opens that file where it only tries, too"


def test_the_web_servers_log_is_there_for_it_before_it_starts() -> None:
    (logged,) = re.findall(r"^error_log (\S+) crit;$", nginx.rendered(), re.MULTILINE)

    lines = [line.split() for line in (SYSTEMD / "tmpfiles.d/sealift.conf").read_text().splitlines()]
    assert ["f", logged, "0640", "www-data", "adm", "-"] in lines
    told = (ROLES / "nginx/tasks/main.yml").read_text()
    assert told.index(f"--prefix={Path(logged).parent}") < told.index("state:", told.index("Start the web server"))


def test_the_clock_is_read_by_the_one_watcher_that_tells_whether_it_is_right() -> None:
    assert "\nSystemCallFilter=adjtimex\n" in drop_in("prometheus-node-exporter")
    assert "\nProtectClock=yes\n" not in drop_in("prometheus-node-exporter")
    assert all("\nProtectClock=yes\n" in drop_in(name) for name in WATCHERS[:2])


@pytest.mark.parametrize("address", ["10.0.0.6", "fd00::6"])
def test_the_collector_that_a_site_names_is_reached_from_the_unit_that_sends_and_no_other(address: str) -> None:
    named = {"mail_relay": "10.0.0.25", "syslog": f"tcp {address} 6514", "syslog_server": "siem.hospital.internal"}
    allowed = {name: _allowed(drop_in(name, sealift_alerts=named)) for name in ("sealift-alerts", *WATCHERS)}

    assert allowed == {
        "sealift-alerts": ["localhost", address],
        "prometheus": ["localhost"],
        "prometheus-alertmanager": ["localhost", "10.0.0.25"],
        "prometheus-node-exporter": ["localhost"],
    }
    assert _allowed(drop_in("sealift-alerts")) == ["localhost"], "where none is named"


def _allowed(text: str) -> list[str]:
    assert "IPAddressDeny=any" in text.splitlines()
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith("IPAddressAllow=")]
