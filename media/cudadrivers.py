"""CUDA and NVIDIA's drivers, for both sides: which CUDA a package was built for, and which driver runs all of it.

NVIDIA's release notes give the table. A driver runs every CUDA up to the one it was made with. It also starts newer
minor versions of the same major, but not their PTX, so engines that compile kernels fail later and silently; therefore
the stricter rule holds: the driver's own CUDA must not be older than the packages'.
"""

import re
from itertools import zip_longest
from typing import Final

Cuda = tuple[int, int]

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

_LOCAL: Final = re.compile(r"\+(?:.*\.)?cu(\d{2})(\d{1,2})(?:$|\.)", re.ASCII)
_RUNTIME: Final = re.compile(r"nvidia-cuda-runtime(-cu\d{2})?", re.ASCII)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)", re.ASCII)


def built_for(name: str, version: str) -> Cuda | None:
    """Return the CUDA that a package says it was built for, or brings; None where it says none.

    Args:
        name: The package's, in its one spelling (PEP 503).
        version: With its local part, as "2.9.0+cu128".
    """
    found = (_VERSION.match(version) if _RUNTIME.fullmatch(name) else None) or _LOCAL.search(version)
    return (int(found[1]), int(found[2])) if found else None


def least_driver(cuda: Cuda) -> str:
    """Return the least driver version for a CUDA; that of its major version where the table has no such minor."""
    own = [known for known in sorted(OWN_DRIVER) if known >= cuda and known[0] == cuda[0]]
    above = own or [known for known in sorted(OWN_DRIVER) if known[0] == cuda[0]][-1:]
    return OWN_DRIVER[above[0]] if above else ""


def newest_of_driver(driver: str) -> Cuda | None:
    """Return the newest CUDA of the table that a driver was made for; None below the table."""
    return max((cuda for cuda, own in OWN_DRIVER.items() if not is_older(driver, own)), default=None)


def runs(driver: str, cuda: Cuda) -> bool | None:
    """Tell whether a driver runs all of a CUDA; None where both are newer than all that the table knows."""
    newest = newest_of_driver(driver)
    if cuda > max(OWN_DRIVER) and newest == max(OWN_DRIVER):
        return None
    return newest is not None and newest >= cuda


def is_older(driver: str, other: str) -> bool:
    """Tell whether a driver's version comes before another's, number by number; one that says none is the oldest."""
    pairs = zip_longest(_numbers(driver), _numbers(other), fillvalue=0)
    return next((one < two for one, two in pairs if one != two), False)


def spelled(cuda: Cuda) -> str:
    """Return it as people write it, such as "12.8"."""
    return f"{cuda[0]}.{cuda[1]}"


def _numbers(driver: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", driver))
