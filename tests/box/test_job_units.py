"""The job service as it is on a box: root in a user name space of its own, which the ledger tells who asks.

As in test_backup_units, the box is a bare Debian 12 with this machine's /usr. Each user of the box speaks with the real
service through the real sockets, in and out of its groups, with its own introduction, none, and another's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box.checkout import SERVER, booted, journal, lay_down, start
from tests.box.machine import Machine

pytestmark = pytest.mark.box

OPERATOR, ADMIN, RECEIVE, BENCH = "jobs-operator", "jobs-admin", "jobs-receive", "jobs-bench"
SPEAK = """
import json, sys
from appliance import config
from appliance.errors import WireError
from appliance.install.jobclient import JobsLine
from appliance.wire import RemoteError
from media.errors import SealiftError
door, more = sys.argv[1], json.loads(sys.argv[2])
found = config.load(config.DEFAULT_PATH)
line = JobsLine.open(found, door) if "plain" not in more else JobsLine(found.at.socket(door))
more.pop("plain", None)
try:
    print(json.dumps(line.call(**more)))
except RemoteError as error:
    print(json.dumps(error.remote_code))
except SealiftError as error:
    print(json.dumps(error.code))
"""
INTRODUCED = """
from appliance import config
from appliance.audit.socket_ledger import SocketLedger
print(SocketLedger(config.load(config.DEFAULT_PATH).at.socket("ledger-operator")).introduce())
"""
TELLS = {"do": "progress", "step": "copy", "done": 1, "total": 2}
READS = {"do": "jobs"}


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with booted("sljob", lay) as machine:
        for person in ("iris", "omar"):
            machine.run("useradd", "--groups", "sealift-operators", person, shown=False)
        machine.run("useradd", "gone", shown=False)
        start(machine, "sealift-jobs.service")
        yield machine


def lay(root: Path) -> None:
    """Lay down an installation."""
    lay_down(root, 'format = 1\nsite = "demo"\n')


def speaks(box: Machine, user: str, door: str, message: dict[str, Any], *, groups: str = "") -> Any:
    """Return what the service answers a user, or the code of its refusal; with `groups`, one whose unit adds them."""
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={groups}" if groups else "--init-groups"]
    python = f"/{SERVER}/bin/python"
    return json.loads(box.run(*words, python, "-I", "-c", SPEAK, door, json.dumps(message), shown=False).stdout)


def test_it_is_root_in_a_user_name_space_of_its_own(box: Machine) -> None:
    pid = box.run("systemctl", "show", "-P", "MainPID", "sealift-jobs.service", shown=False).stdout.strip()

    assert box.run("cat", f"/proc/{pid}/uid_map", shown=False).stdout.split() == ["0", "0", "1"]
    lines = box.run("grep", "^Cap", f"/proc/{pid}/status", shown=False).stdout.splitlines()
    assert {int(line.split()[1], 16) for line in lines} == {0}, lines  # nor has it a right in there


def test_each_asker_is_who_it_is_through_its_own_door(box: Machine) -> None:
    assert speaks(box, "iris", OPERATOR, READS) == {"jobs": []}
    assert speaks(box, "sealift-admin", ADMIN, READS) == {"jobs": []}
    assert speaks(box, "root", OPERATOR, READS) == {"jobs": []}
    assert speaks(box, "sealift-export", RECEIVE, READS, groups="sealift-receive") == {"jobs": []}
    # That it may tell is decided by who it is; that nothing runs comes after.
    for user, door in (("root", OPERATOR), ("sealift-receive", RECEIVE), ("sealift-bench", BENCH)):
        assert speaks(box, user, door, TELLS) == "job-refused", (user, door)
    assert speaks(box, "iris", OPERATOR, TELLS) == "privilege"
    assert speaks(box, "sealift-receive", RECEIVE, READS) == "privilege"


def test_who_the_group_lets_in_and_the_number_does_not_is_refused(box: Machine) -> None:
    for user in ("sealift-review", "sealift-metrics"):
        assert speaks(box, user, RECEIVE, TELLS, groups="sealift-receive") in {"privilege", "ledger-refused"}
    # A person who was taken out of the group while logged in.
    assert speaks(box, "gone", OPERATOR, READS, groups="sealift-operators") == "ledger-refused"
    assert speaks(box, "gone", OPERATOR, READS) == "wire"


def test_nobody_is_answered_without_an_introduction_of_its_own(box: Machine) -> None:
    introduce = ("runuser", "-u", "iris", "--", f"/{SERVER}/bin/python", "-I", "-c", INTRODUCED)
    other = box.run(*introduce, shown=False).stdout.strip()

    for more in ({}, {"introduction": "0" * 64}, {"introduction": other}, {"introduction": 0}):
        assert speaks(box, "omar", OPERATOR, {**READS, **more, "plain": True}) == "not-introduced", more
    # Of root alone it takes the kernel's word.
    assert speaks(box, "root", OPERATOR, {**READS, "plain": True}) == {"jobs": []}


def test_it_goes_on_after_it_and_the_ledger_were_started_again(box: Machine) -> None:
    for unit in ("sealift-ledger.service", "sealift-jobs.service"):
        box.run("systemctl", "restart", unit, shown=False)
        assert speaks(box, "omar", OPERATOR, READS) == {"jobs": []}, journal(box, unit)
