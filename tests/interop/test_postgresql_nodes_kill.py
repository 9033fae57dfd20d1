"""Two nodes answer at once, and one of them, or the server, is killed in the middle of appends.

Scenario: two sites with one key and one database run their ledgers as processes of their own; callers write groups of
records through the doors of both; after a random moment SIGKILL for one ledger, or for every process of the server.
What was killed starts again; the callers send what was not acknowledged once more, under the same keys. Promise: what
was acknowledged is there once, at its place; the tree verifies; the node that was not killed goes on meanwhile.
`SEALIFT_KILL_ROUNDS` sets the number of rounds.
"""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from appliance import formats
from appliance.actions import nodes
from appliance.actions.boxkeys import Keyring
from appliance.actions.databases import migrating
from appliance.actions.status import status
from appliance.audit import nodekeys, pin, succession
from appliance.audit.lives import STARTED
from appliance.audit.note import VerifierKey
from appliance.audit.postgres_sharing import Node, nodes_of
from appliance.audit.verify import verify
from appliance.config import Places
from appliance.errors import KeyMissingError, LedgerUnavailableError
from appliance.install.supervisor import open_supervisor
from media.clock import SystemClock
from tests.support.callers import Caller, require_once
from tests.support.ledger import LedgerSite, intent, ledger_site
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.traced_ledger import renewal_asked

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ROUNDS = int(os.environ.get("SEALIFT_KILL_ROUNDS", "3"))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of its own, because it is killed."""
    with postgres_server() as made:
        yield made


@pytest.fixture
def sites(server: PostgresServer, tmp_path: Path) -> Iterator[list[LedgerSite]]:
    """Two nodes of one site: one database, one key of checkpoints, two names."""
    name = server.database()
    migrating.migrate(server.places(tmp_path / "box", name), "up")
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                ledger_site(tmp_path / node, database=server.section(name).model_copy(update={"node": node}))
            )
            for node in ("a", "b")
        ]
        shutil.copytree(made[0].places.key_files, made[1].places.key_files, dirs_exist_ok=True)
        yield made


@contextmanager
def writing(site: LedgerSite, callers: Sequence[Caller]) -> Iterator[None]:
    """Let callers write through a node's door, each in a thread, until its ledger is gone."""
    with ExitStack() as stack:
        threads = [
            threading.Thread(
                target=caller.write, args=(stack.enter_context(closing(site.door("ledger-gateway"))),), daemon=True
            )
            for caller in callers
        ]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_more(callers: Sequence[Caller]) -> None:
    """Wait until each of them was promised more than now."""
    before = [len(caller.promised) for caller in callers]
    until(lambda: all(len(caller.promised) > count for caller, count in zip(callers, before, strict=True)))


def test_both_answer_and_whoever_is_killed_nothing_acknowledged_is_lost_or_doubled(
    server: PostgresServer, sites: list[LedgerSite]
) -> None:
    callers = [[Caller(number) for number in range(2)], [Caller(number) for number in range(2, 4)]]
    everybody = [*callers[0], *callers[1]]
    for number in range(ROUNDS):
        with sites[0].process() as first, sites[1].process() as second:
            running = [first, second]
            with writing(sites[0], callers[0]), writing(sites[1], callers[1]):
                until_more(everybody)
                time.sleep(random.uniform(0, 0.3))
                if number % 3 == 2:
                    server.kill()
                    assert [one.wait(timeout=60) for one in running] == [LedgerUnavailableError.exit_code] * 2
                    server.start()
                else:
                    killed, other = number % 2, 1 - number % 2
                    running[killed].send_signal(signal.SIGKILL)
                    until_more(callers[other])  # it goes on without the one that is gone
                    with closing(sites[other].door("ledger-operator")) as ledger:
                        ledger.checkpoint()
                    running[other].send_signal(signal.SIGTERM)
                    assert running[other].wait(timeout=60) == 0
        _settle(sites, callers)

    with sites[0].process(), sites[1].process(), ExitStack() as stack:
        for site in sites:
            require_once(stack.enter_context(closing(site.door("ledger-gateway"))), site, everybody)


def _settle(sites: Sequence[LedgerSite], callers: Sequence[Sequence[Caller]]) -> None:
    """Send again what was not acknowledged, through the node it was sent to before."""
    with sites[1].process(), sites[0].process():
        for site, ours in zip(sites, callers, strict=True):
            with closing(site.door("ledger-gateway")) as ledger:
                for caller in ours:
                    if caller.waiting:
                        records = [("request.intent", intent(name, text=name * 100)) for name in caller.waiting]
                        found = ledger.append_many(records, keys=caller.waiting)
                        caller.promised.update(zip(caller.waiting, found, strict=True))
                        caller.waiting = []


def test_a_node_says_at_its_start_which_formats_it_reads(sites: list[LedgerSite]) -> None:
    """So that nobody opens a further line of production beside a node that would load nothing afterwards."""
    with sites[0].running() as log:
        started = log.find(kind=STARTED)[0]

    assert (started.via.node, started.body["reads"]) == ("a", dict(formats.READS))


def test_a_start_closes_what_its_own_earlier_life_left_open_and_nobody_elses(sites: list[LedgerSite]) -> None:
    first, second = sites
    with second.process(), closing(second.door("ledger-gateway")) as other:
        with first.process() as running, closing(first.door("ledger-gateway")) as ledger:
            ledger.append("request.intent", intent("of-a"))
            other.append("request.intent", intent("of-b"))
            running.send_signal(signal.SIGKILL)
            running.wait()
        with first.process(), closing(first.door("ledger-gateway")) as ledger:
            other.append("request.outcome", {"request_id": "of-b", "outcome": "ok"})
            outcomes = ledger.find("request.outcome", newest_first=False)

    assert [(leaf.body["request_id"], leaf.body["outcome"], leaf.via.node) for leaf in outcomes] == [
        ("of-a", "unknown", "a"),
        ("of-b", "ok", "b"),
    ]


