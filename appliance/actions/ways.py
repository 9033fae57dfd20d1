"""How one person says yes: by GnuPG, by a key on a token, by a file that was signed elsewhere, or by password and code.

Private keys are used where they are (GnuPG, the token) and never read. What comes out is what the promoter judges.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from appliance.actions import persontoken
from appliance.actions.persontoken import TokenKey
from appliance.promote.classes import OPENPGP, PASSWORD_TOTP, PKCS11
from appliance.promote.client import PromoterClient
from appliance.promote.presented import Presented
from media import limits, signers
from media.errors import MissingFileError

_MOST_SIGNATURE: Final = 16 * 1024


class Way(Protocol):
    """One person's way to approve."""

    def require(self, promoter: PromoterClient, person: str) -> None:
        """Return when the person may be asked: is enrolled, and has what this way takes.

        Raises:
            UnknownPersonError: Nobody of that id is enrolled, or the person has no key of this class.
        """
        ...

    def present(
        self, promoter: PromoterClient, person: str, statement: bytes, *, at: datetime | None = None
    ) -> Presented:
        """Return what is handed in, by a person of whom `require` was asked before.

        Args:
            promoter: Knows which key is the person's.
            person: Who approves, by id.
            statement: The exact bytes.
            at: What time it is where the machine's clock is in doubt.

        Raises:
            KeyUnusableError: The key is not there or cannot sign.
            UnknownPersonError: The person has no key of this class.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ByOpenPGP:
    """Signs with GnuPG, whose folder holds the person's key, perhaps on a token."""

    home: Path

    def require(self, promoter: PromoterClient, person: str) -> None:
        """See `Way.require`."""
        promoter.fingerprint_of(person)

    def present(
        self, promoter: PromoterClient, person: str, statement: bytes, *, at: datetime | None = None
    ) -> Presented:
        """Sign; see `Way.present`."""
        fingerprint = promoter.fingerprint_of(person)
        return Presented(signature=signers.detached_sign(self.home, fingerprint, statement, at=at))


@dataclass(frozen=True, slots=True, kw_only=True)
class ByToken:
    """Signs with an ECDSA key on a PKCS#11 token; `pin` is asked when the token is there."""

    key: TokenKey
    pin: Callable[[], str] = field(repr=False)

    def require(self, promoter: PromoterClient, person: str) -> None:
        """See `Way.require`."""
        promoter.fingerprint_of(person, PKCS11)

    def present(
        self, promoter: PromoterClient, person: str, statement: bytes, *, at: datetime | None = None
    ) -> Presented:
        """Sign; see `Way.present`."""
        del promoter, person, at
        return Presented(approves_by=PKCS11, signature=persontoken.sign(self.key, self.pin(), statement))

    def public_key(self) -> bytes:
        """Return the key's public half for an enrolment; see `appliance.actions.persontoken.public_key`."""
        return persontoken.public_key(self.key, self.pin())


@dataclass(frozen=True, slots=True, kw_only=True)
class ByFile:
    """Hands in a signature that was made elsewhere over the statement's bytes."""

    path: Path
    approves_by: str = OPENPGP

    def require(self, promoter: PromoterClient, person: str) -> None:
        """See `Way.require`."""
        promoter.fingerprint_of(person, self.approves_by)

    def present(
        self, promoter: PromoterClient, person: str, statement: bytes, *, at: datetime | None = None
    ) -> Presented:
        """Read it; see `Way.present`."""
        del promoter, person, statement, at
        return Presented(approves_by=self.approves_by, signature=read_small(self.path, most=_MOST_SIGNATURE))


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPassword:
    """The lower class: the promoter signs with the person's sealed key; both are asked for when they are needed."""

    password: Callable[[], str] = field(repr=False)
    totp: Callable[[], str] = field(repr=False)

    def require(self, promoter: PromoterClient, person: str) -> None:
        """See `Way.require`."""
        promoter.fingerprint_of(person, PASSWORD_TOTP)

    def present(
        self, promoter: PromoterClient, person: str, statement: bytes, *, at: datetime | None = None
    ) -> Presented:
        """Return both; see `Way.present`."""
        del promoter, statement, at
        return Presented(approves_by=PASSWORD_TOTP, person=person, password=self.password(), totp=self.totp())


def read_small(path: Path, *, most: int = limits.CERTIFICATE_BYTES) -> bytes:
    """Return a small file that a person names.

    Raises:
        MissingFileError: It cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise MissingFileError(
            what=f"the file {path.name} cannot be read", why=error.strerror or "", fix="check its path and owner"
        ) from error
    if len(content) > most:
        raise MissingFileError(what=f"the file {path.name} is too large", why=f"the limit is {most} bytes", fix="")
    return content
