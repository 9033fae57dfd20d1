"""The gate of failure scenarios: an engine that is asked wrongly refuses, forgets who has left, and goes on as before.

Malformed requests are refused and never end it; a conversation that does not fit is refused by name, or shortened where
the approved profile says so (`num_keep`); an answer whose reader has left is given up, so that nobody waits behind it;
and after all of that it says what it said before.
"""

import json
from contextlib import suppress
from typing import Any, Final

from appliance.actions.gating.bench import Bench, Verdict, delta_of, user
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
_OVERLONG: Final = "context_length_exceeded"
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.01
_VISIBLE_SECONDS: Final = 0.2
_TRIES: Final = 3
_REQUEST_ERRORS: Final = range(400, 500)
_LONG: Final[dict[str, Any]] = {
    "messages": user("Count from one to a thousand in words."),
    "max_tokens": 128,
    "temperature": 0,
    "seed": 0,
}


def failures(bench: Bench) -> Verdict:
    """Try each scenario; see the module."""
    before = bench.say(user(bench.policy.smoke.prompt), max_tokens=bench.policy.smoke.max_tokens)
    wrong = [name for name, route, content in _MALFORMED if not _is_refused(bench, route, content)]
    overlong = _overlong(bench)
    keeps = bench.descriptor.runtime.llama.num_keep
    left = _disconnects(bench)
    after = bench.say(user(bench.policy.smoke.prompt), max_tokens=bench.policy.smoke.max_tokens)
    figures: dict[str, Any] = {
        "malformed_tried": len(_MALFORMED),
        "malformed_refused": len(_MALFORMED) - len(wrong),
        "overlong_refused": overlong,
        **({"overlong_keeps_tokens": keeps} if keeps else {}),
        "given_up_after_disconnect": left,
        "same_answer_after": before == after,
    }
    found = [f"a malformed request is not refused: {name}" for name in wrong]
    if not overlong and not keeps:
        found.append("a conversation that does not fit is not refused as such")
    if overlong and keeps:
        found.append("a conversation that does not fit is refused, and the profile says that it is shortened")
    if left is False:
        found.append("an answer is made to its end for a caller who has left")
    if before != after:
        found.append("it answers otherwise after failures than before")
    return Verdict(gate=_GATE, passed=not found, figures=figures, why="; ".join(found))


def _is_refused(bench: Bench, route: str, content: bytes) -> bool:
    status, _ = bench.engine.refusal(route, content)
    return status in _REQUEST_ERRORS


def _overlong(bench: Bench) -> bool:
    # A word is at least one token of any tokenizer, so this never fits.
    words = " ".join("word" for _ in range(bench.descriptor.runtime.n_ctx + 16))
    content = json.dumps({"messages": user(words), "max_tokens": 1}).encode()
    status, code = bench.engine.refusal(_CHAT, content)
    return status in _REQUEST_ERRORS and code == _OVERLONG


def _disconnects(bench: Bench) -> bool | None:
    """Leave an answer that has begun; tell whether it was given up. None where the engine does not say what it does.

    Given up is an answer that is gone in half the time that it takes to its end; so short a time that nothing can be
    seen in it, or a busy machine, is tried again.
    """
    if bench.engine.load() is None:
        return None
    began = bench.clock.monotonic()
    for _ in bench.engine.chat_stream(_LONG):
        pass
    whole = bench.clock.monotonic() - began
    patience = whole / 2 if whole >= _VISIBLE_SECONDS else _PATIENCE_SECONDS
    return any(_is_given_up(bench, patience) for _ in range(_TRIES))


def _is_given_up(bench: Bench, patience: float) -> bool:
    stream = bench.engine.chat_stream(_LONG)
    with suppress(SealiftError, StopIteration):
        while not delta_of(next(stream)):
            pass
    stream.close()
    began = bench.clock.monotonic()
    is_gone = bench.engine.load() == (0, 0)
    while not is_gone and bench.clock.monotonic() < began + patience:
        bench.sleep(_PAUSE_SECONDS)
        is_gone = bench.engine.load() == (0, 0)
    while bench.engine.load() != (0, 0) and bench.clock.monotonic() < began + _PATIENCE_SECONDS:
        bench.sleep(_PAUSE_SECONDS)  # nobody is to wait behind it in what comes next
    return is_gone
