"""One-time codes and passwords: argon2 hashes in files that only the promoter reads, and a limit on guessing.

Promises: a code works once; a code and a password are never stored, logged or recorded; wrong guesses are counted by a
clock that cannot be set back, and past the limit even a right one is refused for a while.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from appliance.errors import CodeRefusedError, UnknownPersonError
from appliance.promote.folder import PromoterFolder
from media import canonical
from media.clock import Clock
from media.errors import MediaError

FORMAT: Final = 2
CODES: Final = "codes.json"
_PASSWORDS_FORMAT: Final = 1
PASSWORDS: Final = "passwords.json"
SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # no letter that reads like a digit
_GROUPS, _LETTERS = 4, 4
_WRONG_GUESSES, _WINDOW_SECONDS = 5, 600.0


@dataclass(slots=True, kw_only=True)
class GuessLimit:
    """Counts wrong guesses of one kind; past five in ten minutes all are refused until ten minutes are over."""

    clock: Clock
    _wrong: dict[str, list[float]] = field(default_factory=dict)

    def is_reached(self, whose: str) -> bool:
        """Return whether guesses are refused now."""
        since = self.clock.monotonic() - _WINDOW_SECONDS
        recent = [moment for moment in self._wrong.get(whose, ()) if moment > since]
        self._wrong[whose] = recent
        return len(recent) >= _WRONG_GUESSES

    def count(self, whose: str) -> None:
        """Note one wrong guess."""
        self._wrong.setdefault(whose, []).append(self.clock.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a code is for; codes of format 1 said nothing and are for enrolling.

    Attributes:
        roles: What who enrols with it becomes; empty leaves it to the site's profile.
        person: Whose reset it is for; empty for somebody new.
        is_printed: Printed at the enrolment and kept sealed: with the other person's word it allows a reset.
    """

    roles: tuple[str, ...] = ()
    person: str = ""
    is_printed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the members of a code's entry."""
        return {"roles": list(self.roles), "person": self.person, "printed": self.is_printed}


class CodeBook:
    """The one-time codes of enrolment."""

    def __init__(self, folder: PromoterFolder, clock: Clock, hasher: PasswordHasher) -> None:
        self._folder = folder
        self._hasher = hasher
        self._limit = GuessLimit(clock=clock)

    def issue(self, count: int, *, keep_others: bool = False, purpose: "Purpose | None" = None) -> tuple[str, ...]:
        """Return new codes for one purpose; without `keep_others` all earlier ones end."""
        entries = self._entries() if keep_others else []
        codes = tuple(_new_code() for _ in range(count))
        for code in codes:
            code_id = f"c{len(entries) + 1}"
            entry = {"id": code_id, "hash": self._hasher.hash(_plain(code)), "used": False}
            entries.append({**entry, **(purpose or Purpose()).to_json()})
        self._save(entries)
        return codes

    def left(self, purpose: "Purpose") -> int:
        """Return how many codes of a purpose are not used."""
        return sum(_purpose(entry) == purpose and not entry["used"] for entry in self._entries())

    def end(self, purpose: "Purpose") -> None:
        """End the unused codes of a purpose, as when a new one takes their place."""
        entries = self._entries()
        for entry in entries:
            if _purpose(entry) == purpose:
                entry["used"] = True
        self._save(entries)

    def require(self, untrusted: str, *, is_printed: bool = False) -> tuple[str, "Purpose"]:
        """Return the id of an unused code and what it is for; `use` it when what it allows is recorded.

        Args:
            untrusted: What was typed.
            is_printed: Whether one is looked for that was printed for a reset, which no enrolment takes.

        Raises:
            CodeRefusedError: It is wrong or used, or too many were wrong.
        """
        if self._limit.is_reached("code"):
            raise _code_refused("too many wrong codes; no code is looked at for ten minutes")
        plain = _plain(untrusted)
        for entry in self._entries():
            is_right = _purpose(entry).is_printed == is_printed and not entry["used"]
            if is_right and _matches(self._hasher, str(entry["hash"]), plain):
                return str(entry["id"]), _purpose(entry)
        self._limit.count("code")
        raise _code_refused("it is wrong, or was used already")

    def use(self, code_id: str) -> None:
        """Mark a code as used; no-op for one that is."""
        entries = self._entries()
        for entry in entries:
            if entry["id"] == code_id:
                entry["used"] = True
        self._save(entries)

    def _entries(self) -> list[dict[str, Any]]:
        content = self._folder.read_secret(CODES)
        return [] if content is None else list(canonical.mapping(canonical.loads(content), CODES)["codes"])

    def _save(self, entries: list[dict[str, Any]]) -> None:
        self._folder.save_secret(CODES, canonical.dumps({"format": FORMAT, "codes": entries}))


