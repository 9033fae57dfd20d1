"""How old the newest backup and the last drills are, and what is wrong with that; for status, alerts and a drill's own.

Asked of the ledger alone, so that a disk that is in a safe, where it belongs, is no fault.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.actions.backups import drill, making
from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.timekeeping.believed import BelievedClock
from appliance.timekeeping.judging import age_of
from media.clock import Clock, from_text

_UNKNOWN: Final = timedelta.max
_YEAR: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where backups stand; of several nodes each drills with its own disk, so that drills are this node's alone.

    Args:
        made_at: Of the newest backup, as recorded; None for none.
        age_seconds: Of it; None for none. An age that nobody knows is larger than any limit.
        drilled_at: Of the last drill of any level; None for none.
        drilled_seconds: Its age, likewise.
        opened_at: Of the last drill in which people opened the encrypted file; None for none.
        is_opened: That drill opened a backup of the ledger's present epoch, and is no older than drills may be.
        failed_at: Of the last drill that failed, whatever became of later ones; None for none.
        is_failing: No drill of its level held since one that failed in the ledger's present epoch.
        failures: How many failed in the last year.
        faults: What a person has to do something about.
    """

    made_at: str | None
    age_seconds: int | None
    drilled_at: str | None
    drilled_seconds: int | None
    opened_at: str | None
    is_opened: bool
    failed_at: str | None
    is_failing: bool
    failures: int
    faults: tuple[str, ...]

    @property
    def past(self) -> str:
        """The failures of the last year in words, which a later drill does not undo; empty for none."""
        return f"drills that failed in a year: {self.failures}, the last {self.failed_at}" if self.failures else ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "made_at": self.made_at,
            "age_seconds": self.age_seconds,
            "drilled_at": self.drilled_at,
            "opened_at": self.opened_at,
            "failed_at": self.failed_at,
            "failures": self.failures,
            "faults": list(self.faults),
        }


def standing(config: Config, ledger: Ledger, *, clock: Clock) -> Standing:
    """Return where backups stand now, by the time that is believed.

    Raises:
        LedgerUnavailableError: There is no ledger to ask.
    """
    now = BelievedClock(config.at, clock).now()
    made = _last(ledger, making.MADE)
    begun = drill.epoch_begun(ledger)
    held, failed = (drill.own(config, ledger, kind) for kind in (drill.DRILLED, drill.FAILED))
    drilled = next(iter(held), None)
    opened = next((leaf for leaf in held if leaf.body.get("level") == drill.FULL), None)
    faults = []
    if not config.backup.folder:
        faults.append("nobody has chosen where backups go")
    if made is None:
        faults.append("there is no backup")
    elif _age(made, now) > timedelta(hours=config.backup.age_hours):
        age = "of an unknown age" if _age(made, now) == _UNKNOWN else f"{_age(made, now).days} days old"
        faults.append(f"the newest backup is {age}, at most {config.backup.age_hours} hours")
    if made is not None and (drilled is None or _age(drilled, now) > timedelta(days=config.backup.drill_days)):
        faults.append(f"no drill in the last {config.backup.drill_days} days")
    failing = [
        f"the last drill ({level}) failed at {leaf.time}: {_why(leaf)}"
        # That the key opens the file is shown by no drill without it.
        for level, good in ((drill.FULL, opened), (drill.STREAM, drilled))
        # What failed before the ledger was restored is the lost box's, and its backup was opened by the restore.
        for leaf in [each for each in failed if each.body.get("level") == level and each.sequence > begun][:1]
        if good is None or good.sequence < leaf.sequence
    ]
    faults += failing
    return Standing(
        made_at=_moment(made) if made else None,
        age_seconds=int(_age(made, now).total_seconds()) if made else None,
        drilled_at=_moment(drilled) if drilled else None,
        drilled_seconds=int(_age(drilled, now).total_seconds()) if drilled else None,
        opened_at=opened.time if opened else None,
        is_opened=opened is not None
        and _age(opened, now) <= timedelta(days=config.backup.drill_days)
        and _is_of_this_epoch(ledger, opened, begun),
        failed_at=failed[0].time if failed else None,
        is_failing=bool(failing),
        failures=sum(not _YEAR < _age(leaf, now) < _UNKNOWN for leaf in failed),
        faults=tuple(faults),
    )


def _last(ledger: Ledger, kind: str) -> Leaf | None:
    return next(iter(ledger.find(kind=kind, limit=1)), None)


def _moment(leaf: Leaf) -> str:
    # A backup's own record says what was believed then; others have the machine's clock alone.
    return str(leaf.body.get("made_at") or leaf.time)


def _is_of_this_epoch(ledger: Ledger, drilled: Leaf, begun: int) -> bool:
    """Tell whether the backup of a drill was made since the ledger was restored last; else it is the lost box's."""
    backup = drilled.body.get("backup")
    digest = backup.get("sha256") if isinstance(backup, Mapping) else None
    made = ledger.find(kind=making.MADE, field="sha256", value=str(digest), limit=1)
    return bool(made) and begun < made[0].sequence


def _why(leaf: Leaf) -> str:
    told = leaf.body.get("failed")
    said = (told.get(name) for name in ("what", "why")) if isinstance(told, Mapping) else ()
    return ", ".join(str(each) for each in said if each)


def _age(leaf: Leaf, now: datetime) -> timedelta:
    age = age_of(from_text(_moment(leaf)), now)
    return _UNKNOWN if age is None else age
