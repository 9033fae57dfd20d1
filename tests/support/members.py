"""People who join a ceremony: an OpenPGP key for tag manifests, and key files for the rest."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bundler.joining import Brought, Joining, join
from bundler.keyfile import KeyKind, make_key_file
from bundler.privatekeys import FilePlace, PrivateKeys
from tests.support.gpg import GnuPG

WORDS = "correct horse battery"
HYBRID = (KeyKind.ED25519, KeyKind.ML_DSA_87)
ALL = ("root", "release", "custody", "rehearsal")


class Known:
    """Answers every question with the one passphrase."""

    def ask(self, what: str) -> str:
        """Return it."""
        del what
        return WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One person.

    Args:
        id: In the root.
        gnupg: Holds the key for tag manifests.
        files: Key files by use.
        joined: What they bring to the ceremony.
    """

    id: str
    gnupg: GnuPG
    files: dict[str, tuple[Path, ...]]
    joined: bytes

    @property
    def joining(self) -> Joining:
        """The joining file as it is read."""
        return Joining.from_bytes(self.joined)

    def keys(self, use: str, *, only: Iterable[int] | None = None) -> PrivateKeys:
        """Return where the keys of a use are; all of them, or those at some places."""
        files = self.files[use]
        chosen = files if only is None else tuple(files[number] for number in only)
        return PrivateKeys(home=self.gnupg.home, places=tuple(FilePlace(file=file) for file in chosen), secrets=Known())


def make_member(
    folder: Path,
    gnupg: GnuPG,
    person: str,
    *,
    kinds: Iterable[KeyKind] = HYBRID,
    roles: tuple[str, ...] = ALL,
    name: str = "",
) -> Member:
    """Make a person's keys and joining file."""
    folder.mkdir(parents=True, exist_ok=True)
    uses = ["root"] if "root" in roles else []
    uses += ["release"] if set(roles) - {"root"} else []
    files: dict[str, tuple[Path, ...]] = {"root": (), "release": ()}
    for use in uses:
        made = []
        for kind in kinds:
            made.append(folder / f"{person}.{use}.{kind}.pem")
            make_key_file(made[-1], kind, WORDS)
        files[use] = tuple(made)
    seal = gnupg.key(f"{person} seal <{person}@sender.example>")
    brought = Brought(
        home=gnupg.home,
        root=tuple(f"file:{file}" for file in files["root"]),
        release=tuple(f"file:{file}" for file in files["release"]),
        seal=seal,
        keys=PrivateKeys(secrets=Known()),
    )
    joined = join(person, name or f"{person.title()} Example", roles, brought)
    return Member(id=person, gnupg=gnupg, files=files, joined=joined)
