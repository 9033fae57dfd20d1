"""The gate of failure scenarios: an engine that is asked wrongly refuses, forgets who has left, and goes on as before.

Malformed requests are refused and never end it; a conversation that does not fit is refused by name, or shortened where
the approved profile says so (`num_keep`); an answer whose reader has left is given up, so that nobody waits behind it;
and after all of that it says what it said before.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any, Final

from appliance.actions.gating.bench import TOO_LONG, Bench, Verdict, delta_of, user
from media.errors import SealiftError

_GATE: Final = "failures"
_CHAT: Final = "/v1/chat/completions"
_SCORE: Final = "/sealift/v1/score"
_MALFORMED: Final[tuple[tuple[str, str, bytes], ...]] = (
    ("no JSON", _CHAT, b"{"),
    ("not an object", _CHAT, b"[1,2,3]"),
    ("no UTF-8", _CHAT, b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}'),
    ("no messages", _CHAT, b"{}"),
    ("messages of another type", _CHAT, b'{"messages": "hello"}'),
    ("an unknown role", _CHAT, b'{"messages": [{"role": "root", "content": "x"}]}'),
    ("content of another type", _CHAT, b'{"messages": [{"role": "user", "content": 7}]}'),
    (
        "a number for tokens that is none",
        _CHAT,
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": "many"}',
    ),
    ("fewer tokens than none", _CHAT, b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}'),
    ("a temperature that is none", _CHAT, b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}'),
    ("stops of another type", _CHAT, b'{"messages": [{"role": "user", "content": "x"}], "stop": 3}'),
    ("nesting without end", _CHAT, b'{"messages": ' + b"[" * 20_000),
    ("continuations of another type", _SCORE, b'{"prompt": "x", "continuations": "y"}'),
)
_REQUEST_ERRORS: Final = range(400, 500)
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.01
# A busy engine is asked ever less often, and still often enough to tell the end of an answer from half its time.
_LONGER_PAUSE: Final = 1.25
_LOOKS: Final = 50
_TRIES: Final = 3
# What nobody waits for must go on for long enough to see it end early: a fast engine is through with a short answer
# before it could be told that its caller left, and a slow one needs a while for a piece.
_LONG_SECONDS: Final = 2.0
_LONG_PIECES: Final = 16
_VISIBLE_SECONDS: Final = 1.0
_MOST_TOKENS: Final = 4096
_ASKED: Final = (
    "Count from one to a thousand in words.",
    "Write a long story about a lighthouse keeper, in many chapters.",
    "List the countries of the world one by one, and describe each of them.",
    "Write the numbers from 1 to 1000, one on each line.",
)


def failures(bench: Bench) -> Verdict:
    """Try each scenario; see the module."""
    before = _said(bench)
    wrong = [name for name, route, content in _MALFORMED if not _is_refused(bench, route, content)]
    overlong = _overlong(bench)
    keeps = bench.descriptor.runtime.llama.num_keep
    left = _disconnects(bench)
    # A prompt that is read anew is computed in other pieces than one that an engine still holds, and may end otherwise
    # by a rounding: what was said before is said again at the second time at the latest.
    is_same = any(_said(bench) == before for _ in range(2))
    figures: dict[str, Any] = {
        "malformed_tried": len(_MALFORMED),
        "malformed_refused": len(_MALFORMED) - len(wrong),
        "overlong_refused": overlong,
        **({"overlong_keeps_tokens": keeps} if keeps else {}),
        "given_up_after_disconnect": left,
        "same_answer_after": is_same,
    }
    found = [f"a malformed request is not refused: {name}" for name in wrong]
    if not overlong and not keeps:
        found.append("a conversation that does not fit is not refused as such")
    if overlong and keeps:
        found.append("a conversation that does not fit is refused, and the profile says that it is shortened")
    if left is False:
        found.append("an answer is made to its end for a caller who has left")
    if not is_same:
        found.append("it answers otherwise after failures than before")
    return Verdict(gate=_GATE, passed=not found, figures=figures, why="; ".join(found))


def _said(bench: Bench) -> str:
    return bench.say(user(bench.policy.smoke.prompt), max_tokens=bench.policy.smoke.max_tokens)


def _is_refused(bench: Bench, route: str, content: bytes) -> bool:
    status, _ = bench.engine.refusal(route, content)
    return status in _REQUEST_ERRORS


def _overlong(bench: Bench) -> bool:
    # A word is at least one token of any tokenizer, so this never fits.
    words = " ".join("word" for _ in range(bench.descriptor.runtime.n_ctx + 16))
    content = json.dumps({"messages": user(words), "max_tokens": 1}).encode()
    status, code = bench.engine.refusal(_CHAT, content)
    return status in _REQUEST_ERRORS and code == TOO_LONG


def _disconnects(bench: Bench) -> bool | None:
    """Leave an answer that has begun; tell whether it was given up. None where the engine does not say what it does.

    Given up is an answer that is gone in half the time that it is known to go on for; what goes on for longest of a few
    is left, and a busy machine is tried again. Where none goes on for so long that anything can be seen in it, it has
    to end.
    """
    if bench.engine.load() is None:
        return None
    question, lasts = _longest(bench)
    patience = lasts / 2 if lasts >= _VISIBLE_SECONDS else _PATIENCE_SECONDS
    return any(_is_given_up(bench, question, patience) for _ in range(_TRIES))


def _longest(bench: Bench) -> tuple[dict[str, Any], float]:
    """Return what is answered at length, and for how many seconds the answer goes on at least once it has begun."""
    found: list[tuple[dict[str, Any], float]] = []
    for asked in _ASKED:
        question = {
            "messages": user(asked),
            "max_tokens": min(_MOST_TOKENS, max(bench.descriptor.runtime.n_ctx // 2, 1)),
            "temperature": 0,
            "seed": 0,
        }
        lasts, is_long = _goes_on(bench, question)
        found.append((question, lasts))
        if is_long:
            break
    return max(found, key=lambda each: each[1])


def _goes_on(bench: Bench, question: dict[str, Any]) -> tuple[float, bool]:
    """Return for how many seconds an answer was seen to go on from its first text, and whether that is long."""
    stream = bench.engine.chat_stream(question)
    _reach_text(stream)
    began, pieces, lasts = bench.clock.monotonic(), 0, 0.0
    is_long = False
    for event in stream:
        pieces += bool(delta_of(event))
        lasts = bench.clock.monotonic() - began
        is_long = lasts >= _LONG_SECONDS and pieces >= _LONG_PIECES
        if is_long:
            break
    stream.close()
    _wait_until_idle(bench, _PATIENCE_SECONDS)
    return lasts, is_long


def _is_given_up(bench: Bench, question: dict[str, Any], patience: float) -> bool:
    stream = bench.engine.chat_stream(question)
    _reach_text(stream)
    stream.close()
    is_gone = _wait_until_idle(bench, patience)
    _wait_until_idle(bench, _PATIENCE_SECONDS)  # nobody is to wait behind it in what comes next
    return is_gone


def _reach_text(stream: Generator[Mapping[str, Any]]) -> None:
    with suppress(SealiftError, StopIteration):
        while not delta_of(next(stream)):
            pass


def _wait_until_idle(bench: Bench, seconds: float) -> bool:
    """Wait for the engine to make no answer; return whether it came to that in time."""
    began, pause = bench.clock.monotonic(), _PAUSE_SECONDS
    while bench.engine.load() != (0, 0):
        if bench.clock.monotonic() >= began + seconds:
            return False
        bench.sleep(pause)
        pause = min(pause * _LONGER_PAUSE, seconds / _LOOKS)
    return True
