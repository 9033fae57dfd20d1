"""An engine that was taken over says anything: every route still answers in its own shape, and records how it ended."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, gateway
from tests.support.hostile_frames import OBJECTS, STREAMS

pytestmark = pytest.mark.slow

_CHAT = {"messages": [{"role": "user", "content": "SSN 123-45-6789"}], "temperature": 0}
_WHOLE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": {"prompt": "hello", "temperature": 0},
    "/v1/embeddings": {"input": ["hello"]},
    "/api/chat": {**_CHAT, "temperature": None, "stream": False},
    "/api/generate": {"prompt": "hello", "stream": False},
    "/api/embed": {"input": ["hello"]},
    "/api/embeddings": {"prompt": "hello"},
}
_VECTORS = frozenset({"/v1/embeddings", "/api/embed", "/api/embeddings"})
_STREAMED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**_CHAT, "stream": True, "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "hello", "stream": True},
    "/api/chat": {"messages": _CHAT["messages"], "stream": True},
    "/api/generate": {"prompt": "hello", "stream": True, "raw": True},
}
_OFTEN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
_LIMITS = "requests_per_minute = 1000000000"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    # Caches are on: what an engine like this says must not be kept either.
    with gateway(
        tmp_path_factory.mktemp("gateway"), limits=_LIMITS, caches="answers_mib = 1\nembeddings_mib = 0"
    ) as running:
        yield running


def ask(rig: Rig, path: str, body: dict[str, Any]) -> tuple[int, bytes, bool]:
    """Return status and content, and whether the answer was known: from an example before, that ended."""
    response = rig.ask({"model": MODEL, **body}, path=path)
    request_id = response.headers["x-request-id"]
    for kind in ("request.intent", "request.outcome"):
        assert len(rig.ledger.find(kind, "request_id", request_id, limit=2)) == 1
    assert rig.sample("llm_active_requests", model=MODEL) == 0
    return response.status_code, response.get_data(), response.headers.get("x-sealift-cache") == "hit"


def ended(said: Iterable[Any]) -> bool:
    """Tell whether the first answer's end is said in any of these."""
    for one in said:
        choices = one.get("choices") if isinstance(one, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            reason = choice.get("finish_reason") if isinstance(choice, dict) and choice.get("index", 0) == 0 else None
            if isinstance(reason, str) and reason not in {"", "abort", "error"}:
                return True
    return False


@_OFTEN
@given(st.sampled_from(sorted(_WHOLE)), OBJECTS)
def test_a_whole_answer_is_one_object_or_an_error_of_ours(rig: Rig, path: str, said: dict[str, Any]) -> None:
    rig.engine.script = Script(events=(said,))

    status, content, is_known = ask(rig, path, _WHOLE[path])

    assert status in {200, 502}, content
    answer = json.loads(content)
    assert ("error" in answer) is (status == 502)
    if path not in _VECTORS:
        assert status == 502 or is_known or ended([said]), "an answer that did not end is none"


@_OFTEN
@given(st.sampled_from(sorted(_STREAMED)), STREAMS)
def test_a_stream_ends_as_its_api_says_or_with_one_error(rig: Rig, path: str, said: tuple[Any, ...]) -> None:
    rig.engine.script = Script(events=said)

    status, content, is_known = ask(rig, path, _STREAMED[path])

    assert status in {200, 502}, content
    if path.startswith("/v1"):
        events = [line.removeprefix("data: ") for line in content.decode().split("\n\n") if line]
        if status == 200:
            is_whole = events[-1] == "[DONE]"
            assert is_whole is not any("error" in json.loads(one) for one in events if one != "[DONE]")
            assert events.count("[DONE]") == int(is_whole)
            assert not is_whole or is_known or ended(said), "an answer that did not end is none"
    elif status == 200:
        lines = [json.loads(line) for line in content.splitlines()]
        assert bool(lines[-1].get("done")) is not bool(lines[-1].get("error"))
        assert not lines[-1].get("done") or ended(said), "an answer that did not end is none"
