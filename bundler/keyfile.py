"""Private keys in files: PEM with a passphrase, for Ed25519, ECDSA and ML-DSA-87.

A file is the weakest place for a key: whoever copies it and learns the passphrase has it for ever. So the file must
have a passphrase and must be readable by its owner alone; anything else is refused.
"""

import os
import stat
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Signer  # type: ignore[attr-defined]  # no __all__

from bundler.errors import NotEmptyError, SigningError
from media.errors import UsageError

LEAST_PASSPHRASE = 12
"""Characters. A stolen file is tried at leisure."""

_MAX_BYTES = 64 * 2**10
_ALLOWED = (
    ed25519.Ed25519PrivateKey,
    ec.EllipticCurvePrivateKey,
    mldsa.MLDSA65PrivateKey,
    mldsa.MLDSA87PrivateKey,
)


class KeyKind(StrEnum):
    """What can be made."""

    ED25519 = "ed25519"
    P256 = "ecdsa-p256"
    P384 = "ecdsa-p384"
    ML_DSA_87 = "ml-dsa-87"


def make_key_file(file: Path, kind: KeyKind, passphrase: str) -> Signer:
    """Make a key, write it to a file that does not exist yet, and return its signer.

    Raises:
        UsageError: The passphrase is too short.
        NotEmptyError: The file exists.
        SigningError: It cannot be written.
    """
    if len(passphrase) < LEAST_PASSPHRASE:
        raise UsageError(
            what="the passphrase is too short",
            why=f"{LEAST_PASSPHRASE} characters are the least, because a stolen file is tried at leisure",
            fix="take several words",
        )
    made: Any = {
        KeyKind.ED25519: ed25519.Ed25519PrivateKey.generate,
        KeyKind.P256: lambda: ec.generate_private_key(ec.SECP256R1()),
        KeyKind.P384: lambda: ec.generate_private_key(ec.SECP384R1()),
        KeyKind.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
    }[kind]()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        raise NotEmptyError(
            what=f"{file.name} exists", why="a key is never written over", fix="name another file"
        ) from None
    except OSError as error:
        raise SigningError(what=f"{file.name} cannot be written", why=error.strerror or "") from error
    return CryptoSigner(made)


def open_key_file(file: Path, passphrase: str) -> Signer:
    """Return the signer of a key file.

    Raises:
        SigningError: It is not there, others may read it, it has no passphrase or another, or another kind of key.
    """
    pem = _private_pem(file)
    try:
        loaded = load_pem_private_key(pem, passphrase.encode())
    except TypeError:
        raise _refused(
            file, "it has no passphrase", "put one on: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _refused(file, "the passphrase is another, or it is no private key in PEM", "try again") from None
    if not isinstance(loaded, _ALLOWED):
        raise _refused(file, "its kind is not used here", "make one with: sealift-bundler key make")
    try:
        signer: Signer = CryptoSigner(loaded)
    except ValueError:
        raise _refused(file, "its curve is not used here", "make one with: sealift-bundler key make") from None
    return signer


def _private_pem(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            pem = stream.read(_MAX_BYTES)
    except OSError as error:
        raise _refused(file, error.strerror or "it cannot be read", "name the file with --key file:PATH") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _refused(file, "others than its owner may open it", f"chmod 600 {file.name}")
    return pem


def _refused(file: Path, why: str, fix: str) -> SigningError:
    return SigningError(what=f"the key file {file.name} cannot be used", why=why, fix=fix)
