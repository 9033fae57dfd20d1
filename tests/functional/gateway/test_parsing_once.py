"""A body is parsed once, whichever API it came by: four megabytes of JSON are not worth reading twice."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from appliance.gateway.body import read_object
from tests.support.gateway import MODEL, Rig

_CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


@contextmanager
def readings() -> Iterator[list[str]]:
    """Count how often this thread parses a body."""
    seen: list[str] = []

    def look(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code is read_object.__code__:
            seen.append("read")

    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", _CHAT),
        ("/v1/completions", {"model": MODEL, "prompt": "hello"}),
        ("/api/chat", {**_CHAT, "stream": False}),
        ("/api/generate", {"model": MODEL, "prompt": "hello", "stream": False}),
        ("/api/generate", {"model": MODEL}),
    ],
)
def test_a_body_is_parsed_once(rig: Rig, path: str, body: dict[str, Any]) -> None:
    with readings() as seen:
        assert rig.ask(body, path=path).status_code == 200

    assert seen == ["read"]
