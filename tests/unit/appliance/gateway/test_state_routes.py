"""What a gateway reads from the state: production, a canary, the version before, rules of keys, stopped callers."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.audit.memory import MemoryLedger
from appliance.config import Config, Places
from appliance.gateway.problems import Problem
from appliance.gateway.routing import ALIAS, NO_ALIASES, Canary, Lines, Route, Serving, StateRoutes, require_route
from appliance.gateway.staterows import Weights
from appliance.promote.canary import offset_of
from appliance.state import held, migrating, projection
from appliance.state.database import writing
from media.clock import FixedClock
from media.llamaprofile import ON_PROCESSOR
from tests.support.ledger import DIGEST_A, DIGEST_B, approval, bodies, rollout_bodies, tell_all

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))


@pytest.fixture
def places(config: Config) -> Places:
    return config.at


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger(CLOCK)
    for digest in (DIGEST_A, DIGEST_B):
        ledger.append("model.registered", {**bodies(digest)["model.registered"], "name": f"m{digest[:1]}"})
    ledger.append("promotion.made", {**bodies(DIGEST_A)["promotion.made"], "approvals": [approval("ada")]})
    return ledger


def serving(places: Places, state: Engine, ledger: MemoryLedger) -> Serving:
    tell_all(state, ledger)
    found = StateRoutes(places, CLOCK).lines().first
    assert found is not None
    return found


def test_a_version_is_as_large_as_the_weights_that_its_descriptor_names(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    assert serving(places, state, ledger).production.weights.bytes == 0
    lengths = (("weights", 700), ("weights", 300), ("tokenizer", 50))
    files = [
        {"path": f"data/models/m/{role}.gguf", "role": role, "sha256": "0" * 64, "length": length}
        for role, length in lengths
    ]
    digest = "c" * 64
    registered = bodies(digest)["model.registered"]
    descriptor = {**registered["descriptor"], "files": files, "quantization": "Q8_0"}
    ledger.append("model.registered", {**registered, "name": "large", "descriptor": descriptor})
    ledger.append("promotion.made", {**bodies(digest)["promotion.made"], "approvals": [approval("ada")]})

    assert serving(places, state, ledger).production.weights == Weights(bytes=1000, format="gguf", quantization="Q8_0")


@pytest.mark.parametrize(("is_shared", "tokens"), [(True, 4096), (False, 1024)])
def test_a_version_s_context_is_what_one_question_and_its_answer_may_have(
    places: Places, state: Engine, ledger: MemoryLedger, *, is_shared: bool, tokens: int
) -> None:
    digest = "c" * 64
    registered = bodies(digest)["model.registered"]
    llama = replace(ON_PROCESSOR, kv_unified=is_shared).to_json()
    runtime = {"n_ctx": 4096, "n_seq_max": 4, "llama": llama}
    ledger.append("model.registered", {**registered, "descriptor": {**registered["descriptor"], "runtime": runtime}})
    ledger.append("promotion.made", {**bodies(digest)["promotion.made"], "approvals": [approval("ada")]})

    found = serving(places, state, ledger).production
    assert (found.context, found.places) == (tokens, 4)


def test_what_another_line_serves_tries_and_stops_is_not_taken_for_line_1_s(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    happened = rollout_bodies()
    other = {**bodies(DIGEST_B)["promotion.made"], "line": 2}
    ledger.append("promotion.made", other)
    ledger.append("promotion.canary-started", {**happened["promotion.canary-started"], "line": 2})
    found = serving(places, state, ledger)
    assert (found.production.model_digest, found.canary, found.beside) == (DIGEST_A, None, None)

    ledger.append("promotion.stopped", {**bodies()["promotion.stopped"], "line": 2})
    assert serving(places, state, ledger).production.model_digest == DIGEST_A
    ledger.append("promotion.made", other)
    ledger.append("promotion.stopped", {**bodies()["promotion.stopped"], "line": 1})
    tell_all(state, ledger)
    assert StateRoutes(places, CLOCK).lines().first is None


def test_before_the_schema_knows_lines_a_gateway_still_serves_pins_and_stops(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    happened = rollout_bodies()
    for kind in ("promotion.canary-started", "key.ruled", "stop.made"):
        ledger.append(kind, happened[kind])
    tell_all(state, ledger)
    with writing(state) as connection:
        migrating.downgrade(connection, "0004")
    routes = StateRoutes(places, CLOCK)
    found = routes.lines().first

    assert found is not None
    assert found.canary is not None
    assert (found.production.model_digest, list(found.rules)) == (DIGEST_A, ["abcdefghij"])
    assert routes.is_stopped(key_id="abcdefghij", department="x")


def test_a_canary_is_beside_production_held_or_not_until_it_ends(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    happened = rollout_bodies()
    started = ledger.append("promotion.canary-started", happened["promotion.canary-started"])
    found = serving(places, state, ledger)
    assert found.canary is not None
    assert (found.production.model_digest, found.canary.route.model_digest) == (DIGEST_A, DIGEST_B)
    assert (found.canary.percent, found.canary.offset, found.canary.is_held) == (20, offset_of(started.sequence), False)
    assert (found.leaving, found.leaves, found.since) == (DIGEST_A, "2026-11-24T08:00:00Z", started.sequence)

    ledger.append("promotion.canary-held", happened["promotion.canary-held"])
    held = serving(places, state, ledger).canary
    assert held is not None
    assert held.is_held
    ledger.append("promotion.canary-aborted", happened["promotion.canary-aborted"])
    assert serving(places, state, ledger).routes == (found.production,)


def test_the_version_before_stays_beside_after_the_cut_over_until_it_is_retired(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    happened = rollout_bodies()
    for kind in ("promotion.canary-started", "promotion.cut-over"):
        ledger.append(kind, happened[kind])
    found = serving(places, state, ledger)
    assert [route.model_digest for route in found.routes] == [DIGEST_B, DIGEST_A]
    assert found.leaves_at(DIGEST_A) == "2026-11-22T08:00:00Z"
    assert found.leaves_at(DIGEST_B) == ""

    ledger.append("promotion.retired", happened["promotion.retired"])
    assert len(serving(places, state, ledger).routes) == 1


def engine_is_there(places: Places, digest: str, *, there: bool = True) -> None:
    socket = places.socket(f"engine-production-{digest[:12]}")
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.touch() if there else socket.unlink()


def decided(state: Engine, ledger: MemoryLedger, digest: str = DIGEST_B, **more: object) -> None:
    """Let a promotion be recorded, and somebody else bring the state up before its engine answers."""
    ledger.append("promotion.made", {**bodies(digest)["promotion.made"], "previous": DIGEST_A, **more})
    projection.catch_up(state, ledger)


def decided_while_it_answers(places: Places, state: Engine, ledger: MemoryLedger) -> None:
    """As `decided`, while the engine of the version before answers."""
    tell_all(state, ledger)
    engine_is_there(places, DIGEST_A)
    decided(state, ledger)


def of_production(places: Places) -> str | None:
    found = StateRoutes(places, CLOCK).lines().first
    return None if found is None else found.production.model_digest


def test_who_brings_the_state_up_sends_no_caller_to_an_engine_that_is_still_to_start(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    decided_while_it_answers(places, state, ledger)
    assert of_production(places) == DIGEST_A
    engine_is_there(places, DIGEST_B)
    assert of_production(places) == DIGEST_A

    tell_all(state, ledger)
    assert (of_production(places), (places.registry / held.FILE).exists()) == (DIGEST_B, False)


def test_a_further_model_is_listed_when_its_engine_was_seen_to_answer(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    tell_all(state, ledger)
    decided(state, ledger, line=2)
    assert StateRoutes(places, CLOCK).lines().loaded == {DIGEST_A}

    tell_all(state, ledger)
    assert StateRoutes(places, CLOCK).lines().loaded == {DIGEST_A, DIGEST_B}


def test_a_stop_holds_though_a_promotion_before_it_is_held_back(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    decided_while_it_answers(places, state, ledger)
    ledger.append("promotion.stopped", bodies()["promotion.stopped"])
    projection.catch_up(state, ledger)

    assert of_production(places) is None


def test_what_follows_a_stop_is_held_back_like_any_other(places: Places, state: Engine, ledger: MemoryLedger) -> None:
    ledger.append("promotion.stopped", bodies()["promotion.stopped"])
    tell_all(state, ledger)
    decided(state, ledger)
    assert of_production(places) is None

    tell_all(state, ledger)
    assert of_production(places) == DIGEST_B


def test_a_canary_gets_callers_when_its_engine_was_seen_to_answer(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    tell_all(state, ledger)
    ledger.append("promotion.canary-started", rollout_bodies()["promotion.canary-started"])
    projection.catch_up(state, ledger)
    found = StateRoutes(places, CLOCK).lines().first
    assert found is not None
    assert found.canary is None

    assert serving(places, state, ledger).canary is not None


def test_what_a_release_of_before_carried_out_is_not_held_back_for_ever(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    decided_while_it_answers(places, state, ledger)
    assert of_production(places) == DIGEST_A

    engine_is_there(places, DIGEST_B)
    engine_is_there(places, DIGEST_A, there=False)
    assert of_production(places) == DIGEST_B


def test_rules_and_stops_are_read_too(places: Places, state: Engine, ledger: MemoryLedger) -> None:
    ledger.append("key.ruled", {"key_id": "k1", "rule": "pinned", "model_digest": DIGEST_A})
    ledger.append("key.ruled", {"key_id": "k2", "rule": "kept-out", "model_digest": None})
    for what, name in (("key", "k1"), ("department", "radiology")):
        ledger.append("stop.made", {**rollout_bodies()["stop.made"], "what": what, "name": name})
    found = serving(places, state, ledger)

    assert (found.rules["k1"].model_digest, found.rules["k2"].is_kept_out) == (DIGEST_A, True)
    routes = StateRoutes(places, CLOCK)
    asked = [("k1", "x"), ("k2", "radiology"), ("k2", "x"), ("radiology", "k1")]
    assert [routes.is_stopped(key_id=key, department=department) for key, department in asked] == [
        *(True, True),
        *(False, False),
    ]


def test_a_state_that_an_older_release_left_is_served_from_until_it_is_migrated(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    tell_all(state, ledger)
    with writing(state) as connection:
        migrating.downgrade(connection, "0001")
    routes = StateRoutes(places, CLOCK)

    found = routes.lines().first

    assert found is not None
    assert found.production.model_digest == DIGEST_A
    assert not routes.is_stopped(key_id="k1", department="x")


def route(name: str, digest: str, *also: str) -> Route:
    more = {"version": "1", "serial": 1, "release": "r", "socket": Path("/x"), "created": 0}
    return Route(name=name, model_digest=digest, also=also, **more)  # type: ignore[arg-type]


class Fixed(StateRoutes):
    """Routes that are what they were made."""

    def __init__(
        self, *serving: Serving, silent: tuple[str, ...] = (), aliases: Mapping[str, str] = NO_ALIASES
    ) -> None:
        self._fixed = Lines(serving, silent=silent, aliases=aliases)

    def lines(self) -> Lines:
        """Return them."""
        return self._fixed


def test_what_is_in_production_has_a_name_before_a_canary_of_another_line_and_an_alias_before_both() -> None:
    chat, small = route("chat", DIGEST_A, ALIAS), route("small", DIGEST_B)
    tried = replace(chat, name="small", model_digest="c" * 64)
    first = Serving(production=chat, canary=Canary(route=tried, percent=1, offset=0, is_held=False))
    routes = Fixed(first, Serving(production=small, line=2), Serving(production=route(ALIAS, "d" * 64), line=3))

    assert [require_route(routes, name).model_digest for name in ("chat", "small", ALIAS)] == [
        *(DIGEST_A, DIGEST_B),
        DIGEST_A,
    ]
    assert [one.model_digest[0] for one in routes.lines().routes] == ["a", "b", "d", "c"]
    assert routes.lines().first is first
    assert Fixed(Serving(production=small, line=2)).lines().first is None


def test_a_sites_alias_is_another_name_of_what_it_means_and_hides_no_model() -> None:
    chat, small = route("chat", DIGEST_A, ALIAS), route("small", DIGEST_B)
    aliases = {"gpt-4o-mini": ALIAS, "notes": "small", "chat": "small", "gone": "nothing", "away": "later"}
    both = (Serving(production=chat), Serving(production=small, line=2))
    routes = Fixed(*both, silent=("later",), aliases=aliases)

    assert [require_route(routes, name).name for name in ("gpt-4o-mini", "notes", "chat")] == ["chat", "small", "chat"]
    named = {name: one.name for name, one in routes.lines().names.items()}
    assert named == {"chat": "chat", "small": "small", ALIAS: "chat", "gpt-4o-mini": "chat", "notes": "small"}
    for name, code in (("gone", "model_not_found"), ("away", "no_model"), ("other", "model_not_found")):
        with pytest.raises(Problem, match=code):
            require_route(routes, name)
    with pytest.raises(Problem, match="no_model"):
        require_route(Fixed(aliases=aliases), "notes")


def test_a_name_of_a_line_that_serves_nothing_means_another_line_that_has_it_now() -> None:
    small = Serving(production=route("small", DIGEST_B), line=3)

    assert Fixed(small, silent=("small", "chat")).lines().meant("small") is small
    assert Fixed(small, silent=("small", "chat")).lines().meant("chat") is None
    for routes, code in ((Fixed(small), "model_not_found"), (Fixed(silent=("chat",)), "no_model")):
        with pytest.raises(Problem, match=code):
            routes.lines().meant("chat")


def test_names_of_lines_that_serve_nothing_are_those_of_what_they_served_last(
    places: Places, state: Engine, ledger: MemoryLedger
) -> None:
    ledger.append("promotion.made", {**bodies("f" * 64)["promotion.made"], "line": 3})
    ledger.append("promotion.made", {**bodies(DIGEST_B)["promotion.made"], "line": 2})
    assert serving(places, state, ledger).line == 1
    lines = StateRoutes(places, CLOCK).lines()
    assert ([one.line for one in lines.serving], lines.away) == ([1, 2], (3,))

    ledger.append("promotion.stopped", {**bodies()["promotion.stopped"], "line": 2})
    serving(places, state, ledger)
    lines = StateRoutes(places, CLOCK).lines()
    assert (lines.meant("mb"), lines.away) == (None, (3,))
    ledger.append("promotion.stopped", bodies()["promotion.stopped"])
    ledger.append("promotion.made", bodies(DIGEST_B)["promotion.made"])
    serving(places, state, ledger)
    lines = StateRoutes(places, CLOCK).lines()
    assert lines.meant("mb") is lines.first, "line 1 serves it now"
    with pytest.raises(Problem, match="model_not_found"):
        lines.meant("ma")
