"""Which line of this box a promotion of a paired box is of: its line has there the number of a promotion there.

Promises: the other box's number is never written here. A step that people signed is of the line that serves here, or
served last, what the statement replaces, and a statement that replaces nothing opens a line under this box's own
number. A step of one person is of the line that serves here what the record names as the previous version; one that
goes back after a stop is of the one stopped line that can. What fits no line, or more than one, is refused.
"""

from collections.abc import Mapping
from typing import Any, Final

from appliance.errors import ApprovalRefusedError, ConflictError
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.statement import Statement
from appliance.stages import FIRST_LINE
from media import canonical

FIELD: Final = "line"


def line_here(production: Production, untrusted: Mapping[str, Any]) -> Line:
    """Return the line of this box that a record's body is of: a new one where its statement opens one.

    Raises:
        ApprovalRefusedError: Its statement is of line 1, or none, and its line is a further one.
        ConflictError: No line here, or more than one, is where it can be of.
        MalformedError: Its line is no number.
    """
    if canonical.integer(untrusted.get(FIELD, FIRST_LINE), "promotion.line", minimum=FIRST_LINE) == FIRST_LINE:
        return production.first
    if untrusted.get("statement"):
        text = canonical.text(untrusted["statement"], "statement", most=16 * 1024)
        statement = Statement.from_bytes(text.encode())
        if not statement.is_of_a_further_line:
            raise ApprovalRefusedError(
                what="what the other box decided is not taken over",
                why="it is of a further line, and its statement was signed for the first",
                fix="see docs/operator/standby.md",
            )
        line = production.signed_for(statement)
        return _only([] if line is None else [line], statement.replaces)
    further = [line for line in production.lines.values() if line.is_further]
    previous = untrusted.get("previous")
    if previous is not None:
        return _only([line for line in further if line.current == previous], previous)
    target = untrusted.get("model_digest")
    stopped = [line for line in further if line.current is None and target in production.returnable_in(line)]
    return _only(stopped, target)


def numbered(body: Mapping[str, Any], line: Line) -> dict[str, Any]:
    """Return a record's body with the number that its line has here; as it is where it names none."""
    return {**body, FIELD: line.number} if FIELD in body else dict(body)


def _only(found: list[Line], version: object) -> Line:
    if len(found) == 1:
        return found[0]
    many = ", ".join(str(line.number) for line in found)
    raise ConflictError(
        what="it cannot be told which line of this box a promotion of the other one is of",
        why=f"lines {many} fit it here" if found else f"no line here has {str(version)[:12]} in its place",
        fix="people decided on both boxes: see docs/operator/standby.md, diverged",
    )