class Passwords:
    """The passwords of enrolled people."""

    def __init__(self, folder: PromoterFolder, clock: Clock, hasher: PasswordHasher) -> None:
        self._folder = folder
        self._hasher = hasher
        self._limit = GuessLimit(clock=clock)

    def set(self, person: str, password: str) -> None:
        """Store the hash of a password.

        Raises:
            CodeRefusedError: It is too short or too long, or has characters that nobody sees.
        """
        self.require_fit(password)
        hashes = {**self._hashes(), person: self._hasher.hash(password)}
        self._folder.save_secret(PASSWORDS, canonical.dumps({"format": _PASSWORDS_FORMAT, "passwords": hashes}))

    def require_fit(self, password: str) -> None:
        """Return where a password may be set.

        Raises:
            CodeRefusedError: It is too short or too long, or has characters that nobody sees.
        """
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise _unfit_password(f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
        try:
            canonical.text(password, "the password")
        except MediaError as error:  # a decision takes a password as it takes every text, and would refuse it each time
            raise _unfit_password(error.why) from error

    def has(self, person: str) -> bool:
        """Tell whether a person has a password on this box."""
        return person in self._hashes()

    def forget(self, person: str) -> None:
        """Remove a person's password; no-op where there is none."""
        hashes = {name: one for name, one in self._hashes().items() if name != person}
        self._folder.save_secret(PASSWORDS, canonical.dumps({"format": _PASSWORDS_FORMAT, "passwords": hashes}))

    def require(self, person: str, untrusted: str, *, at: str = "") -> None:
        """Check a password.

        Args:
            person: Whose.
            untrusted: What was typed.
            at: Where guesses are counted apart, so that those of strangers there keep nobody from a decision here.

        Raises:
            UnknownPersonError: It is wrong, or too many were wrong for this person.
        """
        stored = self._hashes().get(person)
        whose = f"{at} {'nobody' if stored is None else person}"
        if self._limit.is_reached(whose):
            raise _wrong_password("too many wrong passwords; none is looked at for ten minutes")
        if stored is None or not _matches(self._hasher, stored, untrusted[: LONGEST_PASSWORD + 1]):
            self._limit.count(whose)
            raise _wrong_password("the person or the password is wrong")

    def _hashes(self) -> dict[str, str]:
        content = self._folder.read_secret(PASSWORDS)
        return {} if content is None else dict(canonical.mapping(canonical.loads(content), PASSWORDS)["passwords"])


def _purpose(entry: dict[str, Any]) -> Purpose:
    return Purpose(
        roles=tuple(str(role) for role in entry.get("roles", ())),
        person=str(entry.get("person", "")),
        is_printed=entry.get("printed", False) is True,
    )


def _matches(hasher: PasswordHasher, stored: str, plain: str) -> bool:
    try:
        return hasher.verify(stored, plain)
    except (Argon2Error, InvalidHashError):
        return False


def _new_code() -> str:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS)) for _ in range(_GROUPS))
    return "-".join(groups)


def _plain(untrusted_code: str) -> str:
    return "".join(letter for letter in untrusted_code[:64].upper() if letter in _ALPHABET)


def _code_refused(why: str) -> CodeRefusedError:
    return CodeRefusedError(
        what="the enrolment code is refused",
        why=why,
        fix="type it as it was printed, each works once; a lost one: docs/operator/approving.md, People",
    )


def _unfit_password(why: str) -> CodeRefusedError:
    return CodeRefusedError(what="the password is refused", why=why, fix="choose another; a code is still good")


def _wrong_password(why: str) -> UnknownPersonError:
    return UnknownPersonError(what="the password is refused", why=why, fix="see `sealift people list` for the ids")
