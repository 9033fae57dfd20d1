"""What people thought of an answer: good or bad, and why from a closed list; recorded beside the request (K15).

Only the key that asked may say it, once for each answer, and nobody writes free text: a comment could hold what the
ledger must not.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response, g, jsonify, request

from appliance.audit.facts import Appended, KeyedLedger
from appliance.audit.leaf import Leaf
from appliance.errors import LedgerRefusedError
from appliance.gateway.access import keyed
from appliance.gateway.body import body_of, read_object
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem, invalid, unknown_parameter
from appliance.gateway.record import stamped
from appliance.stages import Stage

KIND: Final = "request.feedback"
RATINGS: Final = ("up", "down")
REASONS: Final = ("helpful", "incomplete", "off-topic", "other", "style", "too-long", "unsafe", "wrong")
_INTENT: Final = "request.intent"
_REQUEST_ID: Final = re.compile(r"req_[a-z2-7]{26}")


def make_blueprint(ledger: KeyedLedger, metrics: Metrics, stage: Stage = Stage.PRODUCTION) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("feedback", __name__)

    @blueprint.post("/v1/feedback")
    @keyed
    def feedback() -> Response:
        said = _read(read_object(body_of(request)))
        request_id, rating = said["request_id"], said["rating"]
        intent = next(iter(ledger.find(_INTENT, "request_id", request_id, limit=1)), None)
        if intent is None or intent.body.get("key_id") != g.key.key_id:
            raise Problem(404, "request_not_found", "This key has asked no such request.", param="request_id")
        if (before := _before(ledger, said)) is not None:
            return jsonify(object="feedback", **said, sequence=before.sequence)
        facts = {name: intent.body.get(name) for name in ("key_id", "department", "model_digest", "arm")}
        body = stamped({**said, "intent_sequence": intent.sequence, **facts}, stage)
        appended = _append(ledger, said, body)
        metrics.rated(rating=rating, reason=said["reason"])
        return jsonify(object="feedback", **said, sequence=appended.sequence)

    return blueprint


def _before(ledger: KeyedLedger, said: Mapping[str, str]) -> Leaf | None:
    """Return the record of the same rating, if that was given before.

    Raises:
        Problem: Another one was given.
    """
    before = next(iter(ledger.find(KIND, "request_id", said["request_id"], limit=1)), None)
    if before is not None and any(before.body.get(name) != said[name] for name in ("rating", "reason")):
        raise Problem(409, "feedback_given", "The answer was rated already.", param="request_id")
    return before


def _append(ledger: KeyedLedger, said: Mapping[str, str], body: Mapping[str, Any]) -> Appended:
    try:
        # Of two who say it at once, at this gateway or beside it, the ledger takes one.
        return ledger.append(KIND, body, key=f"feedback {said['request_id']}")
    except LedgerRefusedError:
        _before(ledger, said)
        raise


def _read(untrusted: dict[str, Any]) -> dict[str, str]:
    for name in untrusted:
        if name not in {"request_id", "rating", "reason"}:
            raise unknown_parameter(name)
    request_id, rating, reason = untrusted.get("request_id"), untrusted.get("rating"), untrusted.get("reason", "other")
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise invalid("request_id", "The x-request-id of an answer.")
    if rating not in RATINGS:
        raise invalid("rating", f"One of {', '.join(RATINGS)}.")
    if reason not in REASONS:
        raise invalid("reason", f"One of {', '.join(REASONS)}.")
    return {"request_id": request_id, "rating": rating, "reason": reason}
