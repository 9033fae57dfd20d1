"""A medium arrives under a booted systemd: mounted by its unit, read by an unprivileged one, received by a typed job.

The box is that of test_backup_units: a bare Debian 12 with this machine's /usr and the checkout. It has no udev, so the
unit that udev would start is started by name, on a loop device with an ext4 image, the one type this kernel mounts.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from media import canonical
from tests.box.checkout import SEALIFT, booted, journal, lay_down, start
from tests.box.machine import Machine
from tests.functional.test_exports import _PROBE
from tests.support.medium import make_medium

pytestmark = pytest.mark.box

SITE = 'format = 1\nsite = "demo-clinic"\nenvironment = "demo"\nprofile = "cpu"\n[media]\nfilesystems = ["ext4"]\n'
# Loop devices stand in for sticks; on a site's box they cannot be opened.
DROP_IN = "[Service]\nDeviceAllow=block-loop r\n"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    def lay(root: Path) -> None:
        lay_down(root, SITE)
        pinned = root / "etc/sealift/trust"
        pinned.mkdir()
        (pinned / "1.root.json").write_bytes(medium_of(tmp_path_factory).root_json)
        drop_in = root / "etc/systemd/system/sealift-media@.service.d"
        drop_in.mkdir()
        (drop_in / "loop.conf").write_text(DROP_IN)

    with booted("slmd", lay) as machine:
        for name in ("sealift-ledger", "sealift-jobs"):
            start(machine, f"{name}.service")
        yield machine


def medium_of(factory: pytest.TempPathFactory) -> Any:
    return make_medium(factory.mktemp("medium") / "m", volumes=1)


@pytest.fixture
def plug(box: Machine, tmp_path: Path) -> Iterator[Any]:
    """Yield what plugs in a folder as an ext4 medium and returns its name in the box."""
    names: list[str] = []

    def plug_in(folder: Path, *, label: str = "STICK", kind: str = "ext4") -> str:
        image = tmp_path / f"image-{len(names)}"
        image.write_bytes(b"")
        os.truncate(image, 2**25)
        # As sticks are written: everybody may read them.
        tree = tmp_path / f"tree-{len(names)}"
        shutil.copytree(folder, tree, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", tree], check=True)
        maker = ["mkfs.ext4", "-q", "-L", label, "-d", tree] if kind == "ext4" else ["mkfs.vfat", "-n", label]
        subprocess.run([*maker, image], check=True, capture_output=True)
        found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
        device = Path(found.stdout.strip())
        names.append(device.name)
        number = os.minor(device.stat().st_rdev)
        # Owner and mode as Debian's udev gives them to disks.
        box.shell(f"mknod -m 0660 /dev/{device.name} b 7 {number} && chgrp disk /dev/{device.name}")
        return device.name

    yield plug_in
    for name in names:
        box.shell(f"systemctl stop sealift-media@{name}; rm -f /dev/{name}")
        # The unit set the device read-only, which a loop device would keep for whoever gets it next.
        subprocess.run(["blockdev", "--setrw", f"/dev/{name}"], check=True)
        subprocess.run(["losetup", "--detach", f"/dev/{name}"], check=True)


def result(box: Machine, words: str) -> dict[str, Any]:
    done = box.shell(f"{SEALIFT} {words} 2>/dev/null")
    assert done.returncode == 0, done.stdout + journal(box, "sealift-jobs")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def arrive(box: Machine, name: str) -> None:
    done = box.shell(f"systemctl start sealift-media@{name} && systemctl start sealift-inspect@{name}")
    assert done.returncode == 0, done.stdout + journal(box, f"sealift-media@{name}")


def test_a_volume_that_arrives_is_mounted_shown_received_by_a_job_and_taken_out(
    box: Machine, plug: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = plug(medium_of(tmp_path_factory).volumes[0])
    box.run("useradd", "--system", "--no-create-home", "--groups", "sealift-operators", "ines", shown=False)

    arrive(box, name)

    (line,) = [one for one in box.shell("cat /proc/mounts").stdout.splitlines() if f"/run/sealift/media/{name} " in one]
    options = set(line.split()[3].split(","))
    assert {"ro", "nosuid", "nodev", "noexec"} <= options
    assert box.shell(f"blockdev --getro /dev/{name}").stdout.strip() == "1"
    assert box.shell(f"touch /run/sealift/media/{name}/x").returncode != 0
    assert box.shell(f"mount -o remount,rw /run/sealift/media/{name}").returncode != 0
    operator = "setpriv --reuid ines --regid ines --init-groups"
    shown = box.shell(f"{operator} {SEALIFT} media list")
    (medium,) = json.loads(shown.stdout)["media"]
    assert (medium["name"], medium["state"], medium["filesystem"]) == (name, "mounted", "ext4")
    assert medium["claims"]["untrusted_release"] == "demo-1", journal(box, f"sealift-inspect@{name}")

    received = box.shell(f"{operator} {SEALIFT} media receive {name}")

    assert received.returncode == 0, received.stdout + journal(box, f"sealift-receive@{name}")
    assert json.loads(received.stdout[received.stdout.index("{") :])["changed"] is True
    assert (
        "demo-1" in box.shell("ls -R /var/lib/sealift/store/releases; cat /var/lib/sealift/store/releases/*/*").stdout
    )
    ejected = box.shell(f"{operator} {SEALIFT} media eject {name}")
    assert ejected.returncode == 0, ejected.stdout
    assert f"/run/sealift/media/{name} " not in box.shell("cat /proc/mounts").stdout
    assert result(box, "media list")["media"] == []
    kinds = box.shell(f"{SEALIFT} audit list --kind medium.arrived").stdout
    assert '"medium.arrived"' in kinds


def test_a_file_system_that_the_site_does_not_take_is_refused_before_any_driver_reads_it(
    box: Machine, plug: Any, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    name = plug(tmp_path / "empty", kind="vfat", label="HOLIDAYS")

    box.shell(f"systemctl start sealift-media@{name}; systemctl start sealift-inspect@{name}")

    (medium,) = [one for one in result(box, "media list")["media"] if one["name"] == name]
    assert (medium["state"], medium["why"]) == ("refused", "its file system is vfat; this site takes ext4")
    assert f"/run/sealift/media/{name} " not in box.shell("cat /proc/mounts").stdout
    unit = box.shell(f"systemctl show sealift-media@{name} -p ActiveState,Result --value").stdout.split()
    assert "failed" not in unit
    refused = box.shell(f"{SEALIFT} media receive {name}")
    assert refused.returncode == 58, refused.stdout


def test_litter_and_links_on_a_stick_lead_nowhere(box: Machine, plug: Any, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "release").symlink_to("/etc")
    (stick / "autorun.inf").write_text("[autorun]\nopen=x.exe\n")
    name = plug(stick, label="SEALIFT-OUT")
    shutil.rmtree(stick)

    arrive(box, name)

    (medium,) = [one for one in result(box, "media list")["media"] if one["name"] == name]
    assert medium["problem"]
    assert not medium["may_take_exports"]


def test_an_export_leaves_on_a_marked_medium_for_these_seconds_and_nothing_else_is_ever_written(
    box: Machine, plug: Any, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    name, other = plug(tmp_path / "empty", label="SEALIFT-OUT"), plug(tmp_path / "empty", label="STICK")
    for one in (name, other):
        arrive(box, one)
    (box.root / "root/probe.json").write_bytes(canonical.dumps(_PROBE) + b"\n")
    result(box, "export probe /root/probe.json --yes")
    (made, *_) = result(box, "media exports")["exports"]
    asked = f"media export {{}} {made['sha256']} --yes"

    assert box.shell(f"{SEALIFT} {asked.format(other)}").returncode == 58
    written = box.shell(f"{SEALIFT} {asked.format(name)}")

    assert written.returncode == 0, written.stdout + journal(box, f"sealift-export@{name}")
    (line,) = [one for one in box.shell("cat /proc/mounts").stdout.splitlines() if f"/dev/{name} " in one]
    assert line.split()[1] == f"/run/sealift/media/{name}"
    assert "ro" in line.split()[3].split(",")
    assert box.shell(f"blockdev --getro /dev/{name}").stdout.strip() == "1"
    (file,) = [one for one in box.shell(f"ls /run/sealift/media/{name}").stdout.split() if one.endswith(".json")]
    carried = box.shell(f"cat /run/sealift/media/{name}/{file}").stdout
    assert carried.encode() == canonical.dumps(_PROBE)
    assert made["sha256"] in box.shell(f"{SEALIFT} audit list --kind export.carried").stdout
    assert box.shell(f"ls -A /run/sealift/media/{other}").stdout.split() == ["lost+found"]
    started = box.shell(f"systemctl start sealift-export@{name}; ls /run/sealift/media/{name}")
    assert started.stdout.split().count(file) == 1, "started by hand it does nothing: no job asked for it"
