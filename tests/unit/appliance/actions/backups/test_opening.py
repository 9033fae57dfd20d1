"""Opening a backup with a key that people bring: from a stick that cannot be written, behind a passphrase."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.actions.backups import recipient as opening
from appliance.errors import KeyMissingError
from tests.support.backups import Recipient, recipient
from tests.support.gpg import gnupg_home

_SECONDS = 60
_SECRET = "safe word one two"
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


def sealed(certificate: bytes, folder: Path) -> Path:
    """Return a file that is encrypted to this certificate."""
    (folder / "certificate").write_bytes(certificate)
    file = folder / "file.gpg"
    with file.open("wb") as out, opening.encrypting(folder / "certificate", out.fileno()) as process:
        process.communicate(b"what was lost")
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


@pytest.mark.skipif(shutil.which("pinentry-curses") is None, reason="pinentry-curses asks for passphrases")
def test_a_passphrase_is_asked_for_at_the_terminal_and_said_to_miss_where_there_is_none(tmp_path: Path) -> None:
    with gnupg_home() as gpg:
        protected = ["--batch", "--pinentry-mode", "loopback", "--passphrase", _SECRET]
        command = ["gpg", "--homedir", str(gpg.home), *protected]
        made = subprocess.run(
            [*command, "--status-fd", "1", "--quick-gen-key", "Backups", "default", "default", "1y"],
            check=True,
            capture_output=True,
            timeout=_SECONDS,
        )
        primary = re.findall(rb"KEY_CREATED . ([0-9A-F]{40})", made.stdout)[0].decode()
        file = sealed(gpg.certificate(primary), tmp_path)
        home = brought(Recipient(gpg=gpg, fingerprint=primary), tmp_path)

        told = at_a_terminal(file, home)

        assert re.search(r"OPENED b'what was lost'", told), told[-500:]
        with pytest.raises(KeyMissingError, match="does not open") as refused:
            opening.decrypting(file, home, lambda stream: stream.read())
        assert "passphrase" in refused.value.why


def at_a_terminal(file: Path, home: Path) -> str:
    """Open a file at a terminal of its own, typing the passphrase when it is asked for; return what was shown."""
    terminal, end = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "GPG_TTY"} | {"TERM": "xterm"}
    command = [sys.executable, "-c", _OPEN, str(file), str(home)]
    shown, is_typed, until = b"", False, time.monotonic() + _SECONDS
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environment) as process:
        while process.poll() is None and time.monotonic() < until:
            ready, _, _ = select.select([terminal], [], [], 0.2)
            shown += os.read(terminal, 65536) if ready else b""
            if not ready and not is_typed and b"passphrase" in shown.lower():
                is_typed = bool(os.write(terminal, f"{_SECRET}\r".encode()))
        process.kill()
    while select.select([terminal], [], [], 0)[0]:
        shown += os.read(terminal, 65536)
    os.close(end)
    os.close(terminal)
    return shown.decode(errors="replace")
