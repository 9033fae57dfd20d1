"""What each quantization level of a model does on this machine, by the steps that validation measured.

The gate `load` keeps a version's curve of step times beside its other figures. How many tokens a second so many answers
get follows from it as the engine's scheduler decides by it; prompts are not in it. Which level serves best under load
is measured, not looked up: a smaller file is not always the faster one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Engine

from appliance.actions import versions
from appliance.errors import EngineProtocolError
from appliance.registry import catalog
from appliance.registry.catalog import Judgement
from appliance.registry.variants import Variant
from appliance.serve.curve import Curve, Plan

ANSWERS: Final = (1, 4, 8, 16)
_LOAD: Final = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One variant with its tokens a second by answers at once; empty where no curve of it was measured."""

    variant: Variant
    threads: int = 0
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


def level_speeds(state: Engine) -> dict[str, tuple[Level, ...]]:
    """Return the variants of each model, the least reduced first, with what was measured of each."""
    found = versions.variants(state)
    with state.connect() as session:
        return {
            model: tuple(_level(one, catalog.judgements(session, one.version.model_digest)) for one in variants)
            for model, variants in found.items()
        }


def fastest(levels: Iterable[Level]) -> Fastest | None:
    """Return the level that gives most with the most answers at once that can be compared; None where nothing can.

    Only what was measured with equally many threads is compared: as many as most were measured with.
    """
    measured = [one for one in levels if one.speeds]
    threads = [one.threads for one in measured]
    usual = max(threads, key=threads.count, default=0)
    for answers in reversed(ANSWERS):
        alike = [(one.speeds[answers], one) for one in measured if one.threads == usual and answers in one.speeds]
        if len({one.variant.quantization for _, one in alike}) > 1:
            _, best = max(alike, key=itemgetter(0))
            return Fastest(level=best, answers=answers)
    return None


def _level(variant: Variant, judged: Iterable[Judgement]) -> Level:
    untrusted = next((one.figures.get("step_curve") for one in judged if one.gate == _LOAD), None)
    if untrusted is None:
        return Level(variant=variant, speeds={})
    try:
        curve = Curve.from_json(untrusted)
    except EngineProtocolError:  # of another release's form
        return Level(variant=variant, speeds={})
    plan = Plan(curve, most=ANSWERS[-1], fills=_is_shared(variant.version.descriptor))
    speeds = {answers: round(answers / plan.seconds(answers)) for answers in ANSWERS if answers <= max(curve.micros)}
    return Level(variant=variant, threads=curve.threads, speeds=speeds)


def _is_shared(descriptor: Mapping[str, Any]) -> bool:
    """Tell whether all answers share one context, so that a step may be filled up."""
    llama_cpp = dict(descriptor.get("runtime") or {}).get("llama_cpp") or {}
    return llama_cpp.get("kv_unified", True) is True
