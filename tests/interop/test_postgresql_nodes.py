"""Several nodes record at once on one server: one tree, each record once, one node that leads."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.actions import nodes, window_gone
from appliance.actions.status import status
from appliance.audit import postgres_opening, postgres_sharing, tree
from appliance.audit.entry import Entry
from appliance.audit.facts import Appended, EvidenceLedger, Ledger
from appliance.audit.leaf import Via
from appliance.audit.log import Log, Signer
from appliance.audit.note import Checkpoint, parts
from appliance.audit.postgres_sharing import SharedBackend, held_out, nodes_of, open_node
from appliance.audit.sharing import SharedLog
from appliance.audit.verify import verify
from appliance.config import Config, Places, PlacesSection
from appliance.errors import ConflictError, LedgerDamagedError, LedgerUnavailableError
from appliance.registry import windows
from media.clock import FixedClock
from media.errors import MalformedError, UsageError
from tests.support.ledger import row
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.interop

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
PRIVATE = Ed25519PrivateKey.generate()
SIGNER = Signer(public=PRIVATE.public_key().public_bytes_raw(), sign=PRIVATE.sign)
VIA = Via(door="ledger-actions", uid=7)


@contextmanager
def node(places: Places, name: str, **more: float) -> Iterator[SharedBackend]:
    with closing(open_node(places, name, **more)) as backend:
        yield backend


@contextmanager
def two_nodes(places: Places) -> Iterator[tuple[SharedLog, SharedLog]]:
    """Lend the logs of two nodes, of which the first began the ledger."""
    with node(places, "a") as one:
        first = SharedLog.open(one, clock=CLOCK, site="demo", signer=SIGNER)
        one.share()
        with node(places, "b") as other:
            second = SharedLog.open(other, clock=CLOCK, site="demo", signer=SIGNER)
            assert isinstance(first, SharedLog)
            assert isinstance(second, SharedLog)
            yield first, second


def is_sound(log: SharedLog) -> bool:
    return verify(cast("EvidenceLedger", log)).ok


def noted(number: int, key: str = "") -> Entry:
    return Entry.of("model.noted", {"number": number}, via=VIA, key=key)


RECORDS = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "k1", "k2"])), max_size=6)),
    max_size=8,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(turns=RECORDS)
def test_whoever_appends_and_in_whatever_order_there_is_one_tree(
    turns: list[tuple[bool, list[tuple[int, str]]]], postgres: PostgresServer, on_server: Places
) -> None:
    assert on_server.server is not None
    postgres.empty(on_server.server.name)
    with two_nodes(on_server) as logs:
        for which, records in turns:
            logs[which].append([noted(number, key) for number, key in records])
        first, second = logs

        assert first.head() == second.head()
        assert first.checkpoint() == second.checkpoint()
        rows = first.backend.rows(0, 999)
        frontier: list[bytes] = []
        for one in rows:
            tree.push(frontier, one.sequence, one.hash)
        assert first.head().root == tree.root_of(frontier).hex()
        # A key stands for one record, whichever node it reached first.
        assert max(Counter(one.retry for one in rows if one.retry).values(), default=1) == 1
        again = Log.read(second.backend, clock=CLOCK)
        assert (again._tip, again._kinds) == (second._tip, second._kinds)
        assert is_sound(second)


def test_a_key_that_one_node_took_is_known_to_the_other(on_server: Places) -> None:
    with two_nodes(on_server) as (first, second):
        (done,) = first.append([noted(1, "k")])
        (again, other) = second.append([noted(1, "k"), noted(2)])

    assert again == done
    assert isinstance(other, Appended)
    assert isinstance(done, Appended)
    assert other.sequence == done.sequence + 1


def test_each_record_names_the_node_it_came_by(on_server: Places) -> None:
    with two_nodes(on_server) as (first, second):
        first.append([noted(1)])
        second.append([noted(2)])
        leaves = first.find(kind="model.noted", newest_first=False)

    assert [(leaf.via.node, leaf.body["number"]) for leaf in leaves] == [("a", 1), ("b", 2)]


def test_checkpoints_of_both_are_consistent_with_each_other(on_server: Places) -> None:
    with two_nodes(on_server) as (first, second):
        notes = []
        for number in range(6):
            log = (first, second)[number % 2]
            log.append([noted(number)])
            notes.append(Checkpoint.from_text(parts(log.checkpoint())[0]))
        for old, new in itertools.pairwise(notes):
            for log in (first, second):
                proof = log.consistency(old.size, new.size)
                proof.require()
                assert (proof.old_root, proof.new_root) == (old.root.hex(), new.root.hex())


def cut_off(log: SharedLog, sequence: int) -> None:
    with log.backend.turn():
        log.backend.append([row(sequence)], [])
        raise RuntimeError("a cut")


def test_a_batch_that_is_cut_off_leaves_no_trace_in_memory(on_server: Places, postgres: PostgresServer) -> None:
    with two_nodes(on_server) as (first, second):
        before = first.head()
        with pytest.raises(RuntimeError, match="a cut"):
            cut_off(first, before.size)

        assert first.head() == second.head() == before
        (done,) = second.append([noted(1)])
        assert isinstance(done, Appended)
        assert done.sequence == before.size
        assert is_sound(first)


def test_nobody_records_alone_beside_nodes_and_no_two_nodes_have_one_name(on_server: Places) -> None:
    with node(on_server, "a") as one:
        one.share()
        with pytest.raises(LedgerUnavailableError, match="another process"):
            postgres_opening.open_writer(on_server)
        with pytest.raises(LedgerUnavailableError, match="called a"):
            open_node(on_server, "a")
    with closing(postgres_opening.open_writer(on_server)), pytest.raises(LedgerUnavailableError, match="for itself"):
        open_node(on_server, "a")


def test_the_first_is_alone_until_it_shares(on_server: Places) -> None:
    with node(on_server, "a") as one:
        assert one.is_alone
        with pytest.raises(LedgerUnavailableError, match="for itself"):
            open_node(on_server, "b")
        one.share()
        with node(on_server, "b") as other:
            assert not other.is_alone


def test_one_leads_and_another_does_when_it_ended(on_server: Places) -> None:
    with two_nodes(on_server) as (first, second):
        assert first.pulse()
        assert not second.pulse()
        assert nodes_of(on_server) == [("a", True), ("b", False)]
        first.backend.close()
        deadline = time.monotonic() + 60
        while not second.pulse():
            assert time.monotonic() < deadline
        second.admit(noted(1))


def test_a_node_that_does_not_lead_takes_answers_and_nothing_that_decides(on_server: Places) -> None:
    with two_nodes(on_server) as (first, second):
        first.pulse()
        for kind in ("request.intent", "evidence.read", "clock.noted"):
            second.admit(Entry.of(kind, {}, via=VIA))
        with pytest.raises(LedgerUnavailableError, match="another node leads"):
            second.admit(noted(1))
        first.admit(noted(1))


def test_another_tree_than_this_node_knew_stops_it(on_server: Places) -> None:
    with two_nodes(on_server) as (first, second):
        size = first.head().size
        with second.backend.turn():
            second.backend.append([row(size)], [])
        with pytest.raises(LedgerDamagedError, match="does not go on"):
            first.append([noted(1)])
        assert first.backend.failed


def freeze(log: SharedLog, meanwhile: Callable[[], None]) -> None:
    """Stop in the middle of a batch, and go on with it after something else happened."""
    with log.backend.turn():
        log.backend.append([row(log._tip.size)], [])
        meanwhile()
        log.backend.append([row(log._tip.size + 1)], [])


def test_a_node_frozen_in_the_middle_of_a_batch_is_ended_and_the_others_go_on(
    on_server: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sharing, "PEN_SECONDS", 1)
    with two_nodes(on_server) as (first, second):
        size = first.head().size
        done: list[Appended] = []
        with pytest.raises(LedgerUnavailableError):
            freeze(first, lambda: done.extend(one for one in second.append([noted(1)]) if isinstance(one, Appended)))

        assert first.backend.failed
        assert [one.sequence for one in done] == [size]
        assert is_sound(second)


def test_status_and_doctor_tell_who_leads_and_that_limits_are_counted_together(on_server: Places) -> None:
    assert on_server.server is not None
    section = on_server.server.model_copy(update={"node": "b"})
    config = Config(site="demo", places=PlacesSection(root=str(on_server.root)), database=section)
    with two_nodes(on_server) as (first, _second):
        assert [one.is_good for one in nodes.findings(config)] == [False, True]
        first.pulse()

        assert nodes.said(config)[0] == "node b, of a, b; a leads"
        among, limits = nodes.findings(config)
        part = status(config, clock=CLOCK).part("ledger")

    assert among.is_good
    assert limits.text == "requests and tokens of a key are counted by all nodes together"
    assert "a leads" in part.text
    assert part.fields["nodes"] == {"a": True, "b": False}
    assert part.fields["waits"] is False


class Door:
    """The ledger of a node as its commands have it."""

    def __init__(self, log: SharedLog) -> None:
        self._log = log
        self.find, self.leaf = log.find, log.leaf

    def append(self, kind: str, body: dict[str, object]) -> Appended:
        entry = Entry.of(kind, body, via=VIA)
        self._log.admit(entry)
        (done,) = self._log.append([entry])
        assert isinstance(done, Appended)
        return done


ASKED = windows.Asked(purpose=windows.Purpose.VALIDATE, model_digest="ab" * 32, person="ada", reason="change 4711")


def test_a_window_of_a_node_that_is_gone_is_closed_on_another_and_never_while_it_is_there(on_server: Places) -> None:
    assert on_server.server is not None
    section = on_server.server.model_copy(update={"node": "b"})
    config = Config(site="demo", places=PlacesSection(root=str(on_server.root)), database=section)
    gone: dict[str, str] = {"node": "a", "person": "bo", "reason": "the machine burnt"}
    with two_nodes(on_server) as (first, second):
        ours, theirs = (cast("Ledger", Door(log)) for log in (second, first))
        first.pulse()
        opened = windows.open_now(theirs, CLOCK, ASKED, previous=None)
        assert opened.node == "a"
        with pytest.raises(ConflictError, match="node a has the ledger open"):
            window_gone.end(config, ours, **gone)
        assert windows.opened(ours) == opened

        first.backend.close()
        until = time.monotonic() + 60
        while not second.pulse():
            assert time.monotonic() < until
        with pytest.raises(ConflictError, match="another maintenance window is open"):
            windows.open_now(ours, CLOCK, ASKED, previous=None)
        for wrong in ({"node": "c"}, {"node": "b"}, {"reason": " "}):
            with pytest.raises((ConflictError, UsageError, MalformedError)):
                window_gone.end(config, ours, **(gone | wrong))
        with held_out(on_server, "a"), pytest.raises(LedgerUnavailableError, match="another node is called a"):
            open_node(on_server, "a")

        assert window_gone.end(config, ours, **gone) == opened
        (closed,) = second.find(kind=windows.CLOSED)
        later = windows.open_now(ours, CLOCK, ASKED, previous=None)

        assert {name: closed.body[name] for name in ("window", "why", "node", "by", "because", "person")} == {
            "window": opened.number, "why": "gone", "node": "a", "by": "bo", "because": "the machine burnt",
            "person": "ada",
        }  # fmt: skip
        with node(on_server, "a") as back:
            again = SharedLog.open(back, clock=CLOCK, site="demo", signer=SIGNER)
            assert isinstance(again, SharedLog)
            # Once it is back it says that its engine is, too, and neither leads nor touches the later window.
            windows.close(cast("Ledger", Door(again)), opened, why=windows.Closing.CUT_OFF)
            with pytest.raises(LedgerUnavailableError, match="another node leads"):
                again.admit(Entry.of(windows.OPENED, {}, via=VIA))
        assert windows.opened(ours) == later


def test_without_the_server_no_window_of_another_node_is_closed(on_server: Places) -> None:
    assert on_server.server is not None
    away = on_server.server.model_copy(update={"node": "b", "socket": str(on_server.root / "nowhere")})
    config = Config(site="demo", places=PlacesSection(root=str(on_server.root)), database=away)
    with node(on_server, "a") as one:
        log = SharedLog.open(one, clock=CLOCK, site="demo", signer=SIGNER)
        assert isinstance(log, SharedLog)
        one.try_to_lead()
        windows.open_now(door := cast("Ledger", Door(log)), CLOCK, ASKED, previous=None)
        with pytest.raises(LedgerUnavailableError):
            window_gone.end(config, door, node="a", person="bo", reason="x")
        assert windows.opened(door) is not None
