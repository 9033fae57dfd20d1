"""The machine that a release is made for: what wheels, packages and weights are chosen by.

Its facts come from the recipe's table, from a probe that ran on the machine, or from both; where both state a fact they
must agree. What is signed of it is what a machine must have (FMT-62), not all that the probed one happens to have.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from bundler.errors import RecipeError
from bundler.probe.facts import Probe

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's name for each machine type that a release can be made for."""

_FIX: Final = "see docs/operator/targets.md"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}", re.ASCII)
_GPU: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ()/+._-]{{0,63}}|{_PCI.pattern}", re.ASCII)
_PYTHON: Final = re.compile(r"3\.(1[1-9]|[2-9][0-9])", re.ASCII)
_GLIBC: Final = re.compile(r"2\.[0-9]{1,2}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){1,3}", re.ASCII)
_FLAG: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)
_TEXTS: Final = {
    "profile": _NAME,
    "python": _PYTHON,
    "platform": re.compile(f"linux_({'|'.join(ARCHITECTURES)})", re.ASCII),
    "glibc": _GLIBC,
    "gpu": _GPU,
    "driver": _VERSION,
    "cuda": _VERSION,
    "distribution": _NAME,
    "os_release": _NAME,
    "codename": _NAME,
}
_DEFAULTS: Final = {"python": "3.11", "platform": "linux_x86_64", "glibc": "2.36"}
KEYS: Final = (*_TEXTS, "cpu_flags", "gpu_count", "gpu_memory_mib")
"""What a recipe's table may hold, besides the name of a probe."""


class WheelTarget(Protocol):
    """The three facts that decide which wheel fits."""

    @property
    def python(self) -> str:
        """Version such as "3.11"."""

    @property
    def platform(self) -> str:
        """Such as "linux_x86_64"."""

    @property
    def glibc(self) -> str:
        """Version such as "2.36"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of machine.

    Args:
        profile: Its name, such as "cpu-avx2".
        python: Version of the interpreter.
        platform: Such as "linux_x86_64".
        glibc: The version it has; a wheel may need an older one.
        cpu_flags: What its processor has, sorted; all that is certain, where no probe ran.
        gpu: What its driver calls the GPU, or vendor and device ("1002:744c"); empty where there is none.
        gpu_count: How many of that name.
        gpu_memory_mib: Of each.
        driver: The GPU driver's version.
        cuda: The newest CUDA that the driver runs.
        distribution: Such as "debian"; empty where nobody said. Also the next two.
        os_release: Such as "12".
        codename: Such as "bookworm".
        packages: Installed Debian packages as "name version architecture"; None where nobody said.
        demanded_flags: What the recipe's own table asks of the processor; these are signed.
        probed: A probe told these facts.
    """

    profile: str
    python: str = _DEFAULTS["python"]
    platform: str = _DEFAULTS["platform"]
    glibc: str = _DEFAULTS["glibc"]
    cpu_flags: tuple[str, ...] = ()
    gpu: str = ""
    gpu_count: int = 0
    gpu_memory_mib: int = 0
    driver: str = ""
    cuda: str = ""
    distribution: str = ""
    os_release: str = ""
    codename: str = ""
    packages: tuple[str, ...] | None = field(default=None, repr=False)
    demanded_flags: tuple[str, ...] = ()
    probed: bool = False

    @property
    def machine(self) -> str:
        """The machine type, such as "x86_64"."""
        return self.platform.removeprefix("linux_")

    @property
    def debian_architecture(self) -> str:
        """Debian's name of the machine type."""
        return ARCHITECTURES[self.machine]

    @classmethod
    def from_table(cls, table: Mapping[str, Any], *, key: str, probe: Probe | None = None) -> Self:
        """Return the machine of a recipe's table, with the facts of a probe where the table names one.

        Args:
            table: The keys that the recipe states, without `probe`; absent and None mean the same.
            key: Where it stands in the recipe, such as "targets.0", for errors.
            probe: What the machine said.

        Raises:
            RecipeError: A key is unknown or wrong, or table and probe contradict each other; `what` names the key.
        """
        stated = {name: value for name, value in table.items() if value is not None}
        for name in stated:
            if name not in KEYS:
                raise _wrong(f"{key}.{name[:80]}", "not a key of a target", "unknown keys are refused")
        texts: dict[str, Any] = {name: _text(stated[name], name, key) for name in _TEXTS if name in stated}
        if "profile" not in texts:
            raise _wrong(f"{key}.profile", "it is missing", "a target has a name")
        flags = _flags(stated.get("cpu_flags", ()), key)
        numbers: dict[str, Any] = {
            name: _number(stated[name], f"{key}.{name}") for name in ("gpu_count", "gpu_memory_mib") if name in stated
        }
        if probe is None:
            return cls(**texts, **numbers, cpu_flags=flags, demanded_flags=flags)
        told = _told(probe, key)
        for name, value in (*texts.items(), *numbers.items()):
            if name in told and told[name] != value:
                raise _wrong(
                    f"{key}.{name}", f"the recipe says {value}, the probe {told[name]}", "both speak of one machine"
                )
        if _PCI.fullmatch(texts.get("gpu", "")) and texts["gpu"] not in {gpu.pci for gpu in probe.gpus}:
            raise _wrong(f"{key}.gpu", f"the probed machine has no {texts['gpu']}", "both speak of one machine")
        if absent := sorted(set(flags) - set(probe.cpu_flags)):
            raise _wrong(
                f"{key}.cpu_flags", f"the probed machine lacks {', '.join(absent)}", "both speak of one machine"
            )
        return cls(
            **{**texts, **numbers, **told},
            cpu_flags=probe.cpu_flags,
            packages=probe.packages,
            demanded_flags=flags,
            probed=True,
        )

    def signed(self, *, cpu_flags: Iterable[str] = (), driver: str = "") -> dict[str, Any]:
        """Return what release people sign of it (FMT-62): what any machine of this profile must have.

        Args:
            cpu_flags: What the chosen wheels need besides what the recipe demands.
            driver: The least driver version that they need; the recipe's own stands where they need none.
        """
        value: dict[str, Any] = {
            "profile": self.profile,
            "python": self.python,
            "platform": self.platform,
            "glibc": self.glibc,
            "cpu_flags": sorted({*self.demanded_flags, *cpu_flags}),
        }
        least = driver or ("" if self.probed else self.driver)
        return value | {name: text for name, text in (("gpu", self.gpu), ("driver", least)) if text}


