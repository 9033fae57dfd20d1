"""What is logged of an answer: names, counts and times, never its text (D16, D17)."""

import logging
import time
from typing import Final

from appliance.client.answers import Answer

_LOG: Final = logging.getLogger("sealift.client")


def noted(answer: Answer) -> Answer:
    """Log that an answer is complete, and that it was cut where it was; return it."""
    usage = answer.usage
    _LOG.info(
        "inference_complete model=%s prompt_tokens=%s completion_tokens=%s latency_ms=%s finish_reason=%s id=%s",
        answer.model,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        answer.latency_ms,
        answer.finish_reason,
        answer.request_id,
    )
    if answer.is_cut:
        _LOG.warning("the answer was cut at max_tokens id=%s", answer.request_id)
    return answer


def milliseconds_since(began: float) -> int:
    """Return how long ago `began` was on the monotonic clock."""
    return round((time.monotonic() - began) * 1000)
