"""Which model and which quantization level a machine is good for: common figures beside what this machine has.

Advice, never a verdict: the requirements' decision trees and tables (B1 to B56, I22 to I26), computed for the memory
that this machine has or that somebody plans; and this machine beside those that the requirements ask for (`scales`).
What is loaded is judged by `sealift models fit` and the gates.
"""

import os
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.scales import Hardware, Scale, compare
from appliance.registry.known_models import KnownModel, known_models, machine_for, recommend_model, tables
from appliance.registry.levels import Level, on_processor, recommend
from appliance.registry.memory import Room

_GIB: Final = 2**30
# Beside the weights: the cache of keys and values and what a step needs; C27 asks that a plan counts it.
_HEADROOM: Final = 1.2
_CPU_BILLIONS: Final = 13
_LARGE_BILLIONS: Final = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One model of the catalogue on this memory: the best level that fits, or none, and what `tried` would take."""

    model: KnownModel
    level: Level | None
    tried: Level
    gib: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            **self.model.to_json(),
            "level": None if self.level is None else self.level.name,
            "tried": self.tried.name,
            "needs_gib_tenths": round(self.gib * 10),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is advised for so much memory."""

    memory_gib: float
    is_cpu: bool
    cores: int
    recommended: str
    choices: tuple[Choice, ...]
    misfits: tuple[Choice, ...]
    scales: tuple[Scale, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers, the tables beside them."""
        return {
            "memory_gib_tenths": round(self.memory_gib * 10),
            "on": "cpu" if self.is_cpu else "gpu",
            "cores": self.cores,
            "recommended": self.recommended,
            "choices": [one.to_json() for one in self.choices],
            "misfits": [one.to_json() for one in self.misfits],
            "scales": [one.to_json() for one in self.scales],
            "warnings": list(self.warnings),
            "tables": {name: tables()[name] for name in ("gpus", "speeds", "machines", "scales", "sizes")},
        }


def advise(
    *,
    room: Room,
    gpu_gib: float = 0,
    task: str = "chat",
    quality: str = "high",
    latency_ms: float = 1000,
    hardware: Hardware | None = None,
) -> Advice:
    """Return what to choose.

    Args:
        room: What this machine has.
        gpu_gib: Memory of its GPUs together; 0 for the processor alone.
        task: chat, code, completion, review, documentation or embeddings.
        quality: highest, high, medium or low.
        latency_ms: What a caller waits at most.
        hardware: This machine, to be compared with the requirements' scales; absent where one is planned.

    Raises:
        UsageError: No such task or quality; or nothing of that quality fits.
    """
    memory = gpu_gib or room.engines / _GIB
    kind = "code" if task in {"code", "completion", "review"} else "chat"
    choices = [_choice(model, memory) for model in known_models() if model.task == kind]
    choices.sort(key=lambda one: (-one.model.billions, one.model.tag))
    fitting = [one for one in choices if one.level is not None]
    recommended = recommend_model(task=task, memory_gib=memory, quality=quality, latency_ms=latency_ms)
    return Advice(
        memory_gib=memory,
        is_cpu=not gpu_gib,
        cores=len(os.sched_getaffinity(0)),
        recommended=recommended,
        choices=tuple(fitting),
        misfits=tuple(one for one in choices if one.level is None),
        scales=() if hardware is None else compare(hardware),
        warnings=tuple(_warnings(fitting, is_cpu=not gpu_gib, room=room, hardware=hardware)),
    )


def _choice(model: KnownModel, memory_gib: float) -> Choice:
    """Return the best level that fits with room for the cache; none where even the smallest advised one does not."""
    found = recommend(billions=model.billions, memory_gib=memory_gib)
    gib = model.billions * 1e9 * found.bits_per_weight / 8 / _GIB * _HEADROOM
    if gib <= memory_gib:
        return Choice(model=model, level=found, tried=found, gib=gib)
    return Choice(model=model, level=None, tried=found, gib=gib)


def _warnings(fitting: list[Choice], *, is_cpu: bool, room: Room, hardware: Hardware | None) -> list[str]:
    said = []
    if is_cpu:
        said.append(
            "The processor alone is for development, tests, batches and low volume (B22); "
            "measure it: `sealift capacity`."
        )
        is_x86 = hardware is None or hardware.platform == "linux_x86_64"
        said.append(on_processor(None if hardware is None else hardware.cpu_flags, is_x86=is_x86))
        if any(one.model.billions > _CPU_BILLIONS for one in fitting):
            said.append(
                "Models above 13B fit this memory and answer slowly on a processor; do not plan a 70B so (B54)."
            )
    elif not any(one.model.billions >= _LARGE_BILLIONS for one in fitting):
        said.append("A 70B does not fit these GPUs; it takes 40 to 48 GB in four bits, on two GPUs (B12, B54, B56).")
    largest = max((one.model.billions for one in fitting), default=0)
    machine = machine_for(largest)
    if machine is not None and room.total / _GIB < machine["memory_gib"] * 15 / 16:
        said.append(
            f"For {largest}B the requirements ask for {machine['memory_gib']} GiB of memory (B14); "
            f"this machine has {room.total / _GIB:.0f}."
        )
    return said
