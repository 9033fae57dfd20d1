"""The lines of production as the tables have them: what each serves, and which rows are of which."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, null, select
from sqlalchemy.orm import Session

from appliance.stages import FIRST_LINE
from appliance.state.tables import Promotion, Rollout

Reader = Connection | Session


def is_of(table: type[Promotion] | type[Rollout], number: int = FIRST_LINE) -> ColumnElement[bool]:
    """Return the condition that a row names this line, or none where it is the first."""
    return func.coalesce(table.line, FIRST_LINE) == number


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a line stands.

    Attributes:
        last: The version that it serves, or served when it was stopped.
        at: When that version was brought, as RFC 3339 text.
        is_stopped: Whether it serves nothing.
    """

    last: str
    at: str
    is_stopped: bool = False


def served(session: Reader) -> dict[int, str]:
    """Return what each line serves now, by its number, line 1 first; a line that was stopped is not among them."""
    return {line: one.last for line, one in standing(session).items() if not one.is_stopped}


def standing(session: Reader, *, has_lines: bool = True, without: Collection[int] = frozenset()) -> dict[int, Standing]:
    """Return where each line stands, by its number, line 1 first; a line that never served is not among them.

    Args:
        session: What is read.
        has_lines: Whether the schema has a column for them; that of a release of before has not, and line 1 alone.
        without: Sequences of promotions that are not counted; a stop always is.
    """
    found: dict[int, Standing] = {}
    column = Promotion.line if has_lines else null()
    for line, digest, at, sequence in _steps(session, column, Promotion.model_digest, Promotion.at, Promotion.sequence):
        if digest is not None and sequence in without:
            continue
        if digest is not None:
            found[line or FIRST_LINE] = Standing(last=digest, at=at)
            continue
        for one in [one for one in found if line in {None, one}]:
            found[one] = replace(found[one], is_stopped=True)
    return dict(sorted(found.items()))


def stands(
    session: Reader, *, has_lines: bool = True, held: Collection[int], socket_of: Callable[[str], Path]
) -> dict[int, Standing]:
    """Return where each line stands for callers, by what was decided and is not held back.

    What is held back counts all the same where its engine is there and that of the version before is not: a release of
    before has then carried it out, which takes nothing out again; or a node has that engine alone.
    """
    decided = standing(session, has_lines=has_lines)
    if not held:
        return decided
    before, found = standing(session, has_lines=has_lines, without=held), {}
    for number, one in decided.items():
        old = before.get(number)
        goes_on = old is not None and not old.is_stopped and socket_of(old.last).exists()
        if old != one and not goes_on and socket_of(one.last).exists():
            found[number] = one
        elif old is not None:
            found[number] = old
    return found


def homes(session: Reader) -> dict[str, int]:
    """Return the line in which each version served or was tried last."""
    rows: list[tuple[int, int | None, str]] = []
    for table in (Promotion, Rollout):
        found = session.execute(select(table.sequence, table.line, table.model_digest))
        rows += [(sequence, line, digest) for sequence, line, digest in found if digest is not None]
    return {digest: line or FIRST_LINE for _, line, digest in sorted(rows, key=lambda row: row[0])}


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


def newest(session: Reader) -> dict[int, str]:
    """Return what each line serves, or served last; a line that never served is not among them."""
    return {line: stack[-1] for line, stack in versions(session).items() if stack}


def opened(session: Reader) -> dict[int, str]:
    """Return when the first version of each line was brought, as RFC 3339 text."""
    found: dict[int, str] = {}
    for line, digest, at in _steps(session, Promotion.line, Promotion.model_digest, Promotion.at):
        if digest is not None:
            found.setdefault(line or FIRST_LINE, at)
    return found


def _steps(session: Reader, *columns: Any) -> Any:
    return session.execute(select(*columns).order_by(Promotion.sequence))
