"""Quantization levels that no site may bring into production, whoever approves (I23; docs/operator/promoting.md).

They lose so much quality that a passed task set does not speak for the rest of the work. They may be received,
validated and compared in test. The level is what the version's descriptor says, which two people approve by digest.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from appliance.errors import GateFailedError

NOT_FOR_PRODUCTION: Final[Mapping[str, str]] = {
    "Q2_K": "significant",
    "Q3_K_S": "high",
    "Q4_0": "medium, and the format is a legacy one",
}
"""Level and its loss of quality, as the build side's table has it."""

_WORDS: Final = re.compile(r"[A-Z0-9_]+", re.ASCII)


def require_level_for_production(descriptor: Mapping[str, Any], model_digest: str) -> None:
    """Pass when the level that a descriptor names may serve production.

    Raises:
        GateFailedError: It is one of those that are not recommended.
    """
    named = str(descriptor.get("quantization", "")).upper().replace("-", "_")
    for level in NOT_FOR_PRODUCTION.keys() & set(_WORDS.findall(named)):
        raise GateFailedError(
            what=f"version {model_digest[:12]} may not be requested for production: its level is {level}",
            why=f"{level} is not recommended: its loss of quality is {NOT_FOR_PRODUCTION[level]}",
            fix="ask the sender for the model at Q4_K_M or higher; this version may go on being tried in test",
        )
