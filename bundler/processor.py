"""What the chosen wheels ask of the target's processor: a wheel that needs more dies with an illegal instruction.

A wheel's tags do not say this. Three sources do: llama.cpp's libraries, one for each kind of processor and chosen when
the engine starts; packages whose publishers state a baseline above the architecture's; and wheels built here.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from bundler.errors import ScanError, SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from bundler.wheelfile import UNREADABLE

V2: Final = frozenset({"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"})
"""x86-64-v2 in the words of /proc/cpuinfo. Every server processor since 2011 has it, so it is demanded unasked."""

_HASWELL: Final = frozenset({"sse4_2", "avx", "f16c", "fma", "avx2", "bmi2"})
_SKYLAKEX: Final = _HASWELL | {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"}
VARIANTS: Final[Mapping[str, frozenset[str]]] = {
    "x64": frozenset(),
    "sse42": frozenset({"sse4_2"}),
    "sandybridge": frozenset({"sse4_2", "avx"}),
    "ivybridge": frozenset({"sse4_2", "avx", "f16c"}),
    "piledriver": frozenset({"sse4_2", "avx", "f16c", "fma"}),
    "haswell": _HASWELL,
    "alderlake": _HASWELL | {"avx_vnni"},
    "skylakex": _SKYLAKEX,
    "cannonlake": _SKYLAKEX | {"avx512vbmi"},
    "cascadelake": _SKYLAKEX | {"avx512_vnni"},
    "icelake": _SKYLAKEX | {"avx512vbmi", "avx512_vnni"},
    "cooperlake": _SKYLAKEX | {"avx512_vnni", "avx512_bf16"},
    "zen4": _SKYLAKEX | {"avx512vbmi", "avx512_vnni", "avx512_bf16"},
    "sapphirerapids": _SKYLAKEX | {"avx512vbmi", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8"},
}
"""What each of llama.cpp's x86-64 libraries needs, by the name in its file name."""

_BASELINES: Final = (("numpy", SpecifierSet(">=2.4"), V2),)
_VARIANT: Final = re.compile(r"(?:^|/)libggml-cpu-([a-z0-9_]{1,30})\.so$", re.ASCII)
_SINGLE: Final = re.compile(r"(?:^|/)libggml-cpu\.so(\.[0-9.]+)?$", re.ASCII)


def needed(wheels: Iterable[ChosenWheel], target: Target) -> frozenset[str]:
    """Return the flags that the wheels need on the target.

    Raises:
        SourceError: The target's processor lacks one, or nothing says what a wheel needs.
        ScanError: A wheel cannot be opened.
    """
    if target.machine != "x86_64":
        return frozenset()
    asked: set[str] = set()
    for wheel in wheels:
        for name, versions, flags in _BASELINES:
            if wheel.name == name and versions.contains(Version(wheel.version), prereleases=True):
                _require(flags, wheel, target)
                asked |= flags
        variants, has_single = _ggml(wheel.file)
        if variants:
            asked |= _least(variants, wheel, target)
        elif has_single:
            raise SourceError(
                what=f"nothing says which processors {wheel.name} {wheel.version} runs on",
                why="its llama.cpp is one library with the flags of the machine that built it",
                fix="lock the source archive; it is built here with a library for every kind of processor",
            )
    return frozenset(asked)


def best_variant(cpu_flags: Iterable[str]) -> str:
    """Return the most able of llama.cpp's x86-64 libraries that a processor with these flags runs."""
    fitting = [name for name, flags in VARIANTS.items() if flags <= set(cpu_flags)]
    return max(fitting, key=lambda name: (len(VARIANTS[name]), name))


def _least(variants: frozenset[str], wheel: ChosenWheel, target: Target) -> frozenset[str]:
    """Return the flags of the least demanding library that runs there: what any machine of the profile must have."""
    known = {name: VARIANTS[name] for name in variants if name in VARIANTS}
    if not known:
        raise SourceError(
            what=f"nothing says which processors {wheel.name} {wheel.version} runs on",
            why=f"its libraries are for {', '.join(sorted(variants))[:200]}, which this program does not know",
            fix="use a release of Sealift that knows this version of llama.cpp",
        )
    fitting = [flags for flags in known.values() if flags <= set(target.cpu_flags)]
    if not fitting:
        has = set(target.cpu_flags)
        nearest = min(known.values(), key=lambda flags: (len(flags - has), sorted(flags)))
        _require(nearest, wheel, target)
        return nearest
    return min(fitting, key=lambda flags: (len(flags), sorted(flags)))


def _require(flags: frozenset[str], wheel: ChosenWheel, target: Target) -> None:
    require_stated(flags, f"{wheel.name} {wheel.version}", target)


def require_stated(flags: frozenset[str], name: str, target: Target) -> None:
    """Pass when the target's processor is known to have the flags; those that every server has are demanded unasked.

    Raises:
        SourceError: It lacks one, or nobody says that it has it; `what` begins with `name`.
    """
    lacking = sorted(flags - set(target.cpu_flags))
    if not lacking or (not target.probed and flags <= V2):
        return
    said = "the probed processor has not" if target.probed else "the recipe does not say that it has"
    raise SourceError(
        what=f"{name} needs more than the processor of {target.profile}",
        why=f"{said} {', '.join(lacking)}",
        fix="lock a build for less; or, if the machine has them, probe it or add them to the target's cpu_flags",
    )


def _ggml(path: Path) -> tuple[frozenset[str], bool]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except UNREADABLE as error:
        raise ScanError(
            what=f"the wheel {path.name} is not a readable archive", why=type(error).__name__, fix="fetch it again"
        ) from error
    variants = frozenset(match[1] for name in names if (match := _VARIANT.search(name)))
    return variants, any(_SINGLE.search(name) for name in names)
