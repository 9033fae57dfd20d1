"""Lines of production on the page: what a form asks of them, and what a person chose. Nothing is chosen beforehand.

With one line, and a version of its name, there is nothing to choose, and no form asks. The rules are the promoter's;
what goes away and what stays is said in the words of `appliance.actions.displaced`, as before the signature.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import abort, request

from appliance.actions.following import are_several
from appliance.admin import collaborators
from appliance.admin.facts import VersionRow
from appliance.errors import EngineLoadError
from appliance.promote.destination import Said
from appliance.stages import line_of
from media.errors import SealiftError

PLACE: Final = "place"
"""The field of a request that says where a version comes."""
LINE: Final = "line"
"""The field of going back, stopping and keeping that says which line is meant."""
BESIDE: Final = "beside"
EVERY: Final = "every"
_IN_PLACE_OF: Final = "in-place-of "
_LINE_OF: Final = "line-of "
_MAX_FIELD: Final = 500
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a version may come, as a form offers it.

    Attributes:
        value: What the form sends.
        label: What a person chooses.
        goes: What goes away for it, and what stays.
        plan: What memory holds then, and what that means; nothing where the machine does not say.
    """

    value: str
    label: str
    goes: str
    plan: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the form of a request offers to say of its line: nothing where the version's name says it."""

    destinations: tuple[Destination, ...] = ()
    not_beside: str = ""


def offer_of(version: VersionRow) -> Offer:
    """Return the destinations between which whoever requests a version chooses; none where its name says it.

    Where the promoter does not answer none are offered either: it refuses a request that says nothing and should.
    """
    promoter = collaborators.page().promoter
    try:
        found = promoter.call("line-choice", model_digest=version.digest)
    except SealiftError:
        return Offer()
    if not found.get("asked"):
        return Offer()
    why = str(found["not_beside"])
    beside = () if why else (_shown(version, BESIDE, "beside what is in production", Said(beside=True)),)
    others = (
        _shown(version, f"{_IN_PLACE_OF}{one['name']}", f"in place of {one['shown']}", Said(replaces=one["newest"]))
        for one in found["lines"]
    )
    return Offer(destinations=(*beside, *others), not_beside=why)


def said() -> Said:
    """Return what the form of a request says of its line; nothing where it asked nothing."""
    value = request.form.get(PLACE, "")[:_MAX_FIELD]
    if value in {"", BESIDE}:
        return Said(beside=value == BESIDE)
    name = value.removeprefix(_IN_PLACE_OF)
    if not name or name == value:
        abort(400, "Choose where the version comes.")
    return Said(replaces=name)


def require_loadable(digest: str, said: Said) -> None:
    """Return unless it is known that memory does not hold a version where a person said that it comes.

    Raises:
        UnknownVersionError: There is no such version.
        EngineLoadError: It does not, or the machine does not say how much memory there is.
    """
    here = collaborators.page()
    if said != Said():
        here.facts.fit(here.config, here.ledger, digest, said=said).require_loadable()


def several() -> tuple[Mapping[str, Any], ...]:
    """Return the lines of production as the promoter tells them, where there are several; nothing where there is one.

    Raises:
        WireError: The promoter does not answer.
    """
    current = collaborators.page().promoter.call("current")
    return tuple(_offered(one) for one in current["lines"]) if are_several(current) else ()


def number() -> int | None:
    """Return how many promotions there were, which forms bring back: what is decided is on what was shown.

    Raises:
        WireError: The promoter does not answer.
    """
    found = collaborators.page().promoter.call("current").get("number")
    return None if found is None else int(found)


def seen() -> dict[str, int]:
    """Return the `number` that a form was shown with, as the promoter's messages have it; nothing where it has none."""
    value = request.form.get("seen", "")
    return {"seen": int(value)} if _NUMBER.fullmatch(value) else {}


def named(known: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Return the name of the line of which something that the promoter told is; empty where there is one line."""
    return names.get(line_of(known), "")


def chosen(lines: tuple[Mapping[str, Any], ...], *, every: bool = False) -> str:
    """Return the name of the line that a form means; empty for every line, and where there is one.

    Args:
        lines: What `several` returned.
        every: Whether all lines may be meant, if the form says so.
    """
    value = request.form.get(LINE, "")
    if not lines or (every and value == EVERY):
        return ""
    found = [str(one["name"]) for one in lines if one["name"] and one["value"] == value]
    if not found:
        abort(400, "There are several lines of production. Read the page again, and choose which one is meant.")
    return found[0]


def _offered(line: Mapping[str, Any]) -> Mapping[str, Any]:
    # Going back ends a canary, as with one line, also where there is no version before.
    return {**line, "value": f"{_LINE_OF}{line['name']}", "may_return": bool(line["returnable"] or line["canary"])}


def _shown(version: VersionRow, value: str, label: str, said: Said) -> Destination:
    here = collaborators.page()
    try:
        plan = here.facts.fit(here.config, here.ledger, version.digest, said=said).plan
    except EngineLoadError:
        plan = ()
    return Destination(value=value, label=label, goes=here.facts.goes(said, version.digest), plan=plan)
