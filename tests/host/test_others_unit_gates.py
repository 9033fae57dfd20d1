"""The gate of units that Debian brings and the install hardens: judged whole, Debian's file with our drop-in."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.others_units import DEBIAN, NAMES, WATCHERS, drop_in, root_with
from tests.support.unit_files import HOST_UNITS, settings
from tests.support.unit_gates import WITH_NETWORK, exposure, judge, unexplained

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
needs_debian_12 = pytest.mark.skipif("systemd 252" not in judge(), reason="the figures are those of systemd 252")
# Root, five capabilities and two kinds of sockets are what a web server on low ports is; each says why in its file.
FIGURES: Final = {"nginx": 23}


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


def test_of_run_the_web_servers_master_has_no_more_than_its_own() -> None:
    found = drop_in("nginx").splitlines()

    assert "ReadOnlyPaths=-/run/sealift -/run/systemd -/run/udev" in found
    assert "InaccessiblePaths=-/run/systemd/private -/run/dbus" in found


def test_the_clock_is_read_by_the_one_watcher_that_tells_whether_it_is_right() -> None:
    assert "\nSystemCallFilter=adjtimex\n" in drop_in("prometheus-node-exporter")
    assert "\nProtectClock=yes\n" not in drop_in("prometheus-node-exporter")
    assert all("\nProtectClock=yes\n" in drop_in(name) for name in WATCHERS[:2])
