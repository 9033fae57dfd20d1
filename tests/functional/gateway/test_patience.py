"""When a refused caller is told to ask again: as far as it is known when that helps."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL, Rig, gateway
from tests.support.ledger import bodies

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"prompt": "x", "stream": True},
    "/api/chat": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/embeddings": {"input": "x"},
}


def validated(rig: Rig, *, load_millis: int) -> None:
    result = {**bodies(MODEL_DIGEST)["gate.result"], "gate": "load", "figures": {"load_millis": load_millis}}
    rig.ledger.append("gate.result", result)


def told(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.headers["retry-after"]


@contextmanager
def one_runs(rig: Rig, *, seconds: int, max_tokens: int = 10) -> Iterator[None]:
    """Let one request run that began so many seconds ago, and ask the engine what comes next as usual."""
    hold = threading.Event()
    rig.engine.script = Script(hold=hold)
    rig.engine.started.clear()
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(rig.chat, "hello", max_tokens=max_tokens)
        try:
            assert rig.engine.started.wait(20)
            rig.engine.script = Script()
            rig.clock.advance(seconds)
            yield
        finally:
            hold.set()
        assert running.result(20).status_code == 200


@pytest.mark.parametrize("path", sorted(ASKED))
def test_an_engine_that_is_away_is_asked_again_when_it_will_have_loaded(rig: Rig, tmp_path: Path, path: str) -> None:
    def ask() -> tuple[int, str]:
        return told(rig.ask({"model": MODEL, **ASKED[path]}, path=path))

    validated(rig, load_millis=90_000)
    rig.promote(socket=tmp_path / "away.sock")

    assert ask() == (503, "90")
    rig.clock.advance(30)
    assert ask() == (503, "60")
    rig.clock.advance(61)
    assert ask() == (503, "2")  # it should have been there, so nobody knows
    rig.clock.advance(151)
    assert ask() == (503, "90")  # nobody found it away for so long that it was there meanwhile


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_answered_meanwhile_has_all_of_its_loading_before_it(
    rig: Rig, tmp_path: Path, *, stream: bool
) -> None:
    socket = rig.route.socket
    validated(rig, load_millis=90_000)
    rig.promote(socket=tmp_path / "away.sock")
    assert told(rig.chat("hello")) == (503, "90")
    rig.clock.advance(60)
    rig.promote(socket=socket)
    assert rig.chat("hello", stream=stream).status_code == 200
    rig.clock.advance(25)
    rig.promote(socket=tmp_path / "away.sock")

    assert told(rig.chat("hello")) == (503, "90")


@pytest.mark.parametrize(("load_millis", "seconds"), [(0, "2"), (5_000_000, "600")])
def test_what_is_told_is_never_nothing_and_bounded(rig: Rig, tmp_path: Path, load_millis: int, seconds: str) -> None:
    validated(rig, load_millis=load_millis)
    rig.promote(socket=tmp_path / "away.sock")
    assert told(rig.chat("hello")) == (503, seconds)


def test_an_engine_whose_version_was_never_loaded_here_is_asked_again_soon(rig: Rig, tmp_path: Path) -> None:
    rig.promote(socket=tmp_path / "away.sock")
    assert told(rig.chat("hello")) == (503, "2")


def test_an_engine_that_is_busy_is_asked_again_when_the_first_is_expected_to_end(rig: Rig) -> None:
    with one_runs(rig, seconds=40):
        rig.engine.script = Script(refuse=(503, "busy"))
        assert told(rig.chat("hello")) == (503, "40")
    assert told(rig.chat("hello")) == (503, "2")


def test_tokens_that_a_running_request_holds_are_asked_for_again_when_it_is_expected_to_end(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 600") as rig:
        with one_runs(rig, seconds=30, max_tokens=400):
            held = rig.chat("hello", max_tokens=300)
            assert (*told(held), held.get_json()["error"]["code"]) == (429, "30", "rate_limit_exceeded")
        assert rig.chat("hello", max_tokens=300).status_code == 200
