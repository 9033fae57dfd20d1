"""What people are told where several models are in production: history, routes, units, a canary's outlook."""

from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Engine
from typer.testing import CliRunner

from appliance.actions import canary
from appliance.actions.history import Event, history
from appliance.actions.routes import explain
from appliance.actions.status import status
from appliance.audit.memory import MemoryLedger
from appliance.cli import route
from appliance.cli.context import Context
from appliance.config import Config
from appliance.enginesections import RouterRule
from appliance.errors import NotInstalledError
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry.router import Query
from appliance.state import projection
from tests.support import lines
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies, rollout_bodies, tell_all
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.unit.appliance.actions.test_lines_windows import Two, two_lines

__all__ = ["two_lines"]  # a fixture
ANA, BEN, *_ = signatories()
A, B, C, D, E = (digest(name) for name in "ABCDE")
OTHER, NEXT = "c" * 64, "d" * 64
NAMES = {DIGEST_A: "chat", DIGEST_B: "chat", OTHER: "small", NEXT: "small"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


def told(events: tuple[Event, ...]) -> list[tuple[str, str]]:
    return [(one.what, one.where) for one in events if one.what not in {"registered", "validated"}]


def test_history_says_of_which_line_each_step_is(site: Site) -> None:
    site.promote(A)
    before = [one.to_json() for one in history(site.ledger)]
    site.promote(C, name="classes", beside=True)
    site.promote(D, name="classes")
    site.promote(B)
    site.client.rollback(person=ANA.id, reason="worse", line="classes")
    site.promote(D, name="classes")
    site.client.stop(person=ANA.id, reason="wrong", line="tiny")
    site.client.stop(person=ANA.id, reason="a bad night")

    events = history(site.ledger)

    assert [one.to_json() for one in events][: len(before)] == before
    assert not {"line", "where"} & before[-1].keys()
    opening, second = ["a further line"] * 3 + ["line 2"], ["line 2"] * 4
    assert [where for _, where in told(events)][len(before) :] == [
        *opening,
        *second,
        *[""] * 4,
        "line 2",
        *second,
        "line 1",
        "all lines",
    ]
    assert [one.line for one in events][len(before) : len(before) + 4] == [None, None, None, 2]
    assert events[-1].to_json()["where"] == "all lines"
    assert {one.where for one in history(site.ledger, model_digest=D) if one.what == "approved"} == {"line 2"}


def test_history_of_a_canary_and_of_a_third_line(site: Site) -> None:
    site.promote(A)
    site.promote(C, name="classes", beside=True)
    site.promote(E, name="embedder", beside=True)
    request = site.approve(site.request(D, name="classes"), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)

    *_, asked, _, _, started = history(site.ledger)

    assert (asked.where, started.where, started.line) == ("line 2", "line 2", 2)


def test_at_a_site_with_one_line_history_says_what_it_always_said(site: Site) -> None:
    site.promote(A)
    site.client.stop(person=ANA.id, reason="a bad night")

    assert {one.where for one in history(site.ledger, every=True)} == {""}
    assert set(history(site.ledger)[-1].to_json()) == {"sequence", "at", "what", "model_digest", "people", "reason"}


def ruled(site: Site, **rules: str) -> Config:
    """Return the site file with a rule for each task."""
    named = [
        RouterRule.model_validate({"name": task, "model": model, "tasks": [task]}) for task, model in rules.items()
    ]
    return site.config.model_copy(update={"router": site.config.router.model_copy(update={"rules": named})})


def happened(state: Engine, *steps: tuple[str, dict[str, Any]]) -> None:
    ledger = MemoryLedger()
    for version, name in NAMES.items():
        ledger.append("model.registered", {**bodies(version)["model.registered"], "name": name})
    for kind, changes in steps:
        ledger.append(kind, {**bodies(), **rollout_bodies()}[kind] | changes)
    tell_all(state, ledger)


MADE = "promotion.made"
CHAT: tuple[str, dict[str, Any]] = (MADE, {"model_digest": DIGEST_A, "previous": None})
SMALL: tuple[str, dict[str, Any]] = (MADE, {"model_digest": OTHER, "previous": None, "line": 2})
TERMS = {"version": NEXT, "percent": 50, "hours": 48, "watch_hours": 48}
TRIED = ("promotion.canary-started", {"model_digest": OTHER, "previous": OTHER, "terms": TERMS, "line": 2})


def test_a_route_is_explained_among_the_versions_of_all_lines(site: Site, state: Engine) -> None:
    happened(state, CHAT, SMALL, TRIED)
    config = ruled(site, classify="small", anew=NEXT[:12], letters="chat")

    found = {task: explain(config, state, Query(task=task)) for task in ("classify", "anew", "letters", "other")}

    assert {task: one.to_json()["answers"] for task, one in found.items()} == {
        "classify": OTHER,
        "anew": NEXT,
        "letters": DIGEST_A,
        "other": DIGEST_A,
    }
    assert [found[task].to_json()["line"] for task in ("classify", "anew", "other")] == [2, 2, 1]


def test_to_a_canary_on_hold_no_rule_leads_in_any_line(site: Site, state: Engine) -> None:
    held = ("promotion.canary-held", {"model_digest": OTHER, "previous": OTHER, "terms": TERMS, "line": 2})
    happened(state, CHAT, SMALL, TRIED, held)

    found = explain(ruled(site, anew=NEXT[:12]), state, Query(task="anew"))

    assert (found.routed.rule, found.answers and found.answers.model_digest) == ("", DIGEST_A)


def test_while_line_1_is_stopped_rules_still_lead_to_others_and_nothing_else_answers(
    site: Site, state: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened(state, CHAT, SMALL, ("promotion.stopped", {"model_digest": None, "previous": DIGEST_A, "line": 1}))
    config = ruled(site, classify="small", letters="chat")

    assert explain(config, state, Query(task="classify")).to_json()["answers"] == OTHER
    assert explain(config, state, Query(task="letters")).to_json()["answers"] is None
    assert "no rule applies: nothing answers while line 1 is stopped" in said(config, state, monkeypatch)
    assert f"small 1 ({OTHER[:12]}) answers, in line 2" in said(config, state, monkeypatch, "--task", "classify")


def test_what_was_decided_and_is_held_back_is_told_and_answers_nothing(
    site: Site, state: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened(state, CHAT)
    later = MemoryLedger()
    for _ in range(len(NAMES) + 1):
        later.append("key.created", bodies()["key.created"])
    later.append(MADE, bodies(DIGEST_B)[MADE] | {"previous": DIGEST_A})
    later.append("promotion.canary-started", rollout_bodies()["promotion.canary-started"] | TRIED[1] | {"line": None})
    projection.catch_up(state, later)

    found = explain(site.config, state, Query())

    assert (found.to_json()["answers"], found.to_json()["held_back"]) == (DIGEST_A, [DIGEST_B, NEXT])
    words = said(site.config, state, monkeypatch)
    assert f"chat 1 ({DIGEST_A[:12]}) answers" in words
    assert f"({DIGEST_B[:12]}) was decided and is held back until its engine answers" in words
    tell_all(state, later)
    assert explain(site.config, state, Query()).to_json()["answers"] == DIGEST_B


def test_where_all_that_was_decided_is_held_back_the_error_says_so(site: Site, state: Engine) -> None:
    ledger = MemoryLedger()
    for kind in ("model.registered", MADE):
        ledger.append(kind, bodies()[kind])
    projection.catch_up(state, ledger)

    with pytest.raises(NotInstalledError) as refused:
        explain(site.config, state, Query())

    assert f"{DIGEST_A[:12]} is held back" in refused.value.why


def test_with_one_line_a_route_is_explained_as_it_always_was(
    site: Site, state: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotInstalledError):
        explain(site.config, state, Query())
    happened(state, CHAT)

    assert set(explain(site.config, state, Query()).to_json()) == {
        "rule",
        "model_digest",
        "considered",
        "answers",
        "name",
    }
    assert said(site.config, state, monkeypatch) == f"no rule applies: chat 1 ({DIGEST_A[:12]}) answers\n"


def said(config: Config, state: Engine, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Type `sealift route explain`; return what it says."""
    app = typer.Typer()

    class Records:
        def __enter__(self) -> tuple[None, Engine]:
            return None, state

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(route, "records_of", lambda _: Records())
    monkeypatch.setattr(Context, "config", config)

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config_path=config.at.root / "sealift.toml", as_json=False)

    route.register(app)
    return CliRunner().invoke(app, ["route", "explain", *words], catch_exceptions=False).stdout


def units(site: Site, supervisor: FakeSupervisor) -> tuple[bool | None, str]:
    found = status(site.config, clock=site.clock, supervisor=supervisor).part("units")
    assert set(found.fields["units"]) == set(supervisor.states)
    return found.is_good, found.text


def test_the_engine_of_a_stopped_line_rests_and_is_no_unit_that_is_down(site: Site) -> None:
    site.promote(A)
    lines.open_line(site, C)
    first, second = (engine_unit("production", one) for one in (A, C))
    supervisor = FakeSupervisor()
    for unit in (first, second, engine_unit("test", C)):
        supervisor.start(unit)
    supervisor.stop(second)
    assert units(site, supervisor) == (False, f"2 of 3 run; not: {second}")

    lines.stop_line(site, 2)

    assert units(site, supervisor) == (True, f"2 of 2 run; {second} rests: people stopped line 2")
    supervisor.stop(engine_unit("test", C))
    assert "; not: sealift-engine-test@" in units(site, supervisor)[1]
    supervisor.start(engine_unit("test", C))
    supervisor.states[second] = UnitState.FAILED
    assert units(site, supervisor) == (False, f"2 of 3 run; not: {second}")
    supervisor.start(second)
    assert units(site, supervisor) == (True, "3 of 3 run")


def test_with_one_line_a_stopped_engine_is_told_as_it_always_was(site: Site) -> None:
    site.promote(A)
    site.client.stop(person=ANA.id, reason="a bad night")
    supervisor = FakeSupervisor()
    supervisor.start(engine_unit("production", A))
    supervisor.stop(engine_unit("production", A))

    assert units(site, supervisor) == (False, f"0 of 1 run; not: {engine_unit('production', A)}")


def asked(two: Two, version: str, count: int) -> None:
    for _ in range(count):
        two.floor.site.ledger.append("request.intent", {"request_id": "req_1", "model_digest": version})


def test_the_outlook_of_a_canary_counts_its_own_lines_requests(two: Two) -> None:
    floor = two.floor
    successor = floor.bring("second")
    floor.site.clock.advance(30 * 24 * 3600)
    asked(two, two.first.model_digest, 40)
    floor.site.clock.advance(2 * 3600)
    asked(two, two.other.model_digest, 6)
    asked(two, two.first.model_digest, 20)

    assert canary.outlook(floor.here, two.new.model_digest).requests_per_hour == 3.0
    assert canary.outlook(floor.here, successor.model_digest).requests_per_hour == 30.0


def test_a_line_that_was_opened_lately_is_looked_at_since_then(two: Two) -> None:
    """Scenario: the first model is asked for days; another comes beside it, and is asked at once."""
    floor = two.floor
    asked(two, two.first.model_digest, 10)
    floor.site.clock.advance(24 * 3600)
    third = floor.bring("third", name="embedder")
    lines.open_line(floor.site, lines.asked(floor.site, third.model_digest, name="embedder"))
    anew = floor.bring("fourth", name="embedder")
    floor.site.clock.advance(3600)
    asked(two, third.model_digest, 8)
    floor.site.clock.advance(3600)

    assert canary.outlook(floor.here, anew.model_digest).requests_per_hour == 4.0
    assert canary.outlook(floor.here, two.new.model_digest).requests_per_hour == 0.0
