"""The secret under which API keys are hashed: the one secret that two boxes of a site share, so that keys work on both.

It goes sealed for the other box alone, from the first box of a pair to its standby, and only onto a box that has made
no API keys of its own: those would end.
"""

import os
from typing import Final

from appliance.audit.facts import EVERY, Ledger
from appliance.config import Config
from appliance.errors import ConflictError, KeyMissingError
from appliance.keys.opening import folder_of, open_keys
from appliance.keys.provider import SECRET_BYTES, KeyProvider
from appliance.standby import bundle, carried, sealed
from appliance.standby.pairing import Paired
from media import durable
from media.digest import same, sha256_hex

ADOPTED: Final = "standby.pepper-adopted"
PEPPER: Final = "api-key-pepper"
_CREATED: Final = "key.created"


def sealed_for(config: Config, pair: Paired, keys: KeyProvider) -> bytes:
    """Return the newest pepper sealed for the paired box; nothing where it is on a token, which it never leaves.

    Raises:
        KeyMissingError: There is none, or this process may not read it.
    """
    if config.keys.provider == "token":
        return b""
    return sealed.seal(keys.get(PEPPER).bytes, pair.peer.sealing, bundle.context(pair))


def adopt(config: Config, untrusted: bytes, pair: Paired, *, ledger: Ledger) -> str:
    """Use the other box's pepper from now on; return ``kept`` where it is in use already, else ``adopted``.

    Raises:
        CiphertextError: It does not open.
        ConflictError: API keys were made here under another pepper, or this box keeps its own on a token.
        KeyMissingError: This process may not read or write keys.
        LedgerUnavailableError: It could not be recorded; nothing was changed.
    """
    if config.keys.provider == "token":
        raise ConflictError(
            what="the other box's secret of API keys cannot be taken",
            why="this box keeps its keys on a token, and no key made outside is used there",
            fix="give both boxes the same kind of keys: docs/operator/keys.md, PKCS#11",
        )
    found = sealed.unseal(untrusted, folder_of(config), bundle.context(pair))
    own = open_keys(config).get(PEPPER)
    if len(found) == SECRET_BYTES and same(sha256_hex(found), sha256_hex(own.bytes)):
        return "kept"
    made_here = [leaf for leaf in ledger.find(kind=_CREATED, limit=EVERY) if not carried.origin_of(leaf.body)]
    if made_here or own.version != 1 or len(found) != SECRET_BYTES:
        raise ConflictError(
            what="the other box's secret of API keys cannot be taken",
            why=f"{len(made_here)} API keys were made here under another, or it was rotated",
            fix="set the standby up anew before it makes keys of its own",
        )
    file = config.at.key_files / f"{PEPPER}.v1"
    try:
        owner = file.stat()  # before it is recorded: the unit that keeps a standby current sees no key file
        ledger.append(ADOPTED, {"peer": pair.peer.name, "origin": pair.peer.origin})
        durable.replace(file, found, mode=0o400)
        made = file.stat()
        if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
            os.chown(file, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise KeyMissingError(
            what="the secret of API keys cannot be written",
            why=error.strerror or "",
            fix="run `sealift standby sync` once as root, by hand",
        ) from error
    return "adopted"
