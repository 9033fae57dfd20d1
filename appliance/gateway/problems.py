"""Every error body of the gateway, in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

Messages are our own words: nothing of a request, of an engine's answer or of an exception's text gets into them.
"""

import json
import math
import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

from flask import Response

from appliance.errors import (
    CiphertextError,
    DatabaseError,
    EngineProtocolError,
    EngineRefusedError,
    EngineUnavailableError,
    KeyMissingError,
    LedgerFullError,
    LedgerUnavailableError,
    NotActiveError,
    PhiBlockedError,
    PhiUnavailableError,
    StoreDamagedError,
)
from appliance.serve.engine import THOUGHTS
from appliance.stages import FIRST_LINE, Stage
from media.errors import SealiftError

STOPPING: Final = "stopping"
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ASKED_AGAIN: Final = frozenset({409, 429})
"""Below 500, what OpenAI's SDKs ask again by themselves; 408 they may: a body that came too slowly."""
_NO_FAULT: Final = frozenset(
    {"maintenance_window", "not_active", "overloaded", "queue_timeout", "stopped", "stopping", "version_changed"}
)
_REFUSED_BY_ENGINES: Final = frozenset({"logit_bias", "logprobs", "response_format", "tools"})
_KNOWN: Final[Mapping[type[SealiftError], tuple[int, str, str, float | None]]] = {
    NotActiveError: (503, "not_active", "Another box of this site serves now.", 1.0),
    LedgerFullError: (503, "ledger_full", "The disk of the records is full, so nothing new is answered.", 30.0),
    LedgerUnavailableError: (503, "ledger_unavailable", "What cannot be recorded is not answered.", 2.0),
    EngineUnavailableError: (503, "engine_unavailable", "The engine does not answer.", 2.0),
    EngineProtocolError: (502, "engine_error", "The engine failed in the middle of an answer.", None),
    PhiUnavailableError: (500, "phi_unavailable", "The search for patient identifiers failed.", None),
    KeyMissingError: (503, "keys_unavailable", "A key that the gateway needs is missing.", None),
    CiphertextError: (503, "keys_unavailable", "What is kept was encrypted under a key that is gone.", None),
    StoreDamagedError: (503, "state_unavailable", "The state cannot be read.", None),
    DatabaseError: (503, "state_unavailable", "The state cannot be read.", 2.0),
}


class Awaited(Enum):
    """What has to happen before asking again helps: an engine loads, a place of one comes free, or tokens come back."""

    ENGINE = auto()
    PLACE = auto()
    TOKENS = auto()


