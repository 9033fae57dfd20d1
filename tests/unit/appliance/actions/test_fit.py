"""Before people are asked, the plan says what memory holds and what that means for the way back."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.actions import fit as module
from appliance.actions.fit import FitFacts, Holds, fit, held_beside
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.errors import EngineLoadError
from appliance.modelaliases import ModelsSection
from appliance.promote.destination import Said
from appliance.registry import catalog, memory
from appliance.registry.memory import Need, Room
from appliance.state import projection
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies

GIB = 2**30
DIGEST_C, DIGEST_D = "c" * 64, "d" * 64
Ask = Callable[[str], FitFacts]


def register(ledger: MemoryLedger, digest: str, gib: float | None) -> None:
    need = None if gib is None else Need(weights=int(gib * GIB), cache=0, compute=0, process=0).to_json()
    ledger.append("model.registered", {**bodies(digest)["model.registered"], "memory": need})


def planned(config: Config, state: Engine, *, new: float | None, old: float | None, total: float) -> FitFacts:
    """Ask with B new, A in production where `old` is given, and a machine of so many GiB."""
    ledger = MemoryLedger()
    register(ledger, DIGEST_B, new)
    if old is not None:
        register(ledger, DIGEST_A, old or None)
        result: dict[str, Any] = {**bodies(DIGEST_A)["gate.result"], "gate": "load", "figures": {"load_millis": 12345}}
        ledger.append("gate.result", result)
        ledger.append("promotion.made", {**bodies(DIGEST_A)["promotion.made"], "previous": None})
    projection.catch_up(state, ledger)
    room = Room(total=int(total * GIB), available=int(total * GIB))
    return fit(config, ledger, state, DIGEST_B, room=room)


@pytest.mark.parametrize(
    ("new", "old", "total", "holds"),
    [
        (4, 4, 10, Holds.TWO),
        (4, 4.6, 10, Holds.ONE),
        (8.6, 1, 10, Holds.NONE),
        (8.4, None, 10, Holds.TWO),
        (None, 4, 10, Holds.UNKNOWN),
        (4, 0, 10, Holds.UNKNOWN),
    ],
)
def test_what_memory_holds(
    config: Config, state: Engine, new: float | None, old: float | None, total: float, holds: Holds
) -> None:
    assert planned(config, state, new=new, old=old, total=total).holds is holds


def test_where_one_fits_the_plan_tells_the_window_the_watch_and_the_measured_way_back(
    config: Config, state: Engine
) -> None:
    facts = planned(config, state, new=4, old=4.6, total=10)

    said = " ".join(facts.plan)
    assert "maintenance window" in said
    assert "watched for 48 hours" in said
    assert "12.3 s here when it was last measured" in said
    assert (facts.return_seconds, facts.to_json()["watch_hours"]) == (12.345, 48)


def test_where_two_fit_the_version_before_stays_loaded(config: Config, state: Engine) -> None:
    facts = planned(config, state, new=4, old=4, total=10)

    assert "stays loaded" in " ".join(facts.plan)
    assert facts.to_json()["watch_hours"] == 0


def test_what_fits_in_no_way_is_refused_with_both_numbers(config: Config, state: Engine) -> None:
    with pytest.raises(EngineLoadError) as refused:
        planned(config, state, new=8.6, old=1, total=10).require_loadable()

    assert "8807 MiB" in refused.value.why
    assert "8704 MiB" in refused.value.why


def test_what_cannot_be_computed_is_left_to_the_gates(config: Config, state: Engine) -> None:
    planned(config, state, new=None, old=4, total=10).require_loadable()


@pytest.mark.parametrize(("recorded", "computed"), [(2, 4.6), (4.6, 2)])
def test_the_more_counts_of_what_was_recorded_and_what_the_files_tell_now(
    config: Config, state: Engine, monkeypatch: pytest.MonkeyPatch, recorded: float, computed: float
) -> None:
    """A release of before counted less, or another processor."""
    now = Need(weights=int(computed * GIB), cache=0, compute=0, process=0)
    monkeypatch.setattr(module, "carrier", lambda *_: (SimpleNamespace(path_of=None), None, None))
    monkeypatch.setattr(memory, "need_of", lambda *_: now)

    assert planned(config, state, new=recorded, old=recorded, total=10).holds is Holds.ONE


@pytest.mark.parametrize("old", [4, 4.6])
def test_people_are_told_that_a_model_of_another_name_takes_the_others_place(
    config: Config, state: Engine, old: float
) -> None:
    facts = planned(config, state, new=4, old=old, total=10)
    assert facts.production is not None
    renamed = replace(facts, production=replace(facts.production, name="lungs"))

    assert "takes the place of another model" in " ".join(renamed.plan)
    assert "Once lungs is no longer loaded" in " ".join(renamed.plan)
    assert "another model" not in " ".join(facts.plan)


NAMES = {DIGEST_A: "chat", DIGEST_B: "chat", DIGEST_C: "classes", DIGEST_D: "classes"}


def lines_of(
    config: Config, state: Engine, total: float, sizes: dict[str, float | None], said: Said | None = None
) -> Ask:
    """A in production in line 1, C beside it in line 2, and a machine of so many GiB."""
    ledger = MemoryLedger()
    for digest, gib in sizes.items():
        need = None if gib is None else Need(weights=int(gib * GIB), cache=0, compute=0, process=0).to_json()
        body = {**bodies(digest)["model.registered"], "name": NAMES[digest], "memory": need}
        ledger.append("model.registered", body)
    ledger.append("promotion.made", {**bodies(DIGEST_A)["promotion.made"], "previous": None})
    ledger.append("promotion.made", {**bodies(DIGEST_C)["promotion.made"], "previous": None, "line": 2})
    projection.catch_up(state, ledger)
    room = Room(total=int(total * GIB), available=int(total * GIB))
    return lambda digest: fit(config, ledger, state, digest, room=room, said=said)


def test_a_version_that_is_said_to_come_beside_all_others_finds_what_they_leave(config: Config, state: Engine) -> None:
    """8.5 GiB are left to engines: 4 + 1 of others, and B of 3, which would be chat's successor by its name."""
    sizes: dict[str, float | None] = {DIGEST_A: 4.0, DIGEST_B: 3.0, DIGEST_C: 1.0}
    facts = lines_of(config, state, 10, sizes, Said(beside=True))(DIGEST_B)

    assert (facts.production, facts.holds, facts.lines.total) == (None, Holds.TWO, 5 * GIB)
    assert facts.plan[0] == "It comes beside what is in production, and nothing goes away for it."


