"""A drill says whether the standby could take over, by everything that it would rest on, and moves nothing."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from appliance.actions.standby import drilling
from appliance.actions.standby.drilling import Drill, Surroundings
from appliance.config import Config
from appliance.errors import EngineUnavailableError, PairingRefusedError
from appliance.install.supervisor import engine_unit
from appliance.registry.descriptor import ModelDescriptor
from appliance.state import projection
from appliance.state.database import open_state
from media.clock import FixedClock
from tests.support import boxes, lines
from tests.support.boxes import first, second
from tests.support.promotion import Site
from tests.support.versions import EngineSupervisor, store_version
from tests.unit.appliance.standby.test_keeping import make_key, receive

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

__all__ = ["first", "second"]  # fixtures

Look = Callable[..., Drill]


@pytest.fixture
def version(first: Site, second: Site) -> ModelDescriptor:
    """What the first box serves, and the second has received, taken over and stored; with a caller's key."""
    _, descriptor = store_version(second.config)
    first.promote(descriptor.model_digest)
    make_key(first)
    receive(second, descriptor.model_digest)
    boxes.carry(first, second, name="two", peer="one")
    return descriptor


@pytest.fixture
def look(second: Site) -> Iterator[Look]:
    """Drill at the second box; by default its engine answers and it would follow by itself."""
    state = open_state(second.config.at)

    def drill(**changes: object) -> Drill:
        projection.catch_up(state, second.ledger)
        here = Surroundings(
            config=second.config,
            ledger=second.ledger,
            state=state,
            keys=boxes.keys_of(second),
            clock=second.clock,
            lease=lambda: {"serving": False, "would_follow": True},
            ask=lambda *_: None,
        )
        return drilling.drill(replace(here, **changes))  # type: ignore[arg-type]

    yield drill
    state.dispose()


def bad(found: Drill) -> list[str]:
    return [one.check for one in found.checks if one.holds is False]


def silent(_config: Config, _digest: str) -> None:
    raise EngineUnavailableError(what="the engine does not answer", why="", fix="")


@pytest.mark.usefixtures("version")
def test_a_standby_that_could_take_over_says_so_and_it_is_recorded(second: Site, look: Look) -> None:
    found = look()

    assert (bad(found), found.is_ready, found.peer) == ([], True, "one")
    assert [one.check for one in found.checks] == ["mirror", "decisions", "version", "answer", "keys", "lease"]
    leaf = second.ledger.leaf(found.sequence)
    assert (leaf.kind, leaf.body["level"], leaf.body["ready"]) == ("standby.drilled", "checked", True)
    assert [one["holds"] for one in leaf.body["checks"]] == [True] * 6
    assert "1 keys" in str(found.checks[4].text)


@pytest.mark.usefixtures("version")
def test_an_engine_that_does_not_answer_a_version_that_is_not_here_and_an_old_mirror_are_told(
    second: Site, look: Look
) -> None:
    assert bad(look(ask=silent)) == ["answer"]
    for path in sorted((second.config.at.store / "objects").rglob("*")):
        if path.is_file():
            path.unlink()
    assert bad(look()) == ["version"]
    second.clock.advance(27 * 3600)
    assert bad(look()) == ["mirror", "version"]


def test_before_anything_was_brought_nothing_holds(second: Site, look: Look) -> None:
    found = look(lease=lambda: None)

    assert bad(found) == ["mirror", "version"]
    assert not found.is_ready
    assert found.checks[-1].holds is None


@pytest.fixture
def beside(first: Site, second: Site, version: ModelDescriptor) -> tuple[int, str]:
    """What the first box serves beside the version, and the second has taken over: its line there, and its digest."""
    assert version.model_digest
    _, descriptor = store_version(second.config, serial=2, weights=b"classes", name="classes")
    digest = descriptor.model_digest
    second.validate(digest, name="classes")
    lines.open_line(first, lines.asked(first, digest, name="classes"))
    assert boxes.carry(first, second, name="two", peer="one").waits == ""
    return 2, digest


