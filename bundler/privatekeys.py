"""The places of one person's private keys on this machine, whatever their kind, and the signers that they become.

A key is named on a command line by `--home GNUPG_HOME` (every OpenPGP key in it), `--key file:PATH` or
`--key pkcs11:…`. Which of them a command needs is said by the root, by key id: nothing is signed by a key that the root
does not name for that person and use.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from securesystemslib.signer import Signer  # type: ignore[attr-defined]  # no __all__

from bundler.asked import Secrets, Typed
from bundler.keyfile import open_key_file
from bundler.pkcs11 import TokenPlace, open_token
from media.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlace:
    """A key file."""

    file: Path


Place = FilePlace | TokenPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKeys:
    """Where one person's keys are.

    Args:
        home: Their GnuPG home, perhaps with a token behind its agent.
        places: Key files and PKCS#11 tokens.
        secrets: Where PINs and passphrases come from, one for each place in this order.
    """

    home: Path | None = None
    places: tuple[Place, ...] = ()
    secrets: Secrets = field(default_factory=Typed, repr=False)

    @contextmanager
    def opened(self) -> Iterator[Mapping[str, Signer]]:
        """Lend the signers of the files and tokens by key id; tokens are logged out with the block.

        Raises:
            SigningError: A key is not there, or cannot be used.
        """
        with ExitStack() as stack:
            found = (_open(place, self.secrets, stack) for place in self.places)
            yield {signer.public_key.keyid: signer for signer in found}


OwnKeys = Path | PrivateKeys | None
"""A GnuPG home alone, all places of a person's keys, or none for the throwaway keys of a demo."""


def place_of(text: str) -> Place:
    """Read what a command line names.

    Raises:
        UsageError: It names no place.
    """
    if text.startswith("pkcs11:"):
        return TokenPlace.from_uri(text)
    kind, _, path = text.partition(":")
    if kind == "file" and path:
        return FilePlace(file=Path(path))
    raise UsageError(
        what=f"{text[:40]!r} names no key",
        why="a key lies in a file or on a token; OpenPGP keys are found by --home",
        fix="write file:PATH or pkcs11:token=LABEL;object=NAME?module-path=MODULE",
    )


def _open(place: Place, secrets: Secrets, stack: ExitStack) -> Signer:
    if isinstance(place, TokenPlace):
        return stack.enter_context(open_token(place, secrets))
    return open_key_file(place.file, secrets.ask(f"passphrase of {place.file.name}"))
