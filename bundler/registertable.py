"""The register as tables: its history in lines for people, and CSV that a spreadsheet shows and does not run."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bundler.dispatch import MediumState
from bundler.register import Entry
from media.spreadsheet import is_like_formula

_HISTORY: Final = ("entry", "at", "kind", "medium", "what", "by")
_MEDIUM: Final = (
    *("medium", "release", "serial", "volume", "count", "id", "state", "since", "held_by", "due", "sites", "received"),
    *("carrier", "code"),
)


def history(entries: Sequence[Entry], medium: str = "") -> list[dict[str, Any]]:
    """Return what happened, when, and who is named, in order; of one medium, if one is given.

    A receipt is shown with each medium that it may speak of: it names volumes, not copies.
    """
    shown = []
    known: dict[str, tuple[str, int]] = {}
    ids: dict[str, str] = {}
    for entry in entries:
        facts = entry.facts
        own = str(facts.get("medium", ""))
        if entry.kind == "written":
            known[own] = (facts["code"], facts["volume"])
            ids[own] = facts["id"]
        concerns = own == medium
        if entry.kind == "receipt" and medium in known:
            code, number = known[medium]
            concerns = facts["code"] == code and number in facts["volumes"]
        if entry.kind == "evidence" and medium in ids:
            concerns = ids[medium] in facts["ids"]
        if concerns or not medium:
            shown.append(
                {
                    "entry": entry.number,
                    "at": entry.at,
                    "kind": entry.kind,
                    "medium": own,
                    "what": _what(entry.kind, facts),
                    "by": str(facts.get("by", "")),
                }
            )
    return shown


def history_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the history for people."""
    return "\n".join(
        f"{row['entry']:>5}  {row['at']}  {row['medium'] or '-':<20} {row['what']}"
        f"{', by ' + row['by'] if row['by'] else ''}"
        for row in rows
    )


def history_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the history as CSV (RFC 4180)."""
    return _table(_HISTORY, rows)


def media_csv(media: Sequence[MediumState]) -> str:
    """Return media as CSV (RFC 4180)."""
    return _table(_MEDIUM, [each.to_json() for each in media])


def _what(kind: str, facts: Mapping[str, Any]) -> str:
    match kind:
        case "written":
            again = "written again" if facts["again"] else "written"
            on = f" as {facts['carrier']}" if facts.get("carrier") else ""
            return f"{again}{on}, {facts['read_back']}"
        case "erased":
            return f"{facts['carrier']} was given up; it held {facts['held']}"
        case "sent":
            due = f", due back {facts['due']}" if facts.get("due") else ""
            return f"sent to {facts['to']}{due}"
        case "returned":
            ended = "destroyed" if facts["destroyed"] else "came back"
            return f"{ended}: {facts['condition']}" if facts["condition"] else ended
        case "site" | "succession":
            how = "entered" if kind == "site" else f"renewed: {facts['ledger_key']}"
            return f"ledger key of {facts['site']} {how}"
        case _:
            return f"{facts['site']} {_told(kind, facts)}"


def _told(kind: str, facts: Mapping[str, Any]) -> str:
    """Return what a site said."""
    if kind == "inventory":
        return f"listed what it holds, serial {facts['serial']}, at {facts['taken_at']}"
    if kind == "evidence":
        about = facts["release"] or ", ".join(facts["ids"]) or "a medium not known by name"
        about += f" ({facts['error']})" if facts["error"] else ""
    else:
        about = f"volumes {', '.join(map(str, facts['volumes']))} of {facts['release']}"
    return f"{facts['outcome']} {about} at {facts['received_at']}"


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return target.getvalue()


def _cell(value: Any) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"'{text}" if is_like_formula(text) else text
