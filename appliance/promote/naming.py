"""One name, one line: a caller asks for a model by its name, so no two lines may hold versions of one name.

Names are those of the ledger's registrations (`model.registered`); a signed statement has none.
"""

from collections.abc import Callable

from appliance.audit.facts import Ledger
from appliance.errors import ConflictError
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.registry.deletion import REGISTERED

NameOf = Callable[[str], str]


def name_of(ledger: Ledger, model_digest: str) -> str:
    """Return the name under which a version was registered last, deleted since or not; empty where it never was."""
    found = ledger.find(kind=REGISTERED, field="model_digest", value=model_digest, limit=1)
    return str(found[0].body.get("name", "")) if found else ""


def other_line_with(production: Production, line: Line, model_digest: str, named: NameOf) -> Line | None:
    """Return another line than this one that holds a version of the same name; None where none does.

    With one line no name is asked for.

    Args:
        production: All lines.
        line: Where the version is, or is to come.
        model_digest: The version.
        named: Returns a version's name.
    """
    others = [one for one in production.lines.values() if one.number != line.number and one.held]
    if not others:
        return None
    name = named(model_digest)
    return next((one for one in others if any(named(held) == name for held in sorted(one.held))), None)


def require_own_name(production: Production, line: Line, model_digest: str, ledger: Ledger) -> None:
    """Return when a version may come into a line without another line's name.

    Raises:
        ConflictError: Another line holds a version of its name.
    """
    other = other_line_with(production, line, model_digest, lambda digest: name_of(ledger, digest))
    if other is not None:
        raise ConflictError(
            what=f"version {model_digest[:12]} cannot come into line {line.number}",
            why=f"line {other.number} holds a version of the same name, {name_of(ledger, model_digest)[:64]}",
            fix="bring it into that line, or stop that line and let another name follow in it",
        )
