"""What the queue measures: how long places were held by kind of request, where an engine answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.gateway.application import running
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, gateway

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with gateway(tmp_path, caches="answers_mib = 1") as one:
        yield one


def measured(rig: Rig) -> set[str]:
    """Return the kinds that were measured since this was asked last."""
    with running(rig.app).admission._desk.open() as queue:
        kinds = set(queue.pace.mean_seconds)
        queue.pace.mean_seconds.clear()
        return kinds


def test_each_endpoint_of_each_model_has_its_own_pace(rig: Rig) -> None:
    assert rig.ask(CHAT).status_code == 200
    assert measured(rig) == {f"chat {MODEL}"}
    assert rig.ask({**CHAT, "stream": True}).status_code == 200
    assert measured(rig) == {f"chat {MODEL}"}
    assert rig.ask({"model": MODEL, "prompt": "hello"}, path="/v1/completions").status_code == 200
    assert rig.ask({"model": MODEL, "input": "hello"}, path="/v1/embeddings").status_code == 200
    assert measured(rig) == {f"completions {MODEL}", f"embeddings {MODEL}"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "script",
    [
        Script(refuse=(400, "context_length_exceeded")),
        Script(refuse=(500, "engine_failed")),
        Script(tear_after=0),
        Script(error_after=0),
        Script(events=({},)),
    ],
    ids=["refused", "failed", "gone", "failed at once", "hollow"],
)
def test_what_failed_before_an_engine_answered_is_not_measured(rig: Rig, script: Script, *, stream: bool) -> None:
    rig.engine.script = script

    rig.ask({**CHAT, "stream": stream})

    assert rig.bodies("request.outcome")[-1]["outcome"] == "error"
    assert measured(rig) == set()


def test_what_could_not_be_recorded_is_not_measured(rig: Rig) -> None:
    rig.ledger.available = False
    for stream in (False, True):
        assert rig.ask({**CHAT, "stream": stream}).status_code == 503

    assert measured(rig) == set()


def test_a_stream_that_broke_off_held_its_place_until_then(rig: Rig) -> None:
    rig.engine.script = Script(pieces=("one ", "two "), error_after=1)

    rig.ask({**CHAT, "stream": True})

    assert measured(rig) == {f"chat {MODEL}"}


def test_what_was_known_held_no_place(rig: Rig) -> None:
    vectors = {"model": MODEL, "input": "hello"}
    rig.ask(CHAT)
    rig.ask(vectors, path="/v1/embeddings")
    measured(rig)

    hits = [rig.ask(CHAT), rig.ask(vectors, path="/v1/embeddings")]

    assert [one.headers["x-sealift-cache"] for one in hits] == ["hit", "hit"]
    assert measured(rig) == set()
