"""The projection's part about rollouts, rules of keys and stopped callers; called by `appliance.state.projection`.

`ends_at` is when a canary's time is over, and after the cut-over when the version before may be retired: what callers
are told beforehand. Time on hold moves it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.orm import Session

from appliance.stages import line_of
from appliance.state.lines import is_of
from appliance.state.tables import CallerStop, KeyRule, Rollout
from media.clock import from_text, to_text

Runner = Connection | Session
CANARY: Final = ("running", "held")
OPEN: Final = (*CANARY, "beside")
FREE: Final = "free"


def start(connection: Runner, body: Mapping[str, Any], *, sequence: int, at: str) -> None:
    """Add a canary; a version that was kept beside in its line is not any more."""
    end_others(connection, line_of(body))
    terms = body["terms"]
    row = {
        "sequence": sequence,
        "model_digest": terms["version"],
        "control": body["model_digest"] or "",
        "percent": terms["percent"],
        "hours": terms["hours"],
        "state": "running",
        "at": at,
        "ends_at": _later(at, terms["hours"] + terms["watch_hours"]),
        "line": body.get("line"),
    }
    connection.execute(insert(Rollout).values(**row))


def change(connection: Runner, body: Mapping[str, Any], state: str, at: str) -> None:
    """Change the canary that is open in a line."""
    found = connection.execute(
        select(Rollout.sequence, Rollout.state, Rollout.ends_at, Rollout.at).where(
            Rollout.state.in_(OPEN), is_of(Rollout, line_of(body))
        )
    ).first()
    if found is None:
        return
    values = {"state": state}
    if state == "held":
        values["at"] = at
    elif found.state == "held" and state == "running":
        values["ends_at"] = to_text(from_text(found.ends_at) + (from_text(at) - from_text(found.at)))
    connection.execute(update(Rollout).where(Rollout.sequence == found.sequence).values(**values))


def cut_over(connection: Runner, body: Mapping[str, Any], at: str) -> None:
    """Note that the canary which ended last in a line became production, and for how long the version before stays."""
    terms, own = body["terms"], is_of(Rollout, line_of(body))
    newest = select(Rollout.sequence).where(own).order_by(Rollout.sequence.desc()).limit(1).scalar_subquery()
    if terms["watch_hours"]:
        values = {"state": "beside", "ends_at": _later(at, terms["watch_hours"])}
        connection.execute(update(Rollout).where(Rollout.sequence == newest).values(**values))


def end_others(connection: Runner, line: int | None) -> None:
    """End whatever is open in a line, or in all where none is named: production changed."""
    opened = Rollout.state.in_(OPEN) if line is None else Rollout.state.in_(OPEN) & is_of(Rollout, line)
    connection.execute(update(Rollout).where(opened).values(state="ended"))


def stop(connection: Runner, body: Mapping[str, Any], *, sequence: int, at: str) -> None:
    """Stop a key or a department."""
    free(connection, body)
    row = {"what": body["what"], "name": body["name"], "sequence": sequence, "at": at}
    connection.execute(insert(CallerStop).values(**row))


def free(connection: Runner, body: Mapping[str, Any]) -> None:
    """Let a key or a department be answered again."""
    connection.execute(delete(CallerStop).where(CallerStop.what == body["what"], CallerStop.name == body["name"]))


def rule(connection: Runner, body: Mapping[str, Any], *, sequence: int) -> None:
    """Pin a key, keep it out of canaries, or let the share decide again."""
    connection.execute(delete(KeyRule).where(KeyRule.key_id == body["key_id"]))
    if body["rule"] != FREE:
        row = {"key_id": body["key_id"], "rule": body["rule"], "model_digest": body.get("model_digest")}
        connection.execute(insert(KeyRule).values(**row, sequence=sequence))


def _later(at: str, hours: int) -> str:
    return to_text(from_text(at) + timedelta(hours=hours))
