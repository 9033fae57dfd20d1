"""Two nodes over one storage, in whatever order they append and ask: one tree, and each knows all of it.

The storage here is a list and knows no other process; tests/interop/test_postgresql_nodes.py has the server.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.entry import Entry
from appliance.audit.facts import Appended
from appliance.audit.leaf import Via
from appliance.audit.log import Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.postgres_sharing import Added, SharedBackend
from appliance.audit.sharing import SharedLog
from appliance.audit.verify import require_sound_tail
from appliance.errors import LedgerDamagedError, LedgerUnavailableError
from media.clock import FixedClock
from tests.support.ledger import bodies, row

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
PRIVATE = Ed25519PrivateKey.generate()
SIGNER = Signer(public=PRIVATE.public_key().public_bytes_raw(), sign=PRIVATE.sign)
VIA = Via(door="ledger-gateway", uid=7)


class OneOfTwo(MemoryBackend):
    """A node's view of a storage that it has together with another."""

    def __init__(self, name: str, leading: list[str], beside: "OneOfTwo | None" = None) -> None:
        super().__init__()
        self.name = name
        self.leading = leading
        self.is_trusted = True
        if beside is not None:
            self._rows, self._nodes, self._checkpoints = beside._rows, beside._nodes, beside._checkpoints

    @contextmanager
    def turn(self) -> Iterator[None]:
        size = len(self._rows)
        try:
            yield
        except BaseException:
            del self._rows[size:]
            raise

    def added(self, start: int, limit: int) -> list[Added]:
        found = self._rows[start : start + limit]
        return [Added(one.sequence, one.kind, one.hash, one.chain, one.retry) for one in found]

    @property
    def leads(self) -> bool:
        return self.leading == [self.name]

    def try_to_lead(self) -> bool:
        self.leading.extend([] if self.leading else [self.name])
        return self.leads

    def distrust(self) -> None:
        self.is_trusted = False


def opened(backend: OneOfTwo) -> SharedLog:
    log = SharedLog.open(cast("SharedBackend", backend), clock=CLOCK, site="demo", signer=SIGNER)
    assert isinstance(log, SharedLog)
    return log


def two() -> tuple[SharedLog, SharedLog]:
    leading: list[str] = []
    first = OneOfTwo("a", leading)
    return opened(first), opened(OneOfTwo("b", leading, first))


def asked(number: int, key: str = "") -> Entry:
    return Entry.of("request.intent", {"request_id": f"r{number}"}, via=VIA, key=key)


RECORD = st.tuples(st.integers(0, 9), st.sampled_from(["", "k1", "k2"]))
DEED = st.lists(RECORD, max_size=5) | st.sampled_from(["head", "checkpoint", "pulse", "find"])


@given(deeds=st.lists(st.tuples(st.booleans(), DEED), max_size=12))
def test_in_whatever_order_both_append_and_ask_there_is_one_tree(deeds: list[tuple[bool, Any]]) -> None:
    logs = two()
    promised: dict[int, str] = {}
    sizes: list[int] = []
    for which, deed in deeds:
        log = logs[which]
        if deed == "find":
            log.find(kind="request.")
        elif isinstance(deed, str):
            getattr(log, deed)()
        else:
            for done in log.append([asked(number, key) for number, key in deed]):
                if isinstance(done, Appended):
                    assert promised.setdefault(done.sequence, done.leaf_hash) == done.leaf_hash
        sizes.append(log.head().size)

    assert sizes == sorted(sizes)
    assert logs[0].head() == logs[1].head()
    assert logs[0].checkpoint() == logs[1].checkpoint()
    require_sound_tail(logs[0].backend)
    rows = logs[0].backend.rows(0, 999)
    assert {one.sequence: one.hash.hex() for one in rows}.items() >= promised.items()
    assert max(Counter(one.retry for one in rows if one.retry).values(), default=1) == 1
    anew = Log.read(logs[0].backend, clock=CLOCK)
    for log in logs:
        assert (log._tip, log._kinds) == (anew._tip, anew._kinds)


def test_a_batch_that_fails_is_not_believed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two()
    before = first.head()

    def fail(*_: object) -> None:
        raise LedgerUnavailableError(what="a cut", why="", fix="")

    monkeypatch.setattr(first.backend, "append", fail)
    with pytest.raises(LedgerUnavailableError):
        first.append([asked(1)])

    assert first.head() == second.head() == before


def test_a_storage_that_goes_on_from_something_else_stops_a_node() -> None:
    first, second = two()
    second.backend.append([row(second.head().size)], [])

    with pytest.raises(LedgerDamagedError, match="does not go on"):
        first.append([asked(1)])

    assert not cast("OneOfTwo", first.backend).is_trusted


def test_a_node_that_does_not_lead_takes_what_belongs_to_answering_only() -> None:
    first, second = two()
    assert first.pulse()
    assert not second.pulse()

    decides = Entry.of("model.noted", {}, via=Via(door="ledger-actions", uid=7))
    first.admit(decides)
    for taken in (asked(1), Entry.of("ledger.noted", {}, via=Via(door="ledger", uid=7))):
        second.admit(taken)
    with pytest.raises(LedgerUnavailableError, match="another node leads"):
        second.admit(decides)


@pytest.mark.parametrize(
    "kind",
    [
        *("medium.arrived", "medium.refused", "release.received", "export.receipt", "export.written", "export.carried"),
        *("admin.login", "admin.login-refused", "admin.logout", "admin.relayed-approval"),
        *("install.begun", "key.made", "install.done", "model.registered", "install.returned", "capacity.measured"),
    ],
)
def test_what_happens_to_a_machine_is_recorded_by_it_whoever_leads(kind: str) -> None:
    first, second = two()
    assert first.pulse()

    second.admit(Entry.of(kind, bodies().get(kind, {}), via=Via(door="ledger-actions", uid=7)))


def test_another_key_of_checkpoints_makes_a_node_open_anew() -> None:
    first, second = two()
    first.append([Entry.of("ledger.key-rotated", {}, via=Via(door="ledger", uid=7))])

    with pytest.raises(LedgerUnavailableError, match="key of checkpoints"):
        second.append([asked(1)])

    assert not cast("OneOfTwo", second.backend).is_trusted
