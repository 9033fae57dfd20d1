"""Reads the fields of a GGUF header one after another, never past the end and never more than a cap allows.

A length is judged before a byte that it promises is read, so what a file claims costs nothing. Values that nobody needs
are stepped over. Python's integers do not overflow.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from media.errors import MalformedError

Scalar = int | float | bool | str

STRING: Final = 8
FLOAT32: Final = 6
INT32: Final = 5
UINT32: Final = 4
BYTES: Final = frozenset({0, 1})

_BOOL, _ARRAY = 7, 9
_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d"}
_MAX_NAME: Final = 256
_MAX_TEXT: Final = 4 * 2**20
_MAX_PIECE: Final = 64 * 2**10
_MAX_ARRAY: Final = 16 * 2**20
_MAX_PIECES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayFacts:
    """One array of the header that was checked and stepped over; `kind` is the number of its elements' type."""

    kind: int
    count: int


class FieldReader:
    """Reads forward through the first `end` bytes of a file.

    Args:
        untrusted: The file, at its start.
        end: How many bytes of it may be a header.
    """

    def __init__(self, untrusted: BinaryIO, end: int) -> None:
        self._untrusted = untrusted
        self._end = end
        self._pieces = 0
        self.at = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes.

        Raises:
            MalformedError: There are not so many, as with every method here.
        """
        self._require(count)
        taken = self._untrusted.read(count)
        if len(taken) != count:
            raise refused(f"the header ends early: {count} bytes wanted at {self.at}, {len(taken)} read")
        self.at += count
        return taken

    def number(self, form: str) -> int:
        """Return one integer."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self, *, limit: int) -> str:
        """Return one UTF-8 string of at most `limit` bytes."""
        length = self.number("<Q")
        if length > limit:
            raise refused(f"a text of {length} bytes at {self.at}; the limit is {limit}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise refused(f"a text before {self.at} is not UTF-8") from None

    def name(self, *, limit: int = _MAX_NAME) -> str:
        """Return a key or tensor name: short printable ASCII."""
        name = self.text(limit=limit)
        if not name or not name.isascii() or not name.isprintable():
            raise refused(f"a name before {self.at} is empty or not printable ASCII")
        return name

    def value(self, key: str) -> tuple[int, Scalar | ArrayFacts]:
        """Return type number and value of one key; of an array only its facts."""
        kind = self.number("<I")
        return kind, self._array(key) if kind == _ARRAY else self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> Scalar:
        if kind == STRING:
            return self.text(limit=_MAX_TEXT)
        if kind == _BOOL:
            byte = self.take(1)
            if byte not in {b"\0", b"\1"}:
                raise refused(f"the key {key} is neither true nor false")
            return byte == b"\1"
        if kind not in _SCALARS:
            raise refused(f"the key {key} has the unknown type {kind}")
        form = _SCALARS[kind]
        value: int | float = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def _array(self, key: str) -> ArrayFacts:
        """Step over one array. Arrays of arrays are refused: no model has one, and loaders recurse into them."""
        kind, count = self.number("<I"), self.number("<Q")
        if count > _MAX_ARRAY:
            raise refused(f"the array {key} has {count} elements; the limit is {_MAX_ARRAY}")
        if kind == STRING:
            self._texts(key, count)
        elif kind in _SCALARS or kind == _BOOL:
            self._step(count * (1 if kind == _BOOL else struct.calcsize(_SCALARS[kind])))
        else:
            raise refused(f"the array {key} has elements of the unknown type {kind}")
        return ArrayFacts(kind=kind, count=count)

    def _texts(self, key: str, count: int) -> None:
        self._require(8 * count)
        self._pieces += count
        if self._pieces > _MAX_PIECES:
            raise refused(f"the arrays hold more than {_MAX_PIECES} texts")
        for _ in range(count):
            # Pieces of a vocabulary may be any bytes, so these are not decoded.
            length = self.number("<Q")
            if length > _MAX_PIECE:
                raise refused(f"a text of {length} bytes in the array {key}; the limit is {_MAX_PIECE}")
            self._step(length)

    def _step(self, count: int) -> None:
        self._require(count)
        self._untrusted.seek(count, 1)
        self.at += count

    def _require(self, count: int) -> None:
        if count > self._end - self.at:
            raise refused(f"the header ends early: {count} bytes wanted at {self.at}, {self._end - self.at} left")


def refused(why: str) -> MalformedError:
    """Return the error of a header that breaks a rule."""
    return MalformedError(
        what="the model file has a malformed GGUF header",
        why=why,
        fix="take the file from its publisher again; do not load this one with any program",
    )
