"""Which versions are loaded in the test stage for application developers, as the ledger has it.

Whether their engines run is their supervisor's to say: after a boot they do not, until somebody loads them again.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from appliance.errors import ConflictError
from appliance.state.tables import StageLoad

LOADED: Final = "stage.loaded"
UNLOADED: Final = "stage.unloaded"

Reader = Connection | Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One version in the test stage: who had it loaded, when, and the record that says so."""

    model_digest: str
    person: str
    at: str
    sequence: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.model_digest,
            "person": self.person,
            "at": self.at,
            "sequence": self.sequence,
        }


def loads(session: Reader) -> tuple[Load, ...]:
    """Return what is loaded, the newest first: that one answers where a caller names no version."""
    rows = session.execute(select(StageLoad.__table__).order_by(StageLoad.sequence.desc())).all()
    return tuple(
        Load(model_digest=row.model_digest, person=row.person, at=row.at, sequence=row.sequence) for row in rows
    )


def require_not_loaded(session: Reader, model_digest: str) -> None:
    """Return unless application developers have this version: gates and windows stop its test engine at their end.

    Raises:
        ConflictError: They have.
    """
    if any(one.model_digest == model_digest for one in loads(session)):
        raise ConflictError(
            what=f"version {model_digest[:12]} is in use in the test stage",
            why="application developers ask it there, and its engine would be stopped under them",
            fix=f"run `sealift stage unload {model_digest[:12]} --as PERSON` first, and load it again afterwards",
        )
