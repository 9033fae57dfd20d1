"""A small Debian archive signed by a throwaway key, as a mirror serves it and as apt keeps its lists."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from tests.support.gpg import GnuPG

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def packages(files: Iterable[Path]) -> bytes:
    """Return the Packages file of these packages, which lie in pool/."""
    stanzas = []
    for file in files:
        told = subprocess.run(["dpkg-deb", "--field", str(file)], check=True, capture_output=True).stdout.decode()
        content = file.read_bytes()
        stanzas.append(
            f"{told}Filename: pool/{file.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    return "\n".join(stanzas).encode()


def release(
    index: bytes, *, codename: str = "bookworm", date: datetime = NOW - DAY, until: datetime | None = None
) -> bytes:
    """Return what is signed: dates, and the digest of the Packages file."""
    lines = [
        "Origin: Debian",
        "Label: Debian",
        f"Suite: {codename}",
        f"Codename: {codename}",
        f"Date: {format_datetime(date, usegmt=True).replace('GMT', 'UTC')}",
        *([f"Valid-Until: {format_datetime(until, usegmt=True).replace('GMT', 'UTC')}"] if until else []),
        "Architectures: amd64",
        "Components: main",
        "SHA256:",
        f" {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def signed(text: bytes, gnupg: GnuPG, *keys: str, digest: str = "SHA256") -> bytes:
    """Return InRelease."""
    named = [part for key in keys for part in ("-u", f"{key}!")]
    return gnupg.run(*named, "--digest-algo", digest, "--clearsign", data=text)


def keyring(folder: Path, gnupg: GnuPG, *keys: str) -> Path:
    """Write a keyring that gpgv reads."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "keyring.gpg"
    path.write_bytes(b"".join(gnupg.certificate(key) for key in keys))
    return path


def suite(root: Path, files: Iterable[Path], inrelease: bytes, index: bytes, *, codename: str = "bookworm") -> Path:
    """Lay out one suite of a mirror and return its root."""
    place = root / "dists" / codename / "main/binary-amd64"
    place.mkdir(parents=True)
    (place / "Packages").write_bytes(index)
    (root / "dists" / codename / "InRelease").write_bytes(inrelease)
    (root / "pool").mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, root / "pool" / file.name)
    return root


def lists(folder: Path, inrelease: bytes, index: bytes, *, codename: str = "bookworm", host: str = "mirror") -> Path:
    """Write the lists of one suite as apt keeps them, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{host}_debian_dists_{codename}_InRelease").write_bytes(inrelease)
    (folder / f"{host}_debian_dists_{codename}_main_binary-amd64_Packages").write_bytes(index)
    return folder