def test_every_line_that_serves_is_looked_at(
    second: Site, look: Look, version: ModelDescriptor, beside: tuple[int, str]
) -> None:
    number, digest = beside
    asked = list[str]()

    found = look(ask=lambda _, one: asked.append(one))

    wanted = ["version", "answer", f"version, line {number}", f"answer, line {number}"]
    assert [one.check for one in found.checks][2:6] == wanted
    assert (bad(found), asked) == ([], [version.model_digest, digest])
    lines.stop_line(second, 1)
    assert "version" not in [one.check for one in look().checks]

    def silent_beside(_config: Config, model_digest: str) -> None:
        if model_digest == digest:
            raise EngineUnavailableError(what="the engine does not answer", why="", fix="")

    assert bad(look(ask=silent_beside)) == [f"answer, line {number}"]
    lines.stop_line(second, number)
    assert bad(look()) == ["version"]


@pytest.mark.usefixtures("version")
def test_a_decision_that_waits_keeps_the_standby_from_being_ready(first: Site, second: Site, look: Look) -> None:
    make_key(first)
    boxes.grow(second, boxes.bundle(first, "two"), "one")

    assert bad(look()) == ["decisions"]
    boxes.take(second, "one")
    assert bad(look()) == []


@pytest.mark.usefixtures("version")
def test_the_lease_is_told_and_one_that_does_not_answer_is_a_fault(look: Look) -> None:
    def gone() -> None:
        raise ConnectionRefusedError

    assert bad(look(lease=gone)) == ["lease"]
    only = look(lease=lambda: {"serving": False, "would_follow": False}).checks[-1]
    assert (only.holds, only.text) == (None, "only by people")
    why = "the witness three does not answer"
    hindered = look(lease=lambda: {"serving": False, "would_follow": False, "hindered": why})
    assert (bad(hindered), hindered.checks[-1].text) == (["lease"], f"only by people: {why}")


def test_the_first_box_is_nobodys_standby(first: Site, second: Site, look: Look) -> None:
    assert (drilling.is_standby(first.config), drilling.is_standby(second.config)) == (False, True)
    assert drilling.standing_by(first.config, ledger=first.ledger, clock=first.clock) is None
    assert list(drilling.findings(first.config, first.ledger, first.clock)) == []
    with pytest.raises(PairingRefusedError, match="no fail-over"):
        look(config=first.config, ledger=first.ledger)


@pytest.mark.usefixtures("version")
def test_the_next_is_due_after_a_month_and_after_a_day_where_it_did_not_hold(second: Site, look: Look) -> None:
    now = second.clock.now()

    assert drilling.is_due(second.ledger, now)
    look(ask=silent)
    drilling.moved(second.ledger, peer="one", by="Ana", term=7)
    assert not drilling.is_due(second.ledger, now + timedelta(hours=23))
    assert drilling.is_due(second.ledger, now + timedelta(hours=25))
    look()
    assert not drilling.is_due(second.ledger, now + timedelta(days=27))
    assert drilling.is_due(second.ledger, now + timedelta(days=29))


@pytest.mark.usefixtures("version")
def test_the_doctor_says_of_a_standby_whether_its_drill_held_and_is_new(second: Site, look: Look) -> None:
    def said(days: int = 0) -> tuple[bool | None, str]:
        clock = FixedClock(second.clock.now() + timedelta(days=days))
        (found,) = drilling.findings(second.config, second.ledger, clock)
        return found.is_good, found.text

    assert said() == (False, "there was none")
    look(ask=silent)
    assert said() == (False, "0 days ago; did not hold: answer")
    look()
    assert said() == (True, "0 days ago, all held")
    assert said(36)[0] is False


def test_productions_engine_is_asked_a_question_of_ours(second: Site, version: ModelDescriptor) -> None:
    with tempfile.TemporaryDirectory(prefix="sl-") as run:  # a socket's path is short
        places = second.config.places.model_copy(update={"run": run})
        config = second.config.model_copy(update={"places": places})
        engines = EngineSupervisor(config)
        engines.know(version)
        with pytest.raises(EngineUnavailableError):
            drilling.answered(config, version.model_digest)

        unit = engine_unit("production", version.model_digest)
        engines.start(unit)
        try:
            drilling.answered(config, version.model_digest)
        finally:
            engines.stop(unit)
