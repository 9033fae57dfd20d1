"""Whether an OpenPGP key may be named in a root: its kind, its strength, and that it does not end by a date.

A key used here is a primary key that signs by itself and has no signing subkey, so that one fingerprint names it on
the trust sheet, in the root and in a signature. An expiry date is refused even in the future: gpgv would then judge a
medium by the clock of a machine that has no trusted one.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import CeremonyError
from media.gpgagent import stop_agents
from media.packets import Certificate

_RSA, _EDDSA = "1", "22"
_BROKEN_HASHES = {1, 2, 3}  # MD5, SHA-1, RIPE-MD/160
_LEAST_RSA_BITS = 3072
_CURVE = "ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What gpg says about one key."""

    fingerprint: str
    validity: str
    algorithm: str
    bits: int
    expires: str
    capabilities: str
    curve: str
    signing_subkeys: int
    has_secret: bool
    is_bound_by_broken_hash: bool


def key_facts(home: Path, fingerprint: str) -> KeyFacts:
    """Read a key's facts from a GnuPG home.

    Raises:
        CeremonyError: The home does not hold exactly that key.
    """
    wanted = fingerprint.replace(" ", "").upper()
    public = _records(home, wanted, "--list-keys")
    primary = [fields for fields in public if fields[0] == "pub"]
    prints = [fields[9] for fields in public if fields[0] == "fpr"]
    if len(wanted) != 40 or len(primary) != 1 or prints[0] != wanted:
        raise CeremonyError(
            what=f"key {wanted[:16]} is not in that GnuPG home",
            why="a full fingerprint of 40 hex digits of a primary key is needed",
            fix="check with: gpg --homedir HOME --fingerprint",
        )
    secret = _records(home, wanted, "--list-secret-keys")
    key = primary[0]
    return KeyFacts(
        fingerprint=wanted,
        validity=key[1],
        bits=int(key[2] or 0),
        algorithm=key[3],
        expires=key[6],
        capabilities=key[11],
        curve=key[16] if len(key) > 16 else "",
        signing_subkeys=sum(1 for fields in public if fields[0] == "sub" and "s" in fields[11]),
        # field 15 is "#" for a primary secret key that was taken away, a serial number for one on a token
        has_secret=any(fields[0] == "sec" and fields[14] != "#" for fields in secret),
        is_bound_by_broken_hash=bool(_BROKEN_HASHES & set(_certificate(home, wanted).signature_hashes)),
    )


def certificate_facts(certificate: bytes) -> KeyFacts:
    """Read the facts of a certificate whose secret half is elsewhere, in a GnuPG home of its own.

    Raises:
        CeremonyError: gpg does not read it.
        MalformedError: It is not one certificate.
    """
    fingerprint = Certificate.from_bytes(certificate).fingerprint
    with tempfile.TemporaryDirectory(prefix="sl-", dir="/tmp") as name:
        home = Path(name)
        command = ["gpg", "--homedir", name, "--batch", "--no-autostart", "--import"]
        subprocess.run(command, input=certificate, capture_output=True, check=False, timeout=60)
        try:
            return key_facts(home, fingerprint)
        finally:
            stop_agents(home)


def require_strong(facts: KeyFacts, *, owner: str, is_here: bool = True) -> None:
    """Pass only a key that may sign for years.

    Args:
        facts: Of the key.
        owner: Named in the error.
        is_here: The secret half must be in the home that was looked at.

    Raises:
        CeremonyError: It is weak, ended, ends by a date, or cannot sign by itself.
    """
    if reason := _weakness(facts, is_here=is_here):
        raise CeremonyError(
            what=f"{owner}'s key {facts.fingerprint[:16]} may not be used",
            why=reason,
            fix="make one with: gpg --quick-generate-key 'NAME <EMAIL>' ed25519 sign never",
        )


def _weakness(facts: KeyFacts, *, is_here: bool) -> str:
    weak = {
        "it is revoked, disabled or invalid": facts.validity in {"r", "d", "i"},
        "it has expired": facts.validity == "e",
        "it ends by a date, and an isolated box has no trusted clock": bool(facts.expires),
        f"RSA with {facts.bits} bits; {_LEAST_RSA_BITS} is the least": facts.algorithm == _RSA
        and facts.bits < _LEAST_RSA_BITS,
        "only RSA and Ed25519 keys are taken": facts.algorithm not in {_RSA, _EDDSA}
        or (facts.algorithm == _EDDSA and facts.curve != _CURVE),
        "the primary key cannot sign": "s" not in facts.capabilities,
        "it has a signing subkey, and gpg would sign with that one": facts.signing_subkeys > 0,
        "its user id is bound by SHA-1 or MD5, which can be forged": facts.is_bound_by_broken_hash,
        "its secret half is not in that GnuPG home": is_here and not facts.has_secret,
    }
    return next((reason for reason, holds in weak.items() if holds), "")


def _certificate(home: Path, fingerprint: str) -> Certificate:
    command = ["gpg", "--homedir", str(home), "--batch", "--export-options", "export-minimal", "--export", fingerprint]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return Certificate.from_bytes(done.stdout)


def _records(home: Path, fingerprint: str, listing: str) -> list[list[str]]:
    command = ["gpg", "--homedir", str(home), "--batch", "--with-colons", "--fixed-list-mode", listing, fingerprint]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return [line.split(":") for line in done.stdout.decode("utf-8", "replace").split("\n")]
