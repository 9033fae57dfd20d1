"""The people whom a root names: who may sign what, with which keys, and how they are counted (TRUST-30 to TRUST-48).

Counted are distinct key material, then primary fingerprints, then people. A key has one owner, whatever its form: the
same Ed25519 point as an OpenPGP key, a TUF key and a raw key is one key. A root that breaks this is malformed. Under
the hybrid policy a person counts only with a classic and an ML-DSA-87 signature.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Self

from securesystemslib.signer import Key  # type: ignore[attr-defined]  # re-exported without __all__

from media import canonical, keys, layout, limits
from media.errors import BadSignatureError, MalformedError, SamePersonError, ThresholdError
from media.packets import Certificate

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_KEY_USES: Final = ("root", "release")
_RELEASE_ROLES: Final = ("targets", "snapshot", "timestamp")
_POST_QUANTUM: Final = "ml-dsa-87/1"
"""The only scheme that is a hybrid person's second half: CNSA 2.0 takes no smaller parameter set."""


class Role(StrEnum):
    """What a person of the sender may do."""

    ROOT = "root"
    RELEASE = "release"
    CUSTODY = "custody"
    REHEARSAL = "rehearsal"


class Environment(StrEnum):
    """What a root is for. Production refuses the others for ever."""

    DEMO = "demo"
    REHEARSAL = "rehearsal"
    PRODUCTION = "production"


