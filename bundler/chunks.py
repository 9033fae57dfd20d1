"""Small files as lines of text, each of which fits a QR code or is read aloud: for machines that share nothing.

    SEALIFT:S1:DIGEST16:NUMBER/COUNT:BASE32

DIGEST16 is the first sixteen digits of the SHA-256 of the whole file, in every line; the file is packed by zlib first.
Lines come in any order, may be read twice, and several files may lie in one pile. Capital letters and digits only,
because a QR code holds most of those.
"""

import base64
import binascii
import codecs
import io
import re
import zlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

import segno

from bundler.pdf import Sheet
from media.digest import sha256_hex
from media.errors import DigestMismatchError, LimitExceededError, MalformedError, MissingFileError

LINE_CHARS: Final = 1900
"""Of base32 in one line; with its head it fits a QR code of version 30 that survives a smear over a seventh of it."""

LARGEST_FILE: Final = 512 * 2**10
"""Of one that is carried as codes."""

LARGEST_WHOLE: Final = 4 * 2**20
"""Of one that is carried itself: a hybrid hand-in has 10 kB for each volume."""

_CODE_MILLIMETRES: Final = 112.0
"""Of a printed code, so that its modules are wider than 0.7 mm and a telephone reads them."""

_MOST_LINES: Final = 999
_HEAD: Final = re.compile(rb"SEALIFT:S1:[0-9A-F]{16}:[0-9]", re.IGNORECASE)
"""Of any of them. No other small file of ours holds this text."""
_LINE: Final = re.compile(r"SEALIFT:S1:([0-9A-F]{16}):([1-9][0-9]{0,2})/([1-9][0-9]{0,2}):([A-Z2-7]+)")


def to_lines(data: bytes) -> tuple[str, ...]:
    """Return the lines of a file.

    Raises:
        LimitExceededError: It is too large to be carried so.
    """
    packed = base64.b32encode(zlib.compress(data, 9)).decode("ascii").rstrip("=")
    pieces = [packed[start : start + LINE_CHARS] for start in range(0, len(packed), LINE_CHARS)]
    if len(data) > LARGEST_FILE or len(pieces) > _MOST_LINES:
        raise LimitExceededError(
            what="A file is too large for codes", why=f"{len(data)} bytes", fix="carry the file itself"
        )
    name = sha256_hex(data)[:16].upper()
    return tuple(f"SEALIFT:S1:{name}:{number}/{len(pieces)}:{piece}" for number, piece in enumerate(pieces, start=1))


def from_lines(lines: Iterable[str]) -> tuple[bytes, ...]:
    """Return the files of a pile of lines, in the order of their digests.

    Raises:
        MalformedError: A line is none, or two lines of one number differ.
        MissingFileError: A line of a file is not there; its number is named.
        DigestMismatchError: The lines do not give the file whose digest they bear.
        LimitExceededError: A file is larger than one that is carried so.
    """
    piles: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    for line in filter(None, (each.strip() for each in lines)):
        matched = _LINE.fullmatch(line)
        if not matched:
            raise _malformed(f"a line is not SEALIFT:S1:…, it begins with {line[:24]!a}")
        name, number, count, piece = matched[1], int(matched[2]), int(matched[3]), matched[4]
        if counts.setdefault(name, count) != count or number > count:
            raise _malformed(f"the lines of {name} do not agree how many there are")
        if piles.setdefault(name, {}).setdefault(number, piece) != piece:
            raise _malformed(f"line {number} of {name} is there twice and differs")
    return tuple(_joined(name, piles[name], counts[name]) for name in sorted(piles))


def read_small_file(file: Path) -> tuple[bytes, ...]:
    """Return the files in a file: itself, or the files of the lines that it holds.

    Raises:
        MediaError: It cannot be read, or its lines do not give a file.
    """
    return read_small_files([file])


