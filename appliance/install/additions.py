"""What engines need beyond their units' walls and the packages of every box, by what their environments are made of.

vLLM's processes meet on the loopback of their unit and map code that they make; an engine on a GPU opens the driver's
nodes; some builds take libraries or a compiler from the machine. The install lays the additions of `systemd/variants`
beside the units of both stages, takes them away when nothing here asks for them any more, and demands the packages. It
is decided by environments, not by versions: a version may come with a later medium that brings none of its own.

Promises: the same additions before an environment is built, by its requirements, as afterwards, by what is on disk.
"""

import re
import sysconfig
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.install.environment_check import pins
from media import enginepackages

VLLM: Final = "vllm"
GPU: Final = "gpu"
_ENGINE: Final = "engine-"
_ENGINE_VLLM: Final = "engine-vllm"
# What an environment brings that computes on a GPU: CUDA's own runtime, or vLLM but for its build for processors.
_FOR_GPUS: Final = re.compile(r"vllm|nvidia-cuda-runtime(?:-cu[0-9]+)?")
_NAME: Final = re.compile(r"(.+?)-[0-9][^-]*\.dist-info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What engines need: additions to their units (`vllm`, `gpu`), and Debian packages by name."""

    units: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()

    def __or__(self, other: "Needs") -> "Needs":
        """Return what both need."""
        return Needs(units=self.units | other.units, packages=self.packages | other.packages)


NOTHING: Final = Needs()


def asked_for(requirements: Mapping[str, bytes]) -> Needs:
    """Return what a release's engines need, by the requirements of its environments.

    Raises:
        InstallError: A line of them is not one as releases have it.
    """
    return _all(_of(name, pins(content)) for name, content in requirements.items() if name.startswith(_ENGINE))


def installed(places: Places, *, without: int | None = None) -> Needs:
    """Return what units of engines of installed releases need, since an older one's may still serve.

    Their packages were demanded as each was installed; a later release need not bring them again.

    Args:
        places: Where the appliance lives.
        without: The serial of a release that is left.
    """
    found = sorted(places.releases.glob(f"*/{_ENGINE}*"))
    needs = _all(_of(path.name, _packages(path)) for path in found if path.parent.name != str(without))
    return Needs(units=needs.units)


def _all(needs: Iterable[Needs]) -> Needs:
    return reduce(or_, needs, NOTHING)


def _of(environment: str, wheels: Collection[str]) -> Needs:
    is_for_gpus = any(_FOR_GPUS.fullmatch(name) for name in wheels)
    return Needs(
        units=frozenset([*([VLLM] if environment == _ENGINE_VLLM else []), *([GPU] if is_for_gpus else [])]),
        packages=frozenset(enginepackages.needed(wheels, python=sysconfig.get_python_version())),
    )


def _packages(environment: Path) -> frozenset[str]:
    found = environment.glob("lib/python3*/site-packages/*.dist-info")
    return frozenset(named[1].lower().replace("_", "-") for path in found if (named := _NAME.fullmatch(path.name)))
