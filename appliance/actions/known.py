"""What is known of other versions when one is validated, each from its own evidence: production, and full precision.

Where several models are in production, a version is compared with what serves under its own name, and one of another
name with none: a model for classes is no worse chat model (ADR 56). Full precision is a version of the same name whose
weights were not quantized, carried for tests only. Evidence that is gone or does not verify is as if there were none:
then nothing is compared, and the figures say so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from appliance.actions.gating.bench import Accepted, Known
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.promote import levels
from appliance.registry import catalog, evidence
from appliance.registry.catalog import Judgement, Version
from appliance.state import lines
from media.errors import SealiftError

_FULL: Final = re.compile(r"\b(?:F16|BF16|F32|FP16|FP32)\b", re.ASCII)
_TASKS: Final = "task-evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Versions to compare with; None where there is none, or nothing is known of it."""

    production: Known | None
    full_precision: Known | None


def others(config: Config, state: Engine, version: Version) -> Others:
    """Return what a version is compared with."""
    with state.connect() as session:
        served = lines.served(session)
        versions = catalog.versions(session)
        judged = {one.model_digest: catalog.judgements(session, one.model_digest) for one in versions}
    rest = [one for one in versions if one.model_digest != version.model_digest]
    serving = next(
        (one for one in rest if one.model_digest in served.values() and (len(served) == 1 or one.name == version.name)),
        None,
    )
    full = [one for one in rest if one.name == version.name and is_full_precision(one)]
    found = [of(config, one, judged[one.model_digest]) for one in full] if not is_full_precision(version) else []
    return Others(
        production=None if serving is None else of(config, serving, judged[serving.model_digest]),
        full_precision=next((one for one in found if one is not None), None),
    )


def of(config: Config, version: Version, judged: Sequence[Judgement]) -> Known | None:
    """Return what a version's newest evaluation found; None where there is none that can be read."""
    newest = next((one for one in judged if one.gate == _TASKS), None)
    if newest is None:
        return None
    try:
        document = evidence.read(config.at, newest.evidence_digest)
    except SealiftError:
        return None
    return Known(
        model_digest=version.model_digest,
        evidence_digest=newest.evidence_digest,
        gates={str(gate["gate"]): gate["figures"] for gate in document["gates"]},
        quantization=str(version.descriptor.get("quantization", "")),
    )


def is_full_precision(version: Version) -> bool:
    """Tell whether a version's descriptor says that its weights were not quantized."""
    return _FULL.search(str(version.descriptor.get("quantization", "")).upper()) is not None


def accepted(ledger: Ledger, model_digest: str) -> Accepted | None:
    """Return the newest word of a person for a version's level."""
    found = levels.acceptance(ledger, model_digest)
    if found is None:
        return None
    return Accepted(level=str(found.get("level")), person=str(found.get("person")), reason=str(found.get("reason")))
