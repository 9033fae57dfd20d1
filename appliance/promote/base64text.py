"""Bytes that came as base64 text."""

import base64
import binascii
from typing import Final

from media import canonical, limits
from media.errors import MalformedError

_MOST: Final = 4 * (limits.CERTIFICATE_BYTES // 3 + 1)
_URL_SAFE: Final = str.maketrans("-_", "+/")


def decode(untrusted: object, what: str) -> bytes:
    """Return bytes that were written as base64 text.

    Raises:
        MalformedError: It is not.
    """
    return _decode(canonical.text(untrusted, what, most=_MOST), what)


def decode_url(untrusted: object, what: str) -> bytes:
    """Return bytes that were written as base64 for addresses, without padding (RFC 4648, section 5), as browsers do.

    Raises:
        MalformedError: It is not, or not in its one form.
    """
    text = canonical.text(untrusted, what, most=_MOST)
    content = _decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4), what)
    if encode_url(content) != text:
        raise MalformedError(what=f"{what} is not base64url", why="not its one form", fix="send it again")
    return content


def encode(content: bytes) -> str:
    """Return base64 text."""
    return base64.b64encode(content).decode()


def encode_url(content: bytes) -> str:
    """Return base64 for addresses, without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(what=f"{what} is not base64", why=type(error).__name__, fix="send it again") from error
