"""The people of a ceremony and the keys that they bring or are given, checked before a root names them."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer  # type: ignore[attr-defined]  # no __all__

from bundler.errors import CeremonyError
from bundler.gpghome import short_home
from bundler.keycheck import key_facts, require_strong
from media.people import Environment
from media.signers import export_minimal, generate_key, tuf_signer

ROLES = ("root", "release", "custody", "rehearsal")
USES = ("root", "release")

_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAME = re.compile(r"[^\x00-\x1f\x7f<>()@]{1,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """An OpenPGP key that exists: the GnuPG home that holds it and its full fingerprint."""

    home: Path
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A person who takes part, with the keys they bring (production) or none (demo, rehearsal)."""

    id: str
    name: str
    roles: tuple[str, ...] = ROLES
    root_key: KeyPlace | None = None
    release_key: KeyPlace | None = None

    @property
    def uses(self) -> tuple[str, ...]:
        """The kinds of key that the person needs: whoever signs statements or custody uses a release key."""
        needs = {"root": "root" in self.roles, "release": bool(set(self.roles) - {"root"})}
        return tuple(use for use in USES if needs[use])

    def key(self, use: str) -> KeyPlace | None:
        """Return the key that the person brings for a use."""
        return {"root": self.root_key, "release": self.release_key}[use]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A person whose keys were looked at: signers by use, and the entry of the root that describes them."""

    person: Invitation
    signers: Mapping[str, Signer]
    described: Mapping[str, Any]

    def key(self, use: str) -> Key:
        """Return the public key for a use."""
        return self.signers[use].public_key


def require_sound(people: Sequence[Invitation], *, environment: str, taken: Iterable[tuple[str, str]] = ()) -> None:
    """Pass only people who may take part together.

    Args:
        people: Everyone who is invited.
        environment: What the root is for.
        taken: Ids and names of the people whom the root names already.

    Raises:
        CeremonyError: An id, a name, a role or what they bring is wrong.
    """
    if environment not in set(Environment):
        raise refused(f"the environment {environment!r}", f"it is one of {', '.join(Environment)}")
    require_different([*taken, *((person.id, person.name) for person in people)])
    for person in people:
        require_person(person.id, person.name, person.roles)
        if environment == Environment.PRODUCTION and not all(person.key(use) for use in person.uses):
            raise refused(f"{person.id} brings no keys", "production keys exist before the ceremony")
        if environment != Environment.PRODUCTION and (person.root_key or person.release_key):
            raise refused(f"{person.id} brings keys", "demo and rehearsal keys are made here and thrown away")


def require_different(named: Sequence[tuple[str, str]]) -> None:
    """Pass only ids and names that each occur once, by case and blanks folded.

    Raises:
        CeremonyError: One occurs twice.
    """
    for what, values in (("id", [each[0] for each in named]), ("name", [each[1] for each in named])):
        folded = [" ".join(value.split()).casefold() for value in values]
        if doubled := next((value for value in folded if folded.count(value) > 1), None):
            raise refused(f"two people with the {what} {doubled!r}", "a person takes part once")


def require_person(person_id: str, name: str, roles: Sequence[str]) -> None:
    """Pass only a person whom a root can name.

    Raises:
        CeremonyError: The id, the name or a role is wrong.
    """
    if not _ID.fullmatch(person_id) or not _NAME.fullmatch(name) or not name.strip():
        raise refused(f"the person {person_id!r}", "ids are lower case letters, digits and dashes; names are text")
    if not roles or set(roles) - set(ROLES) or len(set(roles)) != len(roles):
        raise refused(f"the roles of {person_id}", f"they are some of {', '.join(ROLES)}, each once")


def enrol(
    folder: Path, people: Sequence[Invitation], stack: ExitStack, *, owners: Mapping[str, str] | None = None
) -> list[Enrolled]:
    """Look at everyone's keys, making throwaway ones for those who bring none.

    Args:
        folder: The ceremony folder.
        people: Everyone who is invited.
        stack: Keeps the short names of GnuPG homes.
        owners: Fingerprints that have an owner already.

    Raises:
        CeremonyError: A key is weak, ends, is not there, or has two owners or two uses.
    """
    known = dict(owners or {})
    enrolled = []
    for person in people:
        places = {use: _place(folder, person, use, stack) for use in person.uses}
        for use, place in places.items():
            if place.fingerprint in known:
                owner = f"{known[place.fingerprint]} and {person.id} ({use})"
                raise refused(f"one key for {owner}", "a key has one owner and one use")
            known[place.fingerprint] = f"{person.id} ({use})"
        signers = {use: tuf_signer(place.home, place.fingerprint) for use, place in places.items()}
        enrolled.append(Enrolled(person=person, signers=signers, described=_described(person, places)))
    return enrolled


def refused(what: str, why: str) -> CeremonyError:
    """Return the error of a ceremony that does not take place."""
    return CeremonyError(what=what, why=why, fix="correct it and hold the ceremony again")


def _place(folder: Path, person: Invitation, use: str, stack: ExitStack) -> KeyPlace:
    brought = person.key(use)
    if brought is not None:
        home = stack.enter_context(short_home(brought.home))
        fingerprint = brought.fingerprint.replace(" ", "").upper()
    else:
        made = folder / "people" / person.id / "gnupg"
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = stack.enter_context(short_home(made))
        fingerprint = generate_key(home, f"{person.name} ({use})", f"{person.id}.{use}@throwaway.invalid").upper()
    require_strong(key_facts(home, fingerprint), owner=person.name)
    return KeyPlace(home=home, fingerprint=fingerprint)


def _described(person: Invitation, places: Mapping[str, KeyPlace]) -> dict[str, Any]:
    release = places.get("release")
    openpgp = release and {
        "fingerprint": release.fingerprint,
        "certificate": base64.b64encode(export_minimal(release.home, release.fingerprint)).decode("ascii"),
    }
    return {
        "id": person.id,
        "name": person.name,
        "roles": [role for role in ROLES if role in person.roles],
        "keys": {use: [place.fingerprint.lower()] for use, place in places.items()},
        "openpgp": openpgp,
    }
