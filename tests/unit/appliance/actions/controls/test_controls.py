"""Live evidence for controls: each question can be green and red, and what cannot be asked is never green."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance.actions.controls import judged as actions
from appliance.actions.controls.live import QUESTIONS, Here, Seen, State, seen
from appliance.actions.controls.mapping import ControlMap, packaged
from appliance.audit import pin
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.config import Config
from appliance.errors import LedgerUnavailableError
from media.clock import FixedClock
from media.errors import MalformedError, UsageError
from tests.support.ledger import bodies

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
DAY = 86400.0


@contextmanager
def box(folder: Path, text: str = "") -> Iterator[tuple[Config, MemoryLedger, FixedClock]]:
    config = configuration.parse(
        f'format = 1\nsite = "demo"\n[places]\nroot = "{folder}"\nrun = "{folder}"\n{text}'.encode()
    )
    clock = FixedClock(NOW)
    yield config, MemoryLedger(clock), clock


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with box(tmp_path) as (config, ledger, clock):
        yield Here(config=config, ledger=ledger, clock=clock)


def of(here: Here, name: str) -> tuple[str, str]:
    found = seen(here)[name]
    return str(found.state), found.text


def test_a_box_without_anything_shows_no_green_but_what_its_settings_say(here: Here) -> None:
    green = {name for name, one in seen(here).items() if one.state is State.GREEN}

    assert green <= {"retention-years", "disk"}


def test_the_ledgers_signature_is_green_by_the_pinned_key_and_red_by_another(here: Here) -> None:
    assert of(here, "ledger-signed")[0] == "red"
    here.config.at.etc.mkdir(parents=True, exist_ok=True)
    assert isinstance(here.ledger, MemoryLedger)
    pin.pin(here.config.at, VerifierKey.from_text(here.ledger.vkey))
    assert of(here, "ledger-signed")[0] == "green"
    other = MemoryLedger()

    assert of(replace(here, ledger=other), "ledger-signed")[0] == "red"


def test_an_answer_whose_end_nobody_recorded_is_red(here: Here) -> None:
    here.ledger.append("request.intent", {"request_id": "req_1"})
    assert of(here, "completeness")[0] == "not here"
    clock = here.clock
    assert isinstance(clock, FixedClock)
    clock.advance(2 * 3600)
    assert of(here, "completeness")[0] == "red"
    here.ledger.append("request.outcome", {"request_id": "req_1", "outcome": "unknown"})

    assert of(here, "completeness")[0] == "green"


def test_a_report_is_green_for_a_quarter(here: Here) -> None:
    assert of(here, "reported")[0] == "red"
    here.ledger.append("evidence.reported", {"name": "2026Q3"})
    assert of(here, "reported")[0] == "green"
    clock = here.clock
    assert isinstance(clock, FixedClock)
    clock.advance(101 * DAY)

    assert of(here, "reported")[0] == "red"


@pytest.mark.parametrize(("mode", "state"), [("tokenise", "green"), ("block", "green"), ("pass", "red")])
def test_keys_that_let_identifiers_pass_are_red(here: Here, mode: str, state: str) -> None:
    here.ledger.append("key.created", {**bodies()["key.created"], "phi_mode": mode})

    assert of(here, "phi-modes")[0] == state
    assert of(here, "callers")[0] == "green"


def test_a_revoked_or_expired_key_does_not_count(here: Here) -> None:
    body = {**bodies()["key.created"], "phi_mode": "pass"}
    here.ledger.append("key.created", body)
    here.ledger.append("key.created", {**body, "key_id": "old", "expires_at": "2026-11-19T00:00:00Z"})
    here.ledger.append("key.revoked", {"key_id": body["key_id"], "reason": "left"})

    assert of(here, "phi-modes")[0] == "not here"


def test_production_is_red_by_one_signature_and_without_gates_before_it(here: Here) -> None:
    made = bodies()["promotion.made"]
    here.ledger.append("promotion.made", {**made, "approvals": made["approvals"][:1]})
    assert of(here, "production")[0] == "red"
    assert of(here, "gates")[0] == "red"
    here.ledger.append("gate.result", bodies()["gate.result"])
    assert of(here, "gates")[0] == "red"  # the gate came after
    here.ledger.append("promotion.made", made)
    assert (of(here, "production")[0], of(here, "gates")[0]) == ("green", "green")
    here.ledger.append("gate.result", {**bodies()["gate.result"], "passed": False})
    here.ledger.append("promotion.made", made)

    assert of(here, "gates")[0] == "red"


def test_a_version_that_people_let_answer_as_a_canary_is_judged_as_one_in_production(here: Here) -> None:
    made = bodies()["promotion.made"]
    here.ledger.append("gate.result", {**bodies()["gate.result"], "passed": True})
    here.ledger.append("promotion.made", made)
    assert (of(here, "production")[0], of(here, "gates")[0]) == ("green", "green")

    tried = bodies()["promotion.canary-started"]
    here.ledger.append("promotion.canary-started", {**tried, "approvals": made["approvals"][:1]})

    assert (of(here, "production")[0], of(here, "gates")[0]) == ("red", "red")


def test_the_networks_self_test_counts_as_it_was_recorded(here: Here) -> None:
    here.ledger.append("network.tested", {"ok": True, "fails": []})
    assert of(here, "network")[0] == "green"
    here.ledger.append("network.tested", {"ok": False, "fails": ["dns"]})

    assert of(here, "network") == ("red", "self-test of 2026-11-20T08:00:00Z: dns")


def test_findings_of_custody_that_nobody_accepted_are_red(here: Here) -> None:
    received = bodies()["release.received"]
    here.ledger.append("release.received", {**received, "custody": {"findings": ["a tear"], "accepted_by": None}})
    assert of(here, "custody")[0] == "red"
    accepted = {"findings": ["a tear"], "accepted_by": {"name": "Ada", "reason": "looked"}}
    here.ledger.append("release.received", {**received, "custody": accepted})

    assert of(here, "custody")[0] == "green"


def test_backups_are_red_where_there_are_none(here: Here) -> None:
    assert of(here, "backup")[0] == "red"


def test_what_a_site_has_chosen_shows(tmp_path: Path) -> None:
    text = '[siem]\nserver = "logs.hospital"\naddress = "10.0.0.9"\n'
    with box(tmp_path, text) as (config, ledger, clock):
        assert of(Here(config=config, ledger=ledger, clock=clock), "collector")[0] == "green"


def test_what_cannot_be_asked_is_not_here_and_says_why(here: Here) -> None:
    class Away(MemoryLedger):
        def find(self, *_words: Any, **_named: Any) -> list[Any]:
            raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")

        leaves = find

    found = seen(replace(here, ledger=Away(here.clock)))

    asked = ("completeness", "reported", "people", "callers", "production", "network", "custody", "backup")
    assert {found[name].state for name in asked} == {State.NOT_HERE}
    assert found["people"].text == "cannot be asked: the ledger does not answer"


def test_a_record_of_another_shape_is_not_here(here: Here) -> None:
    here.ledger.append("network.tested", {"ok": True, "fails": 7})

    assert of(here, "network")[0] == "not here"


def seen_as(**states: State) -> dict[str, Seen]:
    return {name: Seen(name=name, state=states.get(name, State.NOT_HERE), text="") for name in QUESTIONS}


def test_one_red_makes_a_control_red_and_nothing_seen_makes_it_not_here() -> None:
    known = packaged()

    def state(**states: State) -> str:
        (found,) = [one for one in actions.judged(known, seen_as(**states)) if one.control.id == "164.312(e)(1)"]
        return str(found.state)

    assert state() == "not here"
    assert state(tls=State.GREEN) == "green"
    assert state(tls=State.GREEN, network=State.RED) == "red"


def test_a_framework_that_is_not_known_is_refused() -> None:
    assert {one.control.framework for one in actions.judged(packaged(), seen_as(), framework="gdpr")} == {"gdpr"}
    with pytest.raises(UsageError):
        actions.judged(packaged(), seen_as(), framework="iso")


@pytest.mark.parametrize("spoil", ["format", "framework", "claim", "field", "text"])
def test_a_map_of_another_form_is_refused(spoil: str) -> None:
    one = {"framework": "f", "id": "1", "title": "t", "claims": ["c"], "alone": ""}
    value: dict[str, Any] = {
        "format": 1,
        "frameworks": {"f": {"name": "F", "version": "1", "alone": "x"}},
        "claims": {"c": {"does": "d", "tests": ["a::b"], "evidence": []}},
        "controls": [one],
    }
    assert ControlMap.from_bytes(json.dumps(value).encode()).controls[0].id == "1"
    changes: dict[str, dict[str, Any]] = {
        "format": {"format": 2},
        "framework": {"controls": [{**one, "framework": "g"}]},
        "claim": {"controls": [{**one, "claims": ["d"]}]},
        "field": {"controls": [{**one, "extra": ""}]},
        "text": {"controls": [{**one, "title": "\u202e"}]},
    }
    with pytest.raises(MalformedError):
        ControlMap.from_bytes(json.dumps({**value, **changes[spoil]}).encode())
