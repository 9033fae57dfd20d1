"""The list of answers that something touched, for telling people: in short, and as one file that is checked elsewhere.

The file holds the exact record of each answer's beginning and the records that say why it is in the list, with one
proof that all of them lie in the signed tree, and the ledger's own record of the list, which names its digest. There is
no prompt and no answer in it. One pass over all records makes it, and makes the tree's root again: a record that an
index would not show is in the list, or nothing is written.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.actions.auditing.ownrecord import recorded
from appliance.actions.auditing.records import NAMING, continued, rotations
from appliance.actions.auditing.table import cell
from appliance.actions.tracing.selection import INTENT, Selection, Selector, resolve
from appliance.actions.tracing.together import Together
from appliance.audit import note, succession, tree
from appliance.audit.facts import EvidenceLedger, Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import LedgerDamagedError
from media import canonical
from media.clock import Clock, to_text
from media.digest import sha256_hex
from media.errors import UsageError

FORMAT: Final = 1
"""Where the key of checkpoints was rotated it is 2, which checkers of before refuse by its number."""
TYPE: Final = "sealift/affected-answers"
LISTED: Final = "evidence.listed"
MOST_LISTED: Final = 1000
MOST_BYTES: Final = 96 * 1024 * 1024
"""Of records in one file; the checker reads files of 256 MiB at most."""
COLUMNS: Final = ("request_id", "sequence", "at", "department", "key_id", "user_hash", "model_digest", "arm")
_FIELDS: Final = ("request_id", "department", "key_id", "user_hash", "model_digest", "arm")
_PAGE: Final = 500


@dataclass(slots=True, kw_only=True)
class Found:
    """What was counted; `requests` are the newest of them, `answers` counts all."""

    selector: Selector
    answers: int = 0
    first: str = ""
    last: str = ""
    departments: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def take(self, leaf: Leaf, *, most: int | None) -> None:
        """Count the beginning of an answer; keep the newest `most`, or all."""
        entry = entry_of(leaf)
        self.answers += 1
        self.first, self.last = self.first or leaf.time, leaf.time
        self.departments[entry["department"]] += 1
        self.keys[entry["key_id"]] += 1
        self.arms[entry["arm"] or "production"] += 1
        self.versions[entry["model_digest"]] += 1
        self.requests.append(entry)
        if most is not None and len(self.requests) > most:
            del self.requests[0]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        counted = ("departments", "keys", "arms", "versions")
        return {
            **self.selector.to_json(),
            **{name: getattr(self, name) for name in ("answers", "first", "last")},
            **{name: dict(getattr(self, name).most_common()) for name in counted},
            "requests": list(self.requests),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list as a file.

    `record` is the sequence of the ledger's record of it, -1 for none; `beyond` counts the newest records, which no
    checkpoint covers yet, so that none of them is in the list (only while the ledger does not run).
    """

    found: Found
    content: bytes
    record: int
    beyond: int


def entry_of(leaf: Leaf) -> dict[str, Any]:
    """Return what the list says of one answer: who asked is a key, a department and a keyed hash of the user."""
    said = {name: str(leaf.body.get(name) or "") for name in _FIELDS}
    return {**said, "sequence": leaf.sequence, "at": leaf.time}


