"""A person's word that a version may serve although its level is not recommended (I23): by name, with a reason.

The word opens nothing by itself. It is a record of the ledger, made by root's commands alone; the gate `level` shows it
in the evidence that two people then sign.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.config import Places
from appliance.promote import levels
from appliance.promote.folder import PromoterFolder
from appliance.registry import catalog
from media.errors import UsageError

_LONGEST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedLevel:
    """Whose word it is, and for what; `sequence` is -1 when nothing was recorded."""

    model_digest: str
    name: str
    level: str
    person: str
    reason: str
    sequence: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.model_digest,
            "name": self.name,
            "level": self.level,
            "person": self.person,
            "reason": self.reason,
            "sequence": self.sequence,
        }


def accept_level(
    places: Places, state: Engine, ledger: Ledger, which: str, *, person: str, reason: str, dry_run: bool = False
) -> AcceptedLevel:
    """Record an enrolled person's word.

    Raises:
        UnknownVersionError: No such version.
        UsageError: Its level needs no word, or no reason is given.
        UnknownPersonError: Nobody of that id is enrolled.
        LedgerUnavailableError, LedgerRefusedError: It could not be recorded.
    """
    with state.connect() as session:
        version = catalog.version(session, which)
    level = levels.level_of(str(version.descriptor.get("quantization", "")))
    if level is None:
        raise UsageError(
            what=f"{version.name} {version.version} needs nobody's word", why="its level may serve", fix="validate it"
        )
    if not reason.strip() or len(reason) > _LONGEST or not reason.isprintable():
        raise UsageError(
            what="no reason is given", why=f"1 to {_LONGEST} printable characters are asked for", fix="give --reason"
        )
    PromoterFolder(places.promoter).people().require_active(person)
    body = {"model_digest": version.model_digest, "level": level, "person": person, "reason": reason}
    sequence = -1 if dry_run else ledger.append(levels.ACCEPTED, body).sequence
    return AcceptedLevel(
        model_digest=version.model_digest,
        name=f"{version.name} {version.version}",
        level=level,
        person=person,
        reason=reason,
        sequence=sequence,
    )
