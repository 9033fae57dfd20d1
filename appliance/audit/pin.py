"""The ledger's public key outside the ledger: who rewrites `ledger.db` cannot also rewrite `etc/ledger.pub`."""

from pathlib import Path
from typing import Final

from appliance.audit.note import VerifierKey
from appliance.config import Places
from appliance.errors import KeyMissingError
from media import durable

FILE_NAME: Final = "ledger.pub"


def read_pin(places: Places) -> VerifierKey | None:
    """Return the pinned key, or None when none was pinned yet.

    Raises:
        ProofError: The file is not a verifier key.
    """
    try:
        untrusted = (places.etc / FILE_NAME).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return VerifierKey.from_text(untrusted)


def require_same(places: Places, key: VerifierKey) -> None:
    """Return where no key is pinned, or the one that the records on a server begin with.

    Raises:
        KeyMissingError: Another is: a node kept that of a ledger of its own, or of before a restore; or somebody
            rewrote the records.
        ProofError: The file is not a verifier key.
    """
    pinned = read_pin(places)
    if pinned is not None and pinned != key:
        raise KeyMissingError(
            what=f"{FILE_NAME} here is the key of another ledger than the one on the server",
            why=f"here is {pinned.name}+{pinned.key_id.hex()}, there {key.name}+{key.key_id.hex()}; nothing is proven",
            fix=f"where this node joined, or a backup was restored, copy /etc/sealift/{FILE_NAME} from a node that"
            " answers, compare both, start again; else people find out who changed what: docs/operator/postgresql.md",
        )


def pin(places: Places, key: VerifierKey) -> bool:
    """Write the key where it is pinned, once: an existing file is never replaced. Return whether it was written now."""
    return _write_once(places.etc / FILE_NAME, key)


def _write_once(path: Path, key: VerifierKey) -> bool:
    try:
        # Whole or not at all: what a power cut left of one would stand for ever, since none is replaced.
        durable.place_new(path, f"{key.to_text()}\n".encode(), mode=0o644)
        durable.sync_folder(path.parent)
    except OSError:
        # It is pinned already, or this user may not pin: on a box the installer does, as root.
        return False
    return True