@pytest.mark.parametrize("replaced", ["classes", DIGEST_C])
def test_a_version_that_is_said_to_replace_a_model_is_held_against_that_one(
    config: Config, state: Engine, replaced: str
) -> None:
    sizes: dict[str, float | None] = {DIGEST_A: 4.0, DIGEST_B: 3.0, DIGEST_C: 1.0}
    facts = lines_of(config, state, 10, sizes, Said(replaces=replaced))(DIGEST_B)

    assert facts.production is not None
    assert (facts.production.name, facts.lines.names, facts.holds) == ("classes", ("chat 1",), Holds.TWO)
    assert "It takes the place of another model, classes: a line of production serves one." in facts.plan


@pytest.mark.parametrize(
    ("new", "classes", "holds"),
    [(3, 1, Holds.TWO), (3, 2, Holds.ONE), (6, 2, Holds.ONE), (7, 2, Holds.NONE), (3, None, Holds.UNKNOWN)],
)
def test_what_another_line_holds_is_taken_off_the_room_first(
    config: Config, state: Engine, new: float, classes: float | None, holds: Holds
) -> None:
    """8.5 GiB are left to engines."""
    ask = lines_of(config, state, 10, {DIGEST_A: 4, DIGEST_B: new, DIGEST_C: classes})

    assert ask(DIGEST_B).holds is holds


def test_a_version_that_would_fit_only_in_another_lines_place_is_refused_with_what_stands_there(
    config: Config, state: Engine
) -> None:
    facts = lines_of(config, state, 10, {DIGEST_A: 4, DIGEST_B: 7, DIGEST_C: 2})(DIGEST_B)

    with pytest.raises(EngineLoadError) as refused:
        facts.require_loadable()
    assert "of which other lines of production hold 2048: classes 1" in refused.value.why
    assert "Other lines of production hold 2048 MiB: classes 1." in facts.plan
    assert facts.to_json()["other_lines"] == {"bytes": 2 * GIB, "versions": ["classes 1"]}


