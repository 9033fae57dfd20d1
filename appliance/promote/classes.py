"""By what a person approves, and how much each way is worth.

Three ways leave a signature by a key that only the person has. The fourth, a password with a one-time code, is checked
by the promoter: whoever takes over the page while a person types sees both, so it is a lower class and is shown as one
wherever the approval is (21 CFR 11.200(a)(1) asks for its two components; docs/operator/approving.md).
"""

from collections.abc import Mapping
from typing import Final

OPENPGP: Final = "openpgp"
WEBAUTHN: Final = "webauthn"
PKCS11: Final = "pkcs11"
PASSWORD_TOTP: Final = "password-totp"  # noqa: S105 - the name of a class
CLASSES: Final = (OPENPGP, WEBAUTHN, PKCS11, PASSWORD_TOTP)
FULL_CLASSES: Final = (OPENPGP, WEBAUTHN, PKCS11)
NAMES: Final[Mapping[str, str]] = {
    OPENPGP: "OpenPGP key",
    WEBAUTHN: "security key",
    PKCS11: "key on a token",
    PASSWORD_TOTP: "password and one-time code",
}

BY_PASSWORD: Final = "password and one-time code"  # noqa: S105 - words for people
IS_ADMIN: Final = "is an admin too"
LOWER_REASONS: Final = (BY_PASSWORD, IS_ADMIN)
"""Why an approval is of a lower class."""


def lower_reasons(approves_by: str, *, is_admin: bool) -> tuple[str, ...]:
    """Return why an approval of this class by such a person is of a lower class; empty when it is not."""
    by_password = (BY_PASSWORD,) if approves_by == PASSWORD_TOTP else ()
    return (*by_password, *((IS_ADMIN,) if is_admin else ()))


def shown(name: str, reasons: tuple[str, ...] | list[str]) -> str:
    """Return a person's name as an approval shows it, with why it is of a lower class."""
    return f"{name} (lower class: {', '.join(reasons)})" if reasons else name
