"""Who may sign, read back from what the ceremony wrote, and one person's keys on this machine.

The ceremony folder holds the root chain (public) and, for demo and rehearsal only, the people's throwaway keys. A
production person names their own GnuPG home, perhaps with a token behind its agent, key files and PKCS#11 tokens. Each
of a person's keys for a use signs, because the policy of the root may demand two kinds.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from securesystemslib.signer import Signature, Signer  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # no __all__

from bundler.errors import CeremonyError, SigningError
from bundler.gpghome import short_home
from bundler.privatekeys import OwnKeys, PrivateKeys
from media.canonical import loads, mapping
from media.digest import sha256_hex
from media.errors import BadSignatureError, MalformedError, SealiftError
from media.people import Environment, People, Person
from media.signers import detached_sign, secret_fingerprints, tuf_signer

_FINGERPRINT_DIGITS = 40
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatory:
    """A person of the root with the places of their keys.

    Args:
        person: Who.
        home: Their GnuPG home, by a name short enough for its agent's sockets; None for a person without one here.
        is_protected: The keys have a passphrase or lie on a token, so a person may have to type.
        keys: Other places of their keys.
        opened: Signers of those places by key id, while `at_hand` holds them open.
    """

    person: Person
    home: Path | None = None
    is_protected: bool = False
    keys: PrivateKeys = field(default_factory=PrivateKeys)
    opened: Mapping[str, Signer] = field(default_factory=dict, repr=False)

    @contextmanager
    def at_hand(self) -> Iterator[Self]:
        """Lend the same person with a short name of their home and with opened files and tokens.

        Raises:
            SigningError: A place is not there, or holds a key that the root does not name for the person.
        """
        with ExitStack() as stack:
            home = None if self.home is None else stack.enter_context(short_home(self.home))
            opened = stack.enter_context(self.keys.opened())
            named = {keyid for own in self.person.keys.values() for keyid in own}
            if strange := sorted(set(opened) - named):
                raise SigningError(
                    what=f"a key that was named is not one of {self.person.name}'s",
                    why=f"the root does not name the key {strange[0][:12]} for this person",
                    fix="compare with: sealift-bundler ceremony show",
                )
            yield replace(self, home=home, opened=opened)

    def signers(self, role: str) -> list[Signer]:
        """Return the person's TUF signers for a role's keys (`root` or `release`).

        Raises:
            SigningError: The person has no key for it.
        """
        keyids = self.person.keys.get(role, ())
        if not keyids:
            raise SigningError(
                what=f"{self.person.name} has no {role} key",
                why="the root names none",
                fix="ask another person to sign",
            )
        if missing := [keyid for keyid in keyids if not is_openpgp(keyid) and keyid not in self.opened]:
            raise SigningError(
                what=f"a {role} key of {self.person.name} is not at hand",
                why=f"the root names {len(keyids)} and each of them signs; {missing[0][:12]} was not named",
                fix="name its file or token with --key",
            )
        openpgp = [keyid for keyid in keyids if is_openpgp(keyid)]
        if self.is_protected:
            # securesystemslib gives gpg ten seconds; this waits for as long as a person types, and the agent remembers
            for keyid in openpgp:
                detached_sign(self._gnupg(), keyid.upper(), b"unlock")
        found = {keyid: tuf_signer(self._gnupg(), keyid.upper()) for keyid in openpgp}
        return [found[keyid] if keyid in found else self.opened[keyid] for keyid in keyids]

    def sign(self, role: str, payload: bytes) -> list[Signature]:
        """Sign bytes with each of the person's keys for a role.

        Raises:
            SigningError: A key is not there, or would not sign.
        """
        try:
            return [signer.sign(payload) for signer in self.signers(role)]
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise self.could_not_sign() from error

    def seal(self, data: bytes) -> bytes:
        """Return a binary detached OpenPGP signature by the person's release key.

        Raises:
            SigningError: The key is not there, or would not sign.
        """
        return detached_sign(self._gnupg(), self.person.fingerprint, data)

    def openpgp_keyids(self) -> tuple[str, ...]:
        """Return the key ids of the OpenPGP keys whose secret half the GnuPG home holds; none without a home."""
        return () if self.home is None else tuple(each.lower() for each in secret_fingerprints(self.home))

    def _gnupg(self) -> Path:
        if self.home is None:
            raise SigningError(
                what=f"no GnuPG home of {self.person.name} is named",
                why="an OpenPGP key signs here: whoever signs releases seals tag manifests with one",
                fix="name it with --home",
            )
        return self.home

    def could_not_sign(self) -> SigningError:
        """Return the error of a key that did not sign."""
        return SigningError(
            what=f"{self.person.name}'s key did not sign",
            why="gpg found no usable secret key or was not unlocked, or a token did not answer",
            fix="check the GnuPG home with: gpg --homedir HOME --list-secret-keys",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """The root chain that releases are signed under."""

    folder: Path
    chain: tuple[bytes, ...]
    root: Root
    people: People

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a ceremony folder and verify its root chain, each root by the one before and by itself.

        Raises:
            CeremonyError: There is no root, or a root of the chain misses or does not verify.
        """
        found = {
            int(match[1]): path
            for path in (folder / "root").glob("*.root.json")
            if (match := _ROOT_FILE.fullmatch(path.name))
        }
        if not found or sorted(found) != list(range(1, len(found) + 1)):
            raise CeremonyError(
                what="no complete root chain in this ceremony folder",
                why=f"found versions: {', '.join(map(str, sorted(found))) or 'none'}",
                fix="run: sealift-bundler ceremony hold",
            )
        return cls.from_chain(folder, tuple(found[version].read_bytes() for version in sorted(found)))

    @classmethod
    def from_chain(cls, folder: Path, chain: tuple[bytes, ...]) -> Self:
        """Build from root files in order.

        Raises:
            CeremonyError: A root does not verify.
        """
        try:
            roots = [Metadata[Root].from_bytes(data) for data in chain]
            for before, after in zip([roots[0], *roots], roots, strict=False):
                before.signed.verify_delegate("root", after.signed_bytes, after.signatures)
                after.signed.verify_delegate("root", after.signed_bytes, after.signatures)
            people = [People.from_root(signed_part(data)) for data in chain]
            for before, after, *both in zip([roots[0], *roots], roots, [people[0], *people], people, strict=False):
                held = {
                    keyid
                    for root in (before.signed, after.signed)
                    for keyid in verified_keyids(root, "root", after.signed_bytes, after.signatures)
                }
                if strange := sorted(set(after.signatures) - held):
                    raise _does_not_hold("a root", strange[0])
                _require_people(held, both)
        except SealiftError as error:
            raise CeremonyError(what=f"the root chain is not ours: {error.what}", why=error.why) from error
        except Exception as error:
            raise CeremonyError(
                what="the root chain does not verify", why=type(error).__name__, fix="restore the ceremony folder"
            ) from error
        return cls(folder=folder, chain=chain, root=roots[-1].signed, people=people[-1])

    @property
    def environment(self) -> str:
        """What the root is for: demo, rehearsal or production."""
        return str(self.people.environment)

    @property
    def first_root_sha256(self) -> str:
        """The digest of 1.root.json, as the trust sheet names it."""
        return sha256_hex(self.chain[0])

    def threshold(self, role: str) -> int:
        """Return how many people must sign (`root`, or `release` for everything a release carries)."""
        return self.people.thresholds[role]

    def person(self, person_id: str) -> Person:
        """Return a person by id.

        Raises:
            SigningError: The root names no such person.
        """
        named = {person.id: person for person in self.people.people}
        if person_id not in named:
            raise SigningError(
                what=f"the root names no person {person_id!r}",
                why=f"it names {', '.join(named)}",
                fix="use one of these",
            )
        return named[person_id]

    def home_of(self, person_id: str) -> Path:
        """Return where a demo or rehearsal person's throwaway keys lie."""
        return self.folder / "people" / person_id / "gnupg"

    def signatory(self, person_id: str, home: OwnKeys = None) -> Signatory:
        """Return a person with their keys.

        Args:
            person_id: Whose.
            home: Their GnuPG home or all places of their keys; the throwaway home of this folder if not given.

        Raises:
            SigningError: No such person, or no home given where none was made.
        """
        person = self.person(person_id)
        keys = home if isinstance(home, PrivateKeys) else PrivateKeys(home=home)
        made = self.home_of(person_id)
        place = keys.home or (made if made.is_dir() else None)
        if (place is None and not keys.places) or (place is not None and not place.is_dir()):
            raise SigningError(
                what=f"no keys of {person.name} on this machine",
                why="the ceremony made none" if place is None else "the GnuPG home does not exist",
                fix="name the GnuPG home with --home, files and tokens with --key",
            )
        protected = self.people.environment == Environment.PRODUCTION
        return Signatory(person=person, home=place, keys=keys, is_protected=protected)


