"""Which tensors a bad block holds, read from the header of the same file, and only from bytes that were proven."""

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any, Final

from appliance.store.cargo import Cargo
from appliance.store.carry import Carrier
from appliance.store.damage import BadBlock
from appliance.store.incoming import Incoming
from media import canonical, gguf, layout
from media.errors import MediaError

_GGUF: Final = ".gguf"
_SAFETENSORS: Final = ".safetensors"
_MAX_JSON_BYTES: Final = 16 * 2**20
_MOST: Final = 64

Spans = list[tuple[str, int, int]]


def no_tensors(block: BadBlock) -> tuple[str, ...]:
    """Return nothing: for blocks of files that have no tensors to name."""
    del block
    return ()


class TensorNames:
    """Names the tensors in blocks of files that were being stored; call it after the carrier ran."""

    def __init__(self, carrier: Carrier, incoming: Incoming | None) -> None:
        self._carrier = carrier
        self._incoming = incoming
        self._known: dict[str, Spans] = {}

    def __call__(self, block: BadBlock) -> tuple[str, ...]:
        """Return the names of the tensors with a byte in this block; none where the header is not known."""
        cargo = block.cargo
        if cargo.sha256 not in self._known:
            self._known[cargo.sha256] = self._read(cargo)
        found = [name for name, first, end in self._known[cargo.sha256] if first <= block.last and block.first < end]
        return tuple(found[:_MOST])

    def _read(self, cargo: Cargo) -> Spans:
        """Return name, first byte and end of each tensor; nothing where the header does not lie in proven blocks."""
        proven, count = self._carrier.proven(cargo), 0
        while count in proven and count < self._lying_together(cargo):
            count += 1
        known = min(count * layout.BLOCK_BYTES, cargo.length)
        return spans_of(cargo.path, length=cargo.length, known=known, descriptor=lambda: self._opened(cargo))

    def _lying_together(self, cargo: Cargo) -> int:
        """Return how many of the first blocks lie in the file that `_opened` opens."""
        return len(cargo.origins)

    def _opened(self, cargo: Cargo) -> int:
        if self._incoming is None:
            message = "nothing is stored"
            raise RuntimeError(message)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(f"{cargo.sha256}.part", flags, dir_fd=self._incoming.objects)


class TensorsOnMedium(TensorNames):
    """The same for files that were only checked: their headers are read again from the files that lingered.

    A medium that gives other bytes this time deceives nobody but its reader, about a name in an error.
    """

    def __init__(self, carrier: Carrier) -> None:
        super().__init__(carrier, None)

    def _lying_together(self, cargo: Cargo) -> int:
        first = cargo.origins[0].piece
        return sum(1 for origin in cargo.origins if origin.piece == first)

    def _opened(self, cargo: Cargo) -> int:
        return self._carrier.first_file(cargo)


def has_tensors(path: str) -> bool:
    """Tell whether a file of this name can have tensors to name."""
    return path.endswith((_GGUF, _SAFETENSORS))


def spans_of(path: str, *, length: int, known: int, descriptor: Callable[[], int]) -> Spans:
    """Return name, first byte and end of each tensor of a file; nothing where its header is not known.

    Args:
        path: The file's name, which says what it is.
        length: Its bytes.
        known: How many of its first bytes were proven; no other is read.
        descriptor: Opens it at its first byte.
    """
    if has_tensors(path):
        with contextlib.suppress(OSError, MediaError, KeyError, ValueError), _Start(descriptor(), known) as untrusted:
            return _gguf(untrusted, length) if path.endswith(_GGUF) else _safetensors(untrusted)
    return []


def _gguf(untrusted: "_Start", length: int) -> Spans:
    header = gguf.parse_file(io.BufferedReader(untrusted), size=length)
    starts = [(tensor.name, header.data_offset + tensor.offset, tensor.length) for tensor in header.tensors]
    return [(name, start, start + size) for name, start, size in starts]


def _safetensors(untrusted: "_Start") -> Spans:
    with io.BufferedReader(untrusted) as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: Any = canonical.mapping(
            canonical.loads(stream.read(min(length, _MAX_JSON_BYTES)).rstrip(b" "), max_bytes=_MAX_JSON_BYTES),
            "A safetensors header",
        )
    found: Spans = []
    for name, tensor in header.items():
        if name != "__metadata__":
            start, end = canonical.array(canonical.mapping(tensor, name)["data_offsets"], name, most=2)
            found.append((name, 8 + length + canonical.integer(start, name), 8 + length + canonical.integer(end, name)))
    return found


class _Start(io.RawIOBase):
    """The first bytes of a file, and no more."""

    def __init__(self, descriptor: int, length: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # arrays of numbers are skipped, not read

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(offset if whence == os.SEEK_SET else self._at + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        left = max(self._length - self._at, 0)
        with memoryview(buffer) as whole, whole.cast("B")[:left] as view:
            got = os.preadv(self._descriptor, [view], self._at) if view else 0
        self._at += got
        return got

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
