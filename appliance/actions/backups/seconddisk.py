"""The step of a guided install that prepares the second disk, to which a small site's backups go.

Promises: what is done was shown before, to the very disk that was shown; a disk that was prepared before is mounted and
never formatted again, so the step may be repeated; whatever fails here is told with the command to repeat and stops
nothing else, because a box without its disk of backups serves.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from appliance.actions.backups import disk as disks
from appliance.actions.backups import fstab
from appliance.actions.backups.disk import Preparation
from appliance.actions.backups.offered import Devices, Offered, named, offered
from appliance.actions.backups.usbdisk import Disk
from appliance.config import Config
from appliance.errors import ConflictError
from media.clock import Clock
from media.errors import SealiftError

_ANY = "`sealift backup disk DEVICE`"


class State(StrEnum):
    """How it stands with the disk: before the step up to `PLANNED`, after it the others, too."""

    NONE = "none"
    """No disk is prepared for this site; `why` says so."""
    LATER = "later"
    """Nobody chose one."""
    ABSENT = "absent"
    """The one that was chosen is not plugged in."""
    REFUSED = "refused"
    """It cannot be used."""
    PLANNED = "planned"
    STANDS = "stands"
    """It was prepared before."""
    PREPARED = "prepared"
    FAILED = "failed"


AHEAD: Final = frozenset({State.PLANNED, State.STANDS})
"""The states in which the step does something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """What becomes, or became, of the disk of backups.

    Args:
        state: See `State`.
        chosen: By which name; empty where none was chosen.
        what: What failed or was refused.
        why: Why it is as it is.
        fix: What people do next; empty where nothing is left to do.
        disk: Which, where it is there.
        made: What is done to it, where that is something.
        sequence: Of the record.
    """

    state: State
    chosen: str = ""
    what: str = ""
    why: str = ""
    fix: str = ""
    disk: Disk | None = field(default=None, repr=False)
    made: Preparation | None = field(default=None, repr=False)
    sequence: int | None = None

    def left(self, why: str) -> "DiskFacts":
        """Return these facts of a disk that is left as it is, for later."""
        return DiskFacts(state=State.LATER, chosen=self.chosen, why=why, fix=again(self.disk), disk=self.disk)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "state": str(self.state),
            "disk": self.chosen,
            "device": self.disk.name if self.disk else None,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
            "preparation": self.made.to_json() if self.made else None,
            "sequence": self.sequence,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondDisk:
    """The disk of backups of a site that is being set up.

    Args:
        config: The site file's values, as the answers make them.
        clock: The clock.
        chosen: The answer: a serial number or a lasting name; empty for later.
        devices: The disks of this machine; None below a folder, which has none of its own.
    """

    config: Config
    clock: Clock
    chosen: str = ""
    devices: Devices | None

    def unneeded(self) -> str:
        """Return why this site needs no disk to be prepared; empty where it needs one."""
        backup = self.config.backup
        if not backup.folder:
            return "backups have no place yet"
        if self.devices is None:
            return "a site below a folder has no disks of its own"
        if backup.on_system_disk:
            return "the site file puts backups on the system's own disk"
        if fstab.standing(self.config, fstab=self.devices.table, mounted=self.devices.mounted()) is None:
            return f"something is mounted at {backup.folder} already"
        return ""

    def offers(self) -> list[Offered]:
        """Return the disks of this machine; see `offered`."""
        return offered(self.config.backup.folder, self.devices) if self.devices else []

    def planned(self) -> DiskFacts:
        """Say what the step would do, and change nothing; it stops nobody."""
        if none := self.unneeded():
            return DiskFacts(state=State.NONE, chosen=self.chosen, why=none)
        if not self.chosen:
            return DiskFacts(state=State.LATER, why="nobody chose one", fix=f"plug one in; {_ANY}")
        try:
            found = named(self.offers(), self.chosen)
        except SealiftError as error:
            return self._told(State.REFUSED, error)
        if found is None:
            return DiskFacts(
                state=State.ABSENT,
                chosen=self.chosen,
                what=f"the disk {self.chosen} is not there",
                why="no disk that is plugged in has this serial number or name",
                fix=f"plug it in; {_ANY}",
            )
        if found.refusal is not None:
            return self._told(State.REFUSED, found.refusal, found.disk)
        state = State.STANDS if found.is_prepared else State.PLANNED
        return DiskFacts(state=state, chosen=self.chosen, disk=found.disk, made=found.made)

    def prepared(self, agreed: DiskFacts) -> DiskFacts:
        """Do what was planned, and only that; say how it went.

        Args:
            agreed: What `planned` said, and people agreed to.
        """
        if agreed.state not in AHEAD or self.devices is None:
            return agreed
        try:
            found = self._found(agreed)
        except SealiftError as error:
            return self._told(State.FAILED, error)
        command = again(found.disk) if found.made else f"`mount {self.config.backup.folder}`"
        try:
            return self._done(found, agreed, self.devices)
        except SealiftError as error:
            return self._told(State.FAILED, error, found.disk, command=command)
        except OSError as error:
            return DiskFacts(
                state=State.FAILED,
                chosen=self.chosen,
                what="the disk is not prepared",
                why=error.strerror or str(error),
                fix=command,
                disk=found.disk,
            )

    def _found(self, agreed: DiskFacts) -> Offered:
        """Return the disk that was agreed to, where the same would be done to it as was shown."""
        found = named(self.offers(), self.chosen)
        if found is not None and found.refusal is not None:
            raise found.refusal
        if found is None or not _is_same(found.disk, agreed.disk) or (agreed.made is None and not found.is_prepared):
            raise ConflictError(
                what=f"the disk {self.chosen} is not what was shown",
                why="it was pulled out" if found is None else "it, or its line in /etc/fstab, was changed meanwhile",
                fix="look at it",
            )
        return found

    def _done(self, found: Offered, agreed: DiskFacts, devices: Devices) -> DiskFacts:
        if found.made is None:
            sequence = disks.take_up(self.config, found.disk, clock=self.clock, tool=devices.tool)
            return replace(agreed, state=State.STANDS, disk=found.disk, made=None, sequence=sequence)
        made = found.made
        if made.line and agreed.made is not None:
            made = replace(made, uuid=agreed.made.uuid)
        number = disks.prepare(self.config, made, clock=self.clock, tool=devices.tool, table=devices.table)
        return replace(agreed, state=State.PREPARED, disk=found.disk, made=made, sequence=number)

    def _told(self, state: State, error: SealiftError, disk: Disk | None = None, *, command: str = _ANY) -> DiskFacts:
        """Return facts of an error, with the command to repeat where its own fix does not name it."""
        fix = error.fix if "`sealift backup disk" in error.fix else "; ".join(filter(None, (error.fix, command)))
        return DiskFacts(state=state, chosen=self.chosen, what=error.what, why=error.why, fix=fix, disk=disk)


def again(disk: Disk | None) -> str:
    """Return the command that prepares a disk by itself; it may bear something by now, and asks for the disk's name."""
    return f"`sealift backup disk /dev/{disk.name} --erase`" if disk else _ANY


def _is_same(now: Disk, then: Disk | None) -> bool:
    """Tell whether a disk is the one that was looked at; its name may be another since."""
    return then is not None and replace(now, name="", mounted=()) == replace(then, name="", mounted=())