@pytest.mark.parametrize(("classes", "holds"), [(0.2, True), (1, False)])
def test_further_engines_find_the_room_that_other_lines_leave(
    config: Config, state: Engine, classes: float, *, holds: bool
) -> None:
    engines = EnginesSection(production=ProductionEngines(count=2))
    config = config.model_copy(update={"engines": engines})
    facts = lines_of(config, state, 10, {DIGEST_A: 4, DIGEST_C: classes})(DIGEST_A)

    assert ("Memory does not hold all of them." not in facts.plan) is holds


def test_a_version_is_held_against_what_the_line_of_its_name_serves(config: Config, state: Engine) -> None:
    engines = EnginesSection(production=ProductionEngines(count=2))
    config = config.model_copy(update={"engines": engines})
    ask = lines_of(config, state, 12, {DIGEST_A: 4, DIGEST_C: 1, DIGEST_D: 1})
    facts = ask(DIGEST_D)

    assert facts.production is not None
    assert (facts.production.model_digest, facts.lines.total, facts.holds) == (DIGEST_C, 8 * GIB, Holds.TWO)
    assert facts.further.names == ()
    assert "another model" not in " ".join(facts.plan)
    assert (ask(DIGEST_C).serves, ask(DIGEST_A).serves) == (True, True)
    assert ask(DIGEST_A).further.total == 4 * GIB


def test_a_stopped_lines_version_and_its_successor_come_back_into_it_and_take_nobodys_place(
    config: Config, state: Engine
) -> None:
    ledger = MemoryLedger()
    for digest in (DIGEST_A, DIGEST_C, DIGEST_D):
        need = Need(weights=GIB, cache=0, compute=0, process=0).to_json()
        body = {**bodies(digest)["model.registered"], "name": NAMES[digest], "memory": need}
        ledger.append("model.registered", body)
    ledger.append("promotion.made", {**bodies(DIGEST_A)["promotion.made"], "previous": None})
    ledger.append("promotion.made", {**bodies(DIGEST_C)["promotion.made"], "previous": None, "line": 2})
    ledger.append("promotion.stopped", {**bodies(DIGEST_C)["promotion.stopped"], "previous": DIGEST_C, "line": 2})
    projection.catch_up(state, ledger)

    for digest in (DIGEST_C, DIGEST_D):
        facts = fit(config, ledger, state, digest, room=Room(total=10 * GIB, available=10 * GIB))
        assert (facts.production, facts.serves, facts.lines.names) == (None, False, ("chat 1",))
        assert facts.plan[0] == "It comes beside what is in production, and nothing goes away for it."


def test_the_test_stage_finds_what_every_line_holds(config: Config, state: Engine) -> None:
    engines = EnginesSection(production=ProductionEngines(count=2))
    config, ledger = config.model_copy(update={"engines": engines}), MemoryLedger()
    for digest in (DIGEST_A, DIGEST_B, DIGEST_C):
        register(ledger, digest, 1)
    ledger.append("promotion.made", {**bodies(DIGEST_A)["promotion.made"], "previous": None})
    ledger.append("promotion.made", {**bodies(DIGEST_C)["promotion.made"], "previous": None, "line": 2})
    projection.catch_up(state, ledger)
    with state.connect() as session:
        version = catalog.version(session, DIGEST_B)

    assert held_beside(config, ledger, state, version).total == 4 * GIB


def test_a_site_with_one_line_tells_nothing_of_lines(config: Config, state: Engine) -> None:
    facts = planned(config, state, new=4, old=4, total=10)

    assert "other_lines" not in facts.to_json()
    assert "line" not in " ".join(facts.plan)


def test_a_plan_says_that_a_name_of_the_sites_own_is_this_models(config: Config, state: Engine) -> None:
    models = ModelsSection(aliases={"smol": "production"})

    facts = planned(config.model_copy(update={"models": models}), state, new=4, old=4, total=10)

    assert facts.plan[-1] == models.taken_by("smol") != ""
