"""The step times that a version's validation measured, laid down where its production engines read them.

They are in the evidence whose digest is in the statement that brought the version into production, so they are what
people approved with it. Engines reach neither evidence nor ledger; beside their environment they read one small file,
and decide themselves whether it is about their machine (`appliance.serve.keptsteps`).

Promises: the file holds what that evidence holds, or there is none; that it cannot be written is no reason for an
engine not to start, which measures by itself then.
"""

from contextlib import suppress
from typing import Final

from appliance.errors import ProofError
from appliance.places import Places
from appliance.promote.folder import PromoterFolder
from appliance.promote.statement import Statement
from appliance.registry import evidence
from media import canonical, durable
from media.errors import SealiftError

_MODE: Final = 0o644


def lay_down(places: Places, digest12: str) -> None:
    """Lay down what was measured of a version in production; take away what lies there where nothing was."""
    place = places.kept_steps(digest12)
    try:
        content = _approved(places, digest12)
    except (SealiftError, OSError):  # lost, restored in part, or of another release's form
        content = b""
    with suppress(OSError):
        if not content:
            place.unlink(missing_ok=True)
        elif not (place.is_file() and place.read_bytes() == content):
            durable.replace(place, content, mode=_MODE)


def _approved(places: Places, digest12: str) -> bytes:
    production = PromoterFolder(places.promoter).production()
    model_digest = next((one for one in production.loadable if one.startswith(digest12)), "")
    made = production.made_for(model_digest)
    if made is None:
        return b""
    digest = Statement.from_bytes(made.statement.encode()).evidence_digest
    document = evidence.read(places, digest)
    if document.get("model_digest") != model_digest:
        raise ProofError(what=f"the evidence {digest[:12]} is about another version", why="", fix="validate it again")
    found = evidence.steps_of(document)
    content = b"" if found is None else canonical.dumps(found)
    return content if len(content) <= evidence.MOST_STEPS_BYTES else b""