class SignaturePolicy(StrEnum):
    """Which signatures make a person count, over everything but tag manifests (TRUST-45)."""

    SINGLE = "single"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person whom the root names.

    Args:
        id: Short, stable, unique in the root.
        name: As printed on sheets.
        roles: From `Role`.
        keys: TUF key ids by use, "root" and "release".
        fingerprint: Primary fingerprint of the OpenPGP release key; empty for a person who has none.
        certificate: Its minimal binary certificate; empty likewise.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]] = field(hash=False)
    fingerprint: str
    certificate: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Everyone whom one root names. Made by `from_root` only.

    Args:
        people: In the root's order.
        environment: What the root is for.
        thresholds: How many people must sign, by role "root" and "release".
        key_objects: The public keys by key id, for the libraries that verify.
        policy: Which signatures make a person count.
        revoked: TUF key ids and OpenPGP fingerprints, in lower case, that an emergency note took away (TRUST-60).
    """

    people: tuple[Person, ...]
    environment: Environment
    thresholds: Mapping[str, int]
    key_objects: Mapping[str, Key] = field(repr=False)
    policy: SignaturePolicy = SignaturePolicy.SINGLE
    revoked: frozenset[str] = frozenset()

    @classmethod
    def from_root(cls, root_signed: Mapping[str, Any]) -> Self:
        """Read the people of a root, given its `signed` part as parsed by `canonical.loads`.

        Raises:
            LimitExceededError: A certificate is too large.
            MalformedError: A field is wrong, a key or person is there twice or has no owner, or the roles of TUF do not
                hold exactly the keys of the people with that role.
        """
        root = canonical.mapping(dict(root_signed), "The root")
        listed = canonical.mapping(root.get("keys"), "The root's keys")
        loaded = {keyid: keys.load_key(keyid, value) for keyid, value in listed.items()}
        people = tuple(
            _person(value, loaded)
            for value in canonical.array(root.get("x-sealift-people"), "The root's people", most=limits.PEOPLE)
        )
        environment = canonical.one_of(root.get("x-sealift-environment"), Environment, "The root's environment")
        _require_distinct(people)
        _require_one_owner(people, {keyid: material for keyid, (_, material) in loaded.items()})
        found = cls(
            people=people,
            environment=environment,
            thresholds=_thresholds(root.get("roles"), people),
            key_objects={keyid: key for keyid, (key, _) in loaded.items()},
            policy=_policy(root),
        )
        found._require_halves()
        for role in _KEY_USES:
            if len(found.with_role(role)) < found.thresholds[role]:
                raise _malformed("The root", f"fewer people have the role {role} than its threshold demands")
        return found

    def without(self, revoked: Iterable[str]) -> Self:
        """Return the same people, among whom signatures by these keys count for nobody any more."""
        return replace(self, revoked=self.revoked | frozenset(revoked))

    def with_role(self, role: str) -> tuple[Person, ...]:
        """Return the people who have the role, in the root's order."""
        return tuple(person for person in self.people if role in person.roles)

    def by_id(self, person_id: str) -> Person:
        """Return the person with this id.

        Raises:
            BadSignatureError: The root names none.
        """
        return self._only([person for person in self.people if person.id == person_id], f"the person {person_id[:32]}")

    def by_keyid(self, keyid: str) -> Person:
        """Return the owner of a TUF key.

        Raises:
            BadSignatureError: No person has it.
        """
        owners = [person for person in self.people if any(keyid in listed for listed in person.keys.values())]
        return self._only(owners, f"the key {keyid[:12]}")

    def by_fingerprint(self, fingerprint: str) -> Person:
        """Return the owner of an OpenPGP release key, by its primary fingerprint.

        Raises:
            BadSignatureError: No person has it.
        """
        owners = [person for person in self.people if person.fingerprint and person.fingerprint == fingerprint]
        return self._only(owners, f"the key {fingerprint[-16:]}")

    def certificates(self, role: str = Role.RELEASE) -> tuple[bytes, ...]:
        """Return the OpenPGP certificates of the people with a role: the only source of gpgv's keyring."""
        return tuple(person.certificate for person in self.with_role(role) if person.certificate)

    def require_signers(self, fingerprints: Iterable[str], role: str, threshold: int) -> tuple[Person, ...]:
        """Return the people behind good OpenPGP signatures, each once, in the root's order.

        Args:
            fingerprints: Primary fingerprints, one for each good signature.
            role: What they must be allowed to do.
            threshold: How many people there must be.

        Raises:
            BadSignatureError: A fingerprint is not of a person with this role.
            SamePersonError: Enough signatures, but of fewer people.
            ThresholdError: Not enough signatures.
        """
        owners = [self.by_fingerprint(each) for each in fingerprints]
        believed = [owner for owner in owners if owner.fingerprint.lower() not in self.revoked]
        return self._count(believed, role, threshold, missing=_taken_away(owners, believed))

    def require_key_signers(self, keyids: Iterable[str], role: str, threshold: int) -> tuple[Person, ...]:
        """Return the people behind verified TUF or DSSE signatures; two keys of one person count once.

        Under the hybrid policy a person with one half only does not count, and is named when too few do.

        Raises:
            BadSignatureError: A key is not of a person with this role, or not for this use.
            SamePersonError: Enough signatures, but of fewer people.
            ThresholdError: Not enough signatures.
        """
        use = "root" if role == Role.ROOT else "release"
        signed: dict[str, list[str]] = {}
        missing: list[str] = []
        for keyid in keyids:
            owner = self.by_keyid(keyid)
            if keyid not in owner.keys.get(use, ()):
                raise _not_named(f"the key {keyid[:12]}", f"it is not the {use} key of {owner.id}")
            _require_role(owner, role)
            if keyid in self.revoked:
                missing += _taken_away([owner], [])
            else:
                signed.setdefault(owner.id, []).append(keyid)
        complete: list[Person] = []
        for person_id, own in signed.items():
            post_quantum = sum(1 for keyid in own if self.is_post_quantum(keyid))
            classic = len(own) - post_quantum
            is_hybrid = self.policy is SignaturePolicy.HYBRID
            complete += [self.by_id(person_id)] * (min(classic, post_quantum) if is_hybrid else len(own))
            if is_hybrid and not (classic and post_quantum):
                missing.append(f"{person_id} lacks the {'ML-DSA-87' if classic else 'classic'} signature")
        return self._count(complete, role, threshold, missing=missing)

    def is_post_quantum(self, keyid: str) -> bool:
        """Tell whether a key can be the second half of a hybrid person (TRUST-46)."""
        return str(self.key_objects[keyid].scheme) == _POST_QUANTUM

    def _require_halves(self) -> None:
        """Refuse a hybrid root under which somebody could never count."""
        if self.policy is not SignaturePolicy.HYBRID:
            return
        for person in self.people:
            for use, own in person.keys.items():
                if own and len({self.is_post_quantum(keyid) for keyid in own}) != 2:
                    raise _malformed(
                        f"The person {person.id}", f"the policy is hybrid, and a half of the {use} keys misses"
                    )

    def _count(
        self, owners: list[Person], role: str, threshold: int, *, missing: Sequence[str] = ()
    ) -> tuple[Person, ...]:
        for owner in owners:
            _require_role(owner, role)
        distinct = {owner.id for owner in owners}
        if threshold < 1 or len(distinct) < threshold:
            names = ", ".join(sorted(distinct)) or "nobody"
            error = SamePersonError if threshold <= len(owners) and threshold >= 1 else ThresholdError
            halves = f"; {', '.join(sorted(missing))}" if missing else ""
            raise error(
                what=f"Too few people with the role {role} signed",
                why=f"expected {threshold} people, found {len(distinct)}: {names}{halves}",
                fix="Ask the sender for a release signed by enough different people.",
            )
        return tuple(person for person in self.people if person.id in distinct)

    def _only(self, owners: list[Person], what: str) -> Person:
        if len(owners) != 1:
            raise _not_named(what, "the root does not name it")
        return owners[0]


def _taken_away(owners: Sequence[Person], believed: Sequence[Person]) -> list[str]:
    return [f"the key of {owner.id} was taken away by an emergency note" for owner in owners if owner not in believed]


def _require_role(person: Person, role: str) -> None:
    if role not in person.roles:
        raise _not_named(person.id, f"the root does not give the role {role}")


def _policy(root: Mapping[str, Any]) -> SignaturePolicy:
    """Return the policy of a root; one that says nothing is single, and only hybrid is ever written."""
    if "x-sealift-policy" not in root:
        return SignaturePolicy.SINGLE
    return canonical.one_of(root["x-sealift-policy"], (SignaturePolicy.HYBRID,), "The root's policy")


