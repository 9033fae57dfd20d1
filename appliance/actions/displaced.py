"""What goes away and what stays when a statement is carried out: said to whoever is about to sign it."""

from typing import Final

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from appliance.promote.destination import Said
from appliance.registry import catalog
from appliance.registry.catalog import Version
from appliance.stages import FIRST_LINE
from appliance.state import lines

Reader = Connection | Session
_NO_WAY_BACK: Final = "from then on no release is installed here that knows one model only"


def displaced(session: Reader, said: Said) -> Version | None:
    """Return the version that serves now where another is to come; None where nothing goes away for it."""
    served = lines.served(session)
    number = _line(session, said)
    return catalog.version(session, served[number]) if number in served else None


def sentence(session: Reader, said: Said, version: Version) -> str:
    """Return what goes away and what stays; nothing where one model is in production, and another version of it comes.

    Args:
        session: Of the state.
        said: The line for which it is.
        version: What is to come.
    """
    gone = displaced(session, said)
    served = [catalog.version(session, digest) for digest in lines.served(session).values()]
    others = [f"{one.name} {one.version}" for one in served if gone is None or one.model_digest != gone.model_digest]
    stay = f"{' and '.join(others)} {'stays' if len(others) == 1 else 'stay'}" if others else ""
    if gone is None:
        if not others:
            opens_first = said.beside and len(lines.newest(session)) == 1
            return f"comes beside what was stopped; {_NO_WAY_BACK}" if opens_first else ""
        return _comes(session, said, version, stay)
    if gone.name == version.name and not others:
        return ""
    takes = f"takes the place of {gone.name} {gone.version}"
    if gone.name != version.name:
        takes += f": {gone.name} goes away, and callers that ask for it by that name get `model_not_found`"
    return "; ".join(one for one in (takes, stay) if one)


def _comes(session: Reader, said: Said, version: Version, stay: str) -> str:
    """Return how a version comes for which nothing that serves goes away."""
    newest = lines.newest(session)
    # A model that was stopped is perhaps deleted since.
    last = newest.get(_line(session, said))
    was = next((one for one in catalog.versions(session) if one.model_digest == last), version)
    if was.model_digest != version.model_digest:
        return f"takes the place of {was.name} {was.version}, which was stopped: {stay}, nothing goes away"
    beside = f"comes beside what is in production: {stay}, nothing goes away"
    return beside if len(newest) > 1 else f"{beside}; {_NO_WAY_BACK}"


def _line(session: Reader, said: Said) -> int:
    """Return the number of the line that is signed, where a name decides nothing; 0 where it is new, or not known."""
    if said.beside:
        return 0
    if not said.replaces:
        return FIRST_LINE
    return next((line for line, digest in lines.newest(session).items() if digest == said.replaces), 0)