def read_small_files(files: Iterable[Path]) -> tuple[bytes, ...]:
    """Return the files that several files hold; lines of one may lie in several.

    Raises:
        MediaError: One cannot be read, or the lines do not give a file.
    """
    whole, lines = [], []
    for file in files:
        try:
            with file.open("rb") as stream:
                untrusted = stream.read(LARGEST_WHOLE + 1)
        except OSError as error:
            why = error.strerror or "input/output error"
            raise MissingFileError(what=f"{file.name} cannot be read", why=why, fix="name the file") from error
        if len(untrusted) > LARGEST_WHOLE:
            raise LimitExceededError(
                what=f"{file.name} is no small file", why=f"more than {LARGEST_WHOLE} bytes", fix="name the right file"
            )
        is_wide = untrusted.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Windows writes some
        scanned = untrusted.decode("utf-16", "replace").encode("utf-8", "replace") if is_wide else untrusted
        if _HEAD.search(scanned):
            # As scanners and editors leave them: behind a mark of the encoding, in small letters, without line ends.
            text = scanned.removeprefix(codecs.BOM_UTF8).decode("ascii", "replace").upper()
            lines += text.replace("SEALIFT:S1:", "\nSEALIFT:S1:").splitlines()
        else:
            whole.append(untrusted)
    return (*whole, *from_lines(lines))


def code_png(line: str) -> bytes:
    """Return a QR code of one line as PNG, black on white with its quiet zone."""
    image = io.BytesIO()
    segno.make(line, error="m", micro=False, boost_error=False).save(image, kind="png", scale=5, border=4)
    return image.getvalue()


def code_sheet(name: str, data: bytes, *, at: datetime) -> bytes:
    """Return a PDF to print: two codes on a page, each with its number and the digest of the whole."""
    lines = to_lines(data)
    sheet = Sheet(f"{name}: {len(lines)} codes", at=at)
    sheet.text("Scan every code, in any order, and save what the scanner shows as one text file, a line for each code.")
    sheet.mono(f"SHA-256 {sha256_hex(data)}")
    for number, line in enumerate(lines, start=1):
        sheet.heading(f"{number} of {len(lines)}")
        sheet.code(line, size=_CODE_MILLIMETRES)
    return sheet.to_bytes()


def write_codes(folder: Path, name: str, data: bytes, *, at: datetime) -> tuple[Path, ...]:
    """Write a file's lines as `NAME.txt`, as `NAME.pdf` to print and each as `NAME-NN.png`; return these files."""
    lines = to_lines(data)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.pdf"
    page.write_bytes(code_sheet(name, data, at=at))
    text = folder / f"{name}.txt"
    text.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    images = []
    for number, line in enumerate(lines, start=1):
        images.append(folder / f"{name}-{number:02}.png")
        images[-1].write_bytes(code_png(line))
    return (text, page, *images)


def _joined(name: str, pieces: dict[int, str], count: int) -> bytes:
    if missing := [number for number in range(1, count + 1) if number not in pieces]:
        raise MissingFileError(
            what=f"line {missing[0]} of {count} of {name} is not there",
            why=f"{len(missing)} lines miss",
            fix="scan the codes that miss",
        )
    packed = "".join(pieces[number] for number in range(1, count + 1))
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(base64.b32decode(packed + "=" * (-len(packed) % 8)), LARGEST_FILE + 1)
    except (binascii.Error, zlib.error) as error:
        raise _malformed(f"the lines of {name} do not unpack") from error
    if len(data) > LARGEST_FILE:
        raise LimitExceededError(what="A file of codes is too large", why=f"more than {LARGEST_FILE} bytes")
    if not unpacking.eof or unpacking.unused_data or sha256_hex(data)[:16].upper() != name:
        raise DigestMismatchError(
            what=f"the lines of {name} give another file", why="a line was misread", fix="scan the codes again"
        )
    return data


def _malformed(why: str) -> MalformedError:
    return MalformedError(
        what="Lines of codes are malformed", why=why, fix="scan or copy the codes again, into a file of their own"
    )
