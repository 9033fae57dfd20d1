"""Who and what a request is, in forms that may be recorded: an id of ours, an address, a keyed hash of a person."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from appliance.keys.provider import KeyProvider

IDENTITY_KEY: Final = "identity-hmac"
USER_HEADER: Final = "X-Sealift-User"
_ID_CHARACTERS: Final = 26
# Each byte to one of base32's 32 characters, each of them from eight bytes.
_BASE32: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def new_request_id() -> str:
    """Return `req_` and 26 base32 characters (130 bits) that nobody can guess."""
    return "req_" + secrets.token_bytes(_ID_CHARACTERS).translate(_BASE32).decode()


def user_hash(user: str, keys: KeyProvider) -> str:
    """Return the keyed hash of the person an application's request is for; nothing where it names nobody.

    Raises:
        KeyMissingError: There is no key to hash with.
    """
    return keys.hmac(IDENTITY_KEY, user.encode(errors="surrogatepass")).hex() if user else ""


def client_address(environ: Mapping[str, Any]) -> str:
    """Return the address of the caller.

    The proxy's `X-Forwarded-For` counts only on our Unix sockets, which it and the page alone may open, and only its
    last entry, which they wrote themselves; over TCP anyone could write it.
    """
    peer = str(environ.get("REMOTE_ADDR") or "")
    return peer or str(environ.get("HTTP_X_FORWARDED_FOR") or "").rpartition(",")[2].strip()[:45]
