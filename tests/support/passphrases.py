"""Keys of GnuPG behind a passphrase, and a terminal at which it is typed when it is asked for."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.support.gpg import GnuPG

_SECONDS = 60
_SECRET = "safe word one two"
HAS_PINENTRY = shutil.which("pinentry-curses") is not None


def protected_key(gpg: GnuPG, name: str) -> str:
    """Make a key that signs and decrypts behind a passphrase, which no agent remembers; return its fingerprint."""
    command = ["gpg", "--homedir", str(gpg.home), "--batch", "--pinentry-mode", "loopback", "--passphrase", _SECRET]
    made = subprocess.run(
        [*command, "--status-fd", "1", "--quick-gen-key", name, "default", "default", "1y"],
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
    subprocess.run(["gpgconf", "--homedir", str(gpg.home), "--kill", "all"], check=True, timeout=_SECONDS)
    found = re.search(rb"KEY_CREATED . ([0-9A-F]{40})", made.stdout)
    assert found is not None
    return found[1].decode()


def at_a_terminal(program: str, *arguments: str | Path) -> str:
    """Run Python at a terminal of its own, typing the passphrase when it is asked for; return what was shown."""
    terminal, end = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "GPG_TTY"} | {"TERM": "xterm"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
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
