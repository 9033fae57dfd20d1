"""Who asked for something: a person, by an id, or an automation key, which is no person and never counts as one.

An automation key is written ``automation:NAME@PERSON``: its name, and who answers for it. Ids and names of people hold
neither colon nor at sign where they are ids, so that no person can be taken for a key and no key for a person (rule
AUTO-4 of docs/format.md).
"""

import re
import unicodedata
from typing import Final

from media.errors import MalformedError

PREFIX: Final = "automation:"
_NAME: Final = r"[a-z0-9](?:-?[a-z0-9]){0,31}"
_ACTOR: Final = re.compile(rf"automation:({_NAME})@({_NAME})", re.ASCII)


def of_key(name: str, person: str) -> str:
    """Return how an automation key is written.

    Raises:
        MalformedError: One of the two is not in its form.
    """
    return require_actor(f"{PREFIX}{name}@{person}")


def is_automation(untrusted: str) -> bool:
    """Tell whether a text names an automation key, or looks to a reader as if it did."""
    plain = unicodedata.normalize("NFKC", untrusted).casefold()
    return "".join(plain.split()).startswith(PREFIX)


def require_actor(untrusted: str) -> str:
    """Return who asked, as it is; an automation key only in its one form.

    Raises:
        MalformedError: It looks like an automation key and is not in that form.
    """
    if is_automation(untrusted) and not _ACTOR.fullmatch(untrusted):
        raise MalformedError(
            what="the name of an automation key is refused",
            why="expected automation:NAME@PERSON, each 1 to 32 lower-case letters and digits, single hyphens between",
            fix="see `sealift automation list`",
        )
    return untrusted


def answerable(actor: str) -> str:
    """Return the id of the person who answers for what was asked: the person, or the one of the automation key.

    Raises:
        MalformedError: As `require_actor`.
    """
    found = _ACTOR.fullmatch(require_actor(actor))
    return actor if found is None else found[2]


def shown(actor: str) -> str:
    """Return who asked, in words; what is no automation key stays as it is."""
    found = _ACTOR.fullmatch(actor)
    return actor if found is None else f"{actor} (a machine, for which {found[2]} answers)"
