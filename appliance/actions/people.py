"""The site's people, as commands see them: codes, enrolment, revocation. The promoter decides and records."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from appliance.promote.client import PromoterClient
from media import limits, signers
from media.errors import LimitExceededError, MissingFileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A person who was just enrolled.

    Attributes:
        credentials: Class and fingerprint of each key.
        totp_address: What the person's app takes once (otpauth), where a one-time code was asked for.
        printed_code: To be printed and sealed, at the smallest sites; a reset takes it.
    """

    person: str
    name: str
    fingerprint: str
    credentials: tuple[tuple[str, str], ...] = ()
    totp_address: str = field(default="", repr=False)
    printed_code: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "person": self.person,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "credentials": [{"class": one, "fingerprint": fingerprint} for one, fingerprint in self.credentials],
            "totp_address": self.totp_address,
            "printed_code": self.printed_code,
        }


def read_certificate(path: Path) -> bytes:
    """Return a certificate's bytes; the promoter judges them.

    Raises:
        MissingFileError: There is no such file.
        LimitExceededError: It is larger than a certificate may be.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limits.CERTIFICATE_BYTES + 1)
    except OSError as error:
        raise MissingFileError(
            what=f"the certificate {path.name} cannot be read",
            why=error.strerror or "",
            fix="export it with `gpg --export FINGERPRINT > person.gpg`",
        ) from error
    if len(content) > limits.CERTIFICATE_BYTES:
        raise LimitExceededError(
            what=f"the certificate {path.name} is too large",
            why=f"the limit is {limits.CERTIFICATE_BYTES} bytes",
            fix="export it with --export-options export-minimal",
        )
    return content


def certificate_from_home(home: Path, fingerprint: str = "") -> bytes:
    """Return the certificate of the one key in a GnuPG folder, or of the named one.

    Raises:
        KeyUnusableError: The folder has no such key.
        MissingFileError: It holds none, or several and none was named.
    """
    known = signers.secret_fingerprints(home)
    if not fingerprint and len(known) != 1:
        raise MissingFileError(
            what="which key is meant is not clear", why=f"the folder holds {len(known)} keys", fix="give --fingerprint"
        )
    return signers.export_minimal(home, fingerprint or known[0])


def enrol(
    promoter: PromoterClient,
    *,
    code: str,
    name: str,
    password: str,
    certificate: bytes = b"",
    token_key: bytes = b"",
    totp: bool = False,
    person: str = "",
) -> Enrolled:
    """Enrol a person by a one-time code, or give new keys to one who was reset.

    Raises:
        RemoteError: The promoter refused the code, the name, a key or the password.
    """
    found = promoter.enrol(
        code=code,
        name=name,
        certificate=certificate,
        token_key=token_key,
        password=password,
        person=person,
        **({"totp": True} if totp else {}),
    )
    return Enrolled(
        person=str(found["person"]),
        name=str(found["name"]),
        fingerprint=str(found["fingerprint"]),
        credentials=tuple((str(one["class"]), str(one["fingerprint"])) for one in found["credentials"]),
        totp_address=found["totp_address"],
        printed_code=found["printed_code"],
    )


def read_public_key(path: Path) -> bytes:
    """Return a public key of a token, PEM or DER, as SubjectPublicKeyInfo in DER; the promoter judges it.

    Raises:
        MissingFileError: There is no such file, or it holds no public key.
    """
    content = read_certificate(path)
    try:
        is_text = content.startswith(b"-----BEGIN")
        key = load_pem_public_key(content) if is_text else load_der_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MissingFileError(
            what=f"{path.name} is no public key",
            why="PEM or DER, SubjectPublicKeyInfo",
            fix="give --token and --token-key where the token is plugged in",
        ) from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
