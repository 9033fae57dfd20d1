"""The key ceremony: who may sign for this project's media, written once into the first root and signed by its people.

People, not keys, are counted: every person has one OpenPGP key for the root and another for releases. Refused are a
person named twice, a key given twice, weak keys, and keys that end by a date. Demo and rehearsal ceremonies make
throwaway keys without a passphrase; production takes keys that exist.
"""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signature  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import Role, Root  # type: ignore[attr-defined]  # no __all__

from bundler.errors import CeremonyError, NotEmptyError
from bundler.gpghome import short_home
from bundler.keycheck import key_facts, require_strong
from bundler.metadata import NEVER, canonical, signed_file
from bundler.signatory import Ceremony
from media.canonical import dumps
from media.digest import sha256_hex
from media.signers import export_minimal, generate_key, tuf_signer

ENVIRONMENTS = ("demo", "rehearsal", "production")
ROLES = ("root", "release", "custody", "rehearsal")
_KEYED = ("root", "release")
_LEAST_THRESHOLD = 2

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


def hold(
    folder: Path,
    people: Sequence[Invitation],
    *,
    environment: str,
    thresholds: Mapping[str, int] | None = None,
) -> Ceremony:
    """Make and sign the first root of a new ceremony folder.

    Args:
        folder: Where root/ and, for throwaway keys, people/ are made; must not hold a ceremony.
        people: Everyone who takes part.
        environment: `demo`, `rehearsal` or `production`; written into the root for ever.
        thresholds: How many people must sign, for `root` and `release`; two each if not given.

    Raises:
        CeremonyError: A rule of the ceremony is broken; nothing that could be trusted was written.
        NotEmptyError: The folder holds a ceremony already.
    """
    limits = {role: (thresholds or {}).get(role, _LEAST_THRESHOLD) for role in _KEYED}
    _require_sound(people, environment=environment, thresholds=limits)
    if (folder / "root").exists() or (folder / "people").exists():
        raise NotEmptyError(
            what="this folder holds a ceremony already", why="a root is written once", fix="choose another folder"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        places = {person.id: _places(folder, person, stack) for person in people}
        _require_distinct(people, places)
        keys = {
            person: {role: tuf_signer(place.home, place.fingerprint) for role, place in own.items()}
            for person, own in places.items()
        }
        public = {person: {role: signer.public_key for role, signer in own.items()} for person, own in keys.items()}
        certificates = {
            person: export_minimal(own["release"].home, own["release"].fingerprint)
            for person, own in places.items()
            if "release" in own
        }
        root = _root(people, public=public, certificates=certificates, environment=environment, thresholds=limits)
        payload = canonical(root)
        signatures = [keys[each.id]["root"].sign(payload) for each in people if "root" in each.roles]
    return publish(folder, root, signatures, before=())


def publish(folder: Path, root: Root, signatures: Sequence[Signature], *, before: tuple[bytes, ...]) -> Ceremony:
    """Write a signed root beside the ones before it, once it verifies, and the facts of it for people.

    Raises:
        CeremonyError: It does not verify.
    """
    data = signed_file(root, signatures)
    held = Ceremony.from_chain(folder, (*before, data))
    (folder / "root").mkdir(exist_ok=True)
    _write_once(folder / "root" / f"{root.version}.root.json", data)
    (folder / "trust-facts.json").write_bytes(dumps(trust_facts(held)))
    return held


def trust_facts(ceremony: Ceremony) -> dict[str, Any]:
    """Return what people compare: digests, thresholds and fingerprints."""
    return {
        "format": 1,
        "environment": ceremony.environment,
        "root_sha256": ceremony.first_root_sha256,
        "root_version": len(ceremony.chain),
        "latest_root_sha256": sha256_hex(ceremony.chain[-1]),
        "thresholds": {role: ceremony.threshold(role) for role in _KEYED},
        "people": [
            {
                "id": person.id,
                "name": person.name,
                "roles": list(person.roles),
                "fingerprint": person.fingerprint,
                "root_keys": list(person.keys.get("root", ())),
            }
            for person in ceremony.people.people
        ],
    }


def _require_sound(people: Sequence[Invitation], *, environment: str, thresholds: Mapping[str, int]) -> None:
    if environment not in ENVIRONMENTS:
        raise _refused(f"the environment {environment!r}", f"it is one of {', '.join(ENVIRONMENTS)}")
    for seen, what in ((lambda person: person.id, "id"), (lambda person: " ".join(person.name.split()), "name")):
        values = [seen(person).casefold() for person in people]
        if doubled := next((value for value in values if values.count(value) > 1), None):
            raise _refused(f"two people with the {what} {doubled!r}", "a person takes part once")
    for person in people:
        if not _ID.fullmatch(person.id) or not _NAME.fullmatch(person.name) or not person.name.strip():
            raise _refused(f"the person {person.id!r}", "ids are lower case letters, digits and dashes; names are text")
        if not person.roles or set(person.roles) - set(ROLES) or len(set(person.roles)) != len(person.roles):
            raise _refused(f"the roles of {person.id}", f"they are some of {', '.join(ROLES)}, each once")
        needed = {"root": person.root_key, "release": person.release_key}
        if environment == "production" and not all(needed[role] for role in _keyed(person)):
            raise _refused(f"{person.id} brings no keys", "production keys exist before the ceremony")
        if environment != "production" and (person.root_key or person.release_key):
            raise _refused(f"{person.id} brings keys", "demo and rehearsal keys are made here and thrown away")
    for role, least in thresholds.items():
        holders = sum(1 for person in people if role in person.roles)
        if least < _LEAST_THRESHOLD or holders < least:
            raise _refused(
                f"a threshold of {least} of {holders} for {role}",
                f"at least {_LEAST_THRESHOLD} people must sign, and so many must hold the role",
            )


def _keyed(person: Invitation) -> tuple[str, ...]:
    """Return the kinds of key that a person needs: whoever signs statements or custody uses a release key."""
    needs = {"root": "root" in person.roles, "release": bool(set(person.roles) - {"root"})}
    return tuple(role for role in _KEYED if needs[role])


def _places(folder: Path, person: Invitation, stack: ExitStack) -> dict[str, KeyPlace]:
    given = {"root": person.root_key, "release": person.release_key}
    places: dict[str, KeyPlace] = {}
    for role in _keyed(person):
        place = given[role]
        if place is not None:
            home = stack.enter_context(short_home(place.home))
            fingerprint = place.fingerprint.replace(" ", "").upper()
        else:
            made = folder / "people" / person.id / "gnupg"
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            home = stack.enter_context(short_home(made))
            fingerprint = generate_key(home, f"{person.name} ({role})", f"{person.id}.{role}@throwaway.invalid").upper()
        require_strong(key_facts(home, fingerprint), owner=person.name)
        places[role] = KeyPlace(home=home, fingerprint=fingerprint)
    return places


def _require_distinct(people: Sequence[Invitation], places: Mapping[str, Mapping[str, KeyPlace]]) -> None:
    owners: dict[str, str] = {}
    for person in people:
        for role, place in places[person.id].items():
            use = f"{person.id} ({role})"
            if place.fingerprint in owners:
                raise _refused(f"one key for {owners[place.fingerprint]} and {use}", "a key has one owner and one use")
            owners[place.fingerprint] = use


def _root(
    people: Sequence[Invitation],
    *,
    public: Mapping[str, Mapping[str, Key]],
    certificates: Mapping[str, bytes],
    environment: str,
    thresholds: Mapping[str, int],
) -> Root:
    keys = {key.keyid: key for own in public.values() for key in own.values()}
    holders = {role: [public[each.id][role].keyid for each in people if role in each.roles] for role in _KEYED}
    roles = {"root": Role(holders["root"], thresholds["root"])}
    roles |= {name: Role(holders["release"], thresholds["release"]) for name in ("targets", "snapshot", "timestamp")}
    described = [
        {
            "id": person.id,
            "name": person.name,
            "roles": [role for role in ROLES if role in person.roles],
            "keys": {role: [key.keyid] for role, key in public[person.id].items()},
            "openpgp": {
                "fingerprint": public[person.id]["release"].keyid.upper(),
                "certificate": base64.b64encode(certificates[person.id]).decode("ascii"),
            }
            if person.id in certificates
            else None,
        }
        for person in people
    ]
    extra = {"x-sealift-environment": environment, "x-sealift-people": described}
    return Root(version=1, expires=NEVER, keys=keys, roles=roles, unrecognized_fields=extra)


def _write_once(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444), "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())


def _refused(what: str, why: str) -> CeremonyError:
    return CeremonyError(what=what, why=why, fix="correct it and hold the ceremony again")
