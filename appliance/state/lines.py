"""The lines of production as the tables have them: what each serves, and which rows are of which."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import Session

from appliance.state.tables import Promotion, Rollout

FIRST_LINE: Final = 1
"""The line of a row that names none; but a stop that names none is of every line."""
Reader = Connection | Session


def is_of(table: type[Promotion] | type[Rollout], number: int = FIRST_LINE) -> ColumnElement[bool]:
    """Return the condition that a row names this line, or none where it is the first."""
    return func.coalesce(table.line, FIRST_LINE) == number


def served(session: Reader) -> dict[int, str]:
    """Return what each line serves now, by its number, line 1 first; a line that was stopped is not among them."""
    found: dict[int, str] = {}
    for line, digest in _steps(session, Promotion.line, Promotion.model_digest):
        if digest is not None:
            found[line or FIRST_LINE] = digest
        elif line is None:
            found.clear()
        else:
            found.pop(line, None)
    return dict(sorted(found.items()))


def versions(session: Reader) -> dict[int, list[str]]:
    """Return the versions that led to where each line stands, the last on top; as the promoter's chain does."""
    found: dict[int, list[str]] = {FIRST_LINE: []}
    for line, kind, digest in _steps(session, Promotion.line, Promotion.kind, Promotion.model_digest):
        stack = found.setdefault(line or FIRST_LINE, [])
        if kind == "rolled-back" and digest in stack[:-1]:
            nearest = max(place for place, one in enumerate(stack[:-1]) if one == digest)
            del stack[nearest + 1 :]
        elif digest is not None and (not stack or stack[-1] != digest):
            stack.append(digest)
    return found


def _steps(session: Reader, *columns: Any) -> Any:
    return session.execute(select(*columns).order_by(Promotion.sequence))
