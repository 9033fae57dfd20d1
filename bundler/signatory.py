"""Who may sign, read back from what the ceremony wrote, and one person's keys on this machine.

The ceremony folder holds the root chain (public) and, for demo and rehearsal only, the people's throwaway keys. A
production person names their own GnuPG home, perhaps with a token behind its agent.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from securesystemslib.signer import Signature, Signer  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # no __all__

from bundler.errors import CeremonyError, SigningError
from media.canonical import loads, mapping
from media.digest import sha256_hex
from media.errors import MalformedError, SealiftError
from media.people import Environment, People, Person
from media.signers import detached_sign, tuf_signer

_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatory:
    """A person of the root with a GnuPG home that holds their keys.

    Args:
        person: Who.
        home: The home, by a name short enough for its agent's sockets.
        is_protected: The keys have a passphrase or lie on a token, so a person may have to type.
    """

    person: Person
    home: Path
    is_protected: bool = False

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
        if self.is_protected:
            # securesystemslib gives gpg ten seconds; this waits for as long as a person types, and the agent remembers
            for keyid in keyids:
                detached_sign(self.home, keyid.upper(), b"unlock")
        return [tuf_signer(self.home, keyid.upper()) for keyid in keyids]

    def at(self, home: Path) -> Self:
        """Return the same person with another name of their home."""
        return replace(self, home=home)

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
        return detached_sign(self.home, self.person.fingerprint, data)

    def could_not_sign(self) -> SigningError:
        """Return the error of a key that did not sign."""
        return SigningError(
            what=f"{self.person.name}'s key did not sign",
            why="gpg found no usable secret key, or was not unlocked",
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
            for before_people, after_people, root in zip([people[0], *people], people, roots, strict=False):
                _require_people(root.signatures, (before_people, after_people))
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

    def signatory(self, person_id: str, home: Path | None = None) -> Signatory:
        """Return a person with their keys.

        Args:
            person_id: Whose.
            home: Their GnuPG home; the throwaway one of this folder if not given.

        Raises:
            SigningError: No such person, or no home given where none was made.
        """
        person = self.person(person_id)
        place = home or self.home_of(person_id)
        if not place.is_dir():
            raise SigningError(
                what=f"no keys of {person.name} on this machine",
                why="the ceremony made none" if home is None else "the GnuPG home does not exist",
                fix="name the GnuPG home with --home",
            )
        protected = self.people.environment == Environment.PRODUCTION
        return Signatory(person=person, home=place, is_protected=protected)


def _require_people(signed: Iterable[str], both: tuple[People, People]) -> None:
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
