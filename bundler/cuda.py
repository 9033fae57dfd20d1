"""CUDA and drivers: which CUDA an environment's wheels bring, and whether a target's driver runs it.

The table and its rule are `media.cudadrivers`, by which `sealift doctor` judges an installed environment, too.
"""

import re
from collections.abc import Iterable
from typing import Final

from packaging.version import Version

from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from media.cudadrivers import Cuda, built_for, is_older, least_driver, newest_of_driver, spelled

_OTHER: Final = re.compile(r"(?:^|\.)(rocm[0-9.]*|xpu)", re.ASCII)


def needed(wheels: Iterable[ChosenWheel]) -> Cuda | None:
    """Return the CUDA that the wheels of an environment were built for; None for a CPU environment.

    Raises:
        SourceError: They were built for different major versions, or for another maker's accelerator.
    """
    found: dict[Cuda, str] = {}
    for wheel in wheels:
        local = Version(wheel.version).local or ""
        if other := _OTHER.search(local):
            raise SourceError(
                what=f"the wheel of {wheel.name} {wheel.version} is built for {other[1]}",
                why="targets know NVIDIA's GPUs only",
                fix="lock the build for CUDA or for the CPU",
            )
        if cuda := built_for(wheel.name, wheel.version):
            found[cuda] = wheel.name
    if len({major for major, _ in found}) > 1:
        raise SourceError(
            what="the wheels of one environment are built for different CUDA versions",
            why=", ".join(f"{found[cuda]}: {spelled(cuda)}" for cuda in sorted(found)),
            fix="lock again with all packages from one CUDA build",
        )
    return max(found, default=None)


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
    if target.driver and least and is_older(target.driver, least):
        raise SourceError(
            what=what, why=f"driver {target.driver} is older than {least}", fix=f"{newer}, or correct the target's cuda"
        )
    return least


def _cuda(text: str) -> Cuda:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
