"""The site's people, as commands see them: codes, enrolment, revocation. The promoter decides and records."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.promote.client import PromoterClient
from media import limits, signers
from media.errors import LimitExceededError, MissingFileError

DEMO_DOMAIN: Final = "demo.invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A person who was just enrolled."""

    person: str
    name: str
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"person": self.person, "name": self.name, "fingerprint": self.fingerprint}


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
    promoter: PromoterClient, *, code: str, name: str, certificate: bytes, password: str, person: str = ""
) -> Enrolled:
    """Enrol a person by a one-time code.

    Raises:
        RemoteError: The promoter refused the code, the name, the certificate or the password.
    """
    found = promoter.enrol(code=code, name=name, certificate=certificate, password=password, person=person)
    return Enrolled(person=str(found["person"]), name=str(found["name"]), fingerprint=str(found["fingerprint"]))
