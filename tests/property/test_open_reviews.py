"""What waits for a second person, and who is stopped, against a plain fold over every record there is."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.promote import reviews
from appliance.promote.reviews import (
    ALONE,
    EMERGENCY,
    FREED,
    REVIEWED,
    STOPPED,
    DeedBook,
    open_reviews,
    stopped_callers,
)
from media.clock import SystemClock

# Kinds whose bodies the ledger holds to no shape of their own are enough: the book reads all in one way.
DEEDS = (STOPPED, EMERGENCY, "promotion.watch-kept")
_PEOPLE, _NAMES = st.sampled_from(("ana", "ben")), st.sampled_from(("a", "b", "c"))


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for place in range(draw(st.integers(0, 60))):
        kind = draw(st.sampled_from((*DEEDS, STOPPED, FREED, REVIEWED, REVIEWED, "note.other")))
        body: dict[str, Any] = {
            "person": draw(_PEOPLE),
            "reason": "r",
            "class": draw(st.sampled_from(("operator", "judge"))),
        }
        if kind in {STOPPED, FREED}:
            body |= {"what": draw(st.sampled_from(("key", "department"))), "name": draw(_NAMES)}
        if kind == REVIEWED:
            body["reviewed"] = draw(st.integers(0, max(place, 1)) | st.just("nonsense"))
        if kind == FREED:
            body["stopped"] = 0
        found.append((kind, body))
    return found


def plain_open(leaves: Sequence[Leaf]) -> list[int]:
    """Return what waits by looking, for each deed, through all that came after it."""
    return [
        deed.sequence
        for deed in leaves
        if deed.kind in ALONE
        and deed.body.get("class") != "judge"
        and not any(
            one.kind == REVIEWED and one.body.get("reviewed") == deed.sequence for one in leaves[deed.sequence :]
        )
    ]


def plain_stopped(leaves: Sequence[Leaf]) -> dict[tuple[str, str], int]:
    """Return the last word on each caller where that is a stop."""
    last = {(str(one.body["what"]), str(one.body["name"])): one for one in leaves if one.kind in {STOPPED, FREED}}
    return {caller: one.sequence for caller, one in last.items() if one.kind == STOPPED}


@settings(max_examples=60)
@given(steps(), st.integers(1, 7))
def test_nothing_is_open_or_stopped_but_what_all_records_make(
    done: list[tuple[str, dict[str, Any]]], asked_every: int
) -> None:
    ledger = MemoryLedger(SystemClock())
    book = DeedBook(ledger)
    for place, (kind, body) in enumerate(done):
        ledger.append(kind, body)
        if place % asked_every == 0:
            book.open()  # reads on from there later

    leaves = ledger.leaves(0, 1000)
    for waiting, stopped in ((book.open(), book.stopped()), (open_reviews(ledger), stopped_callers(ledger))):
        assert [one.sequence for one in waiting] == plain_open(leaves)
        assert {caller: one.sequence for caller, one in stopped.items()} == plain_stopped(leaves)


def test_the_oldest_of_more_than_a_page_is_still_open_and_still_stopped() -> None:
    ledger = MemoryLedger(SystemClock())
    body = {"person": "ana", "class": "operator", "reason": "r"}
    first = ledger.append(STOPPED, {**body, "what": "key", "name": "first"}).sequence
    for number in range(reviews._PAGE + 20):
        done = ledger.append(STOPPED, {**body, "what": "key", "name": f"k{number}"}).sequence
        ledger.append(REVIEWED, {"reviewed": done, "person": "ben"})
        ledger.append(FREED, {**body, "what": "key", "name": f"k{number}", "stopped": done})

    assert [one.sequence for one in open_reviews(ledger)] == [first]
    assert list(stopped_callers(ledger)) == [("key", "first")]


def test_a_book_that_is_asked_again_reads_only_what_is_new() -> None:
    ledger = Counting(SystemClock())
    body = {"person": "ana", "class": "operator", "reason": "r", "what": "key", "name": "k"}
    for _ in range(30):
        ledger.append(STOPPED, body)
    book = DeedBook(ledger)
    assert len(book.open()) == 30
    ledger.read = 0

    ledger.append(STOPPED, body)
    assert len(book.open()) == 31

    assert ledger.read == 1


class Counting(MemoryLedger):
    """Counts the records that it hands out."""

    read = 0

    def leaves(self, start: int, limit: int, *, kinds: Any = None) -> list[Leaf]:
        found = super().leaves(start, limit, kinds=kinds)
        self.read += len(found)
        return found
