"""What goes away and what stays when a statement is carried out: said to whoever is about to sign it."""

from typing import Final

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from appliance.promote.destination import Said
from appliance.registry import catalog
from appliance.registry.catalog import Version
from appliance.state import lines

Reader = Connection | Session
_NO_WAY_BACK: Final = "from then on no release is installed here that knows one model only"


def displaced(session: Reader, said: Said) -> Version | None:
    """Return the version that serves now where another is to come; None where nothing goes away for it."""
    served = lines.served(session)
    if said.beside:
        return None
    number = lines.FIRST_LINE
    if said.replaces:
        number = next((line for line, digest in lines.newest(session).items() if digest == said.replaces), 0)
    return catalog.version(session, served[number]) if number in served else None


def sentence(session: Reader, gone: Version | None, version: Version) -> str:
    """Return what goes away and what stays; nothing where one model is in production, and another version of it comes.

    Args:
        session: Of the state.
        gone: What is displaced.
        version: What is to come.
    """
    served = [catalog.version(session, digest) for digest in lines.served(session).values()]
    others = [f"{one.name} {one.version}" for one in served if gone is None or one.model_digest != gone.model_digest]
    stay = f"{' and '.join(others)} {'stays' if len(others) == 1 else 'stay'}" if others else ""
    if gone is None:
        if not others:
            return ""
        beside = f"comes beside what is in production: {stay}, nothing goes away"
        return beside if len(lines.newest(session)) > 1 else f"{beside}; {_NO_WAY_BACK}"
    if gone.name == version.name and not others:
        return ""
    takes = f"takes the place of {gone.name} {gone.version}"
    if gone.name != version.name:
        takes += f": {gone.name} goes away, and callers that ask for it by that name get `model_not_found`"
    return "; ".join(one for one in (takes, stay) if one)
