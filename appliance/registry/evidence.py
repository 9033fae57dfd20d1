"""Evidence: what a run of the gates found, kept as one canonical file under its digest.

Promises: a file is written once, under the SHA-256 of its bytes, and hashed again whenever it is read, so that what
people signed is what an auditor reads. Evidence holds figures and verdicts, never prompts or answers.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from appliance.config import Places
from appliance.errors import ProofError
from media import canonical, durable

FORMAT: Final = 1
TYPE: Final = "sealift/evidence"
MAX_BYTES: Final = 4 * 1024 * 1024
MOST_STEPS_BYTES: Final = 64 * 1024
"""Of a curve that engines are handed; see `steps_of`."""


def folder(places: Places) -> Path:
    """Return where evidence lies."""
    return places.registry / "evidence"


def store(places: Places, document: Mapping[str, Any]) -> str:
    """Write a document durably and return its digest.

    Raises:
        MalformedError: It holds something that has no canonical form.
    """
    return _write(places, canonical.dumps({"format": FORMAT, "type": TYPE, **document}))


def keep(places: Places, untrusted: bytes, digest: str) -> bool:
    """Keep a document of another box under its digest; False, and nothing is written, where it is none of this format.

    Raises:
        LimitExceededError, MalformedError: It is not canonical JSON of an object, or too large.
    """
    document = canonical.mapping(canonical.loads_canonical(untrusted, max_bytes=MAX_BYTES), "evidence")
    if (document.get("format"), document.get("type")) != (FORMAT, TYPE) or sha256(untrusted).hexdigest() != digest:
        return False
    _write(places, untrusted)
    return True


def read(places: Places, digest: str) -> dict[str, Any]:
    """Return the document with this digest.

    Raises:
        ProofError: It is gone, or not what its name says.
    """
    return canonical.mapping(canonical.loads_canonical(content(places, digest), max_bytes=MAX_BYTES), "evidence")


def content(places: Places, digest: str) -> bytes:
    """Return the exact bytes of the document with this digest.

    Raises:
        ProofError: It is gone, or not what its name says.
    """
    place = folder(places) / f"{canonical.sha256_hex(digest, 'evidence digest')}.json"
    try:
        # The folder is a group's, and the job service reads here before it starts an engine: nothing may hold it up.
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _lost(digest, error.strerror or "it cannot be read") from error
    if sha256(found).hexdigest() != digest:
        raise _lost(digest, "its bytes have another digest")
    return found


def figures_of(document: Mapping[str, Any], gate: str) -> Mapping[str, Any]:
    """Return what one gate measured, with the tables that the ledger does not hold; nothing where it did not run."""
    gates = document.get("gates")
    for one in gates if isinstance(gates, list) else ():
        if isinstance(one, Mapping) and one.get("gate") == gate:
            figures = one.get("figures")
            return figures if isinstance(figures, Mapping) else {}
    return {}


def steps_of(document: Mapping[str, Any]) -> object:
    """Return the curve of step times that a validation measured, as `appliance.serve.curve` reads it; None for none."""
    return figures_of(document, "load").get("step_curve")


def _write(places: Places, content: bytes) -> str:
    digest = sha256(content).hexdigest()
    place = folder(places) / f"{digest}.json"
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    durable.replace(place, content, mode=0o644)
    return digest


def _lost(digest: str, why: str) -> ProofError:
    return ProofError(
        what=f"the evidence {digest[:12]} does not verify", why=why, fix="restore it from a backup, or validate again"
    )
