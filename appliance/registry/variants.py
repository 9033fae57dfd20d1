"""Variants: versions of one model that differ in how their weights are quantized.

They belong together by name: the model's, with the level taken off its end. Each is a version of its own, with its own
gates and approvals.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.registry.catalog import Version
from appliance.registry.levels import LEVELS, level


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One version among its model's."""

    version: Version
    quantization: str
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "quantization": self.quantization,
            "bytes": self.bytes,
        }


def variants_of(versions: Iterable[Version]) -> dict[str, tuple[Variant, ...]]:
    """Return the variants of each model by the model's name, the least reduced first."""
    found: dict[str, list[Variant]] = {}
    for one in versions:
        quantization = str(one.descriptor.get("quantization", ""))
        variant = Variant(version=one, quantization=quantization, bytes=_bytes(one.descriptor))
        found.setdefault(family(one.name, quantization), []).append(variant)
    return {name: tuple(sorted(own, key=_order)) for name, own in sorted(found.items())}


def family(name: str, quantization: str) -> str:
    """Return the model's name without the level: ``smollm2-135m-q4_1`` and ``smollm2-135m`` are one model's."""
    lower = name.lower()
    for separator in ("-", "_", ".", ":"):
        for known in (quantization, *(each.name for each in LEVELS)):
            ending = f"{separator}{known.lower()}"
            if known and lower.endswith(ending) and len(lower) > len(ending):
                return name[: -len(ending)]
    return name


def _order(variant: Variant) -> tuple[float, str, str]:
    known = level(variant.quantization)
    return (-(known.bits_per_weight if known else 0.0), variant.version.name, variant.version.version)


def _bytes(descriptor: Mapping[str, Any]) -> int:
    files = descriptor.get("files", ())
    return sum(int(one.get("length", 0)) for one in files if one.get("role") == "weights")
