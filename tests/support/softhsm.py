"""A SoftHSM2 token in a folder: a real PKCS#11 module without hardware."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import PyKCS11

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "271828"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, by its label."""

    folder: Path
    label: str

    def make_key(self, name: str, *, curve: str = "secp384r1", number: int = 1, options: tuple[str, ...] = ()) -> str:
        """Make a key pair on the token and return its address."""
        self._tool(
            "--keypairgen",
            "--key-type",
            f"EC:{curve}",
            "--label",
            name,
            "--id",
            f"{number:02x}",
            "--usage-sign",
            *options,
        )
        return self.address(name)

    def put_key(self, name: str, pem: Path, public: Path) -> str:
        """Write a key onto the token that was made outside of it."""
        self._tool("--write-object", str(pem), "--type", "privkey", "--label", name, "--id", "77", "--usage-sign")
        self._tool("--write-object", str(public), "--type", "pubkey", "--label", name, "--id", "77")
        return self.address(name)

    def address(self, name: str) -> str:
        """Return the RFC 7512 address of a key."""
        return f"pkcs11:token={self.label};object={name}?module-path={MODULE}"

    def take_out(self) -> None:
        """Remove the token, with all that it holds."""
        shutil.rmtree(self.folder / "tokens")
        (self.folder / "tokens").mkdir()

    def _tool(self, *arguments: str) -> None:
        command = ["pkcs11-tool", "--module", MODULE, "--token-label", self.label, "--login", "--pin", PIN, *arguments]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def soft_token(folder: Path, label: str) -> Iterator[Token]:
    """Lend a token with a PIN and no keys."""
    # A report of a failure shows objects; PyKCS11 would ask a session that has ended for theirs, and crash.
    PyKCS11.CK_OBJECT_HANDLE.__repr__ = object.__repr__
    (folder / "tokens").mkdir(parents=True)
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    try:
        init = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "31415926"]
        subprocess.run(init, check=True, capture_output=True)
        yield Token(folder=folder, label=label)
    finally:
        if before is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = before
