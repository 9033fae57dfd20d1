"""The signed text of an InRelease file, as gpgv hands it out: bytes around the signed part are never looked at.

gpgv's exit code is not believed. At least one signature must be good and valid by a key of the keyring, which has not
expired and is not revoked; none may be bad. Signatures by keys that the keyring does not have are passed over, since
Debian signs with the keys of two releases.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundler.errors import SourceError

ARCHIVE_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Debian's own, of the package debian-archive-keyring."""

_MAX_BYTES: Final = 16 * 2**20
_HASHES: Final = frozenset({"8", "9", "10"})  # SHA-256, SHA-384, SHA-512
_FATAL: Final = frozenset({"BADSIG", "EXPSIG", "UNEXPECTED", "FAILURE"})
_STATUS: Final = "[GNUPG:] "


class StrangerError(SourceError):
    """A list is signed, but by nobody of the keyring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedText:
    """A text and the primary keys that vouch for it."""

    text: str
    fingerprints: tuple[str, ...]


def verified(untrusted: bytes, *, keyring: Path, label: str) -> SignedText:
    """Return the signed part of a clear-signed file.

    Args:
        untrusted: The file.
        keyring: Public keys in the form that gpgv reads.
        label: Names the list in errors.

    Raises:
        StrangerError: No key of the keyring signed it.
        SourceError: A signature is bad, or gpgv or the keyring is not there.
    """
    if len(untrusted) > _MAX_BYTES or not untrusted.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----\n"):
        raise _refused(label, "it is not a clear-signed text of a sensible size")
    if not keyring.is_file():
        raise SourceError(
            what=f"the keyring {keyring.name} is not there",
            why="the signatures of packages cannot be checked without it",
            fix="install debian-archive-keyring, or name the keyring in debs.keyring",
        )
    with tempfile.TemporaryDirectory(prefix="sealift-gpgv-") as name:
        folder = Path(name)
        (folder / "signed").write_bytes(untrusted)
        status = _gpgv(folder, keyring.resolve())
        fingerprints = _judged(status, label)
        try:
            text = (folder / "text").read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(label, "its signed part is not text") from error
    return SignedText(text=text, fingerprints=fingerprints)


def _gpgv(folder: Path, keyring: Path) -> list[str]:
    command = ["gpgv", "--homedir", str(folder), "--keyring", str(keyring), "--status-fd", "1"]
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*command, "--output", str(folder / "text"), str(folder / "signed")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            what="gpgv could not be run", why=type(error).__name__, fix="install gpgv on this machine"
        ) from error
    return [line for line in done.stdout.decode("utf-8", "replace").split("\n") if line.startswith(_STATUS)]


def _judged(status: list[str], label: str) -> tuple[str, ...]:
    """Return the primary fingerprints of the valid signatures."""
    good: set[str] = set()
    is_good = False
    for line in status:
        word, *fields = line.removeprefix(_STATUS).split()
        if word in _FATAL:
            raise _refused(label, f"a signature is bad ({word})")
        if word == "NEWSIG":
            is_good = False
        elif word == "GOODSIG":
            is_good = True
        elif word == "VALIDSIG" and is_good and len(fields) >= 10 and fields[7] in _HASHES and fields[8] == "01":
            good.add(fields[9])
    if not good:
        raise StrangerError(
            what=f"the list {label} is signed by nobody whose key is in the keyring",
            why="no valid signature by a key of the archive, or only by expired or revoked ones",
            fix="use Debian's own archive, or name its keyring in debs.keyring",
        )
    return tuple(sorted(good))


def _refused(label: str, why: str) -> SourceError:
    return SourceError(
        what=f"the list {label} is not what its archive signed",
        why=why,
        fix="do not use this mirror; fetch from another one",
    )
