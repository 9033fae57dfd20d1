"""What a wheel says it needs: Requires-Dist, Requires-Python and its extras, read from METADATA alone.

Nothing else of the archive is opened; whether the rest is what RECORD lists is `wheelfile.py`'s to judge.
"""

import zipfile
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from bundler.errors import ScanError
from bundler.wheelfile import UNREADABLE, parse_name

_MAX_METADATA: Final = 4 * 2**20
_MAX_REQUIRES: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What one wheel needs."""

    version: str
    requires: tuple[Requirement, ...]
    requires_python: SpecifierSet


def read(path: Path) -> Dependencies:
    """Read a wheel's dependencies.

    Raises:
        ScanError: The archive or its METADATA cannot be read, or a dependency is not one.
    """
    named = parse_name(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            found = [
                item
                for item in archive.infolist()
                if item.filename.endswith(".dist-info/METADATA")
                and item.filename.count("/") == 1
                and canonicalize_name(item.filename.split("-")[0]) == named.name
            ]
            if len(found) != 1 or found[0].file_size > _MAX_METADATA:
                raise _refused(path.name, "it has not exactly one METADATA of a sensible size")
            content = archive.read(found[0])
    except UNREADABLE as error:
        raise _refused(path.name, f"it is not a readable archive ({type(error).__name__})") from error
    return parse(content, label=path.name, version=named.version)


def parse(untrusted: bytes, *, label: str, version: str) -> Dependencies:
    """Read the bytes of a METADATA file.

    Raises:
        ScanError: A dependency or the Python versions are not of the form that the standard gives them.
    """
    try:
        message = BytesHeaderParser().parsebytes(untrusted)
        lines = [str(value) for value in message.get_all("Requires-Dist", [])]
        if len(lines) > _MAX_REQUIRES:
            raise _refused(label, f"it has {len(lines)} dependencies")
        return Dependencies(
            version=version,
            requires=tuple(Requirement(" ".join(line.split())) for line in lines),
            requires_python=SpecifierSet(str(message.get("Requires-Python", "")).strip()),
        )
    except (InvalidRequirement, InvalidSpecifier, ValueError) as error:
        raise _refused(label, f"METADATA: {ascii(str(error))[:120]}") from error


def _refused(label: str, why: str) -> ScanError:
    return ScanError(
        what=f"the wheel {label} does not say what it needs",
        why=why,
        fix="do not install it anywhere; compare it with the publisher's and pin another",
    )
