"""BagIt 1.0 (RFC 8493) in the one form that this format writes (FMT-50 to FMT-58).

The files stay readable by any BagIt tool and by `sha256sum -c`; what is read must be byte for byte what would be
written, so a manifest has one form, and its digest names it.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from media import layout, limits
from media.errors import LimitExceededError, MalformedError, UnsupportedFormatError

BAGIT_TXT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

_LINE = re.compile(r"([0-9a-f]{64})  ([!-~]+)", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_VOLUME_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BagInfo:
    """What `bag-info.txt` says to people and to BagIt tools; the program believes the signed index instead.

    Args:
        release: The release's name, the same on all its volumes (Bag-Group-Identifier).
        number: Which volume this is, from 1.
        count: How many there are.
        payload_bytes: Sum of the sizes below data/.
        payload_files: Their number.
        serial: The release's serial.
        volume_id: The volume's id.
    """

    release: str
    number: int
    count: int
    payload_bytes: int
    payload_files: int
    serial: int
    volume_id: str


def render_manifest(entries: Mapping[str, str]) -> bytes:
    """Return a manifest of paths and SHA-256 digests, sorted by path.

    Raises:
        MalformedError: A digest is none.
        UnsafePathError: A path is not one that a medium may hold.
    """
    layout.require_distinct(str(layout.safe_path(path)) for path in entries)
    rendered = "".join(f"{digest}  {path}\n" for path, digest in sorted(entries.items())).encode("ascii")
    if any(not _LINE.fullmatch(line) for line in rendered.decode("ascii").splitlines()):
        raise _malformed("A manifest", "a digest is not 64 lower-case hexadecimal digits")
    return rendered


def parse_manifest(untrusted: bytes) -> dict[str, str]:
    """Return the digests by path, in the file's order, which is sorted.

    Raises:
        LimitExceededError: More bytes or lines than a manifest may have.
        MalformedError: Not in the one accepted form; an entry given twice or out of order included.
        UnsafePathError: A path is not one that a medium may hold, or two would be one file.
    """
    if len(untrusted) > limits.MANIFEST_BYTES or untrusted.count(b"\n") > limits.FILES:
        raise LimitExceededError(
            what="A manifest is too large",
            why=f"at most {limits.MANIFEST_BYTES} bytes and {limits.FILES} lines are read",
            fix="Do not use this medium; ask the sender for a new one.",
        )
    entries: dict[str, str] = {}
    previous = ""
    for line in _lines(untrusted, "A manifest"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise _malformed("A manifest", "expected lines of a SHA-256 digest, two spaces and a path")
        path = sys.intern(str(layout.safe_path(match[2])))  # other lists name the same files
        if path <= previous:
            raise _malformed("A manifest", "its paths are not sorted, or one is given twice")
        entries[path] = sys.intern(match[1])
        previous = path
    layout.require_distinct(entries)
    return entries


def render_bag_info(info: BagInfo) -> bytes:
    """Return the bytes of `bag-info.txt`."""
    return (
        f"Bag-Group-Identifier: {info.release}\n"
        f"Bag-Count: {info.number} of {info.count}\n"
        f"Payload-Oxum: {info.payload_bytes}.{info.payload_files}\n"
        f"Sealift-Format: {layout.FORMAT}\n"
        f"Sealift-Serial: {info.serial}\n"
        f"Sealift-Volume-Id: {info.volume_id}\n"
    ).encode("ascii")


def parse_bag_info(untrusted: bytes) -> BagInfo:
    """Return what `bag-info.txt` says.

    Raises:
        LimitExceededError: More bytes than it may have.
        MalformedError: Not exactly what `render_bag_info` writes.
        UnsupportedFormatError: It was written by a later version of the format.
    """
    if len(untrusted) > limits.BAG_INFO_BYTES:
        raise LimitExceededError(
            what="bag-info.txt is too large",
            why=f"at most {limits.BAG_INFO_BYTES} bytes are read",
            fix="Do not use this medium; ask the sender for a new one.",
        )
    # Whatever is odd about the lines shows in the comparison with our own rendering below.
    fields = {label: value for label, _, value in (line.partition(": ") for line in _lines(untrusted, "bag-info.txt"))}
    _require_format(fields.get("Sealift-Format", ""))
    number, _, count = fields.get("Bag-Count", "").partition(" of ")
    size, _, files = fields.get("Payload-Oxum", "").partition(".")
    volume_id = fields.get("Sealift-Volume-Id", "")
    if not _VOLUME_ID.fullmatch(volume_id):
        raise _malformed("bag-info.txt", "the volume id is not 16 hexadecimal digits")
    info = BagInfo(
        release=layout.require_release_name(fields.get("Bag-Group-Identifier", "")),
        number=_number(number),
        count=_number(count),
        payload_bytes=_number(size),
        payload_files=_number(files),
        serial=_number(fields.get("Sealift-Serial", "")),
        volume_id=volume_id,
    )
    if not 1 <= info.number <= info.count <= limits.VOLUMES or render_bag_info(info) != untrusted:
        raise _malformed("bag-info.txt", "it is not in the one form that this format version writes")
    return info


def require_bagit_txt(untrusted: bytes) -> None:
    """Refuse a `bagit.txt` that is not exactly the one this format writes.

    Raises:
        MalformedError: It is another.
    """
    if untrusted != BAGIT_TXT:
        raise _malformed("bagit.txt", "expected BagIt 1.0 in UTF-8, in exactly two lines")


def _require_format(untrusted: str) -> None:
    if _NUMBER.fullmatch(untrusted) and int(untrusted) > layout.FORMAT:
        raise UnsupportedFormatError(
            what=f"The medium has format version {int(untrusted)}",
            why=f"this program reads version {layout.FORMAT}",
            fix="Install a release that reads it first; ask the sender which one.",
        )


def _lines(untrusted: bytes, what: str) -> list[str]:
    if not untrusted:
        return []
    try:
        decoded = untrusted.decode("ascii")
    except UnicodeDecodeError as error:
        raise _malformed(what, "it is not ASCII") from error
    if not decoded.endswith("\n"):
        raise _malformed(what, "its last line does not end")
    return decoded[:-1].split("\n")


def _number(untrusted: str) -> int:
    if not _NUMBER.fullmatch(untrusted) or int(untrusted) > limits.INTEGER_MAX:
        raise _malformed("bag-info.txt", "a number is missing, not decimal, or larger than any that is written")
    return int(untrusted)


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this medium; ask the sender for a new one."
    )