def _person(untrusted: Any, loaded: Mapping[str, tuple[Key, str]]) -> Person:
    value = canonical.exact_keys(untrusted, ("id", "keys", "name", "openpgp", "roles"), (), "A person of the root")
    person_id = canonical.text(value["id"], "A person's id")
    if not _ID.fullmatch(person_id):
        raise _malformed("A person's id", "expected at most 32 of a-z 0-9 - beginning with a letter or digit")
    what = f"The person {person_id}"
    roles = tuple(str(canonical.one_of(each, Role, what)) for each in canonical.array(value["roles"], what, most=8))
    listed = canonical.exact_keys(value["keys"], (), _KEY_USES, what)
    own = {
        use: tuple(
            canonical.text(keyid, what)
            for keyid in canonical.array(listed.get(use, []), what, most=limits.KEYS_PER_PERSON)
        )
        for use in _KEY_USES
    }
    every = [keyid for use in _KEY_USES for keyid in own[use]]
    if not roles or len(set(roles)) != len(roles):
        raise _malformed(what, "a role is given twice, or there is none")
    if not set(every) <= loaded.keys():
        raise _malformed(what, "a key is not among the root's keys")
    if any(role in _KEY_USES and not own[role] for role in roles):
        raise _malformed(what, "a role has no key")
    fingerprint, certificate = _openpgp(value["openpgp"], what, needed=Role.RELEASE in roles)
    return Person(
        id=person_id,
        name=canonical.text(value["name"], what, most=100),
        roles=roles,
        keys=own,
        fingerprint=fingerprint,
        certificate=certificate,
    )


def _openpgp(untrusted: Any, what: str, *, needed: bool) -> tuple[str, bytes]:
    if untrusted is None and not needed:
        return "", b""
    value = canonical.exact_keys(untrusted, ("certificate", "fingerprint"), (), what)
    encoded = canonical.text(value["certificate"], what, most=2 * limits.CERTIFICATE_BYTES)
    try:
        certificate = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise _malformed(what, "the certificate is not base64") from error
    parsed = Certificate.from_bytes(certificate)
    if base64.b64encode(certificate).decode() != encoded or value["fingerprint"] != parsed.fingerprint:
        raise _malformed(what, "the fingerprint is not that of the certificate")
    return layout.require_fingerprint(parsed.fingerprint), certificate


def _require_distinct(people: tuple[Person, ...]) -> None:
    names = [[person.id for person in people], [" ".join(person.name.split()).casefold() for person in people]]
    names.append([person.fingerprint for person in people if person.fingerprint])
    if not people or any(len(set(each)) != len(each) for each in names):
        raise _malformed("The root's people", "there is none, or two share an id, a name or a fingerprint")


def _require_one_owner(people: tuple[Person, ...], materials: Mapping[str, str]) -> None:
    owners: dict[str, str] = {}
    for person in people:
        own = {materials[keyid] for listed in person.keys.values() for keyid in listed}
        if len(own) != sum(len(listed) for listed in person.keys.values()):
            raise _malformed(f"The person {person.id}", "one key is listed under two ids")
        if person.certificate:
            own |= {key.material for key in Certificate.from_bytes(person.certificate).keys}
        for material in own:
            if owners.setdefault(material, person.id) != person.id:
                raise _malformed("The root's people", f"{owners[material]} and {person.id} share a key")
    if materials.keys() != {keyid for person in people for listed in person.keys.values() for keyid in listed}:
        raise _malformed("The root's keys", "a key has no owner")


def _thresholds(untrusted: Any, people: tuple[Person, ...]) -> dict[str, int]:
    roles = canonical.exact_keys(untrusted, ("root", *_RELEASE_ROLES), (), "The root's roles")
    found: dict[str, set[int]] = {use: set() for use in _KEY_USES}
    for name, value in roles.items():
        use = "root" if name == "root" else "release"
        what = f"The root's role {name}"
        role = canonical.exact_keys(value, ("keyids", "threshold"), (), what)
        keyids = canonical.array(role["keyids"], what, most=limits.PEOPLE * limits.KEYS_PER_PERSON)
        expected = [keyid for person in people if use in person.roles for keyid in person.keys[use]]
        if not all(isinstance(keyid, str) for keyid in keyids) or sorted(keyids) != sorted(expected):
            raise _malformed(what, "its keys are not those of the people with that role")
        found[use].add(canonical.integer(role["threshold"], what, minimum=1, maximum=limits.PEOPLE))
    if any(len(each) != 1 for each in found.values()):
        raise _malformed("The root's roles", "targets, snapshot and timestamp have different thresholds")
    return {use: thresholds.pop() for use, thresholds in found.items()}


def _not_named(what: str, why: str) -> BadSignatureError:
    return BadSignatureError(
        what=f"A signature by {what} does not count", why=why, fix="Ask the sender who may sign this release."
    )


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this root; ask the people of the ceremony."
    )
