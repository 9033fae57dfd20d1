"""The page that a person reads first: what was handed over, what holds, when the clock went back, what was erased."""

from collections.abc import Sequence
from typing import Final

from appliance.actions.auditing.records import Observed
from appliance.actions.auditing.span import Span
from appliance.actions.proven_mirror import ProvenMirror
from appliance.audit import note
from appliance.paper.form import Form, Section, Table

_MOST_ROWS: Final = 200
_WHERE_FROM: Final = (
    "KEY is the line in /etc/sealift/ledger.pub as it was written down when the box was installed; CHECKPOINT is a "
    "print or a receipt that left the box. What no such checkpoint covers could have been rewritten by whoever has "
    "root and the key; the checker says which records those are."
)


def report(
    observed: Observed,
    span: Span,
    signed: note.Checkpoint,
    *,
    key: note.VerifierKey,
    site: str,
    at: str,
    mirror: ProvenMirror | None = None,
) -> Form:
    """Return the sheet.

    Args:
        observed: What the records say.
        span: Which records.
        signed: The head of the tree.
        key: The ledger's.
        site: Its site.
        at: The time of the export by the clock of the box that makes it.
        mirror: What the records come from, where it is the mirror of another box's ledger.
    """
    count = span.end - span.start
    whole = "all records" if count == span.size else f"records {span.start} to {span.end - 1} of {span.size}"
    return Form(
        title=f"Ledger of {site}: export for an auditor",
        result=f"{whole}; the tree of {span.size} is signed",
        at=at,
        sections=(
            _head(observed, span, signed, key, mirror),
            _kinds(observed),
            _times(observed),
            _erased(observed),
            Section(
                title="How to check this without us",
                notes=(
                    "Take verify.py from a medium whose release code you know, not from here, and read it. Then:",
                    "python3 -I verify.py ledger --key KEY --printed CHECKPOINT FOLDER",
                    _WHERE_FROM,
                ),
            ),
            Section(title="Received by", lines=(("name", "date", "signature"),)),
        ),
    )


def _head(
    observed: Observed, span: Span, signed: note.Checkpoint, key: note.VerifierKey, mirror: ProvenMirror | None
) -> Section:
    box = () if mirror is None else (("From the mirror of", mirror.shown), ("Held by", mirror.held_by))
    facts = (
        ("Origin", signed.origin),
        *box,
        ("Records here", f"{span.end - span.start}, without a gap"),
        ("Tree", f"{span.size} records"),
        ("Root", signed.root.hex()),
        ("Checkpoints here", str(observed.checkpoints)),
        ("Key", key.to_text()),
    )
    return Section(title="What this is", facts=facts)


def _kinds(observed: Observed) -> Section:
    rows = tuple((kind, str(count)) for kind, count in sorted(observed.kinds.items()))
    return Section(title="Records by kind", table=Table(heads=("kind", "records"), rows=rows, widths=(70, 30)))


def _times(observed: Observed) -> Section:
    boots = len({str(each["boot_id"]) for each in observed.starts})
    facts = (
        ("First, last", f"{observed.first}, {observed.last}"),
        ("Starts of the ledger", f"{len(observed.starts)} in {boots} boots"),
        ("Clock went back", f"{len(observed.steps_back)} times"),
    )
    steps = [(str(each["sequence"]), str(each["from"]), str(each["to"])) for each in observed.steps_back]
    note_ = "Times are what the machine believed; order is by the sequence of records, which no clock decides."
    return Section(
        title="Time", facts=facts, table=_table(("record", "from", "to"), steps, (20, 40, 40)), notes=(note_,)
    )


def _erased(observed: Observed) -> Section:
    rows = [(str(each["sequence"]), str(each["time"]), str(each["kind"])) for each in observed.erased]
    notes = () if rows else ("No key was destroyed in this range: nothing of it is unreadable.",)
    return Section(
        title="Erasure and expiry", table=_table(("record", "time", "kind"), rows, (20, 40, 40)), notes=notes
    )


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> Table | None:
    if not rows:
        return None
    shown = tuple(rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        shown = (*shown, (f"and {len(rows) - _MOST_ROWS} more", *("" for _ in heads[1:])))
    return Table(heads=heads, rows=shown, widths=widths)
