"""The key ceremony: who may sign for this project's media, written once into the first root and signed by its people.

People, not keys, are counted: every person has one OpenPGP key for the root and another for releases. Refused are a
person named twice, a key given twice, weak keys, and keys that end by a date. Demo and rehearsal ceremonies make
throwaway keys without a passphrase; production takes keys that exist.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import Role, Root  # type: ignore[attr-defined]  # no __all__

from bundler.errors import NotEmptyError
from bundler.invitation import ROLES, USES, Enrolled, Invitation, KeyPlace, enrol, refused, require_sound
from bundler.metadata import NEVER, canonical, signed_file
from bundler.signatory import Ceremony, is_openpgp
from media import durable
from media.canonical import dumps
from media.digest import sha256_hex

__all__ = ["ROLES", "Ceremony", "Invitation", "KeyPlace", "hold", "publish", "rotate", "trust_facts"]

_LEAST_THRESHOLD = 2
_RELEASE_ROLES = ("targets", "snapshot", "timestamp")
_PEOPLE = "x-sealift-people"


def hold(
    folder: Path, people: Sequence[Invitation], *, environment: str, thresholds: Mapping[str, int] | None = None
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
    limits = require_holdable(folder, people, environment=environment, thresholds=thresholds)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        enrolled = enrol(folder, people, stack)
        root = Root(version=1, expires=NEVER, unrecognized_fields={"x-sealift-environment": environment, _PEOPLE: []})
        _name(root, enrolled, limits)
        payload = canonical(root)
        signatures = [each.signers["root"].sign(payload) for each in enrolled if "root" in each.person.roles]
    return publish(folder, root, signatures, before=())


def require_holdable(
    folder: Path, people: Sequence[Invitation], *, environment: str, thresholds: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return the thresholds of a ceremony once everything that can be known before keys are used holds.

    Raises:
        CeremonyError, NotEmptyError: As `hold`.
    """
    require_sound(people, environment=environment)
    limits = {use: (thresholds or {}).get(use, _LEAST_THRESHOLD) for use in USES}
    _require_reachable({use: sum(1 for each in people if use in each.roles) for use in USES}, limits)
    if (folder / "root").exists() or (folder / "people").exists():
        raise NotEmptyError(
            what="this folder holds a ceremony already", why="a root is written once", fix="choose another folder"
        )
    return limits


def rotate(
    folder: Path,
    *,
    remove: Collection[str] = (),
    add: Sequence[Invitation] = (),
    homes: Mapping[str, Path] | None = None,
) -> Ceremony:
    """Write the next root, which people of the one before and of the new one sign: the only way to revoke a key.

    Args:
        folder: The ceremony folder.
        remove: Ids of people who may no longer sign.
        add: People who may from now on.
        homes: GnuPG homes of the people whom the root names already; throwaway ones need none.

    Raises:
        CeremonyError: Nothing would change, a rule of the ceremony is broken, or too few people signed.
        SigningError: A person of the present root has no keys on this machine.
    """
    held = require_rotatable(folder, remove=remove, add=add)
    named = {person.id: person for person in held.people.people}
    staying = [person for person in named.values() if person.id not in remove]
    owners = {keyid.upper(): each.id for each in named.values() for own in each.keys.values() for keyid in own}
    root = copy.deepcopy(held.root)
    root.version += 1
    described = root.unrecognized_fields[_PEOPLE]
    root.unrecognized_fields[_PEOPLE] = [each for each in described if each["id"] not in remove]
    for person_id in remove:
        for keyid in (keyid for own in named[person_id].keys.values() for keyid in own):
            del root.keys[keyid]
            for tuf_role in root.roles.values():
                tuf_role.keyids = [each for each in tuf_role.keyids if each != keyid]
    with ExitStack() as stack:
        newcomers = enrol(folder, add, stack, owners=owners)
        _name(root, newcomers, held.people.thresholds)
        payload = canonical(root)
        signatures = [each.signers["root"].sign(payload) for each in newcomers if "root" in each.person.roles]
        for person in staying:
            if "root" in person.roles:
                signatory = held.signatory(person.id, (homes or {}).get(person.id))
                signatures += stack.enter_context(signatory.at_hand()).sign("root", payload)
    return publish(folder, root, signatures, before=held.chain)


def require_rotatable(folder: Path, *, remove: Collection[str] = (), add: Sequence[Invitation] = ()) -> Ceremony:
    """Return the ceremony once everything about its next root that can be known before keys are used holds.

    Raises:
        CeremonyError: As `rotate`.
    """
    held = Ceremony.load(folder)
    named = {person.id: person for person in held.people.people}
    if unknown := sorted(set(remove) - set(named)):
        raise refused(f"the root names no person {unknown[0]!r}", f"it names {', '.join(named)}")
    if not remove and not add:
        raise refused("a root that changes nothing", "people are removed or added")
    staying = [person for person in named.values() if person.id not in remove]
    if not all(is_openpgp(keyid) for person in staying for keyid in person.keys.get("root", ())):
        raise refused(
            "a rotation at one machine", "a root key is a file or on a token: use `root propose`, `sign` and `merge`"
        )
    taken = [(person.id, person.name) for person in named.values()]
    require_sound(add, environment=held.environment, taken=taken)
    roles = [*(person.roles for person in staying), *(person.roles for person in add)]
    _require_reachable({use: sum(1 for own in roles if use in own) for use in USES}, held.people.thresholds)
    return held


def publish(folder: Path, root: Root, signatures: Sequence[Signature], *, before: tuple[bytes, ...]) -> Ceremony:
    """Write a signed root beside the ones before it, once it verifies, and the facts of it for people.

    Raises:
        CeremonyError: It does not verify.
    """
    data = signed_file(root, signatures)
    held = Ceremony.from_chain(folder, (*before, data))
    (folder / "root").mkdir(exist_ok=True)
    durable.write_new(folder / "root" / f"{root.version}.root.json", data, mode=0o444)
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
        "policy": str(ceremony.people.policy),
        "thresholds": {use: ceremony.threshold(use) for use in USES},
        "people": [
            {
                "id": person.id,
                "name": person.name,
                "roles": list(person.roles),
                "fingerprint": person.fingerprint,
                "root_keys": list(person.keys.get("root", ())),
                "release_keys": list(person.keys.get("release", ())),
            }
            for person in ceremony.people.people
        ],
    }


def _name(root: Root, enrolled: Sequence[Enrolled], thresholds: Mapping[str, int]) -> None:
    """Let a root name people: their keys, their roles and who they are."""
    root.unrecognized_fields[_PEOPLE] += [dict(each.described) for each in enrolled]
    for each in enrolled:
        for use in each.person.uses:
            root.keys[each.key(use).keyid] = each.key(use)
    for use, roles in (("root", ("root",)), ("release", _RELEASE_ROLES)):
        new = [each.key(use).keyid for each in enrolled if use in each.person.roles]
        for role in roles:
            root.roles[role] = Role([*root.roles[role].keyids, *new], thresholds[use])


def _require_reachable(holders: Mapping[str, int], thresholds: Mapping[str, int]) -> None:
    for use, least in thresholds.items():
        if least < _LEAST_THRESHOLD or holders[use] < least:
            raise refused(
                f"a threshold of {least} of {holders[use]} for {use}",
                f"at least {_LEAST_THRESHOLD} people must sign, and so many must hold the role",
            )
