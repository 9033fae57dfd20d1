"""One name, one line: a caller asks for a model by its name, so no two lines may hold versions of one name.

Names are those of the ledger's registrations (`model.registered`); a signed statement has none.
"""

from collections.abc import Callable

from appliance.audit.facts import Ledger
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
