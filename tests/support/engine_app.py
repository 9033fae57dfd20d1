"""The engine's own HTTP over a decoder of the tests."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from flask import Flask

from appliance.serve.anatomy import UNTOLD, Anatomy
from appliance.serve.application import create_engine_app
from appliance.serve.asking import Serving
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.scheduler import Scheduler
from media.clock import FixedClock
from tests.support.decoder import EchoDecoder

_SERVING = Serving(
    model_digest="ab" * 32,
    weights_digest="cd" * 32,
    stage="test",
    name="echo",
    system_prompt="",
    n_ctx=2048,
    temperature=0,
    top_p=1,
)


def engine_app(
    decoder: EchoDecoder, template: ChatTemplate, *, anatomy: Anatomy = UNTOLD, **changes: Any
) -> tuple[Flask, Scheduler]:
    """Return the application and its scheduler, which is to be stopped; `changes` are of what is served."""
    scheduler = Scheduler(decoder)
    serving = replace(_SERVING, **changes)
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    app = create_engine_app(
        serving, decoder=decoder, scheduler=scheduler, template=template, clock=clock, anatomy=anatomy
    )
    return app, scheduler


def events(response: Any) -> list[Mapping[str, Any]]:
    """Return the events of a whole stream."""
    lines = [line.removeprefix("data: ") for line in response.get_data(as_text=True).split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
