"""A signed list of whom something touched, held against an export of all records: does it leave anybody out?

A list proves that each answer in it was recorded; that none is missing only all records can tell. Those of the export
are made a ledger again: only if its tree is the one that the list names, and that a key known from outside signed, is
anything concluded from them. Then the list's own question is asked of them anew. Works anywhere, with no service.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from appliance import throwaway
from appliance.actions.tracing.listing import FORMAT, TYPE, counted
from appliance.actions.tracing.selection import Selector
from appliance.audit import note, succession
from appliance.audit.copying import LedgerCopy
from appliance.audit.offline import OfflineLedger
from appliance.errors import LedgerDamagedError
from media import canonical
from media.clock import Clock
from media.errors import MalformedError, UsageError

LEAVES: Final = "leaves.jsonl"
MOST_LIST_BYTES: Final = 256 * 1024 * 1024
_MOST_LEAF_BYTES: Final = 4 * 1024 * 1024
_BATCH: Final = 1000
_NEWEST: Final = FORMAT + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a list and all records say: `missing` are answers that the list leaves out, `added` those it made up.

    `changed` are in both and differ in what is said of them; all as the list shows answers.
    """

    selector: Selector
    size: int
    listed: int
    missing: tuple[Mapping[str, Any], ...]
    added: tuple[Mapping[str, Any], ...]
    changed: tuple[Mapping[str, Any], ...]

    @property
    def is_whole(self) -> bool:
        """Whether the list holds exactly what the records yield."""
        return not (self.missing or self.added or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        differing = {name: [dict(one) for one in getattr(self, name)] for name in ("missing", "added", "changed")}
        facts = {"whole": self.is_whole, "size": self.size, "listed": self.listed}
        return {**facts, **self.selector.to_json(), **differing}


def compare(
    file: Path,
    export: Path,
    *,
    key: note.VerifierKey,
    clock: Clock,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Compared:
    """Hold a list against an export.

    Args:
        file: The list, as `sealift affected --out FILE.json` wrote it.
        export: The folder of an export that begins at the first record and reaches the list's tree.
        key: A verifier key of the ledger, known from outside.
        clock: For the ledger that is made again.
        progress: Called with records read and records in all.

    Raises:
        UsageError: A file is not there, or the export does not hold all records.
        MalformedError: The list, or a record, is not in its form.
        LedgerDamagedError: The records are not those of the list's tree.
        ProofError: The list's tree is not signed by a key that `key` leads to.
    """
    untrusted = _list_in(file)
    about = canonical.mapping(untrusted.get("list"), "list")
    selector = Selector.from_json({name: about.get(name) for name in ("by", "value", "since", "until")})
    size = canonical.integer(about.get("size"), "list.size")
    answers = [canonical.mapping(one, "list.answers") for one in canonical.array(about.get("answers"), "list.answers")]
    signature = canonical.text(untrusted.get("checkpoint"), "checkpoint", most=64 * 1024, lines=True)
    with throwaway.folder("sealift-compare-") as folder:
        with LedgerCopy(folder) as copy, _opened(export / LEAVES) as stream:
            while copy.size < size and (lines := list(islice(_lines(stream), min(_BATCH, size - copy.size)))):
                copy.add(lines)
                progress(copy.size, size)
            if copy.size < size:
                raise UsageError(
                    what="the export does not hold all records of the list's tree",
                    why=f"{copy.size} records from the first on, the list names {size}",
                    fix="export from the first record on, without --since and --until, after the list was made",
                )
            signed = copy.conclude(signature)
        ledger = OfflineLedger.of_folder(folder, clock=clock)
        succession.verified(ledger, signature, key)
        _require(about, signed)
        found = counted(ledger, selector, most=None).requests
    return _differing(selector, size, answers, found)


def _differing(
    selector: Selector, size: int, answers: Sequence[Mapping[str, Any]], found: list[dict[str, Any]]
) -> Compared:
    wanted = {one["sequence"]: one for one in found}
    told: dict[Any, Mapping[str, Any]] = {}
    added: list[Mapping[str, Any]] = []
    for one in answers:
        place = one.get("sequence")
        if type(place) is int and place in wanted and place not in told:
            told[place] = one
        else:
            added.append(one)  # a second line about one answer, too
    return Compared(
        selector=selector,
        size=size,
        listed=len(answers),
        missing=tuple(one for place, one in wanted.items() if place not in told),
        added=tuple(added),
        changed=tuple(one for place, one in told.items() if dict(one) != wanted[place]),
    )


def _require(about: Mapping[str, Any], signed: note.Checkpoint) -> None:
    named = (about.get("origin"), about.get("size"), about.get("root"))
    if named != (signed.origin, signed.size, signed.root.hex()):
        raise LedgerDamagedError(
            what="the list names another tree than its checkpoint",
            why=f"{signed.size} records of {signed.origin} were signed",
            fix="ask for the list again",
        )


def _list_in(file: Path) -> Mapping[str, Any]:
    with _opened(file) as stream:
        untrusted = stream.read(MOST_LIST_BYTES + 1)
    if len(untrusted) > MOST_LIST_BYTES:
        raise MalformedError(what="the list is too large", why=f"over {MOST_LIST_BYTES} bytes", fix="ask for it again")
    content = canonical.mapping(canonical.loads(untrusted, max_bytes=MOST_LIST_BYTES), "list")
    if content.get("type") != TYPE or content.get("format") not in {FORMAT, _NEWEST}:
        raise MalformedError(
            what="this is no list of answers that this release reads",
            why=json.dumps([str(content.get(name))[:40] for name in ("type", "format")]),
            fix="give the file that `sealift affected --out FILE.json` wrote",
        )
    return content


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(_MOST_LEAF_BYTES):
        if not line.endswith(b"\n"):
            raise MalformedError(what="a record of the export is cut off, or too long", why="", fix="export again")
        yield line[:-1]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(
            what=f"{path.name} cannot be read",
            why=type(error).__name__,
            fix="give the list's file, and the folder of an export",
        ) from error