class Problem(Exception):  # noqa: N818 - RFC 9457's word for it
    """A refusal or a failure, as the caller will read it.

    Args:
        status: HTTP status.
        code: OpenAI's code where it has one, else ours.
        message: For people.
        param: The parameter that is wrong.
        retry_after_seconds: When asking again makes sense; None where it does not.
        recorded: The ledger knows already.

    Attributes:
        line: Of production, where one was to answer.
        renews: Whether what ran out comes anew some day, though nobody says when.
        awaits: What has to happen before asking again helps, where more may be known of that (`Patience`).
        asked_version: The version that was asked, or was to be; nothing where none was chosen.
        reason: The type of the error behind it, for the log; of what made the search for identifiers fail.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        recorded: bool = False,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.recorded = recorded
        self.arm = ""
        self.assigned = ""
        self.line = FIRST_LINE
        self.model_digest = ""
        self.renews = False
        self.awaits: Awaited | None = None
        self.asked_version = ""
        self.reason = ""
        self.headers: dict[str, str] = {}

    @property
    def is_fault(self) -> bool:
        """Whether this box failed, and neither its people's order nor want of room was the reason."""
        return self.status >= 500 and self.code not in _NO_FAULT

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {
            "error": {"message": self.message, "type": _type_of(self.status), "param": self.param, "code": self.code}
        }

    def response(self, body: Mapping[str, Any] | None = None) -> Response:
        """Return the whole response; what may be asked again says when, what may not says so to SDKs.

        Args:
            body: The JSON body in another API's shape; OpenAI's when absent.
        """
        response = Response(
            json.dumps(self.body() if body is None else body), status=self.status, mimetype="application/json"
        )
        response.headers.extend(self.headers)
        if self.status == 401:
            response.headers["www-authenticate"] = "Bearer"
        if self.retry_after_seconds is not None:
            # Never less: who comes even half a millisecond too soon is refused again, and may wait for nothing.
            milliseconds = max(1, math.ceil(round(self.retry_after_seconds * 1000, 6)))
            response.headers["retry-after"] = str(-(-milliseconds // 1000))
            response.headers["retry-after-ms"] = str(milliseconds)
        elif self.status >= 500 or self.status in _ASKED_AGAIN:
            response.headers["x-should-retry"] = "false"
        return response


def invalid(param: str, message: str, *, code: str = "invalid_value") -> Problem:
    """Return the refusal of one parameter."""
    return Problem(400, code, message, param=param)


def unknown_parameter(name: str) -> Problem:
    """Return the refusal of a parameter that nobody knows here, by its name unless that is a text of another kind."""
    shown = name.partition("[")[0]  # `of[this]` is how forms and queries name a member
    param = shown if _PARAMETER.fullmatch(shown) else None
    return Problem(400, "unknown_parameter", "The request holds an unknown parameter.", param=param)


def unauthorized() -> Problem:
    """Return one and the same answer for a missing and a wrong key."""
    return Problem(401, "invalid_api_key", "Give a valid API key as `Authorization: Bearer KEY` or `X-Api-Key: KEY`.")


def wrong_stage(stage: Stage) -> Problem:
    """Return the answer to a key of the other stage, as its own text says; so it tells nothing about any key."""
    message = (
        "This key is for production; the test stage takes test keys (`sealift keys create --stage test`)."
        if stage is Stage.TEST
        else "This key is for the test stage, whose address ends in /test/v1; production takes other keys."
    )
    return Problem(403, "wrong_stage", message)


_RATES: Final = {
    "requests": "The key has spent its requests a minute; ask again after Retry-After.",
    "tokens": (
        "The key has fewer tokens a minute left than the request may cost; ask again after Retry-After, or for fewer."
    ),
    "held": (
        "The key's running requests hold the rest of its tokens of the day or the month; ask again after Retry-After."
    ),
    "address": "Too many requests a minute of this address came without a valid key; ask again after Retry-After.",
}


def rate_limited(spent: str, retry_after_seconds: float) -> Problem:
    """Return the answer to a caller that asks too often, or too much; `spent` says what ran out (`_RATES`)."""
    problem = Problem(429, "rate_limit_exceeded", _RATES[spent], retry_after_seconds=retry_after_seconds)
    problem.awaits = Awaited.TOKENS if spent == "held" else None
    return problem


def quota_spent() -> Problem:
    """Return the answer where a key has too few of its day's or month's tokens left: waiting a moment does not help."""
    message = "The request may cost more tokens than the key has left of the day or the month."
    problem = Problem(429, "insufficient_quota", message)
    problem.headers["x-should-retry"] = "false"
    problem.renews = True
    return problem


def above_quota() -> Problem:
    """Return the answer to a request that may cost more than a whole day's or month's tokens: none ever has so many."""
    message = "The request may cost more tokens than the key has for a whole day or month; ask for fewer."
    problem = Problem(429, "insufficient_quota", message)
    problem.headers["x-should-retry"] = "false"
    return problem


def model_not_found() -> Problem:
    """Return the answer to a model that is not served here; which name it was is not repeated."""
    return Problem(404, "model_not_found", "The model does not exist here; see /v1/models.", param="model")


def no_model() -> Problem:
    """Return the answer while nothing is promoted, or, in the test stage, loaded."""
    return Problem(503, "no_model", "No model version is loaded here for callers.", retry_after_seconds=5)


def line_stopped() -> Problem:
    """Return the answer to a model that was withdrawn, or whose version is damaged, while others are served."""
    message = "No version of this model is loaded here for callers; see /v1/models."
    return Problem(503, "no_model", message, param="model")  # until people promote one: nobody knows when


def pinned_version_gone() -> Problem:
    """Return the answer to a key whose version is not loaded any more: another one would not be what was asked for."""
    return Problem(410, "pinned_version_gone", "The version that this key is pinned to is not served any more.")


def stopped() -> Problem:
    """Return the answer to a key that an operator stopped, itself or with its department."""
    return Problem(503, "stopped", "An operator has stopped this key; ask whoever runs this service.")


def queue_full(*, of_class: bool, retry_after_seconds: float, position: int) -> Problem:
    """Return the answer where a request may not wait: its class or key has no room (429), or the box has none (503)."""
    if of_class:
        problem = Problem(429, "class_full", "Too many requests of this class or this key run or wait.")
    else:
        problem = Problem(503, "overloaded", "All places are taken, and as many wait as may; ask again.")
    problem.retry_after_seconds = max(retry_after_seconds, 1.0)
    problem.headers["x-sealift-queue-position"] = str(position)
    return problem


def waited_too_long(retry_after_seconds: float) -> Problem:
    """Return the answer to a request that got no place in time."""
    message = "No place came free in the time that the request may wait; ask again."
    return Problem(503, "queue_timeout", message, retry_after_seconds=max(retry_after_seconds, 1.0))


def ending() -> Problem:
    """Return what a caller is told whose answer takes longer than a gateway that stops may wait for it."""
    return Problem(
        503,
        "stopping",
        "The service is being stopped or started again, and the answer did not end in time.",
        retry_after_seconds=2.0,
    )


def caller_left() -> Problem:
    """Return what is recorded of a caller that left while it waited."""
    return Problem(499, "caller_left", "The caller left.")


def moved_on() -> Problem:
    """Return the answer to a request that waited while the version that was to answer it was taken away."""
    return Problem(
        503, "version_changed", "The version changed while the request waited; ask again.", retry_after_seconds=1
    )


def from_error(error: BaseException) -> Problem:
    """Translate an error of ours; anything unknown is an internal error without its text."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, EngineRefusedError):
        return _engine_refused(error)
    if isinstance(error, PhiBlockedError):
        return Problem(
            400, "phi_blocked", f"The request holds patient identifiers ({error.why}); this key blocks them."
        )
    for kind, (status, code, message, retry_after_seconds) in _KNOWN.items():
        if isinstance(error, kind):
            problem = Problem(status, code, message, retry_after_seconds=retry_after_seconds)
            problem.awaits = Awaited.ENGINE if kind is EngineUnavailableError else None
            problem.reason = error.why if isinstance(error, PhiUnavailableError) else type(error).__name__
            return problem
    return Problem(500, "internal_error", "The gateway failed; the operator finds the request id in its journal.")


def no_thoughts() -> Problem:
    """Return the refusal of thoughts that there are none of."""
    message = "The model does not think aloud before its answer, or its engine not before a form."
    return Problem(400, "unsupported_parameter", message, param="chat_template_kwargs.enable_thinking")


def _engine_refused(error: EngineRefusedError) -> Problem:
    problem = _asked_refused(error)
    if problem is not None:
        return problem
    if error.engine_param == THOUGHTS:
        return no_thoughts()
    if error.http_status in {429, 503} or error.engine_code == "engine_unavailable":
        problem = Problem(503, "overloaded", "The engine is loading or busy; ask again.", retry_after_seconds=2)
        problem.awaits = Awaited.ENGINE if error.engine_code == "engine_unavailable" else Awaited.PLACE
        return problem
    if error.http_status == 400:
        # A word of an engine's is shown only where it is one of ours.
        param = error.engine_param if error.engine_param in _REFUSED_BY_ENGINES else None
        what = "these parameters" if param is None else f"this {param}"
        return Problem(400, "engine_refused", f"The engine does not accept {what}.", param=param)
    return Problem(502, "engine_error", "The engine failed.")


def _asked_refused(error: EngineRefusedError) -> Problem | None:
    """Return the refusal of what was asked itself; None where an engine refuses something else."""
    if error.engine_code == "context_length_exceeded":
        message = "The request does not fit the model's context."
        return Problem(400, "context_length_exceeded", message, param="messages")
    if error.engine_code == "messages_refused":
        message = (
            "The model's chat template does not take these messages; many want the user's and the assistant's in "
            "turns, the user's first, and some know no system message."
        )
        return Problem(400, "messages_refused", message, param="messages")
    if error.engine_code == "empty_prompt":
        return invalid("messages", "There is nothing to answer: the model's chat template leaves no text of them.")
    return None


def _type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
