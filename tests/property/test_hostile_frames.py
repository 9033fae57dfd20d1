"""An engine that was taken over says anything: every route still answers in its own shape, and records how it ended.

Most examples are what a good engine says with a member or two spoiled, so that many are answered: what is counted, what
is put back into answers and what is kept is then made of what the engine wrote. Each test counts how its examples ended
and fails where too few were answered.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from appliance.gateway.record import CONTENT_KEY
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, gateway
from tests.support.good_frames import IDENTIFIER, MOST_TOKENS, STAND_IN, Request, answers, requests, streams
from tests.support.hostile_frames import OBJECTS, STREAMS, spoiled
from tests.support.told_answers import Told, Whole, ollama_of, stream_of_openai, vectors_of, whole_of_openai

pytestmark = pytest.mark.slow

_VECTORS: Final = ("/v1/embeddings", "/api/embed", "/api/embeddings")
_STREAMED: Final = ("/v1/chat/completions", "/v1/completions", "/api/chat", "/api/generate")
_WHOLE: Final = (*_STREAMED, *_VECTORS)
# What fails is a good answer with a member or two spoiled, so it is small already; shrinking asks for minutes.
_OFTEN = settings(
    suppress_health_check=[HealthCheck.too_slow], deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
_LIMITS = "requests_per_minute = 1000000000"
_LEAST_ANSWERED: Final = 0.25


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    # Caches are on: what an engine like this says must not be kept either.
    with gateway(
        tmp_path_factory.mktemp("gateway"), limits=_LIMITS, caches="answers_mib = 1\nembeddings_mib = 1"
    ) as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What came back: status, content, whether no engine was asked, and the record of how it ended."""

    status: int
    content: bytes
    is_known: bool
    outcome: dict[str, Any]


def ask(rig: Rig, path: str, body: dict[str, Any]) -> Got:
    """Ask, and require that it is recorded before and after, and that nothing is held any more."""
    response = rig.ask({"model": MODEL, **body}, path=path)
    request_id = response.headers["x-request-id"]
    (_,) = rig.ledger.find("request.intent", "request_id", request_id, limit=2)
    (outcome,) = rig.ledger.find("request.outcome", "request_id", request_id, limit=2)
    assert rig.sample("llm_active_requests", model=MODEL) == 0
    is_known = response.headers.get("x-sealift-cache") == "hit"
    return Got(status=response.status_code, content=response.get_data(), is_known=is_known, outcome=dict(outcome.body))


