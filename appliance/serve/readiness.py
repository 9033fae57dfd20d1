"""Waiting for an engine that was started: until it answers, and says that it is what was asked for."""

import time
from collections.abc import Callable
from typing import Final

from appliance.errors import EngineLoadError, EngineUnavailableError
from appliance.serve.client import EngineClient, EngineStatus
from media.clock import Clock

_PAUSE_SECONDS: Final = 0.05


def wait_ready(
    client: EngineClient,
    *,
    model_digest: str,
    stage: str,
    seconds: float,
    clock: Clock,
    sleep: Callable[[float], None] = time.sleep,
) -> EngineStatus:
    """Return the status of an engine as soon as it is healthy.

    Args:
        client: Speaks to the engine's socket.
        model_digest: What it must say it serves.
        stage: In which stage.
        seconds: How long to wait for health.
        clock: Measures the wait.
        sleep: Passes the time between two looks.

    Raises:
        EngineUnavailableError: It was not healthy in time.
        EngineLoadError: It serves something else.
    """
    until = clock.monotonic() + seconds
    while not client.health():
        if clock.monotonic() >= until:
            raise EngineUnavailableError(
                what=f"the {stage} engine of {model_digest[:12]} is not healthy",
                why=f"it did not answer within {seconds:.0f} s",
                fix="see `sealift status` and the journal of the engine's unit",
            )
        sleep(_PAUSE_SECONDS)
    status = client.status()
    if (status.model_digest, status.stage) != (model_digest, stage):
        raise EngineLoadError(
            what=f"the {stage} engine of {model_digest[:12]} serves something else",
            why=f"it says {status.stage} and {status.model_digest[:12]}",
            fix="stop the unit and start it again",
        )
    return status


def require_weights(status: EngineStatus, approved: str, *, engine: str, fix: str) -> None:
    """Return when an engine loaded the weights that were approved.

    Args:
        status: What it says it serves.
        approved: Their digest.
        engine: What it is called before its version, e.g. ``the test engine``.
        fix: What to do where it loaded others.

    Raises:
        EngineLoadError: It loaded others.
    """
    if status.weights_digest != approved:
        raise EngineLoadError(
            what=f"{engine} of {status.model_digest[:12]} loaded other weights",
            why=f"{status.weights_digest[:12]}, and {approved[:12]} were approved",
            fix=fix,
        )
