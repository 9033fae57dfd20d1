"""What engines need beyond their units' walls and the packages of every box, by what their environments are made of.

The processes of vLLM, and of what else is built on PyTorch, meet on the loopback of their unit and map code that they
make; an engine on a GPU opens the driver's nodes; some builds take libraries or a compiler from the machine. The
install lays the additions of `systemd/variants` beside the units of both stages, takes them away when nothing here asks
for them any more, and demands the packages. It is decided by environments, not by versions: a version may come with a
later medium that brings none of its own.

Promises: the same additions before an environment is built, by its requirements, as afterwards, by what is on disk.
"""

import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.install.carried import Whole
from appliance.install.environment_check import pins
from appliance.install.releases import InstalledReleases
from media import enginepackages, wheelnames

VLLM: Final = "vllm"
GPU: Final = "gpu"
_ENGINE: Final = "engine-"
_ENGINE_VLLM: Final = "engine-vllm"
_PYTORCH: Final = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What engines need: additions to their units (`vllm`, `gpu`), and Debian packages by name."""

    units: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()


NOTHING: Final = Needs()


def wanted(places: Places, whole: Whole) -> Needs:
    """Return what engines need once a release is installed: those that it brings, and units of those that are here.

    Raises:
        InstallError: A line of its requirements is not one as releases have it.
    """
    here = whole.base is not None and InstalledReleases(places).load(whole.base) is not None
    # What it leaves unchanged was demanded as that was installed, and it need not bring it again.
    brought = {name: text for name, text in whole.requirements.items() if not (here and name in whole.kept)}
    asked = asked_for(brought)
    return Needs(units=asked.units | installed(places).units, packages=asked.packages)


def asked_for(requirements: Mapping[str, bytes]) -> Needs:
    """Return what a release's engines need, by the requirements of its environments.

    Raises:
        InstallError: A line of them is not one as releases have it.
    """
    python = sysconfig.get_python_version()
    wheels = {name: pins(text) for name, text in requirements.items() if name.startswith(_ENGINE)}
    return Needs(
        units=frozenset(unit for name, found in wheels.items() for unit in _units(name, found)),
        packages=frozenset(deb for found in wheels.values() for deb in enginepackages.needed(found, python=python)),
    )


def installed(places: Places) -> Needs:
    """Return what units of engines of installed releases need, since an older one's may still serve.

    Their packages were demanded as each was installed.
    """
    return Needs(units=frozenset(unit for path in environments(places) for unit in _units(path.name, wheels_of(path))))


def environments(places: Places) -> Iterator[Path]:
    """Yield the engines' environments of every whole release that is installed."""
    releases = InstalledReleases(places)
    for release in releases.all():
        yield from sorted(releases.folder(release.serial).glob(f"{_ENGINE}*"))


def wheels_of(environment: Path) -> frozenset[str]:
    """Return the canonical names of what is installed in an environment."""
    return wheelnames.installed(environment.glob("lib/python3*/site-packages"))


def _units(environment: str, wheels: Collection[str]) -> Iterator[str]:
    # Whatever is built on PyTorch has processes that meet as vLLM's do, and compiles what it runs: SGLang, for one.
    if environment == _ENGINE_VLLM or _PYTORCH in wheels:
        yield VLLM
    if enginepackages.computes_on_gpus(wheels):
        yield GPU
