"""Whether a release is for this site and this machine, by signed facts against what the machine says of itself."""

import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from media import canonical
from media.errors import TargetMismatchError, WrongSiteError
from media.release import ReleaseTerms, TargetMachine

LEVELS: Final = ("installed", "answered-on-cpu", "answered-on-target")
_CPUINFO: Final = Path("/proc/cpuinfo")
_CPUINFO_BYTES: Final = 65536
_NVIDIA: Final = Path("/proc/driver/nvidia")
_NVIDIA_BYTES: Final = 4096
_DRM: Final = Path("/sys/class/drm")
_PCI: Final = re.compile(r"0x([0-9a-f]{4})\n?", re.ASCII)
_DRIVER: Final = re.compile(r"^NVRM.*?\s([0-9]{1,4}(?:\.[0-9]{1,6}){1,3})\s", re.ASCII | re.MULTILINE)
_MODEL: Final = re.compile(r"^Model:\s*(\S[^\n]{0,63})$", re.ASCII | re.MULTILINE)
_NUMBER: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine is, as far as a release may depend on it."""

    profile: str
    python: str
    platform: str
    glibc: str
    cpu_flags: frozenset[str]
    gpus: frozenset[str] = frozenset()
    driver: str = ""

    @classmethod
    def probe(cls, profile: str) -> Self:
        """Ask this machine; the profile is the site file's."""
        return cls(
            profile=profile,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            platform=f"linux_{platform.machine()}",
            glibc=platform.libc_ver()[1] or "0",
            cpu_flags=_cpu_flags(_CPUINFO),
            gpus=_gpus(_NVIDIA) | _rendering(_DRM),
            driver=_driver(_NVIDIA),
        )

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read what `to_json` wrote.

        Raises:
            MalformedError: A field is wrong.
        """
        what = "The machine's facts"
        required = ("cpu_flags", "driver", "glibc", "gpus", "platform", "profile", "python")
        value = canonical.exact_keys(untrusted, required, (), what)
        return cls(
            profile=canonical.text(value["profile"], what),
            python=canonical.text(value["python"], what),
            platform=canonical.text(value["platform"], what),
            glibc=canonical.text(value["glibc"], what),
            cpu_flags=frozenset(canonical.text(each, what) for each in canonical.array(value["cpu_flags"], what)),
            gpus=frozenset(canonical.text(each, what) for each in canonical.array(value["gpus"], what)),
            driver=canonical.text(value["driver"], what, may_be_empty=True),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "profile": self.profile,
            "python": self.python,
            "platform": self.platform,
            "glibc": self.glibc,
            "cpu_flags": sorted(self.cpu_flags),
            "gpus": sorted(self.gpus),
            "driver": self.driver,
        }


def require_site(terms: ReleaseTerms, site: str) -> None:
    """Refuse a release that was made for others.

    Raises:
        WrongSiteError: This site is not among its sites; both are named.
    """
    if site not in terms.sites:
        raise WrongSiteError(
            what=f"release {terms.release} is for {_listed(terms.sites)}, this site is {site}",
            why="the sites are part of what people signed",
            fix=f"ask the sender for a release for {site}, and return this medium",
        )


def require_fit(terms: ReleaseTerms, machine: Machine) -> TargetMachine:
    """Return the kind of machine, among those the release is for, that this one is.

    Raises:
        TargetMismatchError: It is none of them; each reason is named.
    """
    reasons = []
    for target in terms.machines:
        lacks = list(_lacks(target, machine))
        if not lacks:
            return target
        reasons.append(f"{target.profile}: {', '.join(lacks)}")
    raise TargetMismatchError(
        what=f"release {terms.release} does not fit this machine",
        why="; ".join(reasons)[:600] or "it names no machine",
        fix="send this machine's facts (`sealift doctor --json`) to the sender",
    )


def require_rehearsed(level: str | None, *, demanded: str | None, has_models: bool = True) -> None:
    """Refuse a release that was rehearsed less than this site demands.

    Args:
        level: What the signed rehearsal says; None when there is none.
        demanded: The site's policy; None where a candidate is being rehearsed just now.
        has_models: Whether the release brings weights; one that brings none has nothing to answer with, and a site that
            demands any answer demands of it that it was installed.

    Raises:
        TargetMismatchError: It was.
    """
    if demanded is None:
        return
    demanded = demanded if has_models else LEVELS[0]
    reached = LEVELS.index(level) if level in LEVELS else -1
    if reached < LEVELS.index(demanded):
        raise TargetMismatchError(
            what=f"the release was rehearsed to the level {level or 'none'}, this site demands {demanded}",
            why="policy.rehearsal_level of the site file",
            fix="ask the sender to rehearse the release on such a machine and sign that",
        )


def _lacks(target: TargetMachine, machine: Machine) -> Iterable[str]:
    if target.profile != machine.profile:
        yield f"profile {machine.profile} expected {target.profile}"
    if target.platform != machine.platform:
        yield f"platform {machine.platform} expected {target.platform}"
    if target.python != machine.python:
        yield f"python {machine.python} expected {target.python}"
    if _version(machine.glibc) < _version(target.glibc):
        yield f"glibc {machine.glibc} older than {target.glibc}"
    if absent := sorted(set(target.cpu_flags) - machine.cpu_flags):
        yield f"the processor lacks {_listed(absent)}"
    if target.gpu and target.gpu not in machine.gpus:
        yield f"GPU {_listed(sorted(machine.gpus)) or 'none'} expected {target.gpu}"
    if target.driver and _version(machine.driver) < _version(target.driver):
        yield f"GPU driver {machine.driver or 'none'} older than {target.driver}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBER.findall(text))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _cpu_flags(source: Path) -> frozenset[str]:
    try:
        with source.open("rb") as stream:
            text = stream.read(_CPUINFO_BYTES).decode("ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def _driver(folder: Path) -> str:
    found = _DRIVER.search(_start_of(folder / "version"))
    return found[1] if found else ""


def _gpus(folder: Path) -> frozenset[str]:
    """Return what the driver calls this machine's GPUs; without a driver nothing runs on them."""
    texts = [_start_of(file) for file in sorted(folder.glob("gpus/*/information"))[:64]]
    return frozenset(found[1].strip() for text in texts if (found := _MODEL.search(text)))


def _rendering(folder: Path) -> frozenset[str]:
    """Return vendor and device, such as "1002:744c", of each PCI card that a driver of Linux itself lets compute."""
    found = set()
    for node in sorted(folder.glob("renderD*"))[:64]:
        numbers = [_PCI.fullmatch(_start_of(node / "device" / name)) for name in ("vendor", "device")]
        if all(numbers):
            found.add(":".join(number[1] for number in numbers if number))
    return frozenset(found)


def _start_of(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_NVIDIA_BYTES).decode("ascii", errors="replace")
    except OSError:
        return ""
