"""CUDA and drivers: which CUDA an environment's wheels bring, and which driver runs it.

NVIDIA's release notes give both tables. A driver runs every CUDA up to the one it was made with. It also starts newer
minor versions of the same major, but not their PTX, so engines that compile kernels fail later and silently; therefore
the stricter rule holds here: the driver's own CUDA must not be older than the wheels'.
"""

import re
from collections.abc import Iterable
from typing import Final

from packaging.version import Version

from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target

OWN_DRIVER: Final = {
    (11, 8): "520.61.05",
    (12, 0): "525.60.13",
    (12, 1): "530.30.02",
    (12, 2): "535.54.03",
    (12, 3): "545.23.06",
    (12, 4): "550.54.14",
    (12, 5): "555.42.02",
    (12, 6): "560.28.03",
    (12, 8): "570.26",
    (12, 9): "575.51.03",
    (13, 0): "580.65.06",
}
"""The Linux driver that came with each CUDA toolkit: the least one that runs all of it."""

_LOCAL: Final = re.compile(r"(?:^|\.)cu(\d{2})(\d{1,2})(?:$|\.)", re.ASCII)
_OTHER: Final = re.compile(r"(?:^|\.)(rocm[0-9.]*|xpu)", re.ASCII)
_RUNTIME: Final = re.compile(r"nvidia-cuda-runtime(-cu\d{2})?", re.ASCII)

Cuda = tuple[int, int]


def needed(wheels: Iterable[ChosenWheel]) -> Cuda | None:
    """Return the CUDA that the wheels of an environment were built for; None for a CPU environment.

    Raises:
        SourceError: They were built for different major versions, or for another maker's accelerator.
    """
    found: dict[Cuda, str] = {}
    for wheel in wheels:
        version = Version(wheel.version)
        local = version.local or ""
        if other := _OTHER.search(local):
            raise SourceError(
                what=f"the wheel of {wheel.name} {wheel.version} is built for {other[1]}",
                why="targets know NVIDIA's GPUs only",
                fix="lock the build for CUDA or for the CPU",
            )
        if match := _LOCAL.search(local):
            found[int(match[1]), int(match[2])] = wheel.name
        if _RUNTIME.fullmatch(wheel.name):
            found[version.major, version.minor] = wheel.name
    if len({major for major, _ in found}) > 1:
        raise SourceError(
            what="the wheels of one environment are built for different CUDA versions",
            why=", ".join(f"{found[cuda]}: {spelled(cuda)}" for cuda in sorted(found)),
            fix="lock again with all packages from one CUDA build",
        )
    return max(found, default=None)


def least_driver(cuda: Cuda) -> str:
    """Return the least driver version for a CUDA; that of its major version where the table has no such minor."""
    own = [known for known in sorted(OWN_DRIVER) if known >= cuda and known[0] == cuda[0]]
    above = own or [known for known in sorted(OWN_DRIVER) if known[0] == cuda[0]][-1:]
    return OWN_DRIVER[above[0]] if above else ""


def newest_of_driver(driver: str) -> Cuda | None:
    """Return the newest CUDA of the table that a driver was made for; None below the table."""
    return max((cuda for cuda, own in OWN_DRIVER.items() if Version(driver) >= Version(own)), default=None)


def require_driver(cuda: Cuda, target: Target, *, label: str) -> str:
    """Pass when the target's GPU driver runs that CUDA, and return the least driver that is signed for it.

    Raises:
        SourceError: The target has no GPU, no driver, or an older one; `fix` names both ways out.
    """
    what = f"the environment {label} needs CUDA {spelled(cuda)}, which {target.profile} does not run"
    least = least_driver(cuda)
    newer = f"install driver {least} or newer on the machine" if least else "install a newer driver on the machine"
    if not target.gpu and not target.driver and not target.cuda:
        raise SourceError(
            what=what,
            why="the target names no GPU driver",
            fix="lock the CPU build; or name gpu and driver of the target, best by its probe",
        )
    if not target.driver and not target.cuda:
        raise SourceError(what=what, why=f"{target.gpu} has no driver yet", fix=f"{newer} and run the probe again")
    has = _cuda(target.cuda) if target.cuda else newest_of_driver(target.driver)
    if has is None or has < cuda:
        older = f"lock the build for CUDA {spelled(has)} or older" if has else "lock the build for an older CUDA"
        why = f"driver {target.driver or 'of the target'} runs CUDA {spelled(has) if has else 'older than 11.8'}"
        raise SourceError(what=what, why=why, fix=f"{newer}, or {older}")
    if target.driver and least and Version(target.driver) < Version(least):
        raise SourceError(
            what=what, why=f"driver {target.driver} is older than {least}", fix=f"{newer}, or correct the target's cuda"
        )
    return least


def spelled(cuda: Cuda) -> str:
    """Return it as people write it, such as "12.8"."""
    return f"{cuda[0]}.{cuda[1]}"


def _cuda(text: str) -> Cuda:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
