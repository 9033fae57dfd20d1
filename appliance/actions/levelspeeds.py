"""What each quantization level of a model does on this machine, by the steps that validation measured.

The gate `load` keeps a version's curve of step times in the evidence of its run; the ledger's record of the gate has
single figures only. How many tokens a second so many answers get follows from the curve as the engine's scheduler
decides by it; prompts are not in it. Which level serves best under load is measured, not looked up: a smaller file is
not always the faster one. Evidence that is gone or does not verify is as if nothing had been measured.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Engine

from appliance.actions import versions
from appliance.actions.production import Proofs
from appliance.config import Places
from appliance.registry import catalog, evidence
from appliance.registry.catalog import Judgement
from appliance.registry.variants import Variant
from appliance.serve.curve import Curve, Plan
from media import canonical
from media.errors import SealiftError

ANSWERS: Final = (1, 4, 8, 16)
_LOAD: Final = "load"
_Read = Callable[[str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One variant with its tokens a second by answers at once; empty where no curve of it was measured.

    `machine` tells the machine that it was measured on from others; see `Curve`.
    """

    variant: Variant
    threads: int = 0
    machine: str = ""
    speeds: Mapping[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        speeds = [{"answers": answers, "tokens_per_second": speed} for answers, speed in self.speeds.items()]
        return {**self.variant.to_json(), "threads": self.threads or None, "speeds": speeds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fastest:
    """The level that gives most, and with how many answers at once."""

    level: Level
    answers: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"model_digest": self.level.variant.version.model_digest, "answers": self.answers}

    def told(self) -> str:
        """Return it as people read it, with what was not measured."""
        told = f"{self.level.variant.quantization} gives most with"
        if self.answers > 1:
            return f"{told} {self.answers} answers at once, as validation measured it"
        return f"{told} one answer alone, as validation measured it; of no two levels it measured more at once"


def level_speeds(places: Places, state: Engine, *, proofs: Proofs | None = None) -> dict[str, tuple[Level, ...]]:
    """Return the variants of each model, the least reduced first, with what was measured of each.

    Args:
        places: Where evidence lies.
        state: What is registered and judged.
        proofs: Who reads evidence where this process may not.
    """

    def read(digest: str) -> bytes:
        return evidence.content(places, digest) if proofs is None else proofs.text("evidence", digest)

    found = versions.variants(state)
    with state.connect() as session:
        return {
            model: tuple(_level(one, catalog.judgements(session, one.version.model_digest), read) for one in variants)
            for model, variants in found.items()
        }


def fastest(levels: Iterable[Level]) -> Fastest | None:
    """Return the level that gives most with the most answers at once that can be compared; None where nothing can.

    Only what was measured on one machine with equally many threads is compared: as most were.
    """
    measured = [one for one in levels if one.speeds]
    ways = [(one.threads, one.machine) for one in measured]
    usual = max(ways, key=ways.count, default=None)
    own = [one for one in measured if (one.threads, one.machine) == usual]
    for answers in reversed(ANSWERS):
        alike = [(one.speeds[answers], one) for one in own if answers in one.speeds]
        if len({one.variant.quantization for _, one in alike}) > 1:
            _, best = max(alike, key=itemgetter(0))
            return Fastest(level=best, answers=answers)
    return None


def _level(variant: Variant, judged: Iterable[Judgement], read: _Read) -> Level:
    newest = next((one for one in judged if one.gate == _LOAD), None)
    try:
        curve = None if newest is None else _curve(read(newest.evidence_digest))
    except SealiftError:  # gone, or of another release's form
        curve = None
    if curve is None:
        return Level(variant=variant, speeds={})
    plan = Plan(curve, most=ANSWERS[-1], fills=_is_shared(variant.version.descriptor))
    speeds = {answers: round(answers / plan.seconds(answers)) for answers in ANSWERS if answers <= max(curve.micros)}
    return Level(variant=variant, threads=curve.threads, machine=curve.machine, speeds=speeds)


def _curve(untrusted: bytes) -> Curve | None:
    document = canonical.mapping(canonical.loads_canonical(untrusted, max_bytes=evidence.MAX_BYTES), "evidence")
    found = evidence.steps_of(document)
    return None if found is None else Curve.from_json(found)


def _is_shared(descriptor: Mapping[str, Any]) -> bool:
    """Tell whether all answers share one context, so that a step may be filled up."""
    llama_cpp = dict(descriptor.get("runtime") or {}).get("llama_cpp") or {}
    return llama_cpp.get("kv_unified", True) is True
