"""Stops of callers from the other box of a pair, and their ends: taken over here, whatever else waits.

Promises: a caller who is stopped there is stopped here as soon as the record came, whoever made it and whether or not
this box knows that person: it lets nobody do more than before. It ends here when it was that very stop which somebody
lifted there, who counts on this box and is another person than the one who stopped. A caller has one stop at a time on
a box: where this box's own holds, another one waits until that is lifted, so neither ends by the end of the other.
"""

from collections.abc import Sequence
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import ApprovalRefusedError
from appliance.promote.books import Books
from appliance.promote.people import SitePeople
from appliance.promote.reviews import CALLERS, FREED, STOPPED, DeedBook
from appliance.standby import carried
from appliance.standby.card import BoxCard
from media import canonical

KINDS: Final = (STOPPED, FREED)
_HASH: Final = "leaf_hash"


class StopCarrying:
    """Takes over stops and their ends; one call at a time is the caller's to make sure.

    Args:
        books: People and ledger.
    """

    def __init__(self, books: Books) -> None:
        self._books = books
        self._deeds = DeedBook(books.ledger)

    def take(self, people: SitePeople, leaf: Leaf, box: BoxCard, evidence: Sequence[Leaf]) -> bool:
        """Let a stop hold here, or end; return whether anything changed.

        Args:
            people: Everyone ever enrolled, as this box knows them.
            leaf: The proven record.
            box: Whose it is.
            evidence: For an end, the proven record of the stop that it ended.

        Raises:
            ApprovalRefusedError: The end comes without its stop, or whoever stopped ended it as well.
            MalformedError: It names neither a key nor a department.
            UnknownPersonError: Who ended it does not count here.
        """
        caller = (
            canonical.one_of(leaf.body.get("what"), CALLERS, "what"),
            canonical.text(leaf.body.get("name"), "name"),
        )
        if leaf.kind == STOPPED:
            if caller in self._deeds.stopped() or is_known(self._books.ledger, leaf):
                return False
            self._books.ledger.append(STOPPED, carried.marked(leaf, box))
            return True
        ended = [one for one in evidence if one.kind == STOPPED and one.sequence == leaf.body.get("stopped")]
        if not ended:
            raise _refused("the stop that it ended is not with it")
        here = self._deeds.stopped().get(caller)
        if here is None or not is_same(here, ended[0]):
            return False
        who = people.require_active(str(leaf.body.get("person")))
        if who.id == here.body.get("person"):
            raise _refused(f"{who.id} made it, and another person ends it")
        self._books.ledger.append(FREED, {**carried.marked(leaf, box), "stopped": here.sequence})
        return True


def is_same(one: Leaf, other: Leaf) -> bool:
    """Tell whether records of two boxes are of one stop: one was taken over from the other, or both from a third."""
    return bool(_hashes(one) & _hashes(other))


def _hashes(stop: Leaf) -> frozenset[str]:
    mark: Any = stop.body.get(carried.FIELD)
    return frozenset({stop.hash, str(mark.get(_HASH))}) if isinstance(mark, dict) else frozenset({stop.hash})


def is_known(ledger: Ledger, stop: Leaf) -> bool:
    """Tell whether a stop of a paired box was made here or taken over, be it that it holds no longer."""
    if carried.is_own(ledger, stop.body):
        return True
    return bool(ledger.find(kind=STOPPED, field=f"{carried.FIELD}.{_HASH}", value=stop.hash, limit=1))


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the end of a stop on the other box is not taken over",
        why=why,
        fix="let a second person free the caller here: `sealift stop --lift`",
    )
