"""A strict reader of wheels: what they say of themselves, and whether their list of files is the truth.

A wheel that breaks its own format is refused outright, nothing of it can be allowed by a recipe (rule ids of the scan
are `scan.py`'s). Refused here: a name that does not parse, a member with an unsafe or repeated path, a link, an
encrypted member, more or other files than RECORD lists, METADATA that names another package, a second dist-info, and
data files that would land on the environment's own programs.
"""

import base64
import csv
import hashlib
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from bundler.errors import ScanError

_MAX_MEMBERS: Final = 100_000
_MAX_BYTES: Final = 16 * 2**30
_MAX_METADATA: Final = 4 * 2**20
_SCHEMES: Final = frozenset({"purelib", "platlib", "scripts", "headers", "data"})
_PROGRAMS: Final = "bin"
_LIBRARY: Final = re.compile(
    r"lib/(?:(?!libpython)lib[A-Za-z0-9_+.-]+\.(?:a|dbg|so(?:\.[0-9]+)*)|pkgconfig/[A-Za-z0-9_+.-]+\.pc)", re.ASCII
)
_OWN: Final = frozenset({"lib", "lib64", "scripts", "pyvenv.cfg"})
_UNSIGNED: Final = frozenset({"RECORD.jws", "RECORD.p7s"})
_CHUNK: Final = 2**20
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})

UNREADABLE: Final = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, csv.Error,
    EOFError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip
"""What zipfile raises for an archive that is damaged or made to confuse; found by trying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelName:
    """What a wheel's file name says."""

    name: str
    version: str
    tags: frozenset[Tag]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFacts:
    """A wheel whose list of files was found true."""

    name: str
    version: str
    license: str
    members: tuple[str, ...]
    data_folder: str

    def installed(self, member: str) -> PurePosixPath | None:
        """Return where a member lies in site-packages; nothing for scripts, headers and data."""
        path = PurePosixPath(member)
        if path.parts[0] != self.data_folder:
            return path
        return PurePosixPath(*path.parts[2:]) if path.parts[1] in {"purelib", "platlib"} else None

    def is_script(self, member: str) -> bool:
        """Whether a member becomes a program of the environment."""
        parts = PurePosixPath(member).parts
        return parts[:2] == (self.data_folder, "scripts") or parts[:3] == (self.data_folder, "data", _PROGRAMS)


