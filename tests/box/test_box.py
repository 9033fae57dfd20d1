"""What `make box` must have shown: the facts of its summary, each a test of its own."""

import os
from typing import Any

import pytest

from tests.box.sheet import commands_of, holds
from tests.box.told import facts_of, untrue

# For the first test of a process, which waits for all of it.
pytestmark = pytest.mark.timeout(1140)
SHEET = """
First installation, on a bare Debian 12, as root
------------------------------------------------
Nothing from the medium runs before step 3.

0. Mount volume 1 read-only, say where it is, and copy its small part:

MEDIUM=/media/sealift-1
mkdir -m 700 /root/x && cd /root/x && \\
cp -rL "$MEDIUM"/release/*.txt .

Check the copy. Stop, and call the sender, if anything else comes out than what stands here.

1. echo 'abc' | sha256sum --check --strict
   prints: a.txt: OK

2. gpgv --status-fd 1 ./a.sig ./a
   prints one line with GOODSIG and one with VALIDSIG that ends in
   0123456789ABCDEF0123456789ABCDEF01234567; none with BADSIG

3. python3 -I check/bootstrap.py --medium "$MEDIUM"
   Two people type the release code of this page, each at their own prompt.
"""


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("the box is a container of its own, and only root can start one")
    return facts_of("box", "tests/box/box.py")


@pytest.mark.box
def test_everything_held(facts: dict[str, Any]) -> None:
    assert facts["ok"], untrue(facts)


@pytest.mark.box
@pytest.mark.parametrize(
    "name",
    [
        "the box has only a loopback",
        "the sheet's checks hold",
        "bootstrap and receive end with 0",
        "the code was never shown",
        "the root is pinned",
        "a second install changes nothing",
        "its preview says so too",
        "sealift-receive@stick.service ends with 0",
        "the unit proved every byte again",
        "sealift-install@1.service ends with 0",
        "the unit changed nothing",
        "one approval is not enough",
        "the streamed answer came in pieces and is the same",
        "and each as it was made",
        "the request is recorded",
        "the proof holds",
        "every place is there for root to read",
        *(
            f"{user} reaches what it should"
            for user in (
                *("sealift-ledger", "sealift-promoter", "sealift-gateway", "sealift-gateway-test", "sealift-admin"),
                *("sealift-engine-test", "sealift-engine-prod", "sealift-bench", "sealift-switch"),
                *("sealift-receive", "www-data", "iris", "nobody"),
            )
        ),
        "every unit reaches what it should, from inside",
        "every unit that runs now and then reaches what it should",
        "no process has privileges, capabilities or a core file",
        "when memory is short engines go first",
        "a loaded engine has put on a filter of its own",
        "no process of its user reaches an engine's memory",
        "an engine leaves a core",
        "a hung service is killed for its silence",
        "and comes back by itself",
        "an operator brings it to production",
        "an operator starts the test engine",
        "the test engine is its own user's",
        "the production engine is its own user's",
        "an engine runs from its release",
        "an operator stops the test engine",
        "an operator lends a version to developers",
        "a developer's answer is recorded and proven as such",
        "each stage refuses the other's keys",
        "forged jobs are refused",
        "only the carrier tells a job's outcome",
        "no forged job is in the ledger",
        "a playbook reaches neither trust state nor ledger",
        "the page asks for a login",
        "no connection left the box",
        "nothing had tried to",
        "the clock is watched and believed",
        "the network's self-test holds",
        "what must be refused was tried",
        "the packets of the test were counted apart",
        "a rule that nobody named is seen",
        "and gone again",
        "each change is recorded",
        "the attempt was counted",
        "the same question has the same answer",
    ],
)
def test_the_box_showed_that(facts: dict[str, Any], name: str) -> None:
    assert facts[name] is True


@pytest.mark.box
def test_no_connection_left_the_box(facts: dict[str, Any]) -> None:
    assert facts["connections_leaving"] == 0


def test_commands_are_read_off_the_sheet_as_they_stand() -> None:
    found = commands_of(SHEET)

    assert found.prepare.splitlines()[0] == "MEDIUM=/media/sealift-1"
    assert found.prepare.endswith('cp -rL "$MEDIUM"/release/*.txt .')
    assert [command.split()[0] for command, _ in found.checks] == ["echo", "gpgv"]
    assert found.begin == 'python3 -I check/bootstrap.py --medium "$MEDIUM"'


@pytest.mark.parametrize(
    ("printed", "is_good"),
    [
        ("[GNUPG:] GOODSIG A B\n[GNUPG:] VALIDSIG A 0123456789ABCDEF0123456789ABCDEF01234567\n", True),
        ("[GNUPG:] GOODSIG A B\n[GNUPG:] VALIDSIG A 1123456789ABCDEF0123456789ABCDEF01234567\n", False),
        (
            "[GNUPG:] REVKEYSIG A\n[GNUPG:] GOODSIG A\n[GNUPG:] VALIDSIG 0123456789ABCDEF0123456789ABCDEF01234567\n",
            False,
        ),
        ("", False),
    ],
)
def test_output_is_judged_as_the_sheet_tells_a_person_to(printed: str, *, is_good: bool) -> None:
    _, expected = commands_of(SHEET).checks[1]

    assert holds(printed, expected) is is_good
