"""A box that lost records which the other box holds neither serves nor follows, from the moment that one is heard."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.actions.standby import introducing, sending
from appliance.audit.log import Log
from appliance.audit.memory import MemoryBackend
from appliance.errors import LedgerUnavailableError, NotActiveError, PairingRefusedError
from appliance.keys.opening import folder_of
from appliance.standby import channel, kept, permit, service, whole
from appliance.standby.address import NoAddress
from appliance.standby.inbox import Inbox
from appliance.standby.keeper import Keeper, Voters
from appliance.standby.lease import Ask, Kept, Lease, Rules
from appliance.standby.pairing import require_paired
from appliance.standby.peers import Listener, PeerLine
from appliance.standby.service import listening
from appliance.standby.whole import Whole
from media.errors import MalformedError
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest

__all__ = ["first", "second"]  # fixtures

RULES = Rules(seconds=3.0)


def fork(box: Site, *, records: int) -> None:
    """Put another ledger under the same name and key in the place of the box's own, as an old disk brings it."""
    box.ledger.log = Log.open(MemoryBackend(), clock=box.clock, site="demo", signer=boxes.signer(box))
    for number in range(records):
        box.ledger.append("key.revoked", {"key_id": "abc", "reason": str(number)})


def held(first: Site, second: Site) -> int:
    """Let the second box hold all records of the first, and its process between boxes know; return how many."""
    sending.inbox_of(second.config).mkdir(parents=True, exist_ok=True)
    grown = boxes.grow(second, boxes.bundle(first, "two"), "one")
    sending.note_held(second.config, "one")
    return grown.size


def had(second: Site) -> dict[str, object]:
    return dict(Inbox(sending.inbox_of(second.config)).handle("one", {"do": "have"}))


def compared(first: Site, second: Site, folder: Path) -> Whole:
    found = Whole(folder, "two", first.ledger)
    found.compare(had(second), 1000.0)
    return found


def test_a_box_that_has_what_the_other_holds_is_whole_and_one_that_lost_some_is_not(
    first: Site, second: Site, tmp_path: Path
) -> None:
    size = held(first, second)
    assert compared(first, second, tmp_path).why == ""
    first.promote(digest("version"))
    assert compared(first, second, tmp_path).why == ""
    good = first.ledger.log

    fork(first, records=1)
    shorter, left = compared(first, second, tmp_path), first.ledger.head().size
    fork(first, records=size)
    longer = compared(first, second, tmp_path)

    assert shorter.why == f"it holds {size} records of this box, and there are {left}"
    assert longer.why == f"of the first {size} records here, it holds others"
    assert Whole(tmp_path, "two", first.ledger).why == longer.why  # over a restart, when the other may be away
    assert Whole(tmp_path, "three", first.ledger).why == ""
    first.ledger.log = good  # the right disk is back
    assert compared(first, second, tmp_path).why == Whole(tmp_path, "two", first.ledger).why == ""


def test_a_release_of_before_tells_no_root_and_so_clears_nobody(first: Site, second: Site, tmp_path: Path) -> None:
    size = held(first, second)
    fork(first, records=size)
    found = compared(first, second, tmp_path)

    found.compare({"size": size}, 1001.0)

    assert found.why


def test_what_stands_there_of_a_box_that_had_the_name_before_ends_with_the_new_pairing(
    first: Site, second: Site, tmp_path: Path
) -> None:
    """The standby is set up anew under its name: its primary must not compare it with the one before."""
    inbox = sending.inbox_of(first.config)
    inbox.mkdir(parents=True)
    (inbox / "new.have").write_text("900\n")
    introducing.part(first.config, "two", by=["Ana", "Ben"], reason="its disk died", ledger=first.ledger)

    boxes.pair(first, boxes.open_box(tmp_path / "new"), names=("one", "new"))

    assert Inbox(inbox).handle("new", {"do": "have"}) == {"size": 0, "root": ""}


@contextmanager
def keeper_of(first: Site, second: Site, folder: Path, lease: Lease) -> Iterator[tuple[Keeper, PeerLine]]:
    """The first box's keeper, with a line to the second one's inbox."""
    folder.mkdir(exist_ok=True)
    peer, own = require_paired(first.config.at, "two"), require_paired(second.config.at, "one")
    socket = listening("127.0.0.1", 0)
    inbox = Inbox(sending.inbox_of(second.config))

    def handle(name: str, untrusted: dict[str, object]) -> dict[str, object]:
        if untrusted.get("do") == "ask":
            return {"granted": True, "term": untrusted["term"], "holder": name, "run": ""}
        return dict(inbox.handle(name, untrusted)) if inbox.knows(untrusted) else {"term": 1, "holder": "one"}

    listener = Listener(
        socket,
        own=folder_of(second.config) / channel.KEY_FILE,
        known={"one": own.peer.channel},
        handler=handle,  # type: ignore[arg-type]
    )
    line = PeerLine(
        "127.0.0.1",
        socket.getsockname()[1],
        own=folder_of(first.config) / channel.KEY_FILE,
        name="two",
        certificate=peer.peer.channel,
        timeout_seconds=20,
    )
    try:
        yield (
            Keeper(
                lease,
                state=folder,
                run=folder,
                known=Voters(
                    others={"two": line},
                    candidates=frozenset({"two"}),
                    serves=True,
                    whole=Whole(folder, "two", first.ledger),
                ),
                address=NoAddress(),
                record=lambda *_: None,
                now=lambda: 1000.0,
            ),
            line,
        )
    finally:
        line.close()
        listener.close()


