"""Quantization levels that do not serve production unless a person accepts one by name (I23; ADR 31).

They lose so much quality that a passed task set does not speak for the rest of the work. They may be received,
validated and compared in test. The level is what the version's descriptor says, which two people approve by digest. A
person's word for one version (`sealift models accept-level`) is a record of the ledger; the gate `level` then shows it,
with name and reason, to everybody who approves.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.errors import GateFailedError
from media import canonical
from media.attachedprofile import AttachedSettings
from media.gguf import GgufHeader

ACCEPTED: Final = "model.level-accepted"
NOT_FOR_PRODUCTION: Final[Mapping[str, str]] = {
    "Q2_K": "significant",
    "Q3_K_S": "high",
    "Q4_0": "medium, and the format is a legacy one",
}
"""Level and its loss of quality, as the build side's table has it."""

_FILE_TYPES: Final[Mapping[int, str]] = {2: "Q4_0", 10: "Q2_K", 11: "Q3_K_S"}
"""llama.cpp's own number of each, in the header of a GGUF file."""

_WORDS: Final = re.compile(r"[A-Z0-9_]+", re.ASCII)


def level_of(quantization: str) -> str | None:
    """Return the level that is not for production and that a descriptor's text names; None for any other."""
    named = quantization.upper().replace("-", "_")
    return next(iter(sorted(NOT_FOR_PRODUCTION.keys() & set(_WORDS.findall(named)))), None)


def level_of_weights(header: GgufHeader) -> str | None:
    """Return the level that is not for production and that the weights' own header tells; None for any other.

    The header's number is a word as well, so where most bytes of all tensors are of Q2_K, that counts besides.
    """
    named = header.metadata.get("general.file_type")
    if isinstance(named, int) and named in _FILE_TYPES:
        return _FILE_TYPES[named]
    lowest = sum(tensor.length for tensor in header.tensors if tensor.type_name == "Q2_K")
    return "Q2_K" if 2 * lowest > sum(tensor.length for tensor in header.tensors) else None


def acceptance(ledger: Ledger, model_digest: str) -> Mapping[str, Any] | None:
    """Return the newest record by which a person accepted a level for a version: level, person and reason."""
    found = ledger.find(kind=ACCEPTED, field="model_digest", value=model_digest, limit=1)
    return found[0].body if found else None


def require_level_for_production(
    descriptor: Mapping[str, Any], model_digest: str, accepted: Mapping[str, Any] | None = None
) -> None:
    """Pass when the level that a descriptor names may serve production, or was accepted for this version by name.

    Raises:
        GateFailedError: It is one of those that are not recommended.
    """
    level = level_of(str(descriptor.get("quantization", "")))
    if level is None or (accepted is not None and accepted.get("level") == level and accepted.get("person")):
        return
    raise GateFailedError(
        what=f"version {model_digest[:12]} may not be requested for production: its level is {level}",
        why=f"{level} is not recommended: its loss of quality is {NOT_FOR_PRODUCTION[level]}",
        fix="ask the sender for the model at Q4_K_M or higher, or let a person accept it: sealift models accept-level",
    )


def require_content_addressed(descriptor: Mapping[str, Any], model_digest: str) -> None:
    """Pass when the release brings the program that answers for a version, so that its digest says what that is.

    Raises:
        GateFailedError: It is answered by a socket of the test stage that somebody else listens on.
    """
    attached = canonical.mapping(descriptor.get("runtime", {}), "runtime").get("attached")
    if attached is None or AttachedSettings.from_json(attached, "runtime.attached").is_content_addressed:
        return
    raise GateFailedError(
        what=f"version {model_digest[:12]} may not be requested for production: it is not content-addressed",
        why="it is answered by a program that no release brought, so nobody can say which",
        fix="ask the sender for a release that brings the engine's program: models.runtime.attached",
    )
