"""A throwaway GnuPG home, spoken to directly: keys and signatures of every kind, also of other times and faults."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from media.gpgagent import stop_agents


@dataclass(frozen=True, slots=True, kw_only=True)
class GnuPG:
    """One home below /tmp, whose path is short enough for the agent's sockets."""

    home: Path

    def run(self, *arguments: str, data: bytes = b"", at: str = "") -> bytes:
        """Run gpg; `at` is the time it believes, such as 20200101T000000."""
        time = [f"--faked-system-time={at}!"] if at else []
        command = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", "--no-tty", *time]
        command += ["--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout

    def key(self, user_id: str, *, algorithm: str = "ed25519", expires: str = "0", at: str = "") -> str:
        """Make a signing key and return its primary fingerprint."""
        status = self.run(
            *("--status-fd", "1", "--allow-freeform-uid", "--quick-gen-key", user_id, algorithm, "sign", expires), at=at
        )
        made = re.search(rb"KEY_CREATED . ([0-9A-F]{40})", status)
        assert made is not None
        return made[1].decode()

    def certificate(self, fingerprint: str, *, at: str = "") -> bytes:
        """Return the minimal binary certificate; gpg leaves out signatures that lie in its future."""
        return self.run("--export-options", "export-minimal", "--export", fingerprint, at=at)

    def sign(self, fingerprint: str, data: bytes, *options: str, at: str = "") -> bytes:
        """Return a detached signature, binary and SHA-512 unless the options say otherwise."""
        return self.run("-u", f"{fingerprint}!", "--digest-algo", "SHA512", *options, "--detach-sign", data=data, at=at)

    def revoke(self, fingerprint: str) -> None:
        """Revoke a key by the certificate that GnuPG made with it."""
        file = self.home / "openpgp-revocs.d" / f"{fingerprint}.rev"
        armored = file.read_bytes().replace(b":-----BEGIN", b"-----BEGIN")
        self.run("--import", data=armored)


@contextmanager
def gnupg_home() -> Iterator[GnuPG]:
    """Lend a home, and end its agent."""
    home = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    try:
        yield GnuPG(home=home)
    finally:
        stop_agents(home)
        shutil.rmtree(home, ignore_errors=True)
