"""What going back or stopping would do, for whoever asks first (`--dry-run`); refused where the promoter would refuse.

Nothing is recorded. Who decides and the reason are judged when it is done, and so is what was decided in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.actions.production import Surroundings
from appliance.actions.rollback import ends_canary
from appliance.actions.stop import require_known, where_served
from appliance.errors import ConflictError, NotPromotedError
from appliance.promote.reviews import CALLERS, stopped_callers
from appliance.registry import catalog
from appliance.registry.deletion import deleted

LINE = "line"
VERSION = "version"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingBack:
    """Where a rollback would lead: `model_digest` is None where it would end the canary."""

    model_digest: str | None
    returnable: tuple[str, ...]
    in_doubt: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "canary": self.model_digest is None,
            "model_digest": self.model_digest,
            "returnable": list(self.returnable),
            "in_doubt": list(self.in_doubt),
        }


def going_back(here: Surroundings, *, to: str = "", line: str = "") -> GoingBack:
    """Return where going back would lead.

    Args:
        here: What actions on production work with.
        to: The version; the one before when empty.
        line: The name of the model whose line goes back; needed where there are several and `to` is empty.

    Raises:
        UnknownVersionError: `to` names no version.
        NotPromotedError: There is no such line, or nothing in it to go back to.
        ConflictError: There are several lines, and it is not said which.
    """
    target = ""
    if to:
        with here.state.connect() as session:
            target = catalog.version(session, to).model_digest
    current = here.promoter.current()
    gone = deleted(here.ledger)
    is_end = not target and here.promoter.canary()["canary"] is not None and ends_canary(current, line)
    chosen = _chosen(current["lines"], name=line, target=target) if line or not is_end else current
    returnable = tuple(str(one) for one in chosen["returnable"] if one not in gone)
    doubted = tuple(one for one in returnable if one in current.get("in_doubt", ()))
    if is_end:
        return GoingBack(model_digest=None, returnable=returnable, in_doubt=doubted)
    target = target or next(iter(returnable), "")
    if target not in returnable:
        raise NotPromotedError(
            what=f"version {target[:12]} cannot be gone back to" if target else "there is no version to go back to",
            why="only versions that two people approved, that were in production before and were not deleted can",
            fix="see `sealift history`; bring a version forward with `sealift promote`",
        )
    return GoingBack(model_digest=target, returnable=returnable, in_doubt=doubted)


def require_stoppable(here: Surroundings, *, what: str, name: str, lift: bool = False) -> None:
    """Return when there is something to stop, or with `lift` to answer again.

    Args:
        here: What actions on production work with.
        what: A line, a version, a key or a department; anything else is all of production.
        name: Its name, a version's as people type it, or a key's id.
        lift: A key or a department is to be answered again.

    Raises:
        UsageError: There is no such key or department.
        UnknownVersionError: There is no such version.
        NotPromotedError: No line serves a model of that name.
        ConflictError: It serves nowhere, is stopped already, or with `lift` is not stopped.
    """
    if what in CALLERS:
        if not lift:
            require_known(here, what, name)
        if ((what, name) in stopped_callers(here.ledger)) is not lift:
            state = "not stopped" if lift else "stopped already"
            raise ConflictError(what=f"the {what} {name[:40]} is {state}", fix="see `sealift status`")
    elif what == VERSION:
        where_served(here, name)
    else:
        lines = here.promoter.current()["lines"]
        chosen = [_named(lines, name)] if what == LINE else lines
        if all(one["model_digest"] is None for one in chosen):
            raise ConflictError(
                what=f"{name[:40] or 'nothing'} is {'not ' if name else ''}in production",
                why="it was stopped",
                fix="see `sealift history`",
            )


def _chosen(lines: Sequence[Mapping[str, Any]], *, name: str, target: str) -> Mapping[str, Any]:
    if name:
        return _named(lines, name)
    found = [one for one in lines if not target or target in one["returnable"]]
    if not found:
        return {"returnable": ()}
    if len(found) > 1:
        raise ConflictError(
            what="it is not said which line goes back",
            why=f"there is {_all(lines)}",
            fix="name the model: `sealift rollback --line NAME`",
        )
    return found[0]


def _named(lines: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for one in sorted(lines, key=lambda line: line["model_digest"] is None):
        if one["name"] == name:
            return one
    raise NotPromotedError(
        what=f"no line of production serves {name[:40]}", why=f"there is {_all(lines)}", fix="see `sealift status`"
    )


def _all(lines: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']} (line {one['line']})" for one in lines) or "nothing"
