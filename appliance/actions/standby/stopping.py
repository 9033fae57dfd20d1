"""Stops of callers that hold on the other box of a pair, made to hold here; and those that ended there, ended here.

What is compared is what holds on both boxes now, not record by record: a stop has to hold here also while a promotion
before it waits for its release, and an end that somebody has to be enrolled for is looked at again next time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.promote.client import PromoterClient
from appliance.promote.reviews import FREED, STOPPED, stopped_callers
from appliance.promote.stopcarrying import is_known, is_same
from appliance.standby import mirror
from appliance.standby.card import BoxCard
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation, require_paired
from media.clock import Clock
from media.errors import SealiftError

_Stops = Mapping[tuple[str, str], Leaf]
_NO_ANSWER: Final = frozenset({"ledger-unavailable", "wire"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What was made of the other box's stops.

    Attributes:
        count: Stops that hold here now, and those that ended.
        stay: Callers that were freed there and stay stopped here, each with why.
    """

    count: int
    stay: tuple[str, ...]


def take_over(config: Config, peer: str, *, ledger: Ledger, promoter: PromoterClient, clock: Clock) -> Followed:
    """Follow the stops of a paired box by its mirror alone; nothing where that is none of a standby, or is not there.

    Raises:
        LedgerDamagedError, LedgerUnavailableError: This box's ledger or the mirror cannot be read.
        PairingRefusedError: The box is not paired.
        SealiftError: As the promoter says.
    """
    pair = require_paired(config.at, peer)
    if pair.relation is not Relation.STANDBY:
        return Followed(count=0, stay=())
    if not mirror.is_begun(config.at, pair.peer):
        return Followed(count=0, stay=())  # nothing was ever brought
    copy = mirror.reader(config.at, pair.peer, clock=clock)
    return follow(copy, pair.peer, ledger=ledger, promoter=promoter)


def follow(copy: Ledger, box: BoxCard, *, ledger: Ledger, promoter: PromoterClient) -> Followed:
    """Let every caller be stopped here who is stopped there, and end here what was ended there.

    One whom people of this box freed is not stopped again for the same stop.

    Args:
        copy: The mirror.
        box: Whose it is.
        ledger: This box's own.
        promoter: Judges each.

    Raises:
        LedgerUnavailableError: This box's ledger or the mirror cannot be read.
        SealiftError: As the promoter says.
    """
    there = stopped_callers(copy)
    ended, stay = _end(copy, there, box, ledger, promoter)
    # After the ends: a caller has one stop at a time, and the end of one lets the next one come.
    news = _waiting(there, ledger)
    taken = sum(promoter.carry(box.name, Carried.of(copy, leaf.sequence), ()) for leaf in news)
    return Followed(count=ended + taken, stay=tuple(stay))


def waiting(copy: Ledger, ledger: Ledger) -> list[Leaf]:
    """Return the stops that hold there, of callers who are not stopped here and were not freed of them here."""
    return _waiting(stopped_callers(copy), ledger)


def _waiting(there: _Stops, ledger: Ledger) -> list[Leaf]:
    here = stopped_callers(ledger)
    return [leaf for caller, leaf in there.items() if caller not in here and not is_known(ledger, leaf)]


def _end(copy: Ledger, there: _Stops, box: BoxCard, ledger: Ledger, promoter: PromoterClient) -> tuple[int, list[str]]:
    count, stay = 0, list[str]()
    for caller, stop in stopped_callers(ledger).items():
        held = there.get(caller)
        if held is not None and is_same(held, stop):
            continue
        for freed, ended in _ends(copy, *caller):
            if not is_same(ended, stop):
                continue
            try:
                proven = [Carried.of(copy, ended.sequence)]
                count += promoter.carry(box.name, Carried.of(copy, freed.sequence), proven)
            except SealiftError as error:
                if error.code in _NO_ANSWER:
                    raise
                stay.append(f"{' '.join(caller)}: {error.what}: {error.why}")
            break
    return count, stay


def _ends(copy: Ledger, what: str, name: str) -> list[tuple[Leaf, Leaf]]:
    """Return each end of a stop of this caller there with the stop that it ended, the newest first."""
    found: list[tuple[Leaf, Leaf]] = []
    for freed in copy.find(kind=FREED, field="name", value=name, limit=EVERY):
        at: Any = freed.body.get("stopped")
        if freed.body.get("what") == what and isinstance(at, int) and 0 <= at < freed.sequence:
            ended = copy.leaf(at)
            found += [(freed, ended)] if ended.kind == STOPPED else []
    return found