def _told(probe: Probe, key: str) -> dict[str, Any]:
    """Return a probe's facts under a target's names, without those that it could not tell."""
    if probe.musl:
        raise _wrong(f"{key}.probe", f"the machine has musl {probe.musl}", "Sealift's services and wheels need glibc")
    if probe.architecture not in ARCHITECTURES:
        raise _wrong(f"{key}.probe", f"the machine is {probe.architecture}", f"known are {', '.join(ARCHITECTURES)}")
    told: dict[str, Any] = {
        "platform": f"linux_{probe.architecture}",
        "glibc": probe.glibc,
        "python": probe.python,
        "driver": probe.driver,
        "cuda": probe.cuda,
        "distribution": probe.distribution,
        "os_release": probe.release,
        "codename": probe.codename,
    }
    if probe.python and not _PYTHON.fullmatch(probe.python):
        raise _wrong(f"{key}.probe", f"the machine has Python {probe.python}", "Sealift needs 3.11 or newer")
    if probe.gpus:
        most = max(probe.gpus, key=lambda gpu: (gpu.memory_mib, gpu.count, gpu.name))
        told |= {"gpu": most.name, "gpu_count": most.count, "gpu_memory_mib": most.memory_mib}
    return {name: value for name, value in told.items() if value}


def _text(value: Any, name: str, key: str) -> str:
    if not isinstance(value, str) or not _TEXTS[name].fullmatch(value):
        raise _wrong(f"{key}.{name}", f"{ascii(value)[:80]} is not such a value", "targets are checked strictly")
    return value


def _flags(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(each, str) and _FLAG.fullmatch(each) for each in value
    ):
        raise _wrong(
            f"{key}.cpu_flags", "not a list of flags as /proc/cpuinfo shows them", "targets are checked strictly"
        )
    return tuple(sorted(set(value)))


def _number(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**24:
        raise _wrong(key, "not a whole number", "targets are checked strictly")
    return value


def _wrong(what: str, fault: str, why: str) -> RecipeError:
    return RecipeError(what=f"{what}: {fault}", why=why, fix=_FIX)
