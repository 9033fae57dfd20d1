"""The shapes of the bodies that the projection reads, checked before they are appended.

What is in the ledger cannot be taken back, so a body that the projection could not apply is refused at the door. Only
what the projection reads is demanded; more members are welcome.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from appliance.errors import LedgerRefusedError

_Check = Callable[[object], bool]


def _text(value: object) -> bool:
    # PostgreSQL's text has no NUL, and a record that only one database can take is none.
    return isinstance(value, str) and bool(value) and "\0" not in value


def _optional_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and "\0" not in value)


def _whole(value: object) -> bool:
    return type(value) is int and value >= 0


def _optional_line(value: object) -> bool:
    return value is None or (_whole(value) and value != 0)


def _truth(value: object) -> bool:
    return isinstance(value, bool)


def _mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _approvals(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(one, Mapping) and _text(one.get("person")) for one in value
    )


def _terms(value: object) -> bool:
    numbers = ("percent", "hours", "watch_hours")
    return isinstance(value, Mapping) and _text(value.get("version")) and all(_whole(value.get(one)) for one in numbers)


_LINE: Final[Mapping[str, _Check]] = {"previous": _optional_text, "line": _optional_line}
_ROLLOUT: Final[Mapping[str, _Check]] = {"model_digest": _text, **_LINE, "terms": _terms}
_BY_ONE: Final[Mapping[str, _Check]] = {**_ROLLOUT, "person": _text, "reason": _optional_text}
_CALLER: Final[Mapping[str, _Check]] = {"what": _text, "name": _text, "person": _text, "reason": _optional_text}
_KEY: Final[Mapping[str, _Check]] = {
    "key_id": _text,
    "secret_hmac": _text,
    "key_version": _whole,
    "department": _text,
    "phi_mode": _text,
    "tier": _text,
    "owner": _text,
    "stage": _optional_text,
    "expires_at": _optional_text,
}

SHAPES: Final[Mapping[str, Mapping[str, _Check]]] = {
    "release.received": {"serial": _whole, "release": _text, "code": _text},
    "install.done": {"serial": _whole, "release": _text},
    "model.registered": {
        "model_digest": _text,
        "name": _text,
        "version": _text,
        "weights_digest": _text,
        "serial": _whole,
        "descriptor": _mapping,
    },
    "model.deleted": {"model_digest": _text, "person": _text, "reason": _text},
    "gate.result": {
        "model_digest": _text,
        "gate": _text,
        "passed": _truth,
        "evidence_digest": _text,
        "figures": _mapping,
    },
    "promotion.made": {"model_digest": _text, **_LINE, "approvals": _approvals},
    "promotion.rolled-back": {
        "model_digest": _text,
        **_LINE,
        "person": _text,
        "reason": _optional_text,
    },
    "promotion.stopped": {**_LINE, "person": _text, "reason": _optional_text},
    "promotion.canary-started": {**_ROLLOUT, "approvals": _approvals},
    "promotion.canary-held": _BY_ONE,
    "promotion.canary-resumed": _BY_ONE,
    "promotion.canary-aborted": _BY_ONE,
    "promotion.cut-over": _BY_ONE,
    "promotion.retired": {**_BY_ONE, "model_digest": _optional_text},
    "stop.made": _CALLER,
    "stop.lifted": _CALLER,
    "key.created": _KEY,
    "key.ruled": {"key_id": _text, "rule": _text, "model_digest": _optional_text},
    "stage.loaded": {"model_digest": _text, "person": _text, "evidence_digest": _optional_text},
    "stage.unloaded": {"model_digest": _text, "person": _text},
    "key.revoked": {"key_id": _text, "reason": _optional_text},
}


def require_shape(kind: str, body: Mapping[str, Any]) -> None:
    """Return when the projection can apply this body, or does not read the kind.

    Raises:
        LedgerRefusedError: A member is absent or of a wrong type.
    """
    for name, is_right in SHAPES.get(kind, {}).items():
        if not is_right(body.get(name)):
            raise LedgerRefusedError(
                what=f"a record of kind {kind} cannot be written",
                why=f"its member {name} is {'absent' if name not in body else 'of a wrong type'}",
                fix="report it: a fault of ours",
            )