def parse_name(file_name: str) -> WheelName:
    """Read a wheel's file name.

    Raises:
        ScanError: It is not a wheel's (a source distribution, for one).
    """
    try:
        name, version, _, tags = parse_wheel_filename(file_name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise ScanError(
            what=f"{file_name[:120]} is not a wheel",
            why="only wheels travel: a source distribution runs code when it is installed",
            fix="pin a version that has a wheel for the target",
        ) from error
    return WheelName(name=str(name), version=str(version), tags=tags)


def read(path: Path) -> WheelFacts:
    """Check a wheel against its own RECORD and return its facts.

    Raises:
        ScanError: It breaks a rule of this module.
    """
    named = parse_name(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, named, path.name)
    except UNREADABLE as error:
        raise _refused(path.name, f"it is not a readable archive ({type(error).__name__})") from error


def members(path: Path, *, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every member of at most `limit` bytes, of a wheel that `read` accepted."""
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            if not item.is_dir() and item.file_size <= limit:
                yield item.filename, archive.read(item)


def installed_paths(path: Path) -> frozenset[str]:
    """Return where the members of a wheel that `read` accepted lie in site-packages; only its directory is read."""
    named = parse_name(path.name)
    with zipfile.ZipFile(path) as archive:
        names = [item.filename for item in archive.infolist() if not item.is_dir()]
    data_folder = next((name.split("/")[0] for name in names if name.split("/")[0].endswith(".data")), "")
    facts = WheelFacts(
        name=named.name, version=named.version, license="", members=tuple(names), data_folder=data_folder
    )
    return frozenset(str(place) for name in names if (place := facts.installed(name)) is not None)


def _read(archive: zipfile.ZipFile, named: WheelName, label: str) -> WheelFacts:
    items = {item.filename: item for item in archive.infolist() if not item.is_dir()}
    _require_safe_members(archive.infolist(), label)
    dist_info = _dist_info(items, named, label)
    recorded = _record(archive, f"{dist_info}/RECORD", label)
    metadata = _metadata(archive, f"{dist_info}/METADATA", label)
    data_folder = dist_info.removesuffix(".dist-info") + ".data"
    for member in items:
        _require_landing(PurePosixPath(member), data_folder, label)
    unlisted = {f"{dist_info}/RECORD", *(f"{dist_info}/{name}" for name in _UNSIGNED)}
    for member, item in items.items():
        if member in unlisted:
            continue
        if member not in recorded:
            raise _refused(label, f"RECORD does not list {member}")
        digest, size = _hash(archive, item)
        if recorded[member] != (digest, size):
            raise _refused(label, f"RECORD has another digest or length for {member}")
    for member in recorded.keys() - items.keys():
        raise _refused(label, f"RECORD lists {member[:120]}, which is not there")
    if canonicalize_name(metadata.get("Name", "")) != named.name or not _same_version(metadata, named):
        raise _refused(label, f"METADATA says {metadata.get('Name')} {metadata.get('Version')}")
    return WheelFacts(
        name=named.name,
        version=named.version,
        license=_license(metadata),
        members=tuple(sorted(items)),
        data_folder=data_folder,
    )


def _require_safe_members(items: list[zipfile.ZipInfo], label: str) -> None:
    if len(items) > _MAX_MEMBERS or sum(item.file_size for item in items) > _MAX_BYTES:
        raise _refused(label, f"more than {_MAX_MEMBERS} members or {_MAX_BYTES} bytes")
    seen: set[str] = set()
    for item in items:
        name = item.filename
        parts = name.removesuffix("/").split("/")
        if "\\" in name or not name.isprintable() or any(part in {"", ".", ".."} for part in parts) or ":" in parts[0]:
            raise _refused(label, f"a member has the unsafe path {ascii(name)[:120]}")
        if name.casefold() in seen:
            raise _refused(label, f"the member {name[:120]} is there twice")
        seen.add(name.casefold())
        mode = item.external_attr >> 16
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR} or item.flag_bits & 0x1:
            raise _refused(label, f"the member {name[:120]} is a link, a device, or encrypted")
        if item.compress_type not in _METHODS:
            raise _refused(label, f"the member {name[:120]} is packed in a way that wheels are not")


def _dist_info(items: dict[str, zipfile.ZipInfo], named: WheelName, label: str) -> str:
    folders = {member.split("/", maxsplit=1)[0] for member in items if "/" in member}
    found = [folder for folder in folders if folder.endswith(".dist-info")]
    if len(found) != 1:
        raise _refused(label, f"it has {len(found)} dist-info folders")
    stem = found[0].removesuffix(".dist-info")
    name, _, version = stem.rpartition("-")
    try:
        if canonicalize_name(name) == named.name and Version(version) == Version(named.version):
            return found[0]
    except InvalidVersion:
        pass
    raise _refused(label, f"its dist-info folder is that of {stem[:100]}")


def _record(archive: zipfile.ZipFile, name: str, label: str) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for row in csv.reader(io.StringIO(_text(archive, name, label))):
        if len(row) != 3:
            raise _refused(label, "a line of RECORD has not three fields")
        member, digest, size = row
        if member == name or member.rpartition("/")[2] in _UNSIGNED:
            continue
        if not digest.startswith("sha256=") or not size.isascii() or not size.isdigit() or member in found:
            raise _refused(label, f"RECORD gives no SHA-256 and length for {member[:120]}, or gives them twice")
        found[member] = (digest.removeprefix("sha256="), int(size))
    return found


def _metadata(archive: zipfile.ZipFile, name: str, label: str) -> dict[str, str]:
    message = BytesHeaderParser().parsebytes(_text(archive, name, label).encode())
    fields = {key: str(value) for key, value in message.items()}
    classifiers = [str(value) for value in message.get_all("Classifier", [])]
    licenses = [text.rpartition("::")[2].strip() for text in classifiers if text.startswith("License ::")]
    return {**fields, "Classifiers": ", ".join(text for text in licenses if text != "OSI Approved")}


def _license(metadata: dict[str, str]) -> str:
    """Return the licence as the wheel states it: expression, short text, or classifiers; empty where it says none."""
    free_text = metadata.get("License", "").strip()
    for stated in (
        metadata.get("License-Expression", "").strip(),
        free_text if 0 < len(free_text) <= 100 and "\n" not in free_text else "",
        metadata["Classifiers"],
    ):
        if stated and stated.upper() not in {"UNKNOWN", "NONE"}:
            return " ".join(stated.split())
    return ""


def _same_version(metadata: dict[str, str], named: WheelName) -> bool:
    try:
        return Version(metadata.get("Version", "")) == Version(named.version)
    except InvalidVersion:
        return False


def _require_landing(member: PurePosixPath, data_folder: str, label: str) -> None:
    """Refuse what would be installed over the environment's own programs, libraries and settings.

    Files of the scheme data lie beside those, in folders of the wheel's choice (share, but also external or bin).
    Shared libraries may lie in lib itself, beside Python's folder, as Intel's do: nothing loads them by name alone.
    """
    top = member.parts[0]
    if not top.endswith(".data") or len(member.parts) == 1:
        return
    scheme = member.parts[1]
    if top != data_folder or len(member.parts) < 3 or scheme not in _SCHEMES:
        raise _refused(label, f"{member} lies in a data folder that the format does not have")
    is_program = scheme == "scripts"
    if scheme == "data":
        is_program = member.parts[2] == _PROGRAMS and len(member.parts) == 4
        is_library = _LIBRARY.fullmatch("/".join(member.parts[2:])) is not None
        is_own = len(member.parts) < 4 or member.parts[2].casefold() in {*_OWN, _PROGRAMS}
        if is_own and not is_program and not is_library:
            raise _refused(label, f"{member} would be installed over the environment itself")
    if is_program and member.name.casefold().startswith(("python", "pip", "activate")):
        raise _refused(label, f"{member} would replace a program of the environment")


def _hash(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with archive.open(item) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode(), size


def _text(archive: zipfile.ZipFile, name: str, label: str) -> str:
    try:
        item = archive.getinfo(name)
    except KeyError:
        raise _refused(label, f"it has no {name}") from None
    if item.file_size > _MAX_METADATA:
        raise _refused(label, f"{name} has {item.file_size} bytes; the limit is {_MAX_METADATA}")
    try:
        return archive.read(item).decode()
    except UnicodeDecodeError:
        raise _refused(label, f"{name} is not UTF-8") from None


def _refused(label: str, why: str) -> ScanError:
    return ScanError(
        what=f"the wheel {label} breaks its own format",
        why=why,
        fix="do not install it anywhere; compare it with the publisher's and pin another",
    )
