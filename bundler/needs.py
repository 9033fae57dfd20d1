"""What the wheels of a release ask of the machines that it is for."""

from dataclasses import dataclass
from typing import Final

from packaging.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the wheels of a release ask of every machine that it is for; part of what is signed."""

    cpu_flags: tuple[str, ...] = ()
    driver: str = ""

    def __or__(self, other: "Needs") -> "Needs":
        """Return what both ask together."""
        drivers = [text for text in (self.driver, other.driver) if text]
        return Needs(
            cpu_flags=tuple(sorted({*self.cpu_flags, *other.cpu_flags})),
            driver=max(drivers, key=Version, default=""),
        )


NOTHING: Final = Needs()
"""What a release without wheels asks."""
