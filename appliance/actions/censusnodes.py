"""The list of names on several nodes: which one is on record, and whether each node has that one.

Promises: the node that leads imports, and its record holds a keyed digest of the list; another node takes the same list
and no other. The gateway of each node compares its file with the newest record and says in the ledger what it found,
without a name and without a count, so that nobody else needs the file or its key to tell.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

from appliance.actions import census
from appliance.actions.census import IMPORTED, Names, on_record
from appliance.actions.findings import Finding
from appliance.audit.facts import Appended, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.keys.opening import open_keys
from appliance.keys.provider import KeyProvider
from appliance.phi import censusfile
from media.errors import SealiftError

SEEN: Final = "census.seen"
FOLLOWED: Final = "census.followed"
_PAGE: Final = "docs/operator/census.md: several nodes"


class Word(StrEnum):
    """What a node found when it compared its file with the record."""

    SAME = "same"
    ABSENT = "absent"
    OTHER = "other"
    UNREADABLE = "unreadable"
    LEFT = "left"  # here, though the record says that there is none: more is masked than on the others, not less

    @property
    def masks_less(self) -> bool:
        """Whether a name of the list on record could reach an engine of this node."""
        return self in {Word.ABSENT, Word.OTHER, Word.UNREADABLE}


_SAID: Final = {
    Word.SAME: "has the list of names that is on record",
    Word.ABSENT: "lacks the list of names that is on record, and knows names by patterns alone",
    Word.OTHER: "has another list of names than the one on record",
    Word.UNREADABLE: "has a list of names that cannot be compared with the one on record",
    Word.LEFT: "has a list of names, and the records say that there is none",
}


def compared(folder: Path, keys: KeyProvider, record: Leaf | None) -> Word:
    """Compare the list that lies in a folder with what is on record.

    Args:
        folder: Where the list lies, if there is one.
        keys: Open and digest it.
        record: The newest of a list that came or went; None where there was none.
    """
    is_one = record is not None and record.kind == IMPORTED
    digest = str(record.body.get("digest", "")) if record is not None and is_one else ""
    try:
        found = censusfile.read(folder)
        if found is None or not is_one:
            return Word.SAME if (found is None) is not is_one else Word.LEFT if found else Word.ABSENT
        is_same = census.has_digest(censusfile.opened(found[0], keys), digest, keys)
    except (SealiftError, ValueError):  # also where the version of the key that made the digest is gone
        return Word.UNREADABLE
    return Word.SAME if is_same else Word.OTHER


def said(ledger: Ledger, node: str) -> tuple[Word, int | None] | None:
    """Return what a node said last, and of which record; None where it never did.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    for leaf in ledger.find(SEEN, field="node", value=node, limit=1):
        of = leaf.body.get("of")
        word = str(leaf.body.get("list"))
        return (Word(word) if word in set(Word) else Word.UNREADABLE), None if of is None else int(of)
    return None


def say(ledger: Ledger, node: str, word: Word, of: int | None) -> None:
    """Record what a node found, where that is not what it said last; a site that never had a list says nothing.

    Raises:
        LedgerUnavailableError: It could not be recorded.
    """
    last = said(ledger, node)
    if last == (word, of) or (last is None and of is None and word is Word.SAME):
        return
    ledger.append(SEEN, {"node": node, "list": str(word), "of": of})


def standing(ledger: Ledger, node: str) -> tuple[bool | None, str]:
    """Return how a node stands by its own word: whether it has the list on record (None: there is none), and a line.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    record, last = on_record(ledger), said(ledger, node)
    of = None if record is None else record.sequence
    if last is not None and last[1] == of:
        word = last[0]
        is_good = word is Word.SAME
        return (None if is_good and _is_none(record) else is_good), f"node {node} {_line(word, record)}"
    if _is_none(record):
        return None, "there is no list of names"
    return False, f"node {node} has not said yet whether it has the list of names that is on record"


def fault(config: Config, ledger: Ledger) -> str:
    """Return what the page's banner says; empty where all is well, or a single node answers.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    if not config.database.node:
        return ""
    is_good, text = standing(ledger, config.database.node)
    return text if is_good is False else ""


def finding(config: Config, ledger: Ledger, single: Callable[[], Finding]) -> Finding:
    """Say whether this node has the list on record, by its own keys where who asks may use them.

    Args:
        config: Of a node among several.
        ledger: Where lists are on record.
        single: What is said of a box alone: of a list that is here, its size and age.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    node, record = config.database.node, on_record(ledger)
    try:
        keys = open_keys(config, environ={})
        try:
            word = compared(config.at.census, keys, record)
        finally:
            keys.close()
        is_good, text = word is Word.SAME, f"node {node} {_line(word, record)}"
    except (SealiftError, PermissionError):  # who may not use the keys has the node's own word
        known, text = standing(ledger, node)
        is_good = known is not False
    if is_good:
        return single()
    why = "a name that other nodes mask would reach the engine here, or every request is refused"
    what = "import` with the same list"
    if _is_none(record):  # a list lies here all the same
        why, what = "names are masked here that the other nodes do not mask", "forget`"
    fix = f"`sealift census {what} on this node, as root; {_PAGE}"
    return Finding(name="census", is_good=False, text=text, why=why, fix=fix)


def bring(config: Config, names: Names, *, ledger: Ledger, keys: KeyProvider, person: str) -> Appended:
    """Replace the list as `census.bring` does; on a node that lacks the list on record, lay down that very list.

    Raises:
        KeyMissingError: A key cannot be used; nothing was done.
        LedgerUnavailableError: It could not be recorded, or it is another list and another node leads.
        StoreWriteError: It could not be written.
    """
    record = on_record(ledger) if config.database.node else None
    digest = str(record.body.get("digest", "")) if record is not None and record.kind == IMPORTED else ""
    if digest and census.key_version(digest) in keys.versions("content-hmac"):
        plain = censusfile.plain_of(names.names)
        is_that = census.has_digest(plain, digest, keys)
        if is_that and compared(config.at.census, keys, record) is not Word.SAME:
            body = {"digest": digest, "person": person}
            return census.lay_down(config, plain, ledger=ledger, keys=keys, kind=FOLLOWED, body=body)
    return census.bring(config, names, ledger=ledger, keys=keys, person=person)


def forget(config: Config, *, ledger: Ledger, person: str, reason: str) -> bool:
    """Take the list away as `census.forget` does; where it is on record that it went, only the file here goes.

    Raises:
        LedgerUnavailableError: It could not be recorded; the list is as it was.
        StoreWriteError: It could not be taken away.
    """
    record = on_record(ledger) if config.database.node else None
    kind = FOLLOWED if record is not None and record.kind == census.FORGOTTEN else census.FORGOTTEN
    return census.forget(config, ledger=ledger, person=person, reason=reason, kind=kind)


def _is_none(record: Leaf | None) -> bool:
    return record is None or record.kind != IMPORTED


def _line(word: Word, record: Leaf | None) -> str:
    return "has no list of names, and none is on record" if word is Word.SAME and _is_none(record) else _SAID[word]
