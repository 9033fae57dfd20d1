"""The GGUF reader of `media.gguf`, with the scan's error: a malformed model file is a finding that nobody can allow."""

from pathlib import Path

from bundler.errors import ScanError
from media import gguf
from media.errors import MediaError
from media.gguf import GgufHeader, Tensor

__all__ = ["GgufHeader", "Tensor", "parse", "read"]


def read(path: Path) -> GgufHeader:
    """Check the header of a file.

    Raises:
        ScanError: It breaks a rule of `media.gguf`, or cannot be read.
    """
    try:
        return gguf.read(path)
    except MediaError as error:
        raise ScanError(what=error.what, why=error.why, fix=error.fix) from error


def parse(untrusted: bytes, *, size: int) -> GgufHeader:
    """Check the first bytes of a file of `size` bytes.

    Raises:
        ScanError: They break a rule of `media.gguf`.
    """
    try:
        return gguf.parse(untrusted, size=size)
    except MediaError as error:
        raise ScanError(what=error.what, why=error.why, fix=error.fix) from error
