"""Delete a version: refused while anything needs it, decided by the promoter, its bytes collected afterwards.

Promises: a version whose engine is loaded is not deleted; the promoter's record is the decision, and whoever may write
the store collects its bytes at once. Cut off between the two, `sealift models collect` finishes it.
"""

import os
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.collect import CollectFacts, collect
from appliance.actions.production import Surroundings
from appliance.errors import ConflictError
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry import catalog
from appliance.registry.catalog import Version
from appliance.state import projection
from appliance.store.content import ContentStore
from media import canonical
from media.errors import SealiftError

STAGES: Final = ("test", "production")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteFacts:
    """What was deleted, or why it would not be.

    Attributes:
        version: Which.
        needs: What needs it; only a dry run returns with any.
        bytes: Of its files in the store.
        sequence: Of the promoter's record; None in a dry run.
        collected: What was removed; None where this process may not write the store.
    """

    version: Version
    needs: tuple[str, ...]
    bytes: int
    sequence: int | None = None
    collected: CollectFacts | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "needs": list(self.needs),
            "bytes": self.bytes,
            "sequence": self.sequence,
            "collected": None if self.collected is None else self.collected.to_json(),
        }


def delete(
    here: Surroundings, which: str, *, person: str, reason: str, password: str | None = None, dry_run: bool = False
) -> DeleteFacts:
    """Delete a version and collect its bytes.

    Args:
        here: What the action works with.
        which: A digest, the beginning of one, a name, or NAME:VERSION.
        person: Who decides, by id.
        reason: Why, for the record.
        password: Proves the person where the command line's word is not enough.
        dry_run: Only say what needs it and how many bytes it has.

    Raises:
        UnknownVersionError: There is no such version.
        ConflictError: Its engine is loaded.
        RemoteError: The promoter refused: something needs it, or nobody of that id.
        StoreBusyError, StoreDamagedError, StoreWriteError: It is deleted, and its bytes still lie there.
    """
    projection.catch_up(here.state, here.ledger)
    with here.state.connect() as session:
        version = catalog.version(session, which)
    own = _bytes_of(version)
    loaded = _loaded(here, version)
    needs = here.promoter.needs_of(version.model_digest) if dry_run or loaded else ()
    if dry_run:
        return DeleteFacts(version=version, needs=(*needs, *loaded), bytes=own)
    if loaded:
        raise ConflictError(
            what=f"version {version.model_digest[:12]} is not deleted",
            why="; ".join((*needs, *loaded)),
            fix="see `sealift history`; delete it when nothing needs it any more"
            if needs
            else "`sealift stage unload` where developers have it, else wait until its engine has stopped",
        )
    sequence = here.promoter.decide_model(
        "delete", version.model_digest, person=person, reason=reason, password=password
    )
    here.tell(f"the deletion is recorded at sequence {sequence}")
    projection.catch_up(here.state, here.ledger)
    collected = collect(here.config, here.ledger) if _may_write(here) else None
    return DeleteFacts(version=version, needs=(), bytes=own, sequence=sequence, collected=collected)


def _bytes_of(version: Version) -> int:
    files = version.descriptor.get("files")
    found = [canonical.mapping(one, "file").get("length") for one in files] if isinstance(files, list) else []
    return sum(length for length in found if isinstance(length, int))


def _loaded(here: Surroundings, version: Version) -> tuple[str, ...]:
    """Return in which stages the version's engine is up, or may be: a supervisor that does not answer counts as up."""
    found = []
    for stage in STAGES:
        try:
            state = here.supervisor.state(engine_unit(stage, version.model_digest))
        except SealiftError as error:
            found.append(f"it cannot be told whether its engine is loaded in {stage}: {error.what}")
            continue
        if state not in {UnitState.INACTIVE, UnitState.FAILED}:
            found.append(f"its engine is loaded in {stage} (warm)")
    return tuple(found)


def _may_write(here: Surroundings) -> bool:
    return os.access(ContentStore(here.config.at.store).objects, os.W_OK)
