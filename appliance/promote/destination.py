"""The line of production for which approvals are asked, and whether it is still what it was when they were.

Promises: a statement says by itself, and by nothing around it, which line it is for (PROM-12), so neither a request's
file nor a caller's word moves it into another. What happened in other lines voids no approvals; a stop of all does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from appliance.errors import ConflictError
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.record import FIRST_LINE
from appliance.promote.statement import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said of the line that a version is for; nothing where its name says it.

    Attributes:
        beside: It opens a line beside all others.
        replaces: It takes the place of this: the name of a model in production, or the digest that people signed.
    """

    beside: bool = False
    replaces: str = ""

    @classmethod
    def of(cls, statement: Statement | None) -> Self:
        """Return what people are asked to sign, or have signed."""
        if statement is None or not statement.is_of_a_further_line:
            return cls()
        return cls(beside=statement.replaces is None, replaces=statement.replaces or "")

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return what the fields of a statement say, as a page shows them."""
        return cls(beside=fields.get("replaces", "") is None, replaces=str(fields.get("replaces") or ""))


def line_of(production: Production, statement: Statement) -> Line | None:
    """Return the line that a statement is for; None for one that opens a line.

    Raises:
        ConflictError: What it replaces is no longer what any line served last.
    """
    if not statement.is_of_a_further_line:
        return production.first
    if statement.replaces is None:
        return None
    for line in production.lines.values():
        if line.newest == statement.replaces and line.number != FIRST_LINE:
            return line
    raise ConflictError(
        what="production changed since this promotion was requested",
        why=f"version {statement.replaces[:12]}, whose place it takes, is not in its line any more",
        fix="request it again: `sealift promote DIGEST`",
    )


def records_of(production: Production, line: Line | None) -> int:
    """Return how many promotions concerned a line: its own, and the stops of all lines.

    A line that is not open yet is concerned by those stops alone.
    """
    number = 0 if line is None else line.number
    return sum(one.stops_all or (one.line or FIRST_LINE) == number for one in production.promotions)
