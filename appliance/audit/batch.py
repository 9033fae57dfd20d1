"""A batch of records as it will lie in the log: rows, tree nodes and the tip after them, from the tip before them.

Nothing here is kept or written: whoever plans a batch makes it durable first, and believes in its tip afterwards.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from appliance.audit import tree
from appliance.audit.backend import Row
from appliance.audit.entry import Entry
from appliance.audit.facts import Appended
from appliance.audit.leaf import FORM, around
from appliance.errors import LedgerRefusedError

Earlier = Callable[[Entry, dict[str, Row]], Appended | LedgerRefusedError | None]


@dataclass(frozen=True, slots=True)
class Tip:
    """Everything that changes with a batch, swapped as one."""

    size: int
    frontier: tuple[bytes, ...]
    chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records that wait to be made durable together.

    Args:
        rows: As they are stored; none where every record was there already.
        nodes: The subtrees that they complete.
        tip: The log's after them.
        fresh: The rows by idempotency key.
        answers: For each entry where it will be, or why it alone was refused.
    """

    rows: Sequence[Row]
    nodes: Sequence[tree.Node]
    tip: Tip
    fresh: dict[str, Row]
    answers: list[Appended | LedgerRefusedError]


def plan(entries: Sequence[Entry], tip: Tip, *, origin: str, time: str, earlier: Earlier, node: str = "") -> Batch:
    """Return the batch of these entries after a tip.

    Args:
        entries: In order.
        tip: The log's before them.
        origin: The log's.
        time: Of all of them.
        earlier: Answers an entry whose idempotency key was used before, in the log or in this batch.
        node: What they name as their node, where several answer at once.
    """
    rows: list[Row] = []
    nodes: list[tree.Node] = []
    fresh: dict[str, Row] = {}
    answers: list[Appended | LedgerRefusedError] = []
    size, frontier, chain = tip.size, list(tip.frontier), tip.chain
    sha256, kind, came, between, after = hashlib.sha256, "", None, b"", b""
    for entry in entries:
        before = earlier(entry, fresh) if entry.retry else None
        if before is not None:
            answers.append(before)
            continue
        if entry.kind != kind or entry.via is not came:
            kind, came = entry.kind, entry.via
            via = replace(came, node=node) if node else came
            between, after = around(origin=origin, time=time, kind=kind, via=via)
        raw = FORM % (entry.body, between, size, after)
        hashed = tree.leaf_hash(raw)
        chain = sha256(chain + hashed).digest()
        row = Row(size, kind, raw, hashed, chain, entry.term, entry.retry)
        if size & 1:
            nodes += tree.push(frontier, size, hashed)
        else:
            frontier.append(hashed)
        rows.append(row)
        answers.append(Appended(size, hashed.hex(), time))
        if entry.retry:
            fresh[entry.retry] = row
        size += 1
    return Batch(rows=rows, nodes=nodes, tip=Tip(size, tuple(frontier), chain), fresh=fresh, answers=answers)
