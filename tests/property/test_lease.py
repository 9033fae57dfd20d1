"""Two boxes never serve at once: whatever is lost, late, restarted or cut, and however their clocks differ in pace."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.standby.lease import Answer, Ask, Event, Kept, Lease, Rules

SECONDS = 3.0
STEP = 0.25


class World:
    """Boxes `one` and `two`, perhaps a witness, their own clocks, and messages that take their time or are lost."""

    def __init__(
        self, *, witness: bool, paces: tuple[float, float, float], unnamed: Collection[str] = frozenset()
    ) -> None:
        self.now = 100.0
        self.rules = Rules(seconds=SECONDS, witness="three" if witness else "")
        self.unnamed = set(unnamed)  # boxes whose site file does not name the witness yet
        self.names = ("one", "two", "three") if witness else ("one", "two")
        self.pace = dict(zip(("one", "two", "three"), paces, strict=True))
        is_alone = "one" in self.unnamed if witness else True
        self.disk = {name: Kept(term=1, holder="one", alone=is_alone and name == "one") for name in self.names}
        self.voters: dict[str, Lease | None] = {}
        self.cut: set[frozenset[str]] = set()
        self.late: list[tuple[float, Callable[[], None]]] = []
        self.served: list[tuple[float, str]] = []
        self.lost: set[str] = set()  # boxes whose old disk was put back
        self.runs = 0
        for name in self.names:
            self.start(name)

    def clock(self, name: str) -> float:
        return 50.0 + self.now * self.pace[name]

    def start(self, name: str) -> None:
        self.runs += 1
        rules = replace(self.rules, witness="") if name in self.unnamed else self.rules
        voter = self.voters[name] = Lease(
            me=name,
            rules=rules,
            kept=self.disk[name],
            started=self.clock(name),
            run=f"run {self.runs}",
            lost=name in self.lost,
        )
        self.disk[name] = voter.kept

    def stop_in_order(self, name: str, delay: float) -> None:
        """Resign as a planned stop does; the word may come late, after the box has started again."""
        voter, other = self.voters[name], {"one": "two", "two": "one"}[name]
        if voter is None or voter.is_holder:
            return
        voter.resign()
        term, run = voter.kept.term, voter.run

        def arrive() -> None:
            hears = self.voters[other]
            if hears is not None:
                hears.peer_resigned(term, run)
                self.disk[other] = hears.kept

        self.send(name, other, delay, arrive)
        self.crash(name)

    def crash(self, name: str) -> None:
        self.voters[name] = None

    def lose(self, name: str) -> None:
        """Let a box hear that it lost records which the other one holds."""
        self.lost.add(name)
        voter = self.voters[name]
        if voter is not None:
            voter.lost = True
            voter.tick(self.clock(name))

    def send(self, source: str, target: str, delay: float, deliver: Callable[[], None]) -> None:
        if frozenset((source, target)) not in self.cut:
            self.late.append((self.now + delay, deliver))

    def turn(self, delay: float) -> None:
        """Let a quarter of a second pass: what arrives is taken, boxes tick and ask."""
        self.now += STEP
        due = [deliver for at, deliver in self.late if at <= self.now]
        self.late = [(at, deliver) for at, deliver in self.late if at > self.now]
        for deliver in due:
            deliver()
            self.look()
        for name in ("one", "two"):
            voter = self.voters[name]
            if voter is None:
                continue
            voter.tick(self.clock(name))
            self.disk[name] = voter.kept
            ask = voter.asks(self.clock(name))
            if ask is not None:
                for other in self.names:
                    if other != name and not (other == "three" and name in self.unnamed):
                        self.ask(name, other, ask, delay)
        self.look()

    def ask(self, source: str, target: str, ask: Ask, delay: float) -> None:
        asked, run = self.clock(source), self.voters[source]

        def arrive() -> None:
            voter = self.voters[target]
            if voter is None:
                return
            answer = voter.answer(self.clock(target), ask)
            self.disk[target] = voter.kept
            self.send(target, source, delay, lambda: back(answer))

        def back(answer: Answer) -> None:
            voter = self.voters[source]
            if voter is not None and voter is run:
                voter.answered(self.clock(source), asked, ask, answer, by=target)
                self.disk[source] = voter.kept

        self.send(source, target, delay, arrive)

    def serving(self) -> list[str]:
        return [name for name, voter in self.voters.items() if voter is not None and voter.is_serving(self.clock(name))]

    def look(self) -> None:
        serving = self.serving()
        assert len(serving) <= 1, f"{serving} at {self.now}"
        assert not self.lost.intersection(serving), f"{serving} at {self.now}"
        self.served += [(self.now, name) for name in serving]


PACES = st.floats(0.996, 1.004)
HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "heal", "crash", "start", "stop", "restart", "quiet", "lose"]),
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from(["one", "two", "three"]),
        st.integers(1, 30),
        st.sampled_from([0.0, 0.1, 0.6, 1.4]),
    ),
    max_size=14,
)


@given(witness=st.booleans(), paces=st.tuples(PACES, PACES, PACES), happenings=HAPPENINGS)
def test_at_most_one_box_serves_at_any_moment(
    *,
    witness: bool,
    paces: tuple[float, float, float],
    happenings: list[tuple[str, str, str, int, float]],
) -> None:
    world = World(witness=witness, paces=paces)
    for what, name, other, turns, delay in happenings:
        if what == "cut" and name != other:
            world.cut.add(frozenset((name, other)))
        elif what == "heal":
            world.cut.clear()
        elif what == "crash" and name in world.names:
            world.crash(name)
        elif what == "lose" and name != "three":
            world.lose(name)
        elif what == "stop" and name != "three":
            world.stop_in_order(name, delay)
        elif what == "restart" and name != "three":
            world.stop_in_order(name, delay)
            if world.voters[name] is None:
                world.start(name)
        elif what == "start" and name in world.names and world.voters[name] is None:
            world.start(name)
        for _ in range(turns):
            world.turn(delay)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["cut", "heal", "name", "unname", "crash", "stop", "start"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["one", "two", "three"]),
        st.integers(1, 30),
        st.sampled_from([0.0, 0.1, 0.6, 1.4]),
        st.booleans(),
    ),
    max_size=14,
)


# What an earlier run of the holder asked, without a witness, comes after what the present one asked with it.
LATE = [("cut", "one", "one", 2, 0.0, False), ("cut", "one", "one", 1, 1.4, False)]
LATE += [("name", "one", "one", 3, 0.0, False), ("cut", "one", "two", 18, 0.0, False)]


@example(unnamed={"one", "two"}, changes=LATE)
@given(unnamed=st.sets(st.sampled_from(["one", "two"])), changes=CHANGES)
def test_nor_do_both_when_a_witness_is_added_or_taken_away_whoever_answers_whom(
    unnamed: set[str], changes: list[tuple[str, str, str, int, float, bool]]
) -> None:
    """Scenario: a site file names a witness, or no longer, on a box that cannot hear the other, which serves alone."""
    world = World(witness=True, paces=(1.0, 1.0, 1.0), unnamed=unnamed)
    for what, name, other, turns, delay, is_in_order in changes:
        if what == "cut" and name != other:
            world.cut.add(frozenset((name, other)))
        elif what == "heal":
            world.cut.clear()
        elif what in {"name", "unname", "crash", "stop"}:
            if is_in_order:
                world.stop_in_order(name, delay)
            world.crash(name)
        if what in {"name", "unname"}:
            world.unnamed ^= {name} if (name in world.unnamed) == (what == "name") else set()
            world.start(name)
        if what == "start" and world.voters[name] is None:
            world.start(name)
        for _ in range(turns):
            world.turn(delay)


CUTS = st.lists(
    st.tuples(
        st.sampled_from([("one", "two"), ("one", "three"), ("two", "three"), ("heal", "heal")]),
        st.integers(1, 30),
        st.sampled_from([0.0, 0.1, 0.6, 1.4]),
    ),
    max_size=10,
)


@given(unnamed=st.sampled_from(["one", "two"]), cuts=CUTS)
def test_nor_do_both_while_a_witness_is_named_by_one_of_them_alone(
    unnamed: str, cuts: list[tuple[tuple[str, str], int, float]]
) -> None:
    world = settled(witness=True, unnamed=[unnamed])
    for between, turns, delay in cuts:
        if between == ("heal", "heal"):
            world.cut.clear()
        else:
            world.cut.add(frozenset(between))
        for _ in range(turns):
            world.turn(delay)


def renamed(world: World, name: str, *, in_order: bool) -> None:
    """Start a box again with a site file that names the witness now."""
    if in_order:
        world.stop_in_order(name, 0.0)
        world.turn(0.0)
    world.crash(name)
    world.unnamed -= {name}
    world.start(name)


def turned(world: World, turns: int) -> None:
    for _ in range(turns):
        world.turn(0.0)


def test_a_standby_that_begins_to_name_a_witness_takes_nothing_from_a_box_that_serves_alone() -> None:
    world = settled(witness=True, unnamed=["one", "two"])
    world.stop_in_order("two", 0.0)
    turned(world, 4)
    world.cut = {frozenset(("one", "two"))}
    renamed(world, "two", in_order=False)

    turned(world, 80)

    two = world.voters["two"]
    assert two is not None
    assert (world.serving(), two.would_follow, two.witness_counts) == (["one"], False, False)


def test_a_box_that_lost_the_service_does_not_get_it_back_by_a_witness_that_the_other_does_not_ask() -> None:
    world = settled(witness=True, unnamed=["one", "two"])
    world.cut = {frozenset(("one", "two"))}
    until(world, "two")
    renamed(world, "one", in_order=False)

    turned(world, 80)

    assert world.serving() == ["two"]


def test_a_box_that_serves_alone_binds_nobody_to_the_witness_that_it_names() -> None:
    rules = Rules(seconds=SECONDS, witness="three")
    two = Lease(me="two", rules=rules, kept=Kept(term=1, holder="one"), started=0.0, run="here")
    alone = Ask(term=2, holder="one", leased=False, run="here", witness="three")

    for now in range(10, 20):
        assert two.answer(now, alone).granted
    bound_by_alone = two.witness_counts
    for now in range(20, 30):
        assert two.answer(now, replace(alone, leased=True)).granted

    assert (bound_by_alone, two.witness_counts) == (False, True)


def test_what_an_earlier_run_of_the_holder_asked_binds_nobody_when_it_comes_late() -> None:
    rules = Rules(seconds=SECONDS, witness="three")
    kept = Kept(term=1, holder="one", witness="three")
    two = Lease(me="two", rules=rules, kept=kept, started=0.0, run="here")
    named = Ask(term=1, holder="one", leased=True, run="here", witness="three")

    two.answer(1.0, named)
    after_a_start = two.witness_counts
    two.answer(10.0, replace(named, witness=""))
    two.answer(11.4, named)
    when_late = two.witness_counts
    two.answer(14.0, named)

    assert (after_a_start, when_late, two.witness_counts) == (True, False, True)


def test_once_both_name_the_witness_it_counts_again_over_every_restart() -> None:
    world = settled(witness=True, unnamed=["one", "two"])
    renamed(world, "two", in_order=True)
    turned(world, 20)
    renamed(world, "one", in_order=False)
    turned(world, 40)
    assert world.serving() == ["one"]
    world.crash("one")
    world.crash("two")
    world.start("two")

    assert until(world, "two") < 10


def settled(*, witness: bool, unnamed: Collection[str] = frozenset()) -> World:
    """Return boxes of which `one` serves by grants."""
    world = World(witness=witness, paces=(1.0, 1.0, 1.0), unnamed=unnamed)
    for _ in range(30):
        world.turn(0.0)
    assert world.serving() == ["one"]
    holder = world.voters["one"]
    assert holder is not None
    assert not holder.kept.alone
    return world


def until(world: World, name: str, *, most: float = 10.0) -> float:
    """Return how long it took until that box serves."""
    began = world.now
    while world.serving() != [name]:
        world.turn(0.0)
        assert world.now - began <= most, f"{name} does not serve"
    return world.now - began


@pytest.mark.parametrize("witness", [False, True])
def test_when_the_active_box_dies_the_other_serves_within_ten_seconds(*, witness: bool) -> None:
    world = settled(witness=witness)
    world.crash("one")

    assert until(world, "two") < 10

    two = world.voters["two"]
    assert two is not None
    assert two.events[-1] is Event.TOOK_OVER


@pytest.mark.parametrize("witness", [False, True])
def test_a_cut_cable_stops_one_box_before_the_other_begins(*, witness: bool) -> None:
    world = settled(witness=witness)
    world.cut = {frozenset(("one", "two")), frozenset(("one", "three"))}

    until(world, "two")
    world.cut.clear()
    for _ in range(20):
        world.turn(0.0)

    assert world.serving() == ["two"]
    one = world.voters["one"]
    assert one is not None
    assert one.kept.holder == "two"
    assert Event.LOST in one.events


def test_with_a_witness_a_dead_standby_does_not_stop_the_service() -> None:
    world = settled(witness=True)
    world.crash("two")

    for _ in range(80):
        world.turn(0.0)
        assert world.serving() == ["one"]


def test_a_standby_that_was_away_does_not_take_the_service_when_it_comes_back() -> None:
    world = settled(witness=True)
    world.cut = {frozenset(("two", "one")), frozenset(("two", "three"))}
    for turn in range(160):
        if turn == 80:
            world.cut.clear()
        world.turn(0.0)
        assert world.serving() == ["one"]

    one = world.voters["one"]
    assert one is not None
    assert one.kept.term == 1


def test_a_box_does_not_follow_by_itself_a_holder_that_goes_by_a_witness_of_its_own() -> None:
    world = settled(witness=True, unnamed=["two"])
    two = world.voters["two"]
    assert two is not None
    world.cut = {frozenset(("one", "two"))}

    for _ in range(80):
        world.turn(0.0)
        assert world.serving() == ["one"]

    assert (two.would_follow, two.other_witness) == (False, "three")


def test_people_are_obeyed_by_a_box_that_serves() -> None:
    world = settled(witness=False)
    two = world.voters["two"]
    assert two is not None
    world.crash("one")
    two.take_by_people(world.clock("two"))
    world.disk["two"] = two.kept
    world.disk["one"] = Kept(term=1, holder="one", alone=True)  # somebody let it serve alone besides
    world.late.clear()
    world.voters["one"] = Lease(
        me="one", rules=world.rules, kept=world.disk["one"], started=world.clock("one"), run="later"
    )
    one = world.voters["one"]
    assert one is not None
    ask = two.asks(world.clock("two"))
    assert ask is not None

    assert one.answer(world.clock("one"), ask).granted

    assert world.serving() == ["two"]


@pytest.mark.parametrize(("asks", "answers"), [("one", "two"), ("two", "one")])
def test_of_two_boxes_that_hold_one_term_one_stops_at_their_first_word(asks: str, answers: str) -> None:
    """Scenario: people said that the other box is off; it took that term while this one was, and its cable is back."""
    world = settled(witness=False)
    world.late.clear()
    for name in ("one", "two"):
        world.disk[name] = Kept(term=2, holder=name, alone=True)
        world.start(name)
    first, second = world.voters[asks], world.voters[answers]
    assert first is not None
    assert second is not None
    assert world.serving() == ["one", "two"]
    ask = first.asks(world.clock(asks))
    assert ask is not None

    first.answered(world.clock(asks), world.clock(asks), ask, second.answer(world.clock(answers), ask), by=answers)

    assert world.serving() == ["one"]
    stopped = first if asks == "two" else second
    assert stopped.events[-1] is Event.STEPPED_DOWN


def test_without_one_a_dead_standby_stops_it_and_a_planned_stop_does_not() -> None:
    crashed, planned = settled(witness=False), settled(witness=False)
    crashed.crash("two")
    planned.stop_in_order("two", 0.0)

    for _ in range(80):
        crashed.turn(0.0)
        planned.turn(0.0)

    assert crashed.serving() == []
    assert planned.serving() == ["one"]


def test_a_box_that_starts_while_the_other_is_away_waits_for_people() -> None:
    world = settled(witness=False)
    world.crash("one")
    world.crash("two")
    world.late.clear()
    world.start("two")

    for _ in range(80):
        world.turn(0.0)
    assert world.serving() == []
    two = world.voters["two"]
    assert two is not None
    two.take_by_people(world.clock("two"))
    world.disk["two"] = two.kept
    world.turn(0.0)
    assert world.serving() == ["two"]
    world.start("one")
    for _ in range(20):
        world.turn(0.0)

    assert world.serving() == ["two"]


@pytest.mark.parametrize("witness", [False, True])
def test_a_planned_hand_over_is_done_at_once(*, witness: bool) -> None:
    world = settled(witness=witness)
    one, two = world.voters["one"], world.voters["two"]
    assert one is not None
    assert two is not None

    handed = one.hand_over(world.clock("one"), "two")
    assert world.serving() == []
    assert two.handed(world.clock("two"), handed)
    world.disk = {**world.disk, "one": one.kept, "two": two.kept}

    assert until(world, "two") <= 4 * STEP
    for _ in range(40):
        world.turn(0.0)
    assert world.serving() == ["two"]


def test_where_people_decide_nobody_takes_over_by_itself() -> None:
    world = settled(witness=False)
    for name in world.names:
        voter = world.voters[name]
        assert voter is not None
        voter.rules = Rules(seconds=SECONDS, automatic=False)
    world.crash("one")

    for _ in range(80):
        world.turn(0.0)

    assert world.serving() == []


def test_what_was_said_to_or_by_an_earlier_run_of_the_standby_does_not_count() -> None:
    world = settled(witness=False)
    one, two = world.voters["one"], world.voters["two"]
    assert one is not None
    assert two is not None
    late, term, run = one.asks(world.clock("one")), two.kept.term, two.run
    assert late is not None
    assert late.leased
    world.crash("two")
    world.late.clear()
    world.start("two")
    again = world.voters["two"]
    assert again is not None

    assert again.answer(world.clock("two"), late).granted
    before = again.would_follow
    for _ in range(8):
        world.turn(0.0)

    assert (before, again.would_follow) == (False, True)
    assert not one.peer_resigned(term, run)
    assert one.peer_resigned(term, again.run)


@pytest.mark.parametrize("witness", [True, False])
def test_who_serves_and_lost_records_stops_and_the_other_one_follows(*, witness: bool) -> None:
    world = World(witness=witness, paces=(1.0, 1.0, 1.0))
    for _ in range(40):
        world.turn(0.0)
    assert world.serving() == ["one"]

    world.lose("one")
    assert world.serving() == []
    for _ in range(40):
        world.turn(0.0)

    assert world.serving() == ["two"]
    # It comes back as an old disk does, and stays what it is though the other one dies.
    world.crash("one")
    world.start("one")
    for _ in range(20):
        world.turn(0.0)
    world.crash("two")
    for _ in range(40):
        world.turn(0.0)
    assert world.serving() == []
