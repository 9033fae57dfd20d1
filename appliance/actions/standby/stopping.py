"""Stops of callers that hold on the other box of a pair, made to hold here; and those that ended there, ended here.

What is compared is what holds on both boxes now, not record by record: a stop has to hold here also while a promotion
before it waits for its release, and an end that somebody has to be enrolled for is looked at again next time.
"""

from typing import Final

from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.promote.client import PromoterClient
from appliance.promote.reviews import FREED, STOPPED, stopped_callers
from appliance.promote.stopcarrying import identity, is_known
from appliance.standby.card import BoxCard
from appliance.standby.carried import Carried
from media.errors import SealiftError

_NO_ANSWER: Final = frozenset({"ledger-unavailable", "wire"})


def take(copy: Ledger, box: BoxCard, *, ledger: Ledger, promoter: PromoterClient) -> int:
    """Let every stop hold here that holds there; return how many came.

    One that people of this box have ended is not made again.

    Raises:
        LedgerUnavailableError: This box's ledger or the mirror cannot be read.
        SealiftError: As the promoter says.
    """
    news = [leaf for leaf in stopped_callers(copy).values() if not is_known(ledger, leaf)]
    return sum(promoter.carry(box.name, Carried.of(copy, leaf.sequence), ()) for leaf in news)


def end(copy: Ledger, box: BoxCard, *, ledger: Ledger, promoter: PromoterClient) -> tuple[int, tuple[str, ...]]:
    """End every stop here that was ended there; return how many, and which stay with the reason of each.

    Raises:
        LedgerUnavailableError: This box's ledger or the mirror cannot be read.
        SealiftError: The promoter does not answer.
    """
    there, count, stay = stopped_callers(copy), 0, []
    for caller, stop in stopped_callers(ledger).items():
        held = there.get(caller)
        if held is not None and identity(held) == identity(stop):
            continue
        for freed, ended in _ends(copy, *caller):
            if identity(ended) != identity(stop):
                continue
            try:
                proven = [Carried.of(copy, ended.sequence)]
                count += promoter.carry(box.name, Carried.of(copy, freed.sequence), proven)
            except SealiftError as error:
                if error.code in _NO_ANSWER:
                    raise
                stay.append(f"{' '.join(caller)}: {error.what}: {error.why}")
            break
    return count, tuple(stay)


def _ends(copy: Ledger, what: str, name: str) -> list[tuple[Leaf, Leaf]]:
    """Return each end of a stop of this caller there with the stop that it ended, the newest first."""
    found = []
    for freed in copy.find(kind=FREED, field="name", value=name, limit=EVERY):
        at = freed.body.get("stopped")
        if freed.body.get("what") == what and isinstance(at, int) and 0 <= at < freed.sequence:
            ended = copy.leaf(at)
            found += [(freed, ended)] if ended.kind == STOPPED else []
    return found