def ended(said: Iterable[Any]) -> bool:
    """Tell whether the first answer's end is said in any of these."""
    for one in said:
        choices = one.get("choices") if isinstance(one, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            reason = choice.get("finish_reason") if isinstance(choice, dict) and choice.get("index", 0) == 0 else None
            if isinstance(reason, str) and reason not in {"", "abort", "error"}:
                return True
    return False


def read(path: str, request: Request, got: Got) -> Whole | None:
    """Return what was told, by the letter of the API; None where it is an error."""
    assert got.status in {200, 502}, got.content
    body = request.body
    if got.status == 502:
        assert "error" in json.loads(got.content)
        return None
    if path in _VECTORS:
        return vectors_of(got.content, path=path, is_base64=body.get("encoding_format") == "base64")
    is_chat = "chat" in path
    if path.startswith("/api"):
        lines = [json.loads(line) for line in got.content.splitlines()]
        assert body["stream"] or len(lines) == 1
        return ollama_of(lines, is_chat=is_chat)
    if not body["stream"]:
        return whole_of_openai(got.content, is_chat=is_chat)
    every = request.answers * len(request.has_identifier)
    with_usage = "stream_options" in body
    return stream_of_openai(got.content, is_chat=is_chat, answers=every, with_usage=with_usage)


def require_told(rig: Rig, path: str, request: Request, whole: Whole, got: Got) -> None:
    """Require of an answer what the request asked for, and that the record is about these very words."""
    outcome, body = got.outcome, request.body
    assert (outcome["outcome"], outcome["status"]) == ("ok", 200)
    if path in _VECTORS:
        assert len(whole.vectors) == len(body.get("input", [0]))
        assert {len(one) for one in whole.vectors} == {request.dimensions}
        assert outcome["finish_reason"] is None
        return
    assert len(whole.answers) == request.answers * len(request.has_identifier)
    recorded = (outcome["prompt_tokens"], outcome["completion_tokens"])
    assert whole.counted in (None, recorded)
    assert recorded == (None, None) or 0 <= recorded[1] <= MOST_TOKENS * len(whole.answers)
    assert whole.answers[0].finish == outcome["finish_reason"] or path.startswith("/api")
    for at, answer in enumerate(whole.answers):
        assert not answer.logprobs or body.get("logprobs") is not None, "nobody asked for probabilities"
        assert not answer.calls or request.has_tools, "there is no function to call"
        require_identifiers(answer, has_identifier=request.has_identifier[at // request.answers])
    if path.startswith("/v1") or not whole.answers[0].calls:
        delivered = "\x1e".join(one.delivered() for one in whole.answers).encode(errors="surrogatepass")
        assert outcome["response_hmac"] == rig.keys.hmac(CONTENT_KEY, delivered).hex()
    thoughts = [one.thoughts for one in whole.answers]
    assert ("thoughts_hmac" in outcome) is any(thoughts)
    if any(thoughts):
        hashed = rig.keys.hmac(CONTENT_KEY, "\x1e".join(thoughts).encode(errors="surrogatepass"))
        assert outcome["thoughts_hmac"] == hashed.hex()


def require_identifiers(answer: Told, *, has_identifier: bool) -> None:
    """Require that a stand-in is put back where its prompt has it, and nowhere else."""
    for text in (answer.text, answer.thoughts, *(str(one[2]) for one in answer.calls)):
        assert (STAND_IN if has_identifier else IDENTIFIER) not in text


def require_kept_alone_what_was_answered(rig: Rig, path: str, request: Request, whole: Whole | None) -> bool:
    """Ask the same again; return whether the first answer was kept."""
    if whole is None:  # of an engine that is well again
        rig.engine.script = Script()
    again = ask(rig, path, request.body)
    told = read(path, request, again)
    assert told is not None or (whole is not None and path in _VECTORS), "all or none, but for vectors, is kept"
    if told is None:  # for those vectors that are not kept the engine has too many
        return False
    if whole is None:
        assert not again.is_known, "what was no answer is none later"
    if again.is_known:
        assert told == whole
        require_told(rig, path, request, told, again)
    return again.is_known


def run(
    path: str, *, is_stream: bool, rig: Rig, hostile: st.SearchStrategy[Any], good: Callable[[Request], Any]
) -> Counter[str]:
    """Ask for as many answers as the profile says; return how they ended and what was in them."""
    ends: Counter[str] = Counter()

    @_OFTEN
    @given(st.data())
    def one(data: st.DataObject) -> None:
        request = data.draw(requests(path, is_stream=is_stream))
        if data.draw(st.integers(0, 7)) == 7:
            said = data.draw(hostile)
        else:
            said = spoiled(data.draw, data.draw(good(request)), is_stream=is_stream)
        script = Script(events=tuple(said) if is_stream else (said,))
        rig.engine.script = script

        got = ask(rig, path, request.body)
        whole = read(path, request, got)

        ends["all"] += 1
        assert not got.is_known
        if whole is None:
            ends["refused"] += 1
            assert got.outcome["outcome"] == "error"
            assert got.outcome["status"] == 502
        else:
            assert path in _VECTORS or ended(script.events or ()), "an answer that did not end is none"
            require_told(rig, path, request, whole, got)
            ends["answered"] += 1
            ends["with counts"] += whole.counted is not None
            ends["with thoughts"] += any(answer.thoughts for answer in whole.answers)
            ends["with calls"] += any(answer.calls for answer in whole.answers)
            ends["with identifiers"] += any(IDENTIFIER in answer.text for answer in whole.answers)
        if whole is None or ends["answered"] % 3 == 0:
            ends["kept"] += require_kept_alone_what_was_answered(rig, path, request, whole)

    one()
    return ends


def require_reached(ends: Counter[str], *names: str) -> None:
    """Fail where too few examples were answered for anything to be shown, or none had what is to be looked at."""
    assert ends["answered"] >= _LEAST_ANSWERED * ends["all"], ends
    assert ends["refused"], ends
    assert all(ends[name] for name in ("kept", *names)), ends


def reached_by(path: str) -> tuple[str, ...]:
    """Return what some answers of a route must have had."""
    if path in _VECTORS:
        return () if path == "/api/embeddings" else ("with counts",)
    of_chats = ("with thoughts", "with calls") if "chat" in path else ()
    return ("with counts", "with identifiers", *of_chats)


@pytest.mark.parametrize("path", _WHOLE)
def test_a_whole_answer_is_one_object_or_an_error_of_ours(rig: Rig, path: str) -> None:
    ends = run(path, is_stream=False, rig=rig, hostile=OBJECTS, good=answers)

    require_reached(ends, *reached_by(path))


@pytest.mark.parametrize("path", _STREAMED)
def test_a_stream_ends_as_its_api_says_or_with_one_error(rig: Rig, path: str) -> None:
    ends = run(path, is_stream=True, rig=rig, hostile=STREAMS, good=streams)

    require_reached(ends, *reached_by(path))