def is_openpgp(keyid: str) -> bool:
    """Tell whether a key id is the fingerprint of an OpenPGP key (TRUST-23)."""
    return len(keyid) == _FINGERPRINT_DIGITS


def verified_keyids(root: Root, role: str, data: bytes, signatures: Mapping[str, Signature]) -> frozenset[str]:
    """Return the key ids of a role whose signatures hold: what is listed in a file proves nothing.

    python-tuf asks for a threshold of keys and passes over the rest, which people who are counted may be among.
    """
    return frozenset(root.get_verification_result(role, data, dict(signatures)).signed)


def require_all_hold(root: Root, role: str, data: bytes, signatures: Mapping[str, Signature]) -> frozenset[str]:
    """Return the key ids of a file whose every signature holds and is by a key of the role (TRUST-25).

    Raises:
        BadSignatureError: One does not, or is a stranger's.
    """
    held = verified_keyids(root, role, data, signatures)
    if strange := sorted(set(signatures) - held):
        raise _does_not_hold(f"the {role} metadata", strange[0])
    return held


def _does_not_hold(what: str, keyid: str) -> BadSignatureError:
    return BadSignatureError(
        what=f"a signature of {what} does not hold, or is by a key that the root does not name for it",
        why=f"key {keyid[:12]}",
        fix="ask who signed it",
    )


def _require_people(signed: Iterable[str], both: Iterable[People]) -> None:
    """Count people, not keys, under the root before and under the new one."""
    for people in both:
        own = {keyid for person in people.with_role("root") for keyid in person.keys["root"]}
        people.require_key_signers([keyid for keyid in signed if keyid in own], "root", people.thresholds["root"])


def signed_part(untrusted: bytes) -> Mapping[str, Any]:
    """Return the signed part of a metadata file, strictly parsed.

    Raises:
        MalformedError: It is not a metadata file.
    """
    whole = mapping(loads(untrusted), "A metadata file")
    if "signed" not in whole:
        raise MalformedError(what="A metadata file has no signed part")
    return mapping(whole["signed"], "A metadata file")
