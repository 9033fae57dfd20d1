"""Wheels that are made here of files that no index has: the same files give the same wheel, byte for byte."""

import base64
import hashlib
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundler import wheelfile

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a wheel says of itself.

    Attributes:
        distribution: Its name, which no index has.
        version: Its version.
        platform: The machines that it is for, such as ``linux_x86_64``.
        summary: Where its files are from, in a line.
        license: The expression, and `terms` their text.
        requires: What must be installed beside it, as pip writes it.
    """

    distribution: str
    version: str
    platform: str
    summary: str
    license: str
    terms: bytes
    requires: tuple[str, ...] = ()


def make(about: About, files: Mapping[str, bytes], folder: Path) -> Path:
    """Write a wheel and return its file.

    Args:
        about: What it says of itself.
        files: Contents by the place in the wheel; `DATA/` at a place's beginning is the wheel's folder of data.
        folder: Where it is written.

    Raises:
        ScanError: It is none that we would take.
    """
    stem = f"{about.distribution.replace('-', '_')}-{about.version}"
    tag = f"py3-none-{about.platform}"
    requires = "".join(f"Requires-Dist: {one}\n" for one in about.requires)
    content = {_place(path, stem): data for path, data in files.items()}
    content |= {
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.4\nName: {about.distribution}\nVersion: {about.version}\n"
            f"Summary: {about.summary}\nLicense-Expression: {about.license}\nLicense-File: LICENSE\n{requires}"
        ).encode(),
        f"{stem}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: sealift-bundler\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
        ),
        f"{stem}.dist-info/licenses/LICENSE": about.terms,
    }
    rows = [f"{path},sha256={_unpadded(data)},{len(data)}\n" for path, data in content.items()]
    content[f"{stem}.dist-info/RECORD"] = f"{''.join(rows)}{stem}.dist-info/RECORD,,\n".encode()
    made = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in content.items():
            member = zipfile.ZipInfo(path, _EPOCH)
            is_run = path.startswith(f"{stem}.data/data/bin/")
            member.external_attr = (stat.S_IFREG | (0o755 if is_run else 0o644)) << 16
            archive.writestr(member, data, zipfile.ZIP_STORED)
    wheelfile.read(made)
    return made


def _place(path: str, stem: str) -> str:
    return f"{stem}.data/data/{path.removeprefix('DATA/')}" if path.startswith("DATA/") else path


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