def silent(*_: object, **__: object) -> str:
    """Stand for `whole.lacks` while the own ledger does not answer."""
    raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")


def starting(**more: object) -> Lease:
    """Return the lease of a box that starts at second 1000 as the holder of before."""
    return Lease(
        me="one",
        rules=RULES,
        kept=Kept(term=1, holder="one"),
        started=1000.0,
        unheard_until=1000.0 + RULES.surely_out,
        **more,  # type: ignore[arg-type]
    )


def test_a_grant_counts_only_once_the_other_box_was_heard_about_the_records(
    first: Site, second: Site, tmp_path: Path
) -> None:
    held(first, second)
    with keeper_of(first, second, tmp_path / "run", starting()) as (keeper, line):
        keeper._ask("two", line)
        assert keeper.command({"do": "lease"})["serving"] is True
        assert permit.read(tmp_path / "run")[1] == 1
    fork(first, records=1)
    with keeper_of(first, second, tmp_path / "old", starting()) as (keeper, line):
        keeper._ask("two", line)
        told = keeper.command({"do": "lease"})

        assert (told["serving"], told["would_follow"]) == (False, False)
        assert "one lost records that two holds: it holds" in told["hindered"]
        assert permit.read(tmp_path / "old") == (0.0, 0)
        # Neither people nor the other box can give it the service; that one keeps it then.
        with pytest.raises(PairingRefusedError, match="lost records that two holds"):
            keeper.command({"do": "take-over", "by": ["Ana", "Ben"], "reason": "the other one burnt"})
        assert keeper.handle("two", {"do": "hand", "term": 7}) == {"taken": False}
        assert "lost records" in str(keeper.handle("two", {"do": "lease"})["unfit"])
        # It goes on granting.
        assert keeper.handle("two", {"do": "ask", "term": 2, "leased": True, "run": ""})["granted"] is True


def test_what_was_found_holds_also_where_it_cannot_be_kept(first: Site, second: Site, tmp_path: Path) -> None:
    held(first, second)
    fork(first, records=1)
    (tmp_path / "run" / whole.STATE).mkdir(parents=True)  # nothing is written over it
    with keeper_of(first, second, tmp_path / "run", starting()) as (keeper, line):
        for _ in range(2):
            keeper._ask("two", line)
            told = keeper.command({"do": "lease"})
            assert (told["serving"], "lost records" in told["hindered"]) == (False, True)


