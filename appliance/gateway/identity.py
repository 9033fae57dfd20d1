"""Who and what a request is, in forms that may be recorded: an id of ours, an address, a keyed hash of a person."""

import secrets
from collections.abc import Mapping
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Final

from appliance.keys.provider import KeyProvider

IDENTITY_KEY: Final = "identity-hmac"
USER_HEADER: Final = "X-Sealift-User"
MOST_PERSON: Final = 512
"""Characters of the text that names a person, in a header or a body."""
_ID_CHARACTERS: Final = 26
_LONGEST_ADDRESS: Final = 45
_NETWORK_BITS: Final = 64
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
    """Return the address of the caller, as those are counted who have no key; of IPv6 the network that it lies in.

    A machine may have every address of such a network, and an allowance for each would be none.

    The proxy's `X-Forwarded-For` counts only on our Unix sockets, which it and the page alone may open, and only its
    last entry, which they wrote themselves; over TCP anyone could write it.
    """
    peer = str(environ.get("REMOTE_ADDR") or "")
    address = peer or str(environ.get("HTTP_X_FORWARDED_FOR") or "").rpartition(",")[2].strip()[:_LONGEST_ADDRESS]
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or IPv6Network((int(found), _NETWORK_BITS), strict=False))
