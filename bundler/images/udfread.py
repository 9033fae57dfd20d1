"""A reader of UDF 1.02 images (ECMA-167), as far as one that was just written needs reading: what the tool put there.

Descriptors are believed only with their checksum and CRC. Anything that a plain image of files has not is refused.
Numbers in comments are the sections of ECMA-167, third edition.
"""

import binascii
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bundler.errors import ReadBackError

_SECTOR: Final = 2048
_ANCHOR: Final = 256  # 3/8.4.2.1
_ANCHOR_TAG, _PARTITION_TAG, _LOGICAL_TAG, _END_TAG = 2, 5, 6, 8  # 3/7.2.1
_FILE_SET_TAG, _NAME_TAG, _ENTRY_TAG = 256, 257, 261  # 4/7.2.1
_FOLDER, _FILE = 4, 5  # 4/14.6.6
_PARENT, _DELETED = 0x08, 0x04  # 4/14.4.3
_CHUNK: Final = 2**20
_MOST_FILES: Final = 200_000
_MOST_DEPTH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A file or folder: its kind, its length, and its extents as (first block, bytes), or its bytes themselves."""

    kind: int
    length: int
    extents: tuple[tuple[int, int], ...]
    inline: bytes


class UdfImage:
    """An image that is open for reading.

    Raises:
        ReadBackError: From each method: it is no UDF image, or is damaged.
    """

    def __init__(self, image: Path) -> None:
        self._file = image.open("rb", buffering=0)
        self._start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def files(self) -> dict[str, _Entry]:
        """Return every file by its path."""
        anchor = self._descriptor(_ANCHOR, _ANCHOR_TAG)
        length, first = struct.unpack_from("<II", anchor, 16)  # 3/10.2.2
        logical = b""
        for number in range(first, first + min(length // _SECTOR, 64)):
            data = self._sectors(number, _SECTOR)
            tag = int.from_bytes(data[:2], "little")
            if tag == _PARTITION_TAG:
                self._start = struct.unpack_from("<I", _checked(data, tag), 188)[0]  # 3/10.5.8
            elif tag == _LOGICAL_TAG:
                logical = _checked(data, tag)
            elif tag == _END_TAG:
                break
        if not logical or not self._start or struct.unpack_from("<I", logical, 212)[0] != _SECTOR:
            raise _damaged("it has no partition with blocks of 2,048 bytes")
        file_set = self._block(struct.unpack_from("<I", logical, 252)[0], _FILE_SET_TAG)  # 3/10.6.7, 4/3.1
        found: dict[str, _Entry] = {}
        self._walk(struct.unpack_from("<I", file_set, 404)[0], "", found, 0)  # 4/14.1.15
        return found

    def digest(self, entry: _Entry) -> str:
        """Return the SHA-256 of a file's bytes."""
        digest = hashlib.sha256()
        for chunk in self._content(entry):
            digest.update(chunk)
        return digest.hexdigest()

    def _walk(self, block: int, folder: str, found: dict[str, _Entry], depth: int) -> None:
        entry = self._entry(block)
        if entry.kind != _FOLDER or depth > _MOST_DEPTH or len(found) > _MOST_FILES:
            raise _damaged("a folder is none, or there are too many")
        content, offset = b"".join(self._content(entry)), 0
        while offset + 38 <= len(content):
            data = content[offset:]
            characteristics, name_bytes = data[18], data[19]
            child = struct.unpack_from("<I", data, 24)[0]
            skipped = struct.unpack_from("<H", data, 36)[0]
            end = 38 + skipped + name_bytes
            _checked(data, _NAME_TAG)
            offset += -(-end // 4) * 4
            if characteristics & (_PARENT | _DELETED):
                continue
            path = f"{folder}{_name(data[38 + skipped : end])}"
            below = self._entry(child)
            if below.kind == _FOLDER:
                self._walk(child, f"{path}/", found, depth + 1)
            elif below.kind == _FILE and path not in found:
                found[path] = below
            else:
                raise _damaged("a name is given twice, or is no file")

    def _entry(self, block: int) -> _Entry:
        data = self._block(block, _ENTRY_TAG)  # 4/14.9
        length, flags = struct.unpack_from("<Q", data, 56)[0], struct.unpack_from("<H", data, 34)[0]
        attributes, described = struct.unpack_from("<II", data, 168)
        start, form = 176 + attributes, flags & 7
        place = data[start : start + described]
        if form == 3:  # the bytes lie in the entry
            return _Entry(kind=data[27], length=length, extents=(), inline=place[:length])
        if form > 1:
            raise _damaged("a file lies in a form that no plain image has")
        step, extents = (8, 16)[form], []
        for offset in range(0, len(place) - step + 1, step):
            size, first = struct.unpack_from("<II", place, offset)
            if size >> 30:
                raise _damaged("a file has holes")
            if size:
                extents.append((first, size))
        if sum(size for _, size in extents) != length:
            raise _damaged("a file's extents do not sum up to its length")
        return _Entry(kind=data[27], length=length, extents=tuple(extents), inline=b"")

    def _content(self, entry: _Entry) -> Iterator[bytes]:
        if entry.inline:
            yield entry.inline
        for first, size in entry.extents:
            offset, end = (self._start + first) * _SECTOR, (self._start + first) * _SECTOR + size
            while offset < end:
                self._file.seek(offset)
                chunk = self._file.read(min(_CHUNK, end - offset))
                if not chunk:
                    raise _damaged("it ends within a file")
                yield chunk
                offset += len(chunk)

    def _block(self, number: int, tag: int) -> bytes:
        return self._descriptor(self._start + number, tag)

    def _descriptor(self, sector: int, tag: int) -> bytes:
        return _checked(self._sectors(sector, _SECTOR), tag)

    def _sectors(self, number: int, length: int) -> bytes:
        self._file.seek(number * _SECTOR)
        data = self._file.read(length)
        if data is None or len(data) != length:
            raise _damaged("it ends too early")
        return data


def _checked(data: bytes, tag: int) -> bytes:
    """Return a descriptor whose tag is the one wanted and whose checksum and CRC hold (3/7.2)."""
    found, _, checksum, _, _, crc, covered = struct.unpack_from("<HHBBHHH", data)
    is_whole = checksum == (sum(data[:16]) - data[4]) % 256 and covered <= len(data) - 16
    if found != tag or not is_whole or binascii.crc_hqx(data[16 : 16 + covered], 0) != crc:
        raise _damaged(f"a descriptor of kind {tag} is not what it should be")
    return data


def _name(untrusted: bytes) -> str:
    if not untrusted or untrusted[0] not in {8, 16}:
        raise _damaged("a name is written in an unknown way")
    return untrusted[1:].decode("latin-1" if untrusted[0] == 8 else "utf-16-be", "replace")


def _damaged(why: str) -> ReadBackError:
    return ReadBackError(what="the UDF image cannot be read back", why=why, fix="make it again")
