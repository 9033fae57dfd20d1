"""The only module near private keys, by way of GnuPG and its agent; nothing on the appliance imports it (layer 4).

The agent of a key folder listens on a socket below that folder, whose path must stay under 108 bytes.
`media.gpgagent.stop_agents` ends it; call it when a folder of throwaway keys is done with.
"""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import gnupg
from securesystemslib.signer import GPGSigner, Signer  # type: ignore[attr-defined]  # re-exported without __all__

from media import canonical, gpgagent, layout, openpgp
from media.errors import KeyUnusableError, MalformedError

_HOME_BYTES = 80  # leaves room for /S.gpg-agent.extra and the like within 108


def generate_key(home: Path, name: str, email: str, *, expires: str = "0") -> str:
    """Make an Ed25519 signing key without a passphrase and return its fingerprint; for demo and rehearsal only.

    Args:
        home: The key folder; made with mode 0700 if it is not there.
        name: The person's name in the user id.
        email: The address in the user id.
        expires: "0" for never, which is what release keys should have, or GnuPG's notation such as "1y".

    Raises:
        KeyUnusableError: GnuPG did not make the key.
        MalformedError: The name or the address has characters that a user id cannot hold.
    """
    for what, value in (("A name", name), ("An address", email)):
        if any(character in "<>" for character in canonical.text(value, what, most=200)):
            raise MalformedError(what=f"{what} is malformed", why="it holds brackets", fix="Leave them out.")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    gpg = _gpg(home)
    made = gpg.gen_key(
        gpg.gen_key_input(
            key_type="eddsa",
            key_curve="ed25519",
            key_usage="sign",
            name_real=name,
            name_email=email,
            expire_date=expires,
            no_protection=True,
        )
    )
    if not made.fingerprint:
        raise _unusable("GnuPG could not make a key", str(made.status or "no reason given"))
    return layout.require_fingerprint(str(made.fingerprint).upper())


def export_minimal(home: Path, fingerprint: str, *, at: datetime | None = None) -> bytes:
    """Return the binary certificate without signatures of others.

    Args:
        home: The GnuPG folder that holds the key.
        fingerprint: Of the key.
        at: As for `detached_sign`: GnuPG leaves out what its clock says the owner will sign in the future.

    Raises:
        KeyUnusableError: The key folder has no such key.
        MalformedError: The certificate is not one that a medium may hold.
    """
    fingerprint = layout.require_fingerprint(fingerprint.upper())
    exported = _gpg(home, at=at).export_keys(fingerprint, armor=False, minimal=True)
    certificate = exported if isinstance(exported, bytes) else b""
    if not certificate:
        raise _unusable("A key cannot be exported", f"the key folder does not hold {fingerprint[-16:]}")
    if openpgp.certificate_fingerprint(certificate) != fingerprint:
        raise _unusable("A key cannot be exported", "the fingerprint is that of a subkey; give the primary key's")
    return certificate


def secret_fingerprints(home: Path) -> tuple[str, ...]:
    """Return the primary fingerprints of which the folder (or its token) holds the private half."""
    return tuple(str(key["fingerprint"]).upper() for key in _gpg(home).list_keys(True))


def detached_sign(home: Path, fingerprint: str, data: bytes, *, at: datetime | None = None) -> bytes:
    """Return a binary detached SHA-512 signature, already verified the way a receiver will.

    Args:
        home: The GnuPG folder that holds the key.
        fingerprint: Of the key.
        data: What is signed.
        at: The time that GnuPG is to believe, where the machine's clock is known to be wrong; it refuses to sign with
            a key that its clock says will be made in the future.

    Raises:
        KeyUnusableError: The key cannot sign: absent, locked, expired, revoked.
        BadSignatureError: GnuPG signed, but not so that a receiver would accept it (a strange gpg.conf, an old key).
        MalformedError: The same, in the form of the signature.
    """
    fingerprint = layout.require_fingerprint(fingerprint.upper())
    _name_terminal()
    # Not keyid=, which is --default-key: gpg takes another key where that one is unusable.
    chosen = ["--local-user", fingerprint, "--digest-algo", "SHA512"]
    signed = _gpg(home, at=at).sign(data, detach=True, clearsign=False, binary=True, extra_args=chosen)
    signature = bytes(signed.data)
    if not signature:
        raise _unusable(
            f"The key {fingerprint[-16:]} did not sign",
            str(signed.status or "gpg gave no reason; was its passphrase typed?"),
        )
    openpgp.verify_detached(signature, data, [export_minimal(home, fingerprint, at=at)])
    return signature


def tuf_signer(home: Path, fingerprint: str) -> Signer:
    """Return a signer of TUF metadata and DSSE envelopes that uses this OpenPGP key.

    Raises:
        KeyUnusableError: The key folder has no such key, or a path with spaces, or a key of another kind.
    """
    fingerprint = layout.require_fingerprint(fingerprint.upper())
    if any(character.isspace() or character in "'\"\\#%?" for character in str(home)):
        raise _unusable("A key folder cannot be used", "its path holds spaces or quotes")
    try:
        _, public_key = GPGSigner.import_(fingerprint.lower(), str(home))
    except (ValueError, OSError, subprocess.SubprocessError) as error:
        raise _unusable(f"The key {fingerprint[-16:]} cannot be used", "it is absent or of an unknown kind") from error
    _name_terminal()
    signer: Signer = GPGSigner(public_key, str(home))
    return signer


def _name_terminal() -> None:
    """Tell gpg's agent, which runs apart, at which terminal a person sits: it asks for passphrases and PINs there.

    In the environment, since what signs by GnuPG is started by libraries that pass it on and take nothing else.
    """
    if "GPG_TTY" not in os.environ:
        os.environ.update(gpgagent.terminal())


def _gpg(home: Path, *, at: datetime | None = None) -> gnupg.GPG:
    if len(str(home).encode()) > _HOME_BYTES:
        raise _unusable("A key folder cannot be used", f"its path is longer than {_HOME_BYTES} bytes")
    options = ["--batch", "--no-auto-key-locate", "--no-auto-key-retrieve"]
    if at is not None:
        options += ["--faked-system-time", at.astimezone(UTC).strftime("%Y%m%dT%H%M%S!")]
    try:
        gpg = gnupg.GPG(gnupghome=str(home), options=options)
    except (OSError, ValueError) as error:
        raise _unusable("GnuPG cannot be used", "gpg is not installed, or the key folder is not there") from error
    return gpg


def _unusable(what: str, why: str) -> KeyUnusableError:
    return KeyUnusableError(what=what, why=why, fix="Check the key folder with: gpg --homedir FOLDER -K")
