"""Where this box stands towards the boxes that it is paired with: how far each mirror is, and what is not taken yet."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from appliance.actions.standby import stopping
from appliance.actions.standby.forked import IMPORTED
from appliance.actions.standby.keeping import installed
from appliance.actions.standby.taking import KINDS, begin
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import LedgerDamagedError, LedgerUnavailableError
from appliance.promote.policybook import PolicyBook
from appliance.standby import carried, mirror
from appliance.standby.pairing import Paired, Relation, paired
from media.clock import Clock

_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One paired box as this one sees it.

    Attributes:
        mirrored: How many of its records are here.
        brought: When the last bundle that brought any was taken; empty for never.
        waiting: How many of its decisions are in the mirror and not taken over; stops of callers, too.
        held_back: Its file of thresholds that is not taken over; until then the stricter of both boxes' hold here.
        newest: When the newest record that is here was made there; empty for none. A bundle need not bring all.
        fault: Why its mirror cannot be looked at, or that it holds less than was taken; empty for none.
    """

    pair: Paired
    mirrored: int
    brought: str
    waiting: int
    missing: tuple[int, ...]
    held_back: str
    newest: str = ""
    fault: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "name": self.pair.peer.name,
            "relation": str(self.pair.relation),
            "is_first": self.pair.is_first,
            "origin": self.pair.peer.origin,
            "mirrored": self.mirrored,
            "brought": self.brought,
            "waiting": self.waiting,
            "missing_releases": list(self.missing),
            "held_back": self.held_back,
            "newest": self.newest,
            "fault": self.fault,
        }

    def line(self) -> str:
        """Return it as a person reads it."""
        mine = {
            (Relation.STANDBY, True): "this box is its primary",
            (Relation.STANDBY, False): "this box is its standby",
            (Relation.TEST, True): "this box takes its test reports",
            (Relation.TEST, False): "this box tests for it",
        }[self.pair.relation, self.pair.is_first]
        lacks = f"; lacks serial {', '.join(map(str, self.missing))}" if self.missing else ""
        lacks += f"; its thresholds {self.held_back} wait, the stricter hold here" if self.held_back else ""
        since = f", last brought {self.brought}" if self.brought else ""
        if self.fault:
            return f"{self.pair.peer.name}: {mine}; {self.fault}{since}{lacks}"
        return f"{self.pair.peer.name}: {mine}; {self.mirrored} records mirrored{since}, {self.waiting} wait{lacks}"


def read(config: Config, *, ledger: Ledger, clock: Clock) -> tuple[Box, ...]:
    """Return every paired box.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
        PairingRefusedError: A pairing does not hold.
    """
    return tuple(_box(config, one, ledger=ledger, clock=clock) for one in paired(config.at))


def _box(config: Config, pair: Paired, *, ledger: Ledger, clock: Clock) -> Box:
    copy = mirror.reader(config.at, pair.peer, clock=clock)
    held = PolicyBook.of(ledger).held.get(pair.peer.origin)
    last = ledger.find(kind=IMPORTED, field="sender", value=pair.peer.origin, limit=1)
    mirrored, waiting, newest, fault = 0, 0, "", ""
    if mirror.is_begun(config.at, pair.peer):
        try:
            mirrored = copy.head().size
            newest = copy.leaf(mirrored - 1).time if mirrored else ""
            waiting = _waiting(copy, ledger, pair) if pair.relation is Relation.STANDBY else 0
        except (LedgerDamagedError, LedgerUnavailableError) as error:
            fault = f"its mirror cannot be read: {error.what}: {error.why}"
    if last and not fault and mirrored < int(last[0].body["size"]):
        fault = f"its mirror holds {mirrored} records, and {last[0].body['size']} were taken into it"
    return Box(
        pair=pair,
        mirrored=mirrored,
        brought=last[0].time if last else "",
        waiting=waiting,
        missing=_missing(ledger, last[0].body.get("missing_releases", ()) if last else ()),
        held_back="" if held is None else str(held.body.get("name")),
        newest=newest,
        fault=fault,
    )


def _missing(ledger: Ledger, then: Collection[int]) -> tuple[int, ...]:
    """Return which of the serials that were missing when the last bundle came still are."""
    here = installed(ledger) if then else ()
    return tuple(serial for serial in then if serial not in here)


def _waiting(copy: Ledger, ledger: Ledger, pair: Paired) -> int:
    start, count = begin(ledger, pair.peer.origin), len(stopping.waiting(copy, ledger))
    while page := copy.leaves(start, _PAGE, kinds=KINDS):
        count += sum(not carried.is_here(ledger, leaf.body, KINDS) for leaf in page)
        start = page[-1].sequence + 1
    return count
