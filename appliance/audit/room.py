"""What the ledger still writes when its disk fills: first no new questions, then the reserve, for what closes things.

    open      every record
    closing   the disk has less room than half of the reserve, or a write found none. Nothing new begins: intents and
              what brings something in are refused (the gateway answers 503). Outcomes of what was begun, the ledger's
              own records, refusals and what people do to help are still written, out of the reserve where it must be.

Refusals stop at half of the reserve, since callers can make any number of them; deeds of people at an eighth; outcomes
and the ledger's own records may have all of it. Both turns are records: `ledger.disk-full` and `ledger.disk-room`. One
thread, the writer's, calls everything but `standing`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.reserve import Reserve, default_bytes, existing
from appliance.config import SMALLEST_PROFILE, Config
from appliance.errors import LedgerFullError, WireError
from appliance.wire import Line

FULL: Final = "ledger.disk-full"
ROOM: Final = "ledger.disk-room"
_CLOSING_PART: Final = Fraction(1, 2)
_MIB: Final = 2**20
# The shared index of the write-ahead log, the records of a start, a checkpoint.
_TO_OPEN: Final = 256 * 1024
_TO_THE_LAST: Final = ("ledger.", "request.outcome")
_REFUSALS: Final = ("request.refused",)
_HELPING: Final = (
    *("admin.", "stop.", "promotion.stopped", "promotion.rolled-back", "promotion.retired", "promotion.canary-held"),
    *("promotion.canary-aborted", "model.deleted", "model.held", "model.hold-lifted", "model.damaged"),
    *("stage.unloaded", "key.revoked", "key.ruled", "key.destroyed", "retention.", "erasure.", "review.", "retire."),
    *("backup.", "export.", "evidence.", "emergency.", "clock.", "network.", "tls.", "job.", "standby.", "install."),
    *("release.refused", "custody.rejected"),
)
_FLOORS: Final = ((_TO_THE_LAST, Fraction(0)), (_HELPING, Fraction(1, 8)), (_REFUSALS, Fraction(1, 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How it stands with the ledger's disk, in bytes: what is kept, what should be, and what is free besides.

    `size` is that of the disk, and `apart` whether it is the ledger's own; a ledger of a release before says neither.
    """

    closing: bool
    wanted: int
    held: int
    free: int
    size: int = 0
    apart: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers and records."""
        return asdict(self)


class Room:
    """The room of one ledger.

    Args:
        reserve: What is kept for it.
    """

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self.low_bytes = int(reserve.wanted * _CLOSING_PART)
        """Below so much free room nothing new begins: it takes what is left, and the write-ahead log, to fold it in."""
        self._closing = False
        self._turns: list[Entry] = []

    @classmethod
    def of(cls, config: Config) -> "Room | None":
        """Return the room of a site's ledger; None where its records lie on a database server."""
        if config.at.server is not None:
            return None
        folder = config.at.ledger
        wanted = config.ledger.reserve_mib * _MIB
        if not wanted:
            usage = os.statvfs(existing(folder))
            disk = usage.f_blocks * usage.f_frsize
            is_small, is_throwaway = config.profile == SMALLEST_PROFILE, config.environment != "production"
            wanted = default_bytes(disk, is_small=is_small, is_throwaway=is_throwaway)
        return cls(Reserve(folder, wanted))

    def standing(self) -> Standing:
        """Return how it stands; any thread may ask."""
        reserve = self._reserve
        return Standing(
            closing=self._closing,
            wanted=reserve.wanted,
            held=reserve.held(),
            free=reserve.free(),
            size=reserve.size(),
            apart=reserve.is_apart(),
        )

    def prepare(self) -> bool:
        """Make room to open the ledger on a disk that is full, out of the reserve; return whether there is enough."""
        while (is_short := self._reserve.free() < _TO_OPEN) and self._reserve.give():
            pass
        return not is_short

    def look(self) -> list[Entry]:
        """Judge the disk and fill the reserve where there is room; return the turns that are not recorded yet."""
        now, roomy = self.standing(), 2 * self.low_bytes
        if not self._closing and now.free < self.low_bytes:
            self.close()
        elif self._closing or now.held < now.wanted:
            is_roomy = now.free >= now.wanted - now.held + roomy
            if is_roomy and self._reserve.fill() and self._closing:
                self._closing = False
                self._turns.append(self._record(ROOM))
        return list(self._turns)

    def close(self) -> bool:
        """Begin nothing new from now on; return whether that is a turn."""
        if self._closing:
            return False
        self._closing = True
        self._turns.append(self._record(FULL))
        return True

    def recorded(self, count: int) -> None:
        """Forget the first `count` turns: they are durable."""
        del self._turns[:count]

    def give(self) -> bool:
        """Give a slice of the reserve to a write that found no room; return whether it is worth another try."""
        return self._reserve.give() > 0

    def refusal_of(self, entries: Sequence[Entry]) -> list[LedgerFullError | None]:
        """Return for each record why it may not be written now, or None."""
        if not self._closing:
            return [None] * len(entries)
        now = self.standing()
        left = Fraction(now.held + now.free, max(now.wanted, 1))
        return [None if _may(entry.kind, left) else _full(now) for entry in entries]

    def _record(self, kind: str) -> Entry:
        body: Mapping[str, Any] = {
            f"{name}_bytes": getattr(self.standing(), name) for name in ("wanted", "held", "free")
        }
        return Entry.of(kind, body, via=Via(door="ledger", uid=os.getuid()))


def asked(door: Path) -> Standing | None:
    """Return what the ledger says of its room; None where there is no such door, or its records lie on a server.

    Raises:
        WireError: Nobody answers, or says something else.
    """
    if not door.exists():
        return None
    line = Line(door, timeout_seconds=5.0)
    try:
        untrusted = line.call("room")
    finally:
        line.close()
    if not untrusted:
        return None
    said = {"size": 0, "apart": False, **untrusted}
    numbers = [said.get(name) for name in ("wanted", "held", "free", "size")]
    is_told = all(isinstance(said.get(name), bool) for name in ("closing", "apart"))
    if not is_told or not all(type(one) is int for one in numbers):
        raise WireError(what="the ledger's room is not what was asked for", why="", fix="use one release on both sides")
    return Standing(**{one.name: said[one.name] for one in fields(Standing)})


def _may(kind: str, left: Fraction) -> bool:
    return any(kind.startswith(kinds) and left >= floor for kinds, floor in _FLOORS)


def _full(now: Standing) -> LedgerFullError:
    return LedgerFullError(
        what="the ledger's disk is full: nothing new begins",
        why=f"{now.free // _MIB} MiB are free, {now.held // _MIB} of {now.wanted // _MIB} MiB are kept for the ledger",
        fix=f"make room on the disk of the {'ledger' if now.apart else 'state'} (docs/operator/ledger.md: a full disk);"
        " it goes on by itself",
    )
