"""Names of Python packages, and which of them folders of an interpreter hold."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_SEPARATORS: Final = re.compile(r"[-_.]+")
_INSTALLED: Final = re.compile(r"(.+?)-[0-9][^-]*\.dist-info")


def canonical(name: str) -> str:
    """Return the one spelling of a name by which packages are compared (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()


def installed(folders: Iterable[Path]) -> frozenset[str]:
    """Return the names of the packages that are installed in folders (`site-packages`), by their own folders' names."""
    found = (path.name for folder in folders for path in folder.glob("*.dist-info"))
    return frozenset(canonical(named[1]) for name in found if (named := _INSTALLED.fullmatch(name)))
