"""SHA-256 and the few values that the format derives from it (FMT-20 to FMT-24)."""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Final

from media import canonical, layout

_PIECE_BYTES: Final = 2**22


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path, *, tell: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file, read once in pieces.

    Args:
        path: The file.
        tell: Told after each piece how many bytes were read so far.

    Raises:
        OSError: The file could not be read.
    """
    with path.open("rb", buffering=0) as stream:
        if tell is None:
            return stream_sha256(stream)
        hashed, done = hashlib.sha256(), 0
        while piece := stream.read(_PIECE_BYTES):
            hashed.update(piece)
            done += len(piece)
            tell(done)
        return hashed.hexdigest()


def stream_sha256(stream: RawIOBase | BufferedIOBase) -> str:
    """Return the SHA-256 of what is left in a binary stream."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def same(left: str, right: str) -> bool:
    """Tell in constant time whether two digests or codes are equal."""
    return hmac.compare_digest(left.encode(), right.encode())


def payload_digest(entries: Iterable[tuple[str, int, str]]) -> str:
    """Return the digest that names a payload, whatever was attested about it (FMT-22).

    Args:
        entries: (path, length, sha256) of every target; those outside `data/` are left out here.
    """
    listed = sorted([path, length, sha256] for path, length, sha256 in entries if path.startswith(f"{layout.DATA}/"))
    return sha256_hex(canonical.dumps(listed))


def volume_id(payload: str, number: int, delta_set: str = "") -> str:
    """Return the id of volume `number` of the payload with this digest, in the full set or in a delta set (FMT-23)."""
    named = f"{payload}:{delta_set}" if delta_set else payload
    return sha256_hex(f"{named}:{number}".encode())[:16]


def release_code(first_tag_manifest: bytes) -> str:
    """Return the code people compare by hand: the SHA-256 of volume 1's tag manifest (FMT-24)."""
    return sha256_hex(first_tag_manifest)