def test_nothing_is_asked_while_the_own_ledger_does_not_say_what_it_holds(
    first: Site, second: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(first, second)

    with keeper_of(first, second, tmp_path / "run", starting()) as (keeper, line):
        monkeypatch.setattr(whole, "lacks", silent)
        keeper._ask("two", line)
        told = keeper.command({"do": "lease"})
        assert (told["serving"], [one["answers"] for one in told["voters"]]) == (False, [True])  # the other one does
        monkeypatch.undo()
        keeper._ask("two", line)
        assert keeper.command({"do": "lease"})["serving"] is True


def test_a_ledger_that_is_put_back_while_the_lease_goes_on_ends_it(first: Site, second: Site, tmp_path: Path) -> None:
    size = held(first, second)
    with keeper_of(first, second, tmp_path / "run", starting()) as (keeper, line):
        keeper._ask("two", line)
        keeper._compare_again(line)
        assert keeper.command({"do": "lease"})["serving"] is True

        fork(first, records=size + 1)  # as long as before, and another one
        keeper._compare_again(line)

        told = keeper.command({"do": "lease"})
        assert (told["serving"], "lost records" in told["hindered"]) == (False, True)
        assert permit.read(tmp_path / "run") == (0.0, 0)


def test_a_ledger_that_starts_anew_while_the_lease_goes_on_costs_nothing(
    first: Site, second: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(first, second)

    with keeper_of(first, second, tmp_path / "run", starting()) as (keeper, line):
        keeper._ask("two", line)
        monkeypatch.setattr(whole, "lacks", silent)
        keeper._compare_again(line)
        assert keeper.command({"do": "lease"})["serving"] is True


def test_a_box_waits_for_the_other_one_after_each_start_but_while_its_permit_lasts(
    first: Site, second: Site, tmp_path: Path
) -> None:
    """Scenario: it served alone and was stopped, people let the other one serve, and it was started again."""
    found = Whole(tmp_path, "two", first.ledger)
    kept.store(tmp_path, Kept(term=1, holder="one", alone=True))

    started = service._lease(first.config, "one", tmp_path, tmp_path, found)
    permit.write(tmp_path, until=permit.boottime() + 60, term=1)
    replaced = service._lease(first.config, "one", tmp_path, tmp_path, found)

    assert started.unheard_until == started.started + started.rules.surely_out
    assert not started.is_serving(started.started + 1)
    assert replaced.unheard_until == 0.0


@pytest.mark.parametrize(("alone", "seconds", "waits"), [(True, 3.6, True), (True, 3.4, False), (False, 3.6, False)])
def test_a_box_that_stood_still_while_it_served_alone_hears_the_other_one_first(
    *, alone: bool, seconds: float, waits: bool
) -> None:
    lease = Lease(me="one", rules=RULES, kept=Kept(term=1, holder="one", alone=alone), started=1000.0)

    assert not lease.stood_still(1000.0)
    assert lease.stood_still(1000.0 + seconds) is waits
    assert (lease.unheard_until > 0) is waits
    if alone:
        assert lease.is_serving(1000.0 + seconds) is not waits
        assert lease.is_serving(1000.0 + seconds + RULES.surely_out)
        assert not lease.stood_still(1001.0 + seconds)


def test_after_it_stood_still_the_first_word_of_the_other_box_ends_the_wait(
    first: Site, second: Site, tmp_path: Path
) -> None:
    held(first, second)
    now = [1000.0]
    lease = Lease(me="one", rules=RULES, kept=Kept(term=1, holder="one", alone=True), started=1000.0)
    with keeper_of(first, second, tmp_path / "run", lease) as (keeper, line):
        keeper._now = lambda: now[0]
        keeper._ask("two", line)
        keeper.turn()
        assert keeper.command({"do": "lease"})["serving"] is True
        lease.kept = Kept(term=1, holder="one", alone=True)

        now[0] += 60
        keeper.turn()
        assert keeper.command({"do": "lease"})["serving"] is False
        assert permit.read(tmp_path / "run") == (0.0, 0)

        keeper._ask("two", line)
        assert keeper.command({"do": "lease"})["serving"] is True


class _Counted(NoAddress):
    puts = 0

    def put(self) -> None:
        self.puts += 1


def test_the_address_is_told_once_more_when_a_box_that_served_beside_asks(
    first: Site, second: Site, tmp_path: Path
) -> None:
    lease = Lease(me="one", rules=RULES, kept=Kept(term=6, holder="one", alone=True), started=1000.0)
    with keeper_of(first, second, tmp_path / "run", lease) as (keeper, _):
        keeper._address = counted = _Counted()
        keeper.turn()
        before = counted.puts

        answer = keeper.handle("two", {"do": "ask", "term": 5, "leased": False, "run": ""})

        assert (answer["granted"], answer["term"], answer["holder"]) == (False, 6, "one")
        assert counted.puts == before + 1


def test_a_box_that_was_alone_waits_a_lease_for_the_other_one_and_goes_on_without() -> None:
    lease = Lease(
        me="one", rules=RULES, kept=Kept(term=1, holder="one", alone=True), started=1000.0, unheard_until=1003.5
    )

    assert not lease.is_serving(1003.4)
    assert lease.asks(1003.4) is None
    assert lease.is_serving(1003.6)
    lease.unheard_until = 2000.0
    lease.take_by_people(1004.0)
    assert lease.is_serving(1004.0)
    lease.lost = True
    assert not lease.is_serving(1004.0)
    with pytest.raises(NotActiveError):
        lease.hand_over(1004.0, "two")
    assert not lease.handed(1004.0, Ask(term=9, holder="one", leased=False))


def test_the_service_is_not_handed_to_a_box_that_may_not_serve(first: Site, second: Site, tmp_path: Path) -> None:
    held(second=second, first=first)
    lease = Lease(me="one", rules=RULES, kept=Kept(term=1, holder="one", alone=True), started=900.0)
    with keeper_of(first, second, tmp_path / "run", lease) as (keeper, line):
        line.call = lambda do, **_: {"term": 1, "holder": "one", "unfit": "two lost records"}  # type: ignore[method-assign]

        with pytest.raises(NotActiveError, match="two cannot take the service") as refused:
            keeper.command({"do": "hand-over", "to": "two", "by": "Ana"})

        assert refused.value.why == "two lost records"
        assert keeper.command({"do": "lease"})["serving"] is True


@pytest.mark.parametrize("by", ["", "Ana " * 40, None])
def test_a_hand_over_by_nobody_is_refused_before_anything_is_given_up(
    first: Site, second: Site, tmp_path: Path, by: str | None
) -> None:
    lease = Lease(me="one", rules=RULES, kept=Kept(term=1, holder="one", alone=True), started=900.0)
    with keeper_of(first, second, tmp_path / "run", lease) as (keeper, line):
        line.call = lambda do, **_: {"term": 1, "holder": "one", "taken": True}  # type: ignore[method-assign]

        with pytest.raises(MalformedError, match="by"):
            keeper.command({"do": "hand-over", "to": "two", "by": by})

        told = keeper.command({"do": "lease"})
        assert (told["serving"], told["term"], told["holder"]) == (True, 1, "one")
