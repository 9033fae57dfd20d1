"""Proof that an environment is complete: every dependency of every chosen wheel is among them, as the target sees it.

A lock says what to install; the wheels' own METADATA says what they need. A lock that was made for another machine, by
hand, or without its extras leaves something out, which an isolated box would notice after the trip. Here the wheels
are walked with the target's markers before anything is signed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import WheelTarget
from bundler.targettags import environments
from bundler.wheelmetadata import Dependencies, read

_SHOWN: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One dependency that is not met; `package` is the name of one that is not there at all."""

    wanted: str
    by: str
    found: str
    package: str = ""

    def __str__(self) -> str:
        """Return it for a person."""
        state = f"{self.found} is locked" if self.found else "not locked"
        return f"{self.wanted} for {self.by} ({state})"


def require_complete(
    wheels: Sequence[ChosenWheel], target: WheelTarget, *, label: str, without: Collection[str] = ()
) -> None:
    """Pass when the wheels of an environment need nothing but each other, and what people left out with a reason.

    Args:
        wheels: All of the environment, with the extras that the lock asks of each.
        target: The machine that markers are judged for.
        label: Names the environment in errors.
        without: Canonical names of what is left out.

    Raises:
        SourceError: A dependency is missing or has another version, a wheel refuses the target's Python, or one names
            a dependency by its address.
        ScanError: A wheel's METADATA cannot be read.
    """
    extras = {wheel.name: wheel.extras for wheel in wheels}
    found = find_gaps({wheel.name: read(wheel.file) for wheel in wheels}, target, extras=extras)
    gaps = [gap for gap in found if gap.package not in without]
    if idle := sorted(set(without) - {gap.package for gap in found}):
        raise SourceError(
            what=f"locks.left_out: {idle[0]} is not left out of {label}",
            why="it is locked, or nothing asks for it",
            fix="remove it from locks.left_out",
        )
    if gaps:
        more = f"; {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
        raise SourceError(
            what=f"the environment {label} is not complete for Python {target.python} on {target.platform}",
            why="; ".join(str(gap) for gap in gaps[:_SHOWN]) + more,
            fix="lock again for the target with all extras, so that the lock holds every dependency",
        )


def find_gaps(
    wheels: Mapping[str, Dependencies], target: WheelTarget, *, extras: Mapping[str, Iterable[str]]
) -> tuple[Gap, ...]:
    """Return what is missing, sorted; empty for a complete set. `wheels` are by canonical name."""
    active: dict[str, set[str]] = {name: {""} for name in wheels}
    for name, wanted in extras.items():
        if name in active:
            active[name] |= {canonicalize_name(extra) for extra in wanted}
    found: set[Gap] = set()
    waiting = sorted(wheels)
    while waiting:
        name = waiting.pop()
        wheel = wheels[name]
        by = f"{name} {wheel.version}"
        if not _runs(wheel.requires_python, target):
            found.add(Gap(wanted=f"Python {wheel.requires_python}", by=by, found=f"Python {target.python}"))
        for requirement in wheel.requires:
            if not _applies(requirement, active[name], target):
                continue
            needed = canonicalize_name(requirement.name)
            if requirement.url is not None:
                found.add(Gap(wanted=f"{needed} from an address", by=by, found="nothing that way"))
                continue
            there = wheels.get(needed)
            if there is None or not requirement.specifier.contains(Version(there.version), prereleases=True):
                version = f"{needed} {there.version}" if there else ""
                absent = "" if there else needed
                found.add(Gap(wanted=f"{needed}{requirement.specifier}", by=by, found=version, package=absent))
                continue
            asked = {canonicalize_name(extra) for extra in requirement.extras} - active[needed]
            if asked:
                active[needed] |= asked
                waiting.append(needed)
    return tuple(sorted(found, key=str))


def _applies(requirement: Requirement, extras: Iterable[str], target: WheelTarget) -> bool:
    """Whether any extra and any patch release of Python asks for it: what may be needed has to be there."""
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate({**environment, "extra": extra})
        for environment in environments(target)
        for extra in extras
    )


def _runs(requires_python: SpecifierSet, target: WheelTarget) -> bool:
    return any(
        requires_python.contains(environment["python_full_version"], prereleases=True)
        for environment in environments(target)
    )
