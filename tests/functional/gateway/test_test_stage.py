"""The test stage beside production: real gateways and a real ledger, two engines, keys of both stages."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from appliance.errors import ConfigError, LedgerRefusedError
from tests.functional.gateway.test_lm_eval import payload, read
from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server
from tests.support.ledger import intent, rollout_bodies
from tests.support.stage_server import CANDIDATE, StageServer, developer_key, stage_server, start

pytestmark = pytest.mark.slow
ALIASES = '[models.aliases]\n"gpt-4o-mini" = "production"'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway"), limits=ALIASES) as running:
        yield running


@pytest.fixture(scope="module")
def stage(server: Server) -> Iterator[StageServer]:
    with stage_server(server) as running:
        running.load()
        yield running


@pytest.fixture(autouse=True)
def loaded(stage: StageServer, server: Server) -> None:
    server.engine.script, stage.engine.script = Script(), Script()
    stage.load()
    stage.wait_for(200)


def records(server: Server, kind: str, request_id: str) -> Any:
    (leaf,) = server.doors[0].find(kind=kind, field="request_id", value=request_id, limit=5)
    return leaf


def test_a_test_key_is_answered_by_a_version_that_nobody_promoted_and_production_by_its_own(
    stage: StageServer, server: Server
) -> None:
    stage.engine.script, server.engine.script = Script(text="from the candidate"), Script(text="from production")

    tried = stage.ask()
    served = stage.ask(key=server.key, at=server.url)

    assert (tried.status_code, served.status_code) == (200, 200), tried.text + served.text
    assert tried.json()["choices"][0]["message"]["content"] == "from the candidate"
    assert served.json()["choices"][0]["message"]["content"] == "from production"
    assert (tried.headers["x-model-version"], served.headers["x-model-version"]) == (CANDIDATE, MODEL_DIGEST)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/api/tags", "/v1/feedback"])
def test_each_stage_refuses_the_others_keys_and_says_so(stage: StageServer, server: Server, path: str) -> None:
    for key, at, word in ((server.key, stage.url, "for production"), (stage.key, server.url, "for the test stage")):
        headers = {"Authorization": f"Bearer {key}"}
        method = "GET" if path in {"/v1/models", "/api/tags"} else "POST"
        refused = httpx.request(method, f"{at}{path}", headers=headers, json={} if method == "POST" else None)

        assert refused.status_code == 403
        error = refused.json()["error"]
        told = error if isinstance(error, str) else error["message"]
        assert word in told
        assert isinstance(error, str) or error["code"] == "wrong_stage"
        assert key not in refused.text


def test_a_key_that_only_looks_like_a_test_key_opens_nothing(stage: StageServer, server: Server) -> None:
    unknown = stage.ask(key=developer_key("nobody2345"))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "invalid_api_key")
    # One whose record says production, made under the test pepper: each stage takes the keys recorded for it.
    assert stage.ask(key=stage.add_key(developer_key("otherstage"), stage=None)).status_code == 401  # type: ignore[arg-type]
    # A secret that is right under production's pepper means nothing here.
    assert stage.ask(key=server.add_key(developer_key("pepper2345"), stage="test")).status_code == 401


def test_models_are_listed_by_every_name_and_only_those_of_the_stage(stage: StageServer, server: Server) -> None:
    listed = {
        at: {one["id"]: one["sealift"] for one in httpx.get(f"{at}/v1/models", headers=headers).json()["data"]}
        for at, headers in (
            (stage.url, {"Authorization": f"Bearer {stage.key}"}),
            (server.url, {"Authorization": f"Bearer {server.key}"}),
        )
    }

    assert set(listed[stage.url]) == {MODEL, f"{MODEL}:2.0.0", "test", "gpt-4o-mini"}
    assert {one["model_digest"] for one in listed[stage.url].values()} == {CANDIDATE}
    assert [one["alias"] for one in listed[stage.url].values()] == [False, True, True, True]
    assert set(listed[server.url]) == {MODEL, "production", "gpt-4o-mini"}
    for name in (MODEL, f"{MODEL}:2.0.0", "test", "gpt-4o-mini"):
        assert stage.ask(model=name).headers["x-model-version"] == CANDIDATE
    for name in ("production", f"{MODEL}:1", CANDIDATE):
        assert stage.ask(model=name).json()["error"]["code"] == "model_not_found"


def test_every_request_is_recorded_as_the_test_stages_by_a_door_of_its_own(stage: StageServer, server: Server) -> None:
    answered, refused = stage.ask(), stage.ask(model="nothing")
    given = httpx.post(
        f"{stage.url}/v1/feedback",
        headers={"Authorization": f"Bearer {stage.key}"},
        json={"request_id": answered.headers["x-request-id"], "rating": "up", "reason": "helpful"},
    )
    assert given.status_code == 200, given.text
    kinds = ("request.intent", "request.outcome", "request.feedback")
    found = [records(server, kind, answered.headers["x-request-id"]) for kind in kinds]
    found.append(records(server, "request.refused", refused.headers["x-request-id"]))

    assert {(leaf.body["stage"], leaf.via.door) for leaf in found} == {("test", "ledger-test")}
    body = found[0].body
    assert (body["arm"], body["assigned"], body["model_digest"]) == ("test", "only", CANDIDATE)
    assert body["hmac_key"] == "test-content-hmac.v1"
    served = records(server, "request.intent", stage.ask(key=server.key, at=server.url).headers["x-request-id"])
    assert "stage" not in served.body
    assert (served.via.door, served.body["arm"]) == ("ledger-gateway", "production")


def test_neither_gateway_could_record_what_the_other_answered(server: Server) -> None:
    for door, more in (("ledger-test", {}), ("ledger-gateway", {"stage": "test"})):
        ledger = server.site.door(door)
        with pytest.raises(LedgerRefusedError) as refused:
            ledger.append("request.intent", intent("req_forged", **more))
        ledger.close()
        assert "another stage" in refused.value.what
    assert server.doors[0].find(kind="request.intent", field="request_id", value="req_forged", limit=1) == []


def test_identifiers_are_protected_and_restored_under_the_test_stages_own_keys(stage: StageServer) -> None:
    stage.engine.script = Script(text="You said [SSN_1].")

    answer = stage.ask(messages=[{"role": "user", "content": "SSN 123-45-6789"}])

    assert answer.json()["choices"][0]["message"]["content"] == "You said 123-45-6789."
    assert answer.headers["x-sealift-phi"] == "ssn=1"
    assert "123-45-6789" not in json.dumps(stage.engine.last)


def test_a_test_key_may_ask_less_than_one_of_production(stage: StageServer, server: Server) -> None:
    key = stage.add_key(developer_key("basickey23"))

    assert stage.ask(key=key).headers["x-ratelimit-limit-requests"] == "30"
    assert stage.ask(key=server.key, at=server.url).headers["x-ratelimit-limit-requests"] == "600"


def test_what_is_taken_away_is_not_reached_any_more(stage: StageServer, server: Server) -> None:
    stage.unload()

    gone = stage.wait_for(503)

    assert gone.json()["error"]["code"] == "no_model"
    assert httpx.get(f"{stage.url}/readyz").status_code == 503
    assert stage.ask(key=server.key, at=server.url).status_code == 200


def test_a_stopped_department_is_stopped_in_both_stages_and_a_revoked_key_ends(stage: StageServer) -> None:
    key = stage.add_key(developer_key("leaving234"))
    assert stage.ask(key=key).status_code == 200

    stage.server.happen("key.revoked", {"key_id": "leaving234", "reason": "left"})
    for _ in range(100):
        if stage.ask(key=key).status_code == 401:
            break
    else:
        pytest.fail("a revoked test key still works")


@pytest.mark.parametrize("until", [None, ["\n\n", "Question:"]])
def test_the_requests_of_lm_evals_harness_are_answered_before_a_version_is_promoted(
    stage: StageServer, until: list[str] | None
) -> None:
    stage.engine.script = Script(text="It is four.")

    answer = httpx.post(
        f"{stage.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {stage.key}"},
        json=payload("What is two plus two?", until=until),
    )

    assert answer.status_code == 200, answer.text
    assert read(answer.json()) == ["It is four."]
    assert answer.headers["x-model-version"] == CANDIDATE


def test_metrics_say_their_stage_and_are_for_this_machine_only(stage: StageServer) -> None:
    assert httpx.get(f"{stage.url}/metrics").status_code == 404
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(stage.socket))) as local:
        told = local.get("http://local/metrics")
    assert 'sealift_gateway_stage{stage="test"} 1.0' in told.text
    assert 'sealift_arm_requests_total{arm="test",status="success"}' in told.text


def test_a_stage_that_is_none_starts_no_gateway(stage: StageServer) -> None:
    log = stage.stderr.with_name("staging.log")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = start(stage.server, log, [listener], {}, stage="staging").wait(timeout=60)

    assert ended == ConfigError.exit_code
    assert "SEALIFT_STAGE names no stage" in log.read_text()


def test_without_its_own_keys_it_does_not_start_and_never_uses_productions(stage: StageServer) -> None:
    credentials = stage.server.site.places.run / "production-keys"
    credentials.mkdir(mode=0o700)
    for name in ("api-key-pepper", "identity-hmac", "content-hmac", "phi-map"):
        source = stage.server.site.places.key_files / f"{name}.v1"
        (credentials / name).write_bytes(source.read_bytes())
        (credentials / name).chmod(0o400)
    log = stage.stderr.with_name("keyless.log")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = start(stage.server, log, [listener], {"CREDENTIALS_DIRECTORY": str(credentials)}).wait(timeout=60)

    assert ended != 0
    assert "test-api-key-pepper" in log.read_text()


def test_what_nobody_brought_the_state_up_to_holds_within_two_seconds_in_both_stages(
    stage: StageServer, server: Server
) -> None:
    actions, promoter = server.doors
    of_key = {"what": "key", "name": server.key.split("-")[1]}
    alone = {**rollout_bodies()["stop.made"], **of_key}

    promoter.append("stop.made", alone)
    until(lambda: stage.ask(key=server.key, at=server.url).status_code == 503)
    promoter.append("stop.lifted", {**rollout_bodies()["stop.lifted"], **of_key})
    until(lambda: stage.ask(key=server.key, at=server.url).status_code == 200)

    actions.append("stage.unloaded", {"model_digest": CANDIDATE, "person": "iris"})
    until(lambda: stage.ask().status_code == 503)
    actions.append("stage.loaded", {"model_digest": CANDIDATE, "person": "iris"})
    until(lambda: stage.ask().status_code == 200)


def until(is_so: Callable[[], bool], seconds: float = 2.5) -> None:
    """Return when it is so; the time of an answer on a busy machine is in it."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)
