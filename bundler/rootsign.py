"""Signatures over a root proposal, made apart and merged at the thresholds of the old root and of the new one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from securesystemslib.signer import Key, Signature  # type: ignore[attr-defined]  # no __all__

from bundler.ceremony import publish
from bundler.errors import NotEmptyError, SigningError
from bundler.privatekeys import OwnKeys, PrivateKeys
from bundler.proposal import Proposal
from bundler.signatory import Ceremony, Signatory
from media import keys
from media.canonical import array, dumps, exact_keys, integer, loads_canonical, one_of, sha256_hex, text
from media.errors import SealiftError
from media.people import Environment, People, Person, Role

TYPE: Final = "sealift/root-signature"
_MAX_BYTES: Final = 256 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSignature:
    """What one person hands in: a few kilobytes.

    Args:
        person: Their id.
        version: Of the root.
        signs: SHA-256 of the bytes that were signed.
        signatures: One of each key.
    """

    person: str
    version: int
    signs: str
    signatures: tuple[Signature, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a person's file, strictly.

        Raises:
            MalformedError, LimitExceededError: It is none.
        """
        what = "A root signature"
        value = exact_keys(
            loads_canonical(untrusted, max_bytes=_MAX_BYTES),
            ("format", "person", "signatures", "signs", "type", "version"),
            (),
            what,
        )
        integer(value["format"], f"{what}: format", minimum=1, maximum=1)
        one_of(value["type"], (TYPE,), what)
        signatures = keys.require_signatures(array(value["signatures"], what), what)
        return cls(
            person=text(value["person"], what),
            version=integer(value["version"], what, minimum=1),
            signs=sha256_hex(value["signs"], what),
            signatures=tuple(signatures.values()),
        )

    def to_bytes(self) -> bytes:
        """Return the file."""
        return dumps(
            {
                "format": 1,
                "type": TYPE,
                "person": self.person,
                "version": self.version,
                "signs": self.signs,
                "signatures": [each.to_dict() for each in sorted(self.signatures, key=lambda each: each.keyid)],
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who has signed a proposal and who misses, for the root before and the new one.

    Args:
        signed: Ids of people who count, by `before` and `after`.
        missing: Ids of people who could sign and do not count yet.
        thresholds: How many must.
    """

    signed: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, tuple[str, ...]]
    thresholds: Mapping[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether both thresholds are reached."""
        return all(len(self.signed[which]) >= least for which, least in self.thresholds.items())

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            which: {
                "signed": list(self.signed[which]),
                "missing": list(self.missing[which]),
                "threshold": self.thresholds[which],
            }
            for which in self.thresholds
        }


def sign_root(proposal: Proposal, person_id: str, *, held: Ceremony | None, home: OwnKeys) -> RootSignature:
    """Sign a proposal as one person, with each of their root keys that is on this machine.

    Someone whose keys change signs with the old ones for the old root and with the new ones for the new root.

    Args:
        proposal: What the person has looked at.
        person_id: Who signs.
        held: The ceremony that the proposal follows; None for a first root.
        home: Where their keys are.

    Raises:
        CeremonyError: The proposal does not follow the ceremony.
        SigningError: The person has no root key here, or not all that one of the roots needs of them.
    """
    proposal.require_follows(held)
    places = home if isinstance(home, PrivateKeys) else PrivateKeys(home=home)
    people = [each for each in (held.people if held else None, proposal.people) if each is not None]
    named = [person for each in people for person in each.with_role(Role.ROOT) if person.id == person_id]
    if not named:
        raise SigningError(what=f"{person_id} may not sign roots", why="neither root gives the role root")
    made: dict[str, Signature] = {}
    is_complete = False
    whole = Signatory(
        person=_with_all(named),
        home=places.home or _throwaway(held, person_id),
        keys=places,
        is_protected=proposal.people.environment == Environment.PRODUCTION,
    )
    with whole.at_hand() as at_hand:
        able = {*at_hand.opened, *at_hand.openpgp_keyids()}
        for person in named:
            if set(person.keys["root"]) <= able:
                is_complete = True
                waiting = [keyid for keyid in person.keys["root"] if keyid not in made]
                made |= {each.keyid: each for each in _signed(at_hand, waiting, proposal.payload())}
    if not is_complete:
        raise SigningError(
            what=f"root keys of {named[-1].name} are not at hand",
            why="each of a person's root keys signs",
            fix="name them with --home and --key",
        )
    return RootSignature(
        person=person_id, version=proposal.root.version, signs=proposal.digest, signatures=tuple(made.values())
    )


def standing(proposal: Proposal, handed_in: Sequence[RootSignature], held: Ceremony | None) -> Standing:
    """Verify what people handed in and return who counts.

    Raises:
        SigningError: Somebody signed other bytes, twice, or with a key that neither root names for them.
    """
    named: dict[str, tuple[str, Key]] = {}
    roots = {"after": proposal.people} | ({"before": held.people} if held else {})
    for people in roots.values():
        for person in people.with_role(Role.ROOT):
            named |= {keyid: (person.id, people.key_objects[keyid]) for keyid in person.keys["root"]}
    for each in handed_in:
        if each.signs != proposal.digest or each.version != proposal.root.version:
            raise _refused(each, "it is about another proposal; compare the digests")
        for signature in each.signatures:
            owner, key = named.get(signature.keyid, ("", None))
            if owner != each.person or key is None:
                raise _refused(each, f"neither root names the key {signature.keyid[:12]} for this person")
            try:
                keys.verify(key, signature, proposal.payload(), "the root proposal")
            except SealiftError as error:
                raise _refused(each, error.why) from error
    keyids = {signature.keyid for each in handed_in for signature in each.signatures}
    counted = {which: _who_counts(people, keyids) for which, people in roots.items()}
    return Standing(
        signed=counted,
        missing={
            which: tuple(person.id for person in people.with_role(Role.ROOT) if person.id not in counted[which])
            for which, people in roots.items()
        },
        thresholds={which: people.thresholds["root"] for which, people in roots.items()},
    )


def merge(proposal: Proposal, handed_in: Sequence[RootSignature], *, folder: Path, held: Ceremony | None) -> Ceremony:
    """Write the root once both thresholds are reached.

    Raises:
        CeremonyError: The proposal does not follow this ceremony.
        NotEmptyError: A first root is to be written where one is.
        SigningError: A signature does not hold, or people miss; they are named.
    """
    proposal.require_follows(held)
    if held is None and (folder / "root").exists():
        raise NotEmptyError(
            what="this folder holds a ceremony already", why="a root is written once", fix="choose another folder"
        )
    found = standing(proposal, handed_in, held)
    if not found.is_complete:
        said = [
            f"{len(found.signed[which])} of {least} people of the {'new root' if which == 'after' else 'root before'}"
            f" signed; missing: {', '.join(found.missing[which])}"
            for which, least in sorted(found.thresholds.items())
            if len(found.signed[which]) < least
        ]
        raise SigningError(
            what=f"root {proposal.root.version} is not signed by enough people",
            why="; ".join(said),
            fix="let them run: sealift-bundler root sign",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signatures = {signature.keyid: signature for each in handed_in for signature in each.signatures}
    return publish(folder, proposal.root, list(signatures.values()), before=held.chain if held else ())


def _with_all(named: Sequence[Person]) -> Person:
    """Return the person with the keys of both roots, so that none of them is taken for a stranger's."""
    every = {keyid for each in named for own in each.keys.values() for keyid in own}
    return replace(named[-1], keys={"root": tuple(sorted(every))})


def _throwaway(held: Ceremony | None, person_id: str) -> Path | None:
    """Return where a demo person's keys lie, if the ceremony made them."""
    made = held.home_of(person_id) if held else None
    return made if made and made.is_dir() else None


def _signed(at_hand: Signatory, keyids: Sequence[str], payload: bytes) -> list[Signature]:
    if not keyids:
        return []
    only = replace(at_hand.person, keys={"root": tuple(keyids)})
    return replace(at_hand, person=only).sign("root", payload)


def _who_counts(people: People, keyids: set[str]) -> tuple[str, ...]:
    own = {keyid: person.id for person in people.with_role(Role.ROOT) for keyid in person.keys["root"]}
    return tuple(
        person.id
        for person in people.with_role(Role.ROOT)
        if _counts(people, [keyid for keyid in keyids if own.get(keyid) == person.id])
    )


def _counts(people: People, keyids: list[str]) -> bool:
    try:
        people.require_key_signers(keyids, Role.ROOT, 1)
    except SealiftError:
        return False
    return True


def _refused(each: RootSignature, why: str) -> SigningError:
    return SigningError(
        what=f"what {each.person} handed in does not count", why=why, fix="let the person sign this very proposal"
    )
