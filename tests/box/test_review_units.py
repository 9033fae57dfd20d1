"""The review store and the nightly retention under systemd: the units as they are, their users, their doors.

As in test_token_units, the box is a bare Debian 12 with this machine's /usr. What is tested is whether the sandbox
lets both do their work, and that the gateway's user can hand in and not read.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.checkout import SEALIFT, booted, lay_down, start
from tests.box.machine import Machine

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
