"""The unit that reads the GPUs, as it is: not started without one, shut off from all else, and the gateway shows it.

A bare Debian 12 with this machine's /usr; the cards' nodes are other names of /dev/null, and a script stands in for the
driver's tool, which tells what it could reach, too.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.checkout import booted, journal, lay_down, lay_program, start
from tests.box.machine import Machine

pytestmark = pytest.mark.box

SITE = 'format = 1\nsite = "demo"\n'
UNIT = "sealift-gpus.service"
NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia15", "/dev/nvidia-uvm", "/dev/probe")
ELSEWHERE = ("/etc/sealift", "/run/sealift", "/var/lib/sealift/spool", "/usr/bin")
TOOL = f"""#!/usr/bin/python3 -I
import json, os
def opens(path, how):
    try:
        os.close(os.open(path, how))
    except OSError:
        return False
    return True
told = {{
    "user": os.getuid(),
    "groups": len(os.getgroups()),
    "links": [line.partition(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]],
    "nodes": [one for one in {NODES!r} if opens(one, os.O_RDWR)],
    "keys": opens("/etc/sealift/keys", os.O_RDONLY),
    "writes": [one for one in {ELSEWHERE!r} if opens(one + "/probe", os.O_WRONLY | os.O_CREAT)],
    "drivers": os.path.isdir("/proc/driver"),
}}
with open("/run/sealift/gpus/probe", "w") as file:
    json.dump(told, file)
print("0, 97, 79000, 81920, 612.5")
print("1, [N/A], [N/A], 9, 9")
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with booted("slgpu", lay) as machine:
        yield machine


def lay(root: Path) -> None:
    """Lay down an installation, and a stand-in for the driver's tool."""
    lay_down(root, SITE)
    lay_program(root, "gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
    tool = root / "srv/tools/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text(TOOL)
    tool.chmod(0o755)
    drop_in = root / f"etc/systemd/system/{UNIT}.d/path.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nEnvironment=PATH=/srv/tools:/usr/bin:/bin\n")


def figures(box: Machine) -> list[str]:
    """Return what the gateway's metrics say of GPUs."""
    told = box.shell("curl -s --unix-socket /run/sealift/gateway.sock http://x/metrics").stdout
    assert "sealift_gateway_stage" in told, journal(box, "sealift-gateway")
    return [line for line in told.splitlines() if "gpu_id=" in line]


def state(box: Machine) -> str:
    return box.shell(f"systemctl is-active {UNIT}").stdout.strip()


def until(box: Machine, wanted: str) -> None:
    """Wait until the unit is as wanted."""
    deadline = time.monotonic() + 30
    while state(box) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    assert state(box) == wanted, journal(box, UNIT)


def test_the_gateway_shows_what_a_unit_of_its_own_reads_of_the_gpus(box: Machine) -> None:
    for unit in ("sealift-ledger.service", "sealift-gateway.service", "sealift-metrics.service"):
        start(box, unit)
    assert state(box) == "inactive", "there is no GPU"
    assert "ConditionResult=no" in box.shell(f"systemctl show {UNIT} -p ConditionResult").stdout
    assert figures(box) == []

    for node in NODES:
        assert box.shell(f"mknod -m 660 {node} c 1 3 && chgrp video {node}").returncode == 0
    box.shell("systemctl restart sealift-metrics.service")

    until(box, "active")
    deadline = time.monotonic() + 20
    while not (shown := figures(box)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert 'llama_gpu_utilization_percent{gpu_id="0"} 97.0' in shown, journal(box, UNIT)
    assert 'sealift_gpu_power_watts{gpu_id="0"} 612.5' in shown
    assert len(shown) == 6
    reached = json.loads(box.shell("cat /run/sealift/gpus/probe").stdout)
    assert reached == {
        "user": int(box.shell("id -u sealift-gpus").stdout),
        "groups": 2,
        "links": ["lo"],
        "nodes": list(NODES[:3]),
        "keys": False,
        "writes": [],
        "drivers": True,
    }
    assert box.shell("stat -c '%U %a' /run/sealift/gpus/gpus.json").stdout.strip() == "sealift-gpus 644"

    box.shell(f"systemctl stop {UNIT}")

    assert figures(box) == []
    assert box.shell("ls /run/sealift/gpus/gpus.json").returncode != 0
