"""What commands with which a person approves have in common: in which way, and the question before it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions.persontoken import TokenKey
from appliance.actions.ways import ByFile, ByOpenPGP, ByPassword, ByToken, Way
from appliance.cli import passwords
from appliance.cli.context import Context
from appliance.promote.classes import OPENPGP, PKCS11
from media.errors import UsageError

Person = Annotated[str, typer.Option("--as", help="Who approves, by id.")]
GnupgHome = Annotated[
    Path | None, typer.Option("--gnupg-home", help="The GnuPG folder with the person's key.", envvar="GNUPGHOME")
]
Token = Annotated[str, typer.Option("--token", help="Label of a PKCS#11 token that holds the person's key.")]
TokenKeyLabel = Annotated[str, typer.Option("--token-key", help="Label of the key on it.")]
TokenModule = Annotated[
    str, typer.Option("--token-module", help="The vendor's PKCS#11 library.", envvar="SEALIFT_PKCS11_MODULE")
]
PinFile = Annotated[Path | None, typer.Option("--pin-file", help="File with the token's PIN; - is standard input.")]
Signature = Annotated[
    Path | None, typer.Option("--signature", help="A signature over the statement that was made elsewhere.")
]
SignatureClass = Annotated[str, typer.Option("--signature-class", help="What made it: openpgp or pkcs11 (DER).")]
Password = Annotated[bool, typer.Option("--password", help="By password and one-time code: the lower class.")]
PasswordFile = Annotated[Path | None, typer.Option("--password-file", help="File with it; - is standard input.")]
OneTime = Annotated[str, typer.Option("--one-time-code", help="What the person's app shows; asked when absent.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask again.")]


def way_of(  # one for each way, as the options have it
    *,
    gnupg_home: GnupgHome = None,
    token: Token = "",
    token_key: TokenKeyLabel = "",
    token_module: TokenModule = "",
    pin_file: PinFile = None,
    signature: Signature = None,
    signature_class: SignatureClass = OPENPGP,
    password: Password = False,
    password_file: PasswordFile = None,
    one_time_code: OneTime = "",
) -> Way:
    """Return how the person approves: by GnuPG unless an option says otherwise. Commands gather these options.

    Raises:
        UsageError: Two ways at once, half of one, or there is no terminal to ask at.
    """
    if sum((bool(token), signature is not None, password)) > 1:
        raise UsageError(what="one way is needed", why="two were given", fix="--token, --signature or --password")
    if signature is not None:
        if signature_class not in {OPENPGP, PKCS11}:
            raise UsageError(
                what=f"{ascii(signature_class)[:40]} is no class of signatures", why="", fix=f"{OPENPGP} or {PKCS11}"
            )
        return ByFile(path=signature, approves_by=signature_class)
    if password:
        if password_file is None or not one_time_code:
            passwords.require_terminal()
        return ByPassword(
            password=lambda: passwords.read(password_file, prompt="Password"),
            totp=lambda: one_time_code or passwords.read(None, prompt="One-time code"),
        )
    if token:
        if not token_key or not token_module:
            raise UsageError(what="the key is not clear", why="", fix="give --token-key and --token-module")
        key = TokenKey(module=token_module, token=token, label=token_key)
        return ByToken(key=key, pin=lambda: passwords.read(pin_file, prompt=f"PIN of the token {token}"))
    return ByOpenPGP(home=home_of(gnupg_home))


def home_of(given: Path | None) -> Path:
    """Return the GnuPG folder: the one that was given, else the user's own."""
    return given or Path(os.environ.get("HOME", "/root")) / ".gnupg"


def tell(own: Context, facts: Mapping[str, Any], names: Sequence[str], needed: int, *, then: str = "") -> None:
    """Say who has approved and how many are needed; `then` is what comes next, once they are enough."""
    following = f"; {then}" if then and len(names) >= needed else ""
    own.result(facts, f"approved by {', '.join(names)}: {len(names)} of {needed}{following}")


def agrees(own: Context, text: str, *, yes: bool) -> bool:
    """Show what would be signed and return the person's answer; `yes` stands for it.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    own.say(text)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(what="nobody can be asked", why="there is no terminal", fix="give --yes")
    return typer.confirm("Sign this?", err=True)
