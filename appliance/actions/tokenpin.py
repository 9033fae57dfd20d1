"""The PIN of the token that holds the box's keys: tried on the token once, then kept where units get it from.

A token locks itself after a few wrong PINs, so a wrong one is tried once and not kept. It is in no argument,
environment, record or message.
"""

import os
import secrets
from contextlib import suppress
from typing import Final

from appliance.config import Config
from appliance.errors import KeyMissingError, PrivilegeError
from appliance.keys.opening import PIN
from appliance.keys.token import TokenKeys
from media import durable
from media.errors import UsageError

_MOST: Final = 256


def place(config: Config, untrusted_pin: str) -> tuple[str, ...]:
    """Keep the PIN for the units, after it opened the token; return the names of the keys that are there.

    Raises:
        UsageError: The site file chooses no token, or this is no PIN.
        PrivilegeError: It is a box and this is not root.
        KeyMissingError: The token does not open with it, lacks a mechanism that a key needs, or the PIN could not be
            written; the one before stays.
    """
    chosen, folder = config.keys, config.at.key_files
    if chosen.provider != "token":
        raise UsageError(
            what="there is no token to open", why="keys.provider is files", fix="choose a token in the site file first"
        )
    if config.places.root == "/" and os.geteuid() != 0:
        raise PrivilegeError(what="the PIN is placed as root", why="only root reads it", fix="run it as root")
    if not untrusted_pin.isprintable() or not 0 < len(untrusted_pin.encode()) <= _MOST:
        raise UsageError(what="this is no PIN", why="expected one line of printable text", fix="type it again")
    tried = folder / f".{PIN}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        durable.write_new(tried, untrusted_pin.encode(), mode=0o400)
        held = _held(TokenKeys(chosen.module, chosen.token, tried, chosen.variables))
        tried.replace(folder / PIN)
        durable.sync_folder(folder)
    except OSError as error:
        raise KeyMissingError(
            what="the PIN could not be kept", why=error.strerror or "", fix="make room, run it as root"
        ) from error
    finally:
        with suppress(OSError):
            tried.unlink(missing_ok=True)
    return held


def _held(token: TokenKeys) -> tuple[str, ...]:
    try:
        token.require_fit()
        return token.names()
    finally:
        token.close()