def counted(ledger: Ledger, selector: Selector, *, most: int | None = MOST_LISTED) -> Found:
    """Return what was touched; the beginnings of all answers are read, in slices.

    Raises:
        UnknownVersionError, UsageError: No record names what was asked for.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    selection, found = resolve(ledger, selector), Found(selector=selector)
    for leaf in _walk(ledger, kinds=(INTENT,)):
        if selection.covers(leaf):
            found.take(leaf, most=most)
    return found


def table(found: Found) -> bytes:
    """Return the answers for a spreadsheet; a cell that would be a formula begins with an apostrophe."""
    rows = [COLUMNS, *(tuple(str(one[name]) for name in COLUMNS) for one in found.requests)]
    return "".join(",".join(cell(each) for each in row) + "\r\n" for row in rows).encode()


def listed(
    ledger: EvidenceLedger,
    selector: Selector,
    *,
    site: str,
    key: note.VerifierKey,
    clock: Clock,
    printed: Sequence[str] = (),
    is_recorded: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Listed:
    """Make the list as a file and record it.

    Args:
        ledger: Any way in.
        selector: What is asked for.
        site: Named in the list.
        key: The verifier key that must have signed the ledger's checkpoint.
        clock: For the time of the list.
        printed: Checkpoints from outside that the file must be comparable with.
        is_recorded: Whether the ledger is there to record it.
        progress: Called with records read and records in all.

    Raises:
        UnknownVersionError, UsageError: No record names what was asked for, or the list is too large for one file.
        LedgerDamagedError: The records are not those that were signed.
        LedgerUnavailableError: It could not be recorded.
        ProofError: The checkpoint is not signed by this key.
    """
    signed = succession.verified(ledger, ledger.checkpoint(), key)
    beyond = 0 if is_recorded else ledger.head().size - signed.size
    selection = resolve(ledger, selector)
    found, records, hashes = _gathered(ledger, selection, signed, progress)
    about = {
        **selector.to_json(),
        "site": site,
        "at": to_text(clock.now()),
        "origin": signed.origin,
        "size": signed.size,
        "root": signed.root.hex(),
        "answers": found.requests,
    }
    sequence, own = -1, None
    if is_recorded:
        digest = sha256_hex(canonical.dumps(about))
        said = {"list_sha256": digest, **selector.to_json(), "answers": found.answers, "size": signed.size}
        sequence, own = recorded(ledger, signed, LISTED, said)
    rotated = rotations(records)
    sizes = sorted({*rotated, *(note.Checkpoint.from_text(note.parts(text)[0]).size for text in printed)})
    content = {
        "format": FORMAT + bool(rotated),
        "type": TYPE,
        "list": about,
        "key": key.to_text(),
        "checkpoint": ledger.cosigned(signed.size),
        "records": [{"sequence": leaf.sequence, "raw": leaf.raw.decode()} for leaf in records],
        "hashes": [each.hex() for each in hashes],
        "continues": [
            {"size": size, "hashes": continued(ledger, size, signed.size)} for size in sizes if 0 < size < signed.size
        ],
        "recorded": own,
    }
    return Listed(found=found, content=canonical.dumps(content) + b"\n", record=sequence, beyond=beyond)


def _gathered(
    ledger: Ledger, selection: Selection, signed: note.Checkpoint, progress: Callable[[int, int], None]
) -> tuple[Found, list[Leaf], list[bytes]]:
    """Walk the whole tree once; return what is listed, its records and the proof of all of them."""
    found, together = Found(selector=selection.selector), Together()
    joining = {leaf.sequence for leaf in selection.records}
    records: list[Leaf] = []
    length = 0
    for leaf in _walk(ledger, size=signed.size, progress=progress):
        is_answer = selection.covers(leaf)
        is_wanted = is_answer or leaf.sequence in joining or (leaf.kind in NAMING and leaf.via.door == "ledger")
        together.take(tree.leaf_hash(leaf.raw), wanted=is_wanted)
        if is_answer:
            found.take(leaf, most=None)
        if is_wanted:
            records.append(leaf)
            length += len(leaf.raw)
        if length > MOST_BYTES:
            raise UsageError(
                what=f"more than {found.answers} answers do not fit one list",
                why=f"at most {MOST_BYTES} bytes of records",
                fix="make several: --since and --until",
            )
    root, hashes = together.end()
    if root != signed.root:
        raise LedgerDamagedError(
            what="the leaves are not those that were signed",
            why=f"the checkpoint of {signed.size} leaves names another root",
            fix="run `sealift audit verify`",
        )
    return found, records, hashes


def _walk(
    ledger: Ledger,
    *,
    size: int | None = None,
    kinds: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Leaf]:
    start = 0
    while (size is None or start < size) and (page := ledger.leaves(start, _PAGE, kinds=kinds)):
        for leaf in page:
            if size is None or leaf.sequence < size:
                yield leaf
        start = page[-1].sequence + 1
        progress(start if size is None else min(start, size), size or start)
