"""Password and one-time code, the lower class: a signing key of the person's that only both together open.

At enrolment the promoter makes an Ed25519 key and a TOTP secret (RFC 6238: SHA-1, 30 seconds, 6 digits, as the apps for
it expect), seals both under the password (argon2id, AES-256-GCM) and keeps the public key among the person's
credentials. An approval opens the seal with the password, checks the code, signs and forgets. So the launcher verifies
these approvals like all others, and neither the promoter's files nor its word alone can make one.

    secondfactors.json    sealed keys; readable by the promoter only (format 1)

Promises: a code counts once and for its step and the neighbours on both sides only; wrong guesses are limited; while
the clock is behind or jumped none counts (`appliance.timekeeping.onetime`).
"""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from argon2 import PasswordHasher
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import UnknownPersonError
from appliance.promote import base64text
from appliance.promote.classes import PASSWORD_TOTP
from appliance.promote.credentials import Credential, spki_of
from appliance.promote.folder import PromoterFolder
from appliance.promote.passwords import GuessLimit
from appliance.timekeeping.onetime import matching_step
from media import canonical
from media.clock import Clock

FORMAT: Final = 1
FILE: Final = "secondfactors.json"
_SECRET_BYTES: Final = 20
_SEED_BYTES: Final = 32
_FIELDS: Final = ("salt", "nonce", "sealed", "time_cost", "memory_cost", "parallelism", "last_step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What an enrolment made: the credential, and the address that the person's app takes once (otpauth)."""

    credential: Credential
    address: str = field(repr=False)


class SecondFactors:
    """The sealed keys of enrolled people.

    Args:
        folder: The promoter's.
        clock: By which guesses are counted.
        hasher: Its costs are those of the seals.
        site: Names the entry in the person's app.
        step: Returns the step that codes are judged by now, or refuses while the clock is not certain.
    """

    def __init__(
        self, folder: PromoterFolder, clock: Clock, hasher: PasswordHasher, *, site: str, step: Callable[[], int]
    ) -> None:
        self._folder = folder
        self._hasher = hasher
        self._site = site
        self._step = step
        self._limit = GuessLimit(clock=clock)

    def make(self, person: str, password: str) -> Provisioned:
        """Make and seal a person's key and secret; those from before end."""
        key, secret = Ed25519PrivateKey.generate(), secrets.token_bytes(_SECRET_BYTES)
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        costs = (self._hasher.time_cost, self._hasher.memory_cost, self._hasher.parallelism)
        sealed = AESGCM(_stretched(password, salt, costs)).encrypt(
            nonce, key.private_bytes_raw() + secret, _associated(self._site, person)
        )
        entry = {
            "salt": base64text.encode(salt),
            "nonce": base64text.encode(nonce),
            "sealed": base64text.encode(sealed),
            **dict(zip(("time_cost", "memory_cost", "parallelism"), costs, strict=True)),
            "last_step": 0,
        }
        self._save({**self._entries(), person: entry})
        label = quote(f"Sealift {self._site}:{person}")
        issuer = quote(f"Sealift {self._site}")
        text = base64.b32encode(secret).decode()
        return Provisioned(
            credential=Credential.of(PASSWORD_TOTP, spki_of(key.public_key())),
            address=f"otpauth://totp/{label}?secret={text}&issuer={issuer}",
        )

    def forget(self, person: str) -> None:
        """Remove a person's key; no-op where there is none."""
        entries = self._entries()
        if entries.pop(person, None) is not None:
            self._save(entries)

    def sign(self, person: str, password: str, code: str, statement: bytes) -> bytes:
        """Return the person's signature over a statement.

        Raises:
            ClockUncertainError: The clock is behind or jumped; no guess is counted.
            UnknownPersonError: The password or the code is wrong or was used, or too many were wrong.
        """
        here = self._step()
        entry = self._entries().get(person)
        whose = "nobody" if entry is None else person
        if self._limit.is_reached(whose):
            raise _wrong("too many wrong ones; none is looked at for ten minutes")
        opened = b"" if entry is None else _opened(entry, password, _associated(self._site, person))
        step = matching_step(opened[_SEED_BYTES:], code, here)
        if not opened or step is None or entry is None:
            self._limit.count(whose)
            raise _wrong("the password or the one-time code is wrong")
        if step <= entry["last_step"]:
            raise _wrong("this one-time code was used; wait for the next one")
        self._save({**self._entries(), person: {**entry, "last_step": step}})
        return Ed25519PrivateKey.from_private_bytes(opened[:_SEED_BYTES]).sign(statement)

    def _entries(self) -> dict[str, dict[str, Any]]:
        content = self._folder.read_secret(FILE)
        if content is None:
            return {}
        fields = canonical.exact_keys(canonical.loads_canonical(content), ("format", "people"), what=FILE)
        canonical.integer(fields["format"], f"{FILE}.format", minimum=FORMAT, maximum=FORMAT)
        people = canonical.mapping(fields["people"], FILE)
        return {name: canonical.exact_keys(one, _FIELDS, what=FILE) for name, one in people.items()}

    def _save(self, entries: dict[str, dict[str, Any]]) -> None:
        self._folder.save_secret(FILE, canonical.dumps({"format": FORMAT, "people": entries}))


def _opened(entry: dict[str, Any], password: str, associated: bytes) -> bytes:
    salt, nonce, sealed = (base64text.decode(entry[name], name) for name in ("salt", "nonce", "sealed"))
    costs = (int(entry["time_cost"]), int(entry["memory_cost"]), int(entry["parallelism"]))
    try:
        return AESGCM(_stretched(password, salt, costs)).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return b""


def _stretched(password: str, salt: bytes, costs: tuple[int, int, int]) -> bytes:
    return hash_secret_raw(password.encode(), salt, *costs, hash_len=32, type=Type.ID)


def _associated(site: str, person: str) -> bytes:
    return f"sealift/second-factor/1 {site} {person}".encode()


def _wrong(why: str) -> UnknownPersonError:
    return UnknownPersonError(
        what="the approval by password is refused", why=why, fix="type the password and the code that the app shows now"
    )