def test_a_new_key_of_checkpoints_takes_over_when_a_node_opens_alone_and_both_sign_with_it(
    sites: list[LedgerSite],
) -> None:
    first, second = sites
    pinned, printed = renewal_asked(first, records=3)
    shutil.copytree(first.places.key_files, second.places.key_files, dirs_exist_ok=True)
    notes = [printed]
    with second.process(), first.process():
        for site in sites:
            with closing(site.door("ledger-gateway")) as ledger:
                ledger.append("request.refused", {"code": "x"})
                notes.append(ledger.checkpoint())
        with closing(first.door("ledger-operator")) as ledger:
            (rotated,) = ledger.find(kind=succession.ROTATED)
            found = verify(ledger, pinned=pinned, notes=notes)

    assert rotated.via.node == "b"
    assert found.findings == ()
    assert found.covered == found.size


def test_both_are_named_to_whoever_asks_and_the_second_leads_when_the_first_is_gone(sites: list[LedgerSite]) -> None:
    first, second = sites
    with first.process() as leading, second.process():
        places: Places = first.places
        until(lambda: nodes_of(places) == [("a", True), ("b", False)])
        with closing(second.door("ledger-actions")) as ledger:
            with pytest.raises(LedgerUnavailableError, match="another node leads"):
                ledger.append("model.noted", {"n": 1})
            leading.send_signal(signal.SIGKILL)
            until(lambda: nodes_of(places) == [("b", True)])
            assert ledger.append("model.noted", {"n": 1}).leaf_hash


def test_status_on_a_node_names_it_also_to_who_may_not_ask_the_server(
    sites: list[LedgerSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Places) -> list[Node]:
        raise LedgerUnavailableError(what="the PostgreSQL server does not let us in", why="", fix="")

    with sites[0].process():
        monkeypatch.setattr(nodes, "nodes_of", refuse)
        part = status(sites[0].config, clock=SystemClock()).part("ledger")

    assert part.is_good
    assert "node a; who asks may not ask" in part.text


def renew(site: LedgerSite, name: str) -> None:
    """Put another key in the place of one, as somebody does who forgets to copy it."""
    path = site.places.key_files / f"{name}.v1"
    path.unlink()
    path.write_bytes(b"another key of thirty-two bytes!")
    path.chmod(0o400)


def test_a_node_with_another_key_does_not_open_and_status_and_doctor_name_it(sites: list[LedgerSite]) -> None:
    first, second = sites
    renew(second, "content-hmac")
    with first.process(), closing(first.door("ledger-gateway")) as ledger:
        size = ledger.head().size
        refused = second.start()
        assert refused.wait(timeout=60) == KeyMissingError.exit_code
        assert ledger.head().size == size
        part = status(second.config, clock=SystemClock()).part("ledger")
        (found,) = (one for one in nodes.findings(second.config) if one.name == "node keys")
        (well,) = (one for one in nodes.findings(first.config) if one.name == "node keys")

        shutil.copytree(first.places.key_files, second.places.key_files, dirs_exist_ok=True)
        with second.process():
            pass
        (told,) = ledger.find(kind=nodekeys.RECORDED)

    for text in (part.text, found.text):
        assert "content-hmac.v1 is another key than that of node a" in text
    assert not found.is_good
    assert "copy content-hmac.v1 from" in found.fix
    assert well.is_good
    assert told.via.node == "a"


def test_a_node_that_kept_the_public_key_of_a_ledger_of_its_own_does_not_open_and_says_what_to_copy(
    sites: list[LedgerSite],
) -> None:
    first, second = sites
    kept = second.config.at.etc / pin.FILE_NAME
    kept.write_text(VerifierKey(name="sealift.local/own", public=b"\1" * 32).to_text() + "\n")
    with first.process(), closing(first.door("ledger-gateway")) as ledger:
        size = ledger.head().size
        refused = second.start()
        assert refused.wait(timeout=60) == KeyMissingError.exit_code
        assert ledger.head().size == size
        (found,) = (one for one in nodes.findings(second.config) if one.name == "node ledger.pub")
        assert (found.is_good, "copy /etc/sealift/ledger.pub" in found.fix) == (False, True)
        kept.unlink()
        (absent,) = (one for one in nodes.findings(second.config) if one.name == "node ledger.pub")
        assert absent.text == "absent"

        shutil.copy(first.config.at.etc / pin.FILE_NAME, kept)
        with second.process():
            pass
        assert not [one for one in nodes.findings(second.config) if one.name == "node ledger.pub"]


def test_a_key_that_was_rotated_on_one_node_is_said_on_the_other_until_it_is_copied(sites: list[LedgerSite]) -> None:
    first, second = sites
    with first.process(), second.process():
        with closing(first.door("ledger-actions")) as ledger:
            until(lambda: nodes_of(first.places) == [("a", True), ("b", False)])
            Keyring(first.config, ledger, open_supervisor(first.config)).rotate("api-key-pepper", reason="renewal")
        (lacks,) = (one for one in nodes.findings(second.config) if one.name == "node keys")
        part = status(second.config, clock=SystemClock()).part("ledger")
        shutil.copytree(first.places.key_files, second.places.key_files, dirs_exist_ok=True)
        (has,) = (one for one in nodes.findings(second.config) if one.name == "node keys")

    assert lacks.text == "api-key-pepper.v2 is not here, node a has it"
    assert lacks.text in part.text
    assert part.is_good is False
    assert has.is_good
