"""Lines of production by the names of their models, as people say them; a chain has digests and numbers alone.

Promises: a line goes by the name of what it serves, or served last; the names of whatever it holds (PROM-13) are its
own, and no other line's, because callers ask for a model by its name. Names are those of the ledger's registrations
(`model.registered`); a signed statement has none.
"""

from collections.abc import Callable

from appliance.audit.facts import Ledger
from appliance.errors import ConflictError, NotPromotedError
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.registry.deletion import REGISTERED

_SEE = "see `sealift status`"


def name_of(ledger: Ledger, model_digest: str) -> str:
    """Return the name under which a version was registered last, deleted since or not; empty where it never was."""
    found = ledger.find(kind=REGISTERED, field="model_digest", value=model_digest, limit=1)
    return str(found[0].body.get("name", "")) if found else ""


def shown(ledger: Ledger, line: Line) -> str:
    """Return a line as people know it: the model that it serves, or served last, and its number."""
    if line.newest is None:
        return f"line {line.number}"
    stopped = ", stopped" if line.is_stopped else ""
    return f"{name_of(ledger, line.newest) or line.newest[:12]} (line {line.number}{stopped})"


def shown_all(ledger: Ledger, production: Production) -> str:
    """Return every line that served once, as people know it."""
    known = [shown(ledger, line) for line in production.lines.values() if line.newest is not None]
    return ", ".join(known) or "nothing"


def line_named(ledger: Ledger, production: Production, name: str) -> Line:
    """Return the line that serves a model, or served it last.

    Raises:
        NotPromotedError: None does.
    """
    known = sorted(production.lines.values(), key=lambda line: line.is_stopped)
    for line in known:
        if line.newest is not None and name_of(ledger, line.newest) == name:
            return line
    raise NotPromotedError(
        what=f"no line of production serves {name[:40]}", why=f"there is {shown_all(ledger, production)}", fix=_SEE
    )


def holder_of(ledger: Ledger, production: Production, model_digest: str) -> Line | None:
    """Return the line that a version is in, else the one to which its name belongs; None where that is free."""
    name = name_of(ledger, model_digest)
    lines = list(production.lines.values())
    here = (line for line in lines if model_digest in line.held)
    named = (line for line in lines if any(name_of(ledger, one) == name for one in line.held))
    return next(here, None) or next(named, None)


def require_own_name(ledger: Ledger, production: Production, model_digest: str, line: Line) -> None:
    """Return when a version may come into a line by its name, also into one that it opens.

    Raises:
        ConflictError: Another line has the name, or the version itself.
    """
    name = name_of(ledger, model_digest)
    mine = {name_of(ledger, one) for one in line.held}
    for other in production.lines.values():
        if other.number == line.number:
            continue
        is_taken = name not in mine and any(name_of(ledger, one) == name for one in other.held)
        if is_taken or model_digest in other.held:
            raise ConflictError(
                what=f"{name[:40]} is in another line of production",
                why=f"{shown(ledger, other)} holds it, and callers ask by name",
                fix=f"bring it into that line: `sealift promote {model_digest[:12]}`, without --beside and --replaces",
            )


def other_line_with(production: Production, line: Line, model_digest: str, named: Callable[[str], str]) -> Line | None:
    """Return another line than this one that holds a version of the same name; None where none does.

    Names are what `named` says; with one line it is asked for none.
    """
    others = [one for one in production.lines.values() if one.number != line.number and one.held]
    if not others:
        return None
    name = named(model_digest)
    return next((one for one in others if any(named(held) == name for held in sorted(one.held))), None)
