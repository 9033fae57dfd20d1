"""Throwaway OpenPGP keys of two people of the site, made with gpg as they would make theirs."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from media.gpgagent import stop_agents


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePerson:
    """A person of the site, with the folder of their keys and their certificate."""

    id: str
    name: str
    home: Path
    certificate: Path
    password: str


def make_person(folder: Path, person_id: str, name: str) -> SitePerson:
    """Make a key pair without a passphrase. Only a demo may do that."""
    home = folder / person_id / "gnupg"
    home.mkdir(parents=True, mode=0o700)
    # gpg-agent's socket must have a short path, so the key is made in a short home and moved.
    with tempfile.TemporaryDirectory(prefix="sl") as short:
        gpg = ["gpg", "--homedir", short, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        mail = f"{name} <{person_id}@demo.invalid>"
        subprocess.run(
            [*gpg, "--quick-generate-key", mail, "ed25519", "sign", "never"], check=True, capture_output=True
        )
        certificate = folder / person_id / f"{person_id}.gpg"
        exported = subprocess.run(
            [*gpg, "--export", "--export-options", "export-minimal"], check=True, capture_output=True
        )
        certificate.write_bytes(exported.stdout)
        secret = subprocess.run([*gpg, "--export-secret-keys"], check=True, capture_output=True).stdout
        stop_agents(Path(short))
    with tempfile.TemporaryDirectory(prefix="sl") as short:
        link = Path(short) / "h"
        link.symlink_to(home)
        subprocess.run(
            ["gpg", "--homedir", str(link), "--batch", "--quiet", "--import"],
            input=secret,
            check=True,
            capture_output=True,
        )
        stop_agents(link)  # until it has ended: it takes its sockets away by this name of the folder
    return SitePerson(id=person_id, name=name, home=home, certificate=certificate, password=password_of(person_id))


def password_of(person_id: str) -> str:
    """Return the page's password of such a person."""
    return f"a throwaway password of {person_id}"
