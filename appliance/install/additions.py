"""What engines need beyond the walls of their units: which additions of `systemd/variants` a box has to have.

vLLM's processes meet on the loopback of their unit and map code that they make; an engine on a GPU opens the driver's
nodes. The install lays these additions beside the units of both stages, and takes them away when nothing here asks for
them any more. It is decided by the environments, not by versions, since a version may come with a later medium that
brings no environment of its own.

Promises: the same answer before an environment is built, by its requirements, and afterwards, by what lies on the disk.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.install.environment_check import pins

VLLM: Final = "vllm"
GPU: Final = "gpu"
_ENGINE: Final = "engine-"
_ENGINE_VLLM: Final = "engine-vllm"
# What an environment brings that computes on a GPU: CUDA's own runtime, or vLLM but for its build for processors.
_FOR_GPUS: Final = re.compile(r"vllm|nvidia-cuda-runtime(?:-cu[0-9]+)?")
_NAME: Final = re.compile(r"(.+?)-[0-9][^-]*\.dist-info")


def asked_for(requirements: Mapping[str, bytes]) -> frozenset[str]:
    """Return the additions that a release's engines need, by the requirements of its environments.

    Raises:
        InstallError: A line of them is not one as releases have it.
    """
    return frozenset(
        addition
        for name, content in requirements.items()
        if name.startswith(_ENGINE)
        for addition in _of_environment(name, pins(content))
    )


def installed(places: Places, *, without: int | None = None) -> frozenset[str]:
    """Return the additions that the engines of installed releases need, since an older one's may still serve.

    Args:
        places: Where the appliance lives.
        without: The serial of a release that is left.
    """
    return frozenset(
        addition
        for environment in sorted(places.releases.glob(f"*/{_ENGINE}*"))
        if environment.parent.name != str(without)
        for addition in _of_environment(environment.name, _packages(environment))
    )


def _of_environment(name: str, packages: Mapping[str, str] | frozenset[str]) -> Iterator[str]:
    if name == _ENGINE_VLLM:
        yield VLLM
    if any(_FOR_GPUS.fullmatch(package) for package in packages):
        yield GPU


def _packages(environment: Path) -> frozenset[str]:
    found = environment.glob("lib/python3*/site-packages/*.dist-info")
    return frozenset(named[1].lower().replace("_", "-") for path in found if (named := _NAME.fullmatch(path.name)))
