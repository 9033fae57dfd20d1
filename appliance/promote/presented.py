"""What somebody hands in as an approval, before anything of it is believed.

signature                                     openpgp; class may be left out
class, signature                              pkcs11 (DER), webauthn (the assertion's canonical bytes)
class, person, password, totp                 password-totp: the promoter signs with the person's key
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from appliance.promote import base64text
from appliance.promote.assertion import Assertion
from appliance.promote.classes import CLASSES, OPENPGP, PASSWORD_TOTP, WEBAUTHN
from media import canonical

_MOST: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """An approval as it comes in through a door."""

    approves_by: str = OPENPGP
    signature: bytes = field(default=b"", repr=False)
    person: str = ""
    password: str = field(default="", repr=False)
    totp: str = field(default="", repr=False)

    @classmethod
    def from_message(cls, untrusted: Mapping[str, Any]) -> Self:
        """Parse the fields of a message.

        Raises:
            MalformedError: One is missing or of another shape.
        """
        approves_by = canonical.one_of(untrusted.get("class", OPENPGP), CLASSES, "class")
        if approves_by == PASSWORD_TOTP:
            return cls(
                approves_by=approves_by,
                person=canonical.text(untrusted.get("person"), "person"),
                password=canonical.text(untrusted.get("password"), "password", most=4 * _MOST),
                totp=canonical.text(untrusted.get("totp"), "totp", most=_MOST),
            )
        signature = base64text.decode(untrusted.get("signature"), "signature")
        return cls(approves_by=approves_by, signature=signature)

    @classmethod
    def by_security_key(cls, untrusted: dict[str, Any]) -> Self:
        """Return what a browser sent of a security key's answer, in the form that is kept.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        return cls(approves_by=WEBAUTHN, signature=Assertion.from_fields(untrusted).to_bytes())

    def to_message(self) -> dict[str, str]:
        """Return the fields of a message."""
        if self.approves_by == PASSWORD_TOTP:
            return {"class": self.approves_by, "person": self.person, "password": self.password, "totp": self.totp}
        return {"class": self.approves_by, "signature": base64text.encode(self.signature)}
