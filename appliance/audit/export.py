"""Handing the ledger to an auditor: plain files that need none of our code to be checked.

    leaves.jsonl    each line the exact bytes of one leaf, in order; SHA-256(0x00 || line) is its leaf hash (RFC 6962)
    checkpoint.txt  the signed tree head of exactly these leaves (C2SP signed note, Ed25519)
    ledger.pub      the verifier key, as pinned outside the ledger where it was
    export.json     format 1: origin, size, root, and the running hash over all leaf hashes

The folder is written beside its place and renamed, so that what has the name is complete.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from appliance.audit import note, tree
from appliance.audit.facts import Ledger
from appliance.audit.log import FIRST_CHAIN
from appliance.errors import LedgerDamagedError, StoreWriteError
from media import canonical, durable
from media.errors import UsageError

FORMAT: Final = 1
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts:
    """What lies in the folder."""

    origin: str
    size: int
    root: str
    chain: str
    bytes: int


def export(
    ledger: Ledger,
    folder: Path,
    *,
    key: note.VerifierKey,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> ExportFacts:
    """Write the tree of the newest checkpoint to a new folder.

    Args:
        ledger: Any way in.
        folder: Must not exist yet.
        key: The verifier key that is written beside the leaves and that has to verify the checkpoint.
        progress: Called with leaves done and leaves in all.

    Raises:
        UsageError: The folder exists.
        StoreWriteError: It cannot be written.
        LedgerDamagedError: The leaves are not those that were signed.
        ProofError: The checkpoint is not signed by this key.
    """
    if folder.exists():
        raise UsageError(what=f"{folder.name} exists already", fix="name a folder that does not")
    text = ledger.checkpoint()
    signed = note.verify_checkpoint(text, [key])
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        facts = _write_leaves(ledger, unfinished / "leaves.jsonl", signed, progress)
        facts_file = canonical.dumps({"format": FORMAT, **asdict(facts)})
        for name, data in (
            ("checkpoint.txt", text.encode()),
            ("ledger.pub", f"{key.to_text()}\n".encode()),
            ("export.json", facts_file),
        ):
            durable.write_new(unfinished / name, data)
        unfinished.rename(folder)
    except OSError as error:
        raise StoreWriteError(
            what="the export cannot be written", why=error.strerror or "", fix="make room, or name another folder"
        ) from error
    return facts


def _write_leaves(
    ledger: Ledger, path: Path, signed: note.Checkpoint, progress: Callable[[int, int], None]
) -> ExportFacts:
    frontier: list[bytes] = []
    chain, size, length = FIRST_CHAIN, 0, 0
    with path.open("xb") as stream:
        while size < signed.size and (page := ledger.leaves(size, min(_PAGE, signed.size - size))):
            for leaf in page:
                hashed = tree.leaf_hash(leaf.raw)
                tree.push(frontier, size, hashed)
                chain = hashlib.sha256(chain + hashed).digest()
                length += stream.write(leaf.raw + b"\n")
                size += 1
            progress(size, signed.size)
        stream.flush()
        os.fsync(stream.fileno())
    if tree.root_of(frontier) != signed.root:
        raise LedgerDamagedError(
            what="the leaves are not those that were signed",
            why=f"the checkpoint of {signed.size} leaves names another root",
            fix="run `sealift audit verify`",
        )
    return ExportFacts(origin=signed.origin, size=size, root=signed.root.hex(), chain=chain.hex(), bytes=length)
