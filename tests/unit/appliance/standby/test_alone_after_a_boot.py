"""A box that was kept as serving alone serves nobody after a boot before it heard which term the other voters know."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.audit.memory import MemoryLedger
from appliance.errors import WireError
from appliance.standby import kept, permit
from appliance.standby.keeper import Keeper, Voters
from appliance.standby.lease import Kept, Lease, Rules
from appliance.standby.peers import PeerLine
from appliance.standby.whole import Whole

STARTED = 1000.0
RULES = Rules(seconds=3.0)
WITNESSED = Rules(seconds=3.0, witness="three")
OTHER_SERVES = {"term": 2, "holder": "two"}
SAME_TERM = {"term": 1, "holder": "one"}


class Line:
    """Another voter, which answers as it is told to; None for one that is away."""

    def __init__(self, said: Mapping[str, Any] | None) -> None:
        self.said = said
        self.asked: list[str] = []

    def call(self, do: str, **fields: Any) -> Mapping[str, Any]:
        self.asked.append(do)
        if self.said is None:
            raise WireError(what="the box does not answer", why="", fix="")
        if do == "have":
            return {"size": 0, "root": ""}
        if do == "ask":
            granted = self.said["term"] <= fields["term"]
            return {"granted": granted, **(SAME_TERM if granted else self.said), "run": "there"}
        return self.said


class Address:
    """The service address, and all that was done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.kept_at: list[float] = []

    def put(self) -> None:
        self.done.append("put")

    def keep(self, now: float) -> None:
        self.kept_at.append(now)

    def take_away(self) -> None:
        self.done.append("taken away")


class Box:
    """The keeper of box `one`, which served alone in the first term before the boot."""

    def __init__(self, folder: Path, lines: Mapping[str, Line], *, rules: Rules = RULES, alone: bool = True) -> None:
        self.now = STARTED
        self.folder = folder
        self.lines = lines
        self.address = Address()
        lease = Lease(
            me="one",
            rules=rules,
            kept=Kept(term=1, holder="one", alone=alone),
            started=STARTED,
            run="here",
            unheard_until=STARTED + rules.surely_out,
        )
        self.keeper = Keeper(
            lease,
            state=folder,
            run=folder,
            known=Voters(
                others={name: cast("PeerLine", line) for name, line in lines.items()},
                candidates=frozenset({"two"}),
                serves=True,
                whole=Whole(folder, "two", MemoryLedger()),
            ),
            address=self.address,
            record=lambda *_: None,
            now=lambda: self.now,
        )

    def ask(self, name: str) -> None:
        self.keeper._ask(name, cast("PeerLine", self.lines[name]))

    def serves(self) -> bool:
        self.keeper.turn()
        until, _ = permit.read(self.folder)
        serves: bool = self.keeper.command({"do": "lease"})["serving"]
        assert serves is (self.now < until)
        return serves


def test_it_does_not_serve_at_all_where_the_other_one_serves_by_now(tmp_path: Path) -> None:
    two = Line(OTHER_SERVES)
    box = Box(tmp_path, {"two": two})
    assert not box.serves()

    box.ask("two")

    assert not box.serves()
    assert (box.address.done, (tmp_path / permit.FILE).exists()) == ([], False)
    assert two.asked[0] == "lease"
    assert kept.load(tmp_path) == Kept(term=2, holder="two")


def test_nor_where_the_witness_alone_can_tell_that_it_does(tmp_path: Path) -> None:
    box = Box(tmp_path, {"two": Line(None), "three": Line(OTHER_SERVES)}, rules=WITNESSED)

    for name in box.lines:
        box.ask(name)
    box.now += RULES.surely_out + 1

    assert not box.serves()
    assert box.address.done == []


@pytest.mark.parametrize("order", [("two", "three"), ("three", "two")])
def test_it_serves_once_every_voter_was_heard_and_none_knows_of_a_later_term(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    box = Box(tmp_path, {"two": Line(SAME_TERM), "three": Line(SAME_TERM)}, rules=WITNESSED)

    box.ask(order[0])
    after_one = box.serves()
    box.ask(order[1])

    assert (after_one, box.serves(), box.address.done) == (False, True, ["put"])
    # In each turn from then on it is looked for: an interface may come late, or lose it. Whoever stands by never asks.
    assert box.address.kept_at == [STARTED]


def test_who_is_away_is_waited_for_no_longer_than_a_lease(tmp_path: Path) -> None:
    box = Box(tmp_path, {"two": Line(None), "three": Line(SAME_TERM)}, rules=WITNESSED)
    for name in box.lines:
        box.ask(name)
    waits = box.serves()

    box.now += RULES.surely_out - 0.1
    still_waits = box.serves()
    box.now += 0.2

    assert (waits, still_waits, box.serves()) == (False, False, True)


def test_a_later_term_that_is_told_after_the_wait_ends_it_at_once(tmp_path: Path) -> None:
    """The other one is asked while it is away, and answers when the wait is over."""
    two = Line(None)
    box = Box(tmp_path, {"two": two})
    box.ask("two")
    box.now += RULES.surely_out + 0.1
    assert box.serves()

    two.said = OTHER_SERVES
    box.ask("two")

    assert (box.serves(), box.address.done) == (False, ["put", "taken away"])


def test_who_serves_by_grants_waits_for_no_witness(tmp_path: Path) -> None:
    box = Box(tmp_path, {"two": Line(SAME_TERM), "three": Line(None)}, rules=WITNESSED, alone=False)

    box.ask("three")
    box.ask("two")

    assert box.serves()


def test_a_term_that_is_no_later_or_this_ones_own_ends_nothing() -> None:
    lease = Lease(me="one", rules=RULES, kept=Kept(term=2, holder="one", alone=True), started=STARTED)

    for term, holder in ((1, "two"), (2, "two"), (3, "one")):
        lease.heard(STARTED, term, holder)

    assert lease.is_serving(STARTED)
    lease.heard(STARTED, 3, "two")
    assert lease.kept == Kept(term=3, holder="two")
