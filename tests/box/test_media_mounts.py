"""The lines of the units of media, run in their order by a shell in a mount namespace of its own, on a loop device.

What the units are made of is real: mount(8), blkid, the kernel, our programs. What systemd adds (users, sandbox,
jobs) is not here but in test_media_units. ext4 is the one type of the five that this kernel mounts.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.unit_files import SYSTEMD, settings

pytestmark = pytest.mark.box

SITE = 'format = 1\nsite = "demo"\nenvironment = "demo"\n[media]\nfilesystems = ["ext4"]\n'
_PREFIX = re.compile(r"^\+?-?(?:/usr/bin/nsenter --target 1 --mount -- )?")
_PYTHON = "/opt/sealift/current/server/bin/python"
_WRITE = """
import sys
from pathlib import Path
from appliance import config
from appliance.actions import carrying
from appliance.install import arrivals, exported
found = config.load(Path(sys.argv[1]))
arrival = arrivals.arrived(found.at, sys.argv[2])
if sys.argv[3] == "check":
    exported.prepare(found.at, arrival)
else:
    load = carrying.Load(file=Path("x.json"), raw=b"{}", kind=carrying.ExportType.PROBE, digest="0" * 64)
    from appliance.audit.memory import MemoryLedger
    carrying.write(found.at.export_medium, load, arrival, MemoryLedger(site="demo"))
"""
_FRAME = """
set -e
mkdir -p /run/sealift
mount -t tmpfs none /run/sealift
mkdir /run/sealift/media /run/sealift/arrived
mkdir -m 0700 /run/sealift/export
"""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Any]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    loops: list[str] = []

    def plug(label: str) -> str:
        image, tree = tmp_path / f"image-{len(loops)}", tmp_path / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "note.txt").write_text("from outside")
        image.write_bytes(b"")
        os.truncate(image, 2**23)
        subprocess.run(["mkfs.ext4", "-q", "-L", label, "-d", tree, image], check=True, capture_output=True)
        done = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
        loops.append(done.stdout.strip())
        return Path(loops[-1]).name

    yield plug
    for loop in loops:
        subprocess.run(["blockdev", "--setrw", loop], check=True)
        subprocess.run(["losetup", "--detach", loop], check=True)
    with suppress(OSError):
        Path("/run/sealift").rmdir()


def lines(unit: str, name: str, *keys: str) -> list[str]:
    """Return the commands of these settings as a shell runs them; one that may fail goes on."""
    found = []
    for key in keys:
        for _, known, value in settings(SYSTEMD / unit):
            if known == key:
                command = _PREFIX.sub("", value).replace("%i", name).replace(_PYTHON, sys.executable)
                command = command.replace("/etc/sealift/sealift.toml", "$SITE")
                found.append(f"{command} || true" if value.startswith("+-") else command)
    return found


def run(tmp_path: Path, script: list[str]) -> list[dict[str, Any]]:
    """Run a script in a namespace; every line that says `look` gives what the kernel says of the mounts."""
    site = tmp_path / "sealift.toml"
    site.write_text(SITE)
    looks = tmp_path / "looks"
    text = "\n".join([_FRAME, *script]).replace("look ", f"N=$((N + 1)); cat /proc/self/mountinfo > {looks}-$N #")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", f"N=0\n{text}"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "SITE": str(site)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = []
    for number in range(1, 1 + len(list(tmp_path.glob("looks-*")))):
        rows = [line.split() for line in Path(f"{looks}-{number}").read_text().splitlines()]
        seen.append({row[4]: (row[5].split(","), row[-1].split(",")) for row in rows if "/run/sealift/" in row[4]})
    return seen


def arrive(name: str) -> list[str]:
    return lines("sealift-media@.service", name, "ExecCondition", "ExecStartPre", "ExecStart")


def test_a_medium_is_mounted_read_only_and_goes_without_a_trace(device: Any, tmp_path: Path) -> None:
    name = device("STICK")
    place = f"/run/sealift/media/{name}"
    kept = tmp_path / "arrived.json"

    seen = run(
        tmp_path,
        [
            *arrive(name),
            "look in",
            f"cp /run/sealift/arrived/{name}.json {kept}",
            f"test $(blockdev --getro /dev/{name}) = 1",
            f"! touch {place}/x",
            f"! mount -o remount,rw {place}",
            f"test $(cat {place}/note.txt | wc -c) = 12",
            *lines("sealift-media@.service", name, "ExecStop", "ExecStopPost"),
            "look out",
            f'test ! -e {place} && test -z "$(ls /run/sealift/arrived)"',
        ],
    )

    options, own = seen[0][place]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)
    assert {"ro", "norecovery"} <= set(own)
    arrival = json.loads(kept.read_bytes())
    assert (arrival["state"], arrival["filesystem"], arrival["label"]) == ("mounted", "ext4", "STICK")
    assert place not in seen[1]


def test_a_marked_medium_is_writable_for_one_file_and_nowhere_else(device: Any, tmp_path: Path) -> None:
    name = device("SEALIFT-OUT")
    place, out = f"/run/sealift/media/{name}", "/run/sealift/export"
    write = f"{sys.executable} -I -c '{_WRITE}' $SITE {name}"

    seen = run(
        tmp_path,
        [
            *arrive(name),
            f"{write} check",
            *lines("sealift-export@.service", name, "ExecStartPre"),
            "look writing",
            f"{write} write",
            *lines("sealift-export@.service", name, "ExecStartPost", "ExecStopPost"),
            "look after",
            f'test "$(cat {place}/x.json)" = {{}}',
            f"test $(blockdev --getro /dev/{name}) = 1",
            f"! touch {place}/y",
            *lines("sealift-media@.service", name, "ExecStop", "ExecStopPost"),
        ],
    )

    options, own = seen[0][out]
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(options)
    assert "rw" in own
    assert place not in seen[0]
    assert out not in seen[1]
    assert "ro" in seen[1][place][1]


def test_a_second_unit_on_the_same_device_is_refused(device: Any, tmp_path: Path) -> None:
    name = device("STICK")
    again = lines("sealift-media@.service", name, "ExecCondition")[0]

    run(
        tmp_path,
        [
            *arrive(name),
            f"code=0; {again} || code=$?; test $code = 1",
            f"grep -q 'uses it already' /run/sealift/arrived/{name}.json",
            f"umount /run/sealift/media/{name}",
        ],
    )


def test_the_tools_that_the_units_name_are_where_they_say() -> None:
    for unit in ("sealift-media@.service", "sealift-export@.service"):
        for _, key, value in settings(SYSTEMD / unit):
            if key.startswith("Exec"):
                program = value.lstrip("+-").split()[0]
                assert program == _PYTHON or shutil.which(program), f"{unit}: {program}"
