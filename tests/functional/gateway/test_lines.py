"""Two models in production behind one gateway, as the state has them: whose callers get what, and who is told what."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.gateway.admission import Admission, Place
from appliance.gateway.application import running
from appliance.gateway.arms import Began
from appliance.gateway.conversations import Conversations
from appliance.gateway.routing import Beside, Serving, StateRoutes
from appliance.registry import windows
from appliance.registry.router import ALIAS
from appliance.state.database import open_state
from tests.support.engine import DIMENSIONS, FakeEngine, Script, fake_engine
from tests.support.gateway import DEPARTMENT, Rig, gateway, key_text
from tests.support.ledger import bodies, rollout_bodies, tell_all
from tests.support.versions import short_folder

pytestmark = pytest.mark.slow

CHAT, SMALL, NEXT, LATER = (letter * 64 for letter in "abcd")
NAMES = {CHAT: "chat", SMALL: "small", NEXT: "small", LATER: "chat"}
KEY = "abcdefgh23"
SITES = {"gpt-4o-mini": "production", "vendor/notes:8b": "small", "absent": "later"}
RULES = f"""
[[router.rules]]
name = "classes"
model = "small"
departments = ["{DEPARTMENT}"]
tasks = ["classify"]
"""


@dataclass(slots=True)
class TwoLines:
    """A gateway that reads from the state that `chat` is in line 1 and `small` in line 2."""

    rig: Rig
    state: Engine
    engines: dict[str, FakeEngine]

    def happen(self, kind: str, **changes: Any) -> None:
        """Record something; the gateway knows it."""
        self.rig.ledger.append(kind, {**bodies(), **rollout_bodies()}[kind] | changes)
        tell_all(self.state, self.rig.ledger)
        self.rig.clock.advance(1.1)

    def canary(self) -> None:
        """Try NEXT on half the callers of line 2."""
        terms = {"version": NEXT, "percent": 50, "hours": 48, "watch_hours": 48}
        self.happen("promotion.canary-started", model_digest=SMALL, previous=SMALL, terms=terms, line=2)

    def ask(self, model: str, *turns: str, **more: Any) -> Any:
        """Ask a model, of a conversation if there are several turns."""
        told = turns or ("hello",)
        messages = [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(told)]
        headers = more.pop("headers", {})
        return self.rig.ask({"model": model, "messages": messages, **more}, **headers)

    def version(self, model: str, *turns: str, **more: Any) -> str:
        """Return who answered."""
        answer = self.ask(model, *turns, **more)
        assert answer.status_code == 200, answer.get_data()
        return str(answer.headers["x-model-version"])

    def refusal(self, model: str, **more: Any) -> tuple[int, str]:
        """Return how a question is refused."""
        answer = self.ask(model, **more)
        return answer.status_code, answer.get_json()["error"]["code"]

    def assigned(self) -> tuple[str, str]:
        """Return how the newest record says that its version was found."""
        body = self.rig.bodies("request.intent")[-1]
        return body["arm"], body["assigned"]

    def unready(self) -> str:
        """Return what `/readyz` says; nothing where it is ready."""
        answer = self.rig.client.get("/readyz")
        return "" if answer.status_code == 200 else str(answer.get_json()["error"]["message"])


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoLines]:
    with short_folder() as folder, gateway(folder, more=RULES, caches="answers_mib = 1") as rig, ExitStack() as stack:
        places = replace(rig.config.at, run=folder)
        state = open_state(places)
        stack.callback(state.dispose)
        routes = StateRoutes(places, rig.clock, aliases=(ALIAS,), sites=SITES)
        monkeypatch.setattr(rig.routes, "lines", routes.lines)
        monkeypatch.setattr(rig.routes, "is_stopped", routes.is_stopped)
        engines: dict[str, FakeEngine] = {}
        found = TwoLines(rig, state, engines)
        embedding = {"pooling": "mean", "n_ctx": 512, "dimensions": DIMENSIONS, "matryoshka": True}
        for digest, name in NAMES.items():
            path = places.socket(f"engine-production-{digest[:12]}")
            engines[digest] = stack.enter_context(fake_engine(path, model_digest=digest))
            runtime = {"embedding": embedding} if name == "small" else {}
            descriptor = {"format": 1, "runtime": runtime}
            found.happen("model.registered", model_digest=digest, name=name, version=digest[0], descriptor=descriptor)
        found.happen("promotion.made", model_digest=CHAT)
        found.happen("promotion.made", model_digest=SMALL, line=2)
        yield found


def test_a_name_leads_to_its_line_and_the_aliases_stay_line_1s(site: TwoLines) -> None:
    assert [site.version(model) for model in ("chat", "small", "production")] == [CHAT, SMALL, CHAT]
    assert site.assigned() == ("production", "only")
    assert site.refusal("previous") == site.refusal("nothing") == (404, "model_not_found")
    answer = site.rig.ask({"model": "small", "input": "a text"}, path="/v1/embeddings")
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, SMALL)
    refused = site.rig.ask({"model": "production", "input": "a text"}, path="/v1/embeddings")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "unsupported_model")
    assert site.unready() == ""


def test_a_client_with_a_fixed_model_name_gets_what_the_site_means_by_it_and_is_told_what_that_is(
    site: TwoLines,
) -> None:
    assert [site.version(model) for model in ("gpt-4o-mini", "vendor/notes:8b")] == [CHAT, SMALL]
    assert site.ask("vendor/notes:8b").get_json()["model"] == "small"
    record = site.rig.bodies("request.intent")[-1]
    assert (record["model"], record["model_digest"]) == ("small", SMALL)
    vectors = site.rig.ask({"model": "vendor/notes:8b", "input": "a text"}, path="/v1/embeddings")
    assert (vectors.headers["x-model-version"], vectors.get_json()["model"]) == (SMALL, "small")
    asked = {"model": "gpt-4o-mini:latest", "prompt": "hello", "stream": False}
    assert site.rig.ask(asked, path="/api/generate").get_json()["model"] == "chat"
    assert site.rig.ask({"model": "vendor/notes:8b"}, path="/api/show").status_code == 200
    assert site.refusal("absent") == (404, "model_not_found")
    site.happen("promotion.stopped", line=2)
    assert site.refusal("vendor/notes:8b") == (503, "no_model")
    assert site.version("gpt-4o-mini") == CHAT


def test_the_models_of_all_lines_are_listed(site: TwoLines) -> None:
    asked = {
        path: site.rig.client.get(path, headers=site.rig.headers()).get_json() for path in ("/v1/models", "/api/tags")
    }
    listed = {one["id"]: one["sealift"]["model_digest"] for one in asked["/v1/models"]["data"]}

    aliases = {"gpt-4o-mini": CHAT, "vendor/notes:8b": SMALL}
    assert listed == {"chat": CHAT, "small": SMALL, "production": CHAT, "auto": CHAT} | aliases
    tags = {one["name"]: one["digest"] for one in asked["/api/tags"]["models"]}
    assert tags == {"chat": CHAT, "small": SMALL} | aliases
    for model, digest in listed.items():
        one = site.rig.client.get(f"/v1/models/{model}", headers=site.rig.headers())
        assert one.get_json()["sealift"]["model_digest"] == digest
    shown = site.rig.ask({"model": "small"}, path="/api/show").get_json()
    assert shown["model_info"]["sealift.model_digest"] == SMALL
    described = site.rig.client.get("/v1/openapi.json", headers=site.rig.headers()).get_data(as_text=True)
    assert '"small"' in described


def test_callers_of_a_stopped_line_are_told_so_and_the_other_line_goes_on(site: TwoLines) -> None:
    site.happen("promotion.stopped", previous=SMALL, line=2)

    assert site.refusal("small") == (503, "no_model")
    assert site.rig.ask({"model": "small"}, path="/api/show").status_code == 503
    assert site.rig.client.get("/v1/models/small", headers=site.rig.headers()).status_code == 404
    assert (site.version("chat"), site.refusal("nothing"), site.unready()) == (CHAT, (404, "model_not_found"), "")

    site.happen("promotion.made", model_digest=SMALL, line=2)
    site.happen("promotion.stopped", previous=CHAT, line=1)
    assert [site.refusal(name) for name in ("chat", "production", "auto")] == [(503, "no_model")] * 3
    assert site.refusal("nothing") == (404, "model_not_found")
    assert (site.version("small"), site.unready()) == (SMALL, "")

    site.happen("promotion.stopped")
    assert {site.refusal(name) for name in ("chat", "small", "nothing")} == {(503, "no_model")}
    assert site.unready() == "Not ready: model."


def test_readiness_names_the_line_that_has_no_engine_or_whose_version_is_damaged(site: TwoLines) -> None:
    for missing in ([2], [1], [1, 2]):
        for line, digest in ((1, CHAT), (2, SMALL)):
            site.engines[digest].is_ready = line not in missing
        site.rig.clock.advance(1.1)
        assert site.unready() == f"Not ready: {', '.join(f'engine of line {line}' for line in missing)}."
    site.happen("promotion.stopped", previous=CHAT, line=1)
    assert site.unready() == "Not ready: engine of line 2."
    site.happen("promotion.made", model_digest=CHAT)
    for engine in site.engines.values():
        engine.is_ready = True
    site.rig.clock.advance(1.1)
    assert site.unready() == ""

    scrub = site.rig.config.at.scrub
    scrub.mkdir(parents=True)
    (scrub / "damaged.json").write_text(json.dumps({"format": 1, "versions": {SMALL: {}}}))
    site.rig.clock.advance(1.1)
    assert site.unready() == "Not ready: model of line 2."
    assert (site.refusal("small"), site.version("chat")) == ((503, "no_model"), CHAT)


def test_a_canary_of_one_line_takes_no_caller_of_the_other(site: TwoLines) -> None:
    site.canary()

    users = [f"u{number}" for number in range(20)]
    assert {site.version("small", user=user) for user in users} == {SMALL, NEXT}
    assert site.assigned()[1] == "share"
    assert {site.version("chat", user=user) for user in users} == {CHAT}
    assert site.assigned() == ("production", "only")


def test_the_same_words_in_two_lines_are_two_conversations(site: TwoLines) -> None:
    site.canary()
    user = next(one for one in "abcdefghijkl" if site.version("small", "first words", user=one) == NEXT)
    site.version("chat", "first words", user=user)

    goes_on = ("first words", "an answer", "and on")
    assert site.version("small", *goes_on, user=user) == NEXT
    assert site.version("chat", *goes_on, user=user) == CHAT

    terms = {"version": LATER, "percent": 50, "hours": 48, "watch_hours": 48}
    site.happen("promotion.cut-over", model_digest=NEXT, previous=SMALL, line=2)
    site.happen("promotion.canary-started", model_digest=CHAT, previous=CHAT, terms=terms)
    found = {model: site.version(model, *goes_on, user=user) for model in ("chat", "small")}
    assert found == {"chat": CHAT, "small": NEXT}, "each line has its own rollout"
    assert site.version("small", "began long ago", "an answer", "and on", user=user) == SMALL


def test_a_pin_is_of_the_line_that_its_version_is_in(site: TwoLines) -> None:
    site.canary()
    site.happen("key.ruled", key_id=KEY, rule="pinned", model_digest=NEXT)
    assert [site.version(model) for model in ("small", "chat")] == [NEXT, CHAT]
    assert site.assigned() == ("production", "only")
    assert site.version("auto", headers={"X_Sealift_Task": "classify"}) == NEXT
    assert site.assigned() == ("canary", "pinned")

    site.happen("promotion.canary-aborted", model_digest=SMALL, previous=SMALL, line=2)
    assert (site.refusal("small"), site.version("chat")) == ((410, "pinned_version_gone"), CHAT)
    site.happen("key.ruled", key_id=KEY, rule="pinned", model_digest=CHAT)
    assert [site.version(model) for model in ("small", "chat")] == [SMALL, CHAT]
    site.canary()
    site.happen("key.ruled", key_id=KEY, rule="kept-out", model_digest=None)
    assert {site.version("small", user=f"u{number}") for number in range(8)} == {SMALL}


def test_auto_chooses_among_all_lines_and_line_1_answers_where_no_rule_applies(site: TwoLines) -> None:
    answer = site.ask("auto", headers={"X_Sealift_Task": "classify"})
    assert (answer.headers["x-model-version"], answer.headers["x-sealift-rule"]) == (SMALL, "classes")
    assert site.assigned() == ("production", "routed")
    assert site.version("auto") == CHAT

    site.happen("promotion.stopped", previous=CHAT, line=1)
    assert site.version("auto", headers={"X_Sealift_Task": "classify"}) == SMALL
    assert site.refusal("auto") == (503, "no_model")


def test_what_one_line_said_is_kept_while_the_other_answers_until_its_own_version_goes(site: TwoLines) -> None:
    def kept(model: str) -> str:
        return str(site.ask(model, temperature=0).headers["x-sealift-cache"])

    assert [kept(model) for model in ("chat", "small", "chat", "small")] == ["miss", "miss", "hit", "hit"]
    site.happen("promotion.made", model_digest=NEXT, previous=SMALL, line=2)
    assert [kept(model) for model in ("chat", "small")] == ["hit", "miss"]
    site.happen("promotion.rolled-back", model_digest=SMALL, previous=NEXT, line=2)
    assert kept("small") == "miss"


def test_a_stopped_caller_is_stopped_in_every_line_and_a_fault_of_one_engine_is_not_the_others(site: TwoLines) -> None:
    site.engines[SMALL].script = Script(error_after=0)
    assert (site.ask("small").status_code, site.version("chat")) == (502, CHAT)
    site.rig.api_keys.add(key_text("otherother"))
    site.happen("stop.made", name=KEY)
    assert [site.refusal(model) for model in ("chat", "small")] == [(503, "stopped")] * 2


def test_a_maintenance_window_of_one_line_explains_its_own_engine_alone(site: TwoLines) -> None:
    for digest in (CHAT, SMALL):
        site.engines[digest].path.rename(site.engines[digest].path.with_name(digest[:4]))
    asked = windows.Asked(purpose=windows.Purpose.VALIDATE, model_digest=NEXT, person="ana", reason="4711", minutes=30)
    windows.open_now(site.rig.ledger, site.rig.clock, asked, previous=SMALL, line=2)

    assert [site.refusal(model)[1] for model in ("small", "chat")] == ["maintenance_window", "engine_unavailable"]
    vectors = site.rig.ask({"model": "small", "input": "a text"}, path="/v1/embeddings")
    assert vectors.get_json()["error"]["code"] == "maintenance_window"


def rest(site: TwoLines, line: int) -> None:
    """Open a window of one line, whose engine goes away for it."""
    digest = {1: CHAT, 2: SMALL}[line]
    site.engines[digest].path.rename(site.engines[digest].path.with_name(digest[:4]))
    asked = windows.Asked(purpose=windows.Purpose.VALIDATE, model_digest=NEXT, person="ana", reason="4711", minutes=30)
    windows.open_now(site.rig.ledger, site.rig.clock, asked, previous=digest, line=line)
    site.rig.clock.advance(2.1)


def test_while_a_window_rests_a_further_line_the_box_is_ready_and_names_it(site: TwoLines) -> None:
    rest(site, 2)

    answer = site.rig.client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok", "resting": [2]})
    assert site.refusal("small") == (503, "maintenance_window")
    assert site.version("chat") == CHAT
    site.engines[SMALL].path.with_name(SMALL[:4]).rename(site.engines[SMALL].path)
    site.rig.clock.advance(1.1)
    assert site.rig.client.get("/readyz").get_json() == {"status": "ok"}


def test_a_window_excuses_the_engine_of_no_other_line(site: TwoLines) -> None:
    rest(site, 2)
    site.engines[CHAT].path.rename(site.engines[CHAT].path.with_name(CHAT[:4]))
    assert site.unready() == "Not ready: engine of line 1."


def test_while_a_window_rests_line_1_the_box_is_not_ready(site: TwoLines) -> None:
    rest(site, 1)
    assert site.unready() == "Not ready: engine of line 1."
    assert site.version("small") == SMALL


def test_a_window_of_line_1_excuses_no_further_line(site: TwoLines) -> None:
    rest(site, 1)
    site.engines[CHAT].path.with_name(CHAT[:4]).rename(site.engines[CHAT].path)
    site.engines[SMALL].path.rename(site.engines[SMALL].path.with_name(SMALL[:4]))
    assert site.unready() == "Not ready: engine of line 2."


def test_where_no_other_line_serves_a_window_makes_nothing_ready(site: TwoLines) -> None:
    site.happen("promotion.stopped", previous=CHAT, line=1)
    rest(site, 2)
    assert site.unready() == "Not ready: engine of line 2."


def test_what_waited_is_answered_by_its_own_line_unless_that_was_stopped_meanwhile(
    site: TwoLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, happened = Admission.take, [lambda: None]

    def waits(self: Admission, *wish: Any, **more: Any) -> Place:
        happened[0]()
        return replace(take(self, *wish, **more), position=1)

    monkeypatch.setattr(Admission, "take", waits)
    assert site.version("small") == SMALL
    happened[0] = lambda: site.happen("promotion.stopped", previous=SMALL, line=2)
    assert site.refusal("small") == (503, "version_changed")
    assert site.version("chat") == CHAT


def test_the_queue_knows_the_line_of_what_is_asked_for_and_of_one_line_nothing(
    site: TwoLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, told = Admission.take, list[str]()

    def noted(self: Admission, *wish: Any, **more: Any) -> Place:
        told.append(more["line"])
        return take(self, *wish, **more)

    monkeypatch.setattr(Admission, "take", noted)
    site.canary()
    for model in ("chat", "small", "production"):
        assert site.ask(model).status_code == 200
    assert told == ["1", "2", "1"]
    site.happen("promotion.stopped", previous=SMALL, line=2)
    assert site.ask("chat").status_code == 200
    assert told[3:] == [""]


def test_who_waits_is_counted_for_the_model_that_is_to_answer(site: TwoLines, monkeypatch: pytest.MonkeyPatch) -> None:
    take, seen = Admission.take, list[dict[str, float | None]]()

    def waits(self: Admission, *wish: Any, **more: Any) -> Place:
        with self._metrics.waiting("interactive", more["model"]):
            seen.append({name: _waiting(site.rig, name) for name in ("chat", "small")})
        return take(self, *wish, **more)

    for model in ("chat", "small"):
        assert site.version(model)
    monkeypatch.setattr(Admission, "take", waits)
    for model in ("small", "chat", "production"):
        assert site.ask(model).status_code == 200

    assert seen == [{"chat": 0, "small": 1}, {"chat": 1, "small": 0}, {"chat": 1, "small": 0}]
    assert (_waiting(site.rig, "chat"), _waiting(site.rig, "small")) == (0, 0), "a model that answered has its count"


def _waiting(rig: Rig, model: str) -> float | None:
    return rig.metrics.registry.get_sample_value("vllm:num_requests_waiting", {"model_name": model})


def test_two_lines_with_rollouts_read_the_ledger_once_each(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.chat("of line 1")
    before = replace(rig.route, model_digest=CHAT)
    lines = [Serving(production=rig.route, beside=Beside(route=before), line=line) for line in (1, 2)]
    read, leaves = [], rig.ledger.leaves

    def noted(*page: Any, **more: Any) -> Any:
        read.append(page)
        return leaves(*page, **more)

    monkeypatch.setattr(rig.ledger, "leaves", noted)
    conversations = Conversations(rig.ledger)
    began = Began(model_digest=CHAT, assigned="share")

    for _ in range(3):
        for serving in lines:
            conversations.began(serving, "nowhere")
            conversations.note(serving, f"of line {serving.line}", began)
    assert len(read) == 2
    for serving in lines:
        assert [conversations.began(serving, f"of line {line}") is began for line in (1, 2)] == [
            line == serving.line for line in (1, 2)
        ]


def test_connections_are_kept_for_the_versions_of_all_lines(rig: Rig) -> None:
    rig.routes.further = [
        Serving(production=replace(rig.route, name=f"m{line}", model_digest=f"{line}" * 64), line=line)
        for line in range(2, 8)
    ]
    upstreams = running(rig.app).upstreams
    paths = [rig.engine.path.with_name(f"{line}.sock") for line in range(7)]
    kept = [upstreams.to(path) for path in paths]

    assert [upstreams.to(path) for path in paths] == kept
    rig.routes.further = []
    assert [upstreams.to(path) for path in paths] != kept


def test_a_refusal_names_its_version_where_that_is_of_a_further_line(site: TwoLines) -> None:
    """What judges a rollout counts a refusal in the line of its version, and one without a version in line 1."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]

    for model in ("chat", "small"):
        assert site.refusal(model, tools=tools)[0] == 400

    first, further = site.rig.bodies("request.refused")[-2:]
    assert (first["arm"], "model_digest" in first) == ("production", False)
    assert (further["arm"], further["model_digest"]) == ("production", SMALL)
