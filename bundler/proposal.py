"""The next root, proposed on one machine and signed by its people on their own: first roots and rotations alike.

A proposal is the unsigned root. Each person looks at what it changes, compares its digest with the others, and signs it
where their keys are; what they hand in is one small file. Whoever has enough of them merges: the threshold of the root
before and that of the new one must both be reached, by people, under both policies.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from tuf.api.metadata import Role, Root  # type: ignore[attr-defined]  # no __all__

from bundler.invitation import USES, refused, require_different
from bundler.joining import Joining
from bundler.metadata import NEVER, canonical
from bundler.signatory import Ceremony
from media import canonical as codec
from media.canonical import dumps, exact_keys, integer, loads_canonical, mapping
from media.digest import sha256_hex
from media.errors import MalformedError
from media.people import Environment, People, Person, SignaturePolicy

TYPE: Final = "sealift/root-proposal"
LEAST_THRESHOLD: Final = 2
_MAX_BYTES: Final = 8 * 2**20
_RELEASE_ROLES: Final = ("targets", "snapshot", "timestamp")
_PEOPLE, _ENVIRONMENT, _POLICY = "x-sealift-people", "x-sealift-environment", "x-sealift-policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An unsigned root.

    Args:
        root: As TUF's library holds it.
        people: As it names them.
        previous: SHA-256 of the root that it follows; empty for a first one.
    """

    root: Root
    people: People
    previous: str

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a proposal as strictly as a receiver would read the root.

        Raises:
            MalformedError, LimitExceededError: It is none.
        """
        what = "A root proposal"
        value = exact_keys(
            loads_canonical(untrusted, max_bytes=_MAX_BYTES), ("format", "previous", "signed", "type"), (), what
        )
        integer(value["format"], f"{what}: format", minimum=1, maximum=1)
        codec.one_of(value["type"], (TYPE,), what)
        signed = mapping(value["signed"], what)
        previous = codec.text(value["previous"], what, may_be_empty=True)
        people = People.from_root(signed)
        try:
            root = Root.from_dict(copy.deepcopy(signed))
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedError(what=f"{what} is malformed", why="TUF's library does not read it") from error
        if root.expires != NEVER or not root.consistent_snapshot or (root.version == 1) != (previous == ""):
            raise MalformedError(what=f"{what} is malformed", why="its version, date or predecessor is another")
        return cls(root=root, people=people, previous=codec.sha256_hex(previous, what) if previous else "")

    def to_bytes(self) -> bytes:
        """Return the file."""
        return dumps({"format": 1, "type": TYPE, "previous": self.previous, "signed": self.root.to_dict()})

    def payload(self) -> bytes:
        """Return the bytes that people sign."""
        return canonical(self.root)

    @property
    def digest(self) -> str:
        """What people compare before they sign: the SHA-256 of the signed bytes."""
        return sha256_hex(self.payload())

    def require_follows(self, held: Ceremony | None) -> None:
        """Pass only a proposal for the very chain that is held.

        Raises:
            CeremonyError: It is a first root where there is one, or follows another.
        """
        version = len(held.chain) + 1 if held else 1
        previous = sha256_hex(held.chain[-1]) if held else ""
        if self.root.version != version or self.previous != previous:
            raise refused(
                f"a proposal of root {self.root.version}", f"here root {version} is next; compare the ceremony folders"
            )
        if held and self.people.environment != held.environment:
            raise refused("another environment", "it is written into the first root for ever")


def propose(
    held: Ceremony | None,
    *,
    add: Sequence[Joining] = (),
    remove: Collection[str] = (),
    environment: str = "",
    thresholds: Mapping[str, int] | None = None,
    policy: SignaturePolicy | None = None,
) -> Proposal:
    """Return the next root, or the first one.

    Args:
        held: The ceremony so far; None for a first root.
        add: People who may sign from now on. One who is removed too comes back with other keys or roles.
        remove: Ids of people who may no longer.
        environment: Of a first root.
        thresholds: How many people must sign, for `root` and `release`; as before, or two, if not given.
        policy: As before, or single, if not given.

    Raises:
        CeremonyError: A rule of the ceremony is broken, or nothing would change.
    """
    before = {person.id: person for person in held.people.people} if held else {}
    if held is None and environment not in set(Environment):
        raise refused(f"the environment {environment!r}", f"it is one of {', '.join(Environment)}")
    if unknown := sorted(set(remove) - set(before)):
        raise refused(f"the root names no person {unknown[0]!r}", f"it names {', '.join(before) or 'nobody'}")
    staying = [person for person in before.values() if person.id not in remove]
    require_different([*((each.id, each.name) for each in staying), *((each.id, each.name) for each in add)])
    root = copy.deepcopy(held.root) if held else Root(version=1, expires=NEVER)
    root.version = len(held.chain) + 1 if held else 1
    extra = root.unrecognized_fields
    extra.setdefault(_ENVIRONMENT, environment)
    described = [each for each in extra.get(_PEOPLE, []) if each["id"] not in remove]
    extra[_PEOPLE] = described + [each.described() for each in add]
    if policy is SignaturePolicy.HYBRID:
        extra[_POLICY] = str(policy)
    elif policy is SignaturePolicy.SINGLE:
        extra.pop(_POLICY, None)
    _name_keys(root, staying, add)
    _set_roles(root, held.people.thresholds if held else {}, thresholds or {})
    previous = sha256_hex(held.chain[-1]) if held else ""
    try:
        people = People.from_root(codec.loads(dumps(root.to_dict())))
    except MalformedError as error:
        raise refused(error.what, error.why) from error
    proposal = Proposal(root=root, people=people, previous=previous)
    if held and not changes(held.people, people):
        raise refused("a root that changes nothing", "people, thresholds or the policy change")
    return Proposal.from_bytes(proposal.to_bytes())


def changes(before: People | None, after: People) -> list[str]:
    """Return what a root changes, one sentence each, for the people who sign it."""
    old = {person.id: person for person in before.people} if before else {}
    new = {person.id: person for person in after.people}
    said = [f"{old[each].name} ({each}) may sign no longer" for each in old if each not in new]
    said += [f"{new[each].name} ({each}) may sign: {', '.join(new[each].roles)}" for each in new if each not in old]
    for person_id in (each for each in new if each in old):
        said += _changes_of(old[person_id], new[person_id])
    for use in USES:
        was, becomes = before.thresholds[use] if before else 0, after.thresholds[use]
        holders = len(after.with_role(use))
        if was != becomes:
            said.append(f"{becomes} of {holders} people sign a {use}" + (f", {was} until now" if before else ""))
    if (before.policy if before else None) != after.policy:
        said.append(f"the signature policy is {after.policy}" + (f", {before.policy} until now" if before else ""))
    return said


def _changes_of(old: Person, new: Person) -> list[str]:
    said = []
    if old.roles != new.roles:
        said.append(f"{new.name} ({new.id}) has the roles {', '.join(new.roles)}; until now {', '.join(old.roles)}")
    if old.name != new.name:
        said.append(f"{new.id} is called {new.name}; until now {old.name}")
    if dict(old.keys) != dict(new.keys) or old.fingerprint != new.fingerprint:
        said.append(f"{new.name} ({new.id}) has other keys; the old ones count no longer")
    return said


def _name_keys(root: Root, staying: Sequence[Person], add: Sequence[Joining]) -> None:
    kept = {keyid for person in staying for own in person.keys.values() for keyid in own}
    root.keys = {keyid: key for keyid, key in root.keys.items() if keyid in kept}
    for joining in add:
        for key in (key for own in joining.keys.values() for key in own):
            if key.keyid in root.keys:
                raise refused(f"a key of {joining.id} that another person has", "a key has one owner")
            root.keys[key.keyid] = key


def _set_roles(root: Root, before: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    described = root.unrecognized_fields[_PEOPLE]
    for use in USES:
        holders = [each for each in described if use in each["roles"]]
        threshold = wanted.get(use, before.get(use, LEAST_THRESHOLD))
        if threshold < LEAST_THRESHOLD or len(holders) < threshold:
            raise refused(
                f"a threshold of {threshold} of {len(holders)} for {use}",
                f"at least {LEAST_THRESHOLD} people must sign, and so many must hold the role",
            )
        keyids = [keyid for each in holders for keyid in each["keys"][use]]
        for name in ("root",) if use == "root" else _RELEASE_ROLES:
            root.roles[name] = Role(list(keyids), threshold)


def describe(proposal: Proposal, before: People | None) -> dict[str, Any]:
    """Return what people compare before they sign, for a program."""
    return {
        "version": proposal.root.version,
        "environment": str(proposal.people.environment),
        "digest": proposal.digest,
        "previous": proposal.previous,
        "policy": str(proposal.people.policy),
        "thresholds": dict(proposal.people.thresholds),
        "changes": changes(before, proposal.people),
    }
