"""Opening a backup with a key that people bring: from a stick that cannot be written, behind a passphrase."""

import os
import shutil
from pathlib import Path

import pytest

from appliance.actions.backups import recipient as opening
from appliance.errors import KeyMissingError, LedgerFullError
from tests.support.backups import Recipient, recipient
from tests.support.gpg import gnupg_home
from tests.support.passphrases import HAS_PINENTRY, at_a_terminal, protected_key

_OPEN = """
import sys
from pathlib import Path
from appliance.actions.backups import recipient
from media.errors import SealiftError
try:
    print("OPENED", recipient.decrypting(Path(sys.argv[1]), Path(sys.argv[2]), lambda stream: stream.read()))
except SealiftError as error:
    print("REFUSED", error.why)
"""


def sealed(certificate: bytes, folder: Path, content: bytes = b"what was lost") -> Path:
    """Return a file that is encrypted to this certificate."""
    (folder / "certificate").write_bytes(certificate)
    file = folder / "file.gpg"
    with file.open("wb") as out, opening.encrypting(folder / "certificate", out.fileno()) as process:
        process.communicate(content)
    return file


def brought(offline: Recipient, folder: Path) -> Path:
    """Return a copy of the key's folder, as it lies on a stick."""
    sockets = shutil.ignore_patterns("S.*", "*.lock", ".#*")
    return Path(shutil.copytree(offline.home, folder / "key", ignore=sockets))


def test_nothing_is_written_where_the_key_lies(tmp_path: Path) -> None:
    with recipient() as offline:
        file, home = sealed(offline.certificate(), tmp_path), brought(offline, tmp_path)
        before = sorted((one.name, one.stat().st_mtime_ns) for one in home.rglob("*"))

        assert opening.decrypting(file, home, lambda stream: stream.read()) == b"what was lost"

        assert sorted((one.name, one.stat().st_mtime_ns) for one in home.rglob("*")) == before


def test_a_reader_without_room_is_not_taken_for_a_damaged_backup(tmp_path: Path) -> None:
    def without_room(_: object) -> None:
        raise LedgerFullError(what="no room")

    with recipient() as offline:
        file, home = sealed(offline.certificate(), tmp_path, os.urandom(2**20)), brought(offline, tmp_path)
        with pytest.raises(LedgerFullError):
            opening.decrypting(file, home, without_room)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PINENTRY, reason="pinentry-curses asks for passphrases")
def test_a_passphrase_is_asked_for_at_the_terminal_and_said_to_miss_where_there_is_none(tmp_path: Path) -> None:
    with gnupg_home() as gpg:
        primary = protected_key(gpg, "Backups")
        file = sealed(gpg.certificate(primary), tmp_path)
        home = brought(Recipient(gpg=gpg, fingerprint=primary), tmp_path)

        told = at_a_terminal(_OPEN, file, home)

        assert "OPENED b'what was lost'" in told, told[-500:]
        with pytest.raises(KeyMissingError, match="does not open") as refused:
            opening.decrypting(file, home, lambda stream: stream.read())
        assert "passphrase" in refused.value.why
