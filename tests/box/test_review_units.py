"""The review store and the nightly retention under systemd: the units as they are, their users, their doors.

As in test_token_units, the box is a bare Debian 12 with this machine's /usr. What is tested is whether the sandbox
lets both do their work, and that the gateway's user can hand in and not read.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.install import dropins
from tests.box.checkout import SEALIFT, booted, journal, lay_down, start
from tests.box.machine import Machine
from tests.support.unit_files import SYSTEMD

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

SITE = 'format = 1\nsite = "demo"\n[review]\none_in = 1\n'
ASK = """
import base64, json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect("/run/sealift/" + sys.argv[1] + ".sock")
    content = base64.b64encode(b'{"format":1,"texts":[{"role":"answer","text":"zebra crossing"}]}').decode()
    asked = {"do": sys.argv[2], "request_id": "req_1", "subject": "pat", "content": content}
    line.sendall(json.dumps({**asked, "person": "ada", "reason": "x"}).encode() + b"\\n")
    print(line.makefile().readline())
"""

TOKEN = 'provider = "token"\nmodule = "/usr/lib/hsm.so"\ntoken = "ward 7"\n'
OVER = """
import sqlite3
with sqlite3.connect("/var/lib/sealift/review/review.db") as samples:
    assert samples.execute("UPDATE sample SET expires = '2026-01-01T00:00:00Z'").rowcount == 1
"""


@pytest.fixture
def box() -> Iterator[Machine]:
    with booted("slrev", lay) as machine:
        yield machine


def lay(root: Path) -> None:
    lay_down(root, SITE)
    (root / "ask.py").write_text(ASK)


def ask(box: Machine, user: str, door: str, do: str) -> str:
    """Ask at a door as a user; what the machine says where it may not connect."""
    done = box.shell(f"runuser -u {user} -- python3 -I /ask.py {door} {do}")
    return done.stdout + done.stderr


def test_the_gateway_hands_in_and_reads_nothing_and_the_night_destroys_what_is_due(box: Machine) -> None:
    for unit in ("sealift-ledger.service", "sealift-review.service"):
        start(box, unit)

    assert '"ok"' in ask(box, "sealift-gateway", "review-gateway", "keep")
    assert "no right" in ask(box, "sealift-gateway", "review-gateway", "show")
    assert "PermissionError" in ask(box, "sealift-gateway", "review-admin", "show")
    assert "PermissionError" in ask(box, "nobody", "review-gateway", "keep")
    assert "zebra crossing" in ask(box, "sealift-admin", "review-admin", "show")
    assert box.shell("grep -r zebra /var/lib/sealift /var/log /run/sealift").stdout == ""
    owners = box.shell("stat -c %U /var/lib/sealift/review /var/lib/sealift/review/*").stdout.split()
    assert set(owners) == {"sealift-review"}

    box.run("systemctl", "start", "sealift-retention.service", shown=False)
    status = json.loads(box.shell(f"{SEALIFT} --json retention status").stdout)
    assert (status["samples"], status["last_run_seconds"] < 600) == (1, True)
    owners = box.shell("stat -c %U /var/lib/sealift/review /var/lib/sealift/review/*").stdout.split()
    assert set(owners) == {"sealift-review"}
    assert '"ok"' in ask(box, "sealift-admin", "review-admin", "list")
    read = json.loads(box.shell(f"{SEALIFT} --json audit list --kind review.").stdout)
    assert "review.read" in json.dumps(read)
    assert box.shell("systemctl is-active sealift-review").stdout.strip() == "active"

    box.run("python3", "-I", "-c", OVER, shown=False)
    box.run("systemctl", "start", "sealift-retention.service", shown=False)
    assert json.loads(box.shell(f"{SEALIFT} --json retention status").stdout)["samples"] == 0
    gone = json.loads(box.shell(f"{SEALIFT} --json audit list --kind retention.").stdout)
    assert {"retention.expiring", "retention.expired", "retention.ran"} <= {leaf["kind"] for leaf in gone["leaves"]}
    # Without the process that owns them nothing is destroyed, and the run fails.
    box.shell("systemctl stop sealift-review.service sealift-review-{gateway,admin,operator}.socket")
    box.shell("mv /etc/systemd/system/sealift-review* /root/; systemctl daemon-reload")
    assert box.shell("systemctl start sealift-retention.service").returncode != 0
    assert "the review store cannot be used" in journal(box, "sealift-retention")


def test_the_nightly_run_reaches_the_keys_and_no_sample_and_systemd_takes_its_word(box: Machine) -> None:
    start(box, "sealift-ledger.service")
    start(box, "sealift-review.service")
    folder = box.root / "etc/systemd/system/sealift-retention.service.d"
    folder.mkdir()
    for node in ("tpmrm0", "probe"):
        box.run("mknod", "-m", "0666", f"/dev/{node}", "c", "1", "3", shown=False)
    text = f"[keys]\n{TOKEN}" + 'device = "/dev/tpmrm0"\n'
    drop_ins = dropins.drop_ins(configuration.parse(f"{SITE}{text}".encode()), SYSTEMD)
    (made,) = [one.text for one in drop_ins if one.unit == dropins.RETENTION]
    opened = "\n".join(line for line in made.splitlines() if "/dev/tpmrm0" in line)
    key = "box-keys rotate identity-hmac --reason yearly"
    (folder / "probe.conf").write_text(
        f"[Service]\n{opened}\nExecStart=\nExecStart={SEALIFT} {key}\n"
        # A token's device as the site file opens one: that one, and no other node of the machine.
        "ExecStart=/usr/bin/dd if=/dev/zero of=/dev/tpmrm0 count=1 conv=notrunc\n"
        "ExecStart=/usr/bin/test ! -e /dev/probe\n"
        f"ExecStart={SEALIFT} {key.replace('rotate', 'destroy')} --yes\n"
        "ExecStart=-/usr/bin/ls /var/lib/sealift/review\nExecStart=-/usr/bin/cat /proc/self/uid_map /proc/self/status\n"
    )

    done = box.shell("systemctl daemon-reload; systemctl start sealift-retention.service")

    told = box.shell("journalctl -u sealift-retention -o cat --no-pager").stdout
    assert done.returncode == 0, told
    assert "cannot open directory '/var/lib/sealift/review': Permission denied" in told
    assert "CapBnd:\t0000000000000000" in told
    assert "identity-hmac.v2" in (kept := box.shell("ls /etc/sealift/keys").stdout.split())
    assert "identity-hmac.v1" not in kept
    # What services load is told beside their units, and systemd has read it: the unit's own reload took effect.
    loaded = box.shell("systemctl cat sealift-gateway.service").stdout
    assert "/etc/sealift/keys/identity-hmac.v2" in loaded
    assert box.shell("systemctl show -P NeedDaemonReload sealift-gateway.service").stdout.strip() == "no"
