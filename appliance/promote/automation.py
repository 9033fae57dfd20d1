"""Automation keys of one site: what a script of the site may ask, and what no script ever may.

Rules (docs/format.md, "Automation keys"):
  AUTO-1  A key is made by an enrolled person with that person's password, at the machine, and shown once. It ends at
          its date, when somebody revokes it, and when that person is revoked or reset.
  AUTO-2  It may do what its scopes name, and nothing else; without a word it may read the standing.
  AUTO-3  No scope decides: no key approves, enrols, signs, promotes, goes back, stops, reads answers or makes keys.
  AUTO-4  A key is no person: its name is nobody's id, its requests count as nobody's approval, and where who requests
          does not approve, who answers for the key does not.
  AUTO-5  A key is no login and a login is no key.
  AUTO-6  What is made, used, refused and revoked is recorded.

Promises: the records are the truth and there is no file beside them; a record holds an argon2 hash of the key, whose
256 bits are chance; a use is recorded before it takes effect.
"""

import base64
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from appliance.audit.facts import EVERY
from appliance.audit.leaf import Leaf
from appliance.errors import (
    AutomationKeyError,
    AutomationRefusedError,
    ConflictError,
    LedgerUnavailableError,
    TooOftenError,
)
from appliance.promote import actors, peoplebook
from appliance.promote.automation_key import (
    CHANGES,
    DEEDS,
    AutomationKey,
    Scope,
    key_id_of,
    key_of,
    new_text,
    require_scopes,
)
from appliance.promote.books import Books
from appliance.promote.enrolment import require_reason
from appliance.promote.people import SitePeople, id_from
from media import canonical
from media.clock import Clock, from_text, to_text
from media.errors import UsageError

FORMAT: Final = 1
MADE: Final = "automation.made"
USED: Final = "automation.used"
REFUSED: Final = "automation.refused"
REVOKED: Final = "automation.revoked"
USUAL_DAYS: Final = 90
MOST_DAYS: Final = 366
MOST_KEYS: Final = 64
PER_MINUTE: Final = 60
"""How often one key may ask."""
CHANGES_PER_HOUR: Final = 12
"""How often one key may ask for something that is not only read."""
_ID_BYTES, _ID_LETTERS = 7, 10


@dataclass(slots=True)
class _Pace:
    """When a key asked of late, by a clock that cannot be set back."""

    asked: deque[float] = field(default_factory=lambda: deque(maxlen=PER_MINUTE))
    changed: deque[float] = field(default_factory=lambda: deque(maxlen=CHANGES_PER_HOUR))


class AutomationKeys:
    """What the promoter's process does about automation keys; the caller makes sure that one call runs at a time.

    Args:
        books: The ledger and the people.
        clock: Tells when a key ends.
        hasher: Of the keys.
    """

    def __init__(self, books: Books, *, clock: Clock, hasher: PasswordHasher) -> None:
        self._books = books
        self._clock = clock
        self._hasher = hasher
        self._verified: dict[str, bytes] = {}
        self._paces: dict[str, _Pace] = {}

    def make(
        self, *, name: str, person: str, scopes: Sequence[str], days: int, purpose: str = "", dry_run: bool = False
    ) -> tuple[AutomationKey, str]:
        """Make a key in the name of a person whose password was checked; return it with its text, shown once.

        Raises:
            UsageError: A scope is unknown, or the days are out of their bounds.
            ConflictError: The name is or was another key's, or a person's, or there are too many keys.
            UnknownPersonError: The person is not enrolled.
            MalformedError: The name or the purpose is not in its form.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        wanted = require_scopes(scopes)
        if not 1 <= days <= MOST_DAYS:
            raise UsageError(
                what=f"{days} days are refused", why=f"1 to {MOST_DAYS}", fix="make a new key when this one ends"
            )
        known = self.all_made()
        actors.of_key(name, who.id)
        self._require_free(name, people, known)
        if sum(not one.ended for one in known) >= MOST_KEYS:
            raise ConflictError(what="there are too many automation keys", why=f"{MOST_KEYS}", fix="revoke some")
        key_id = base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode()[:_ID_LETTERS].lower()
        text = new_text(key_id)
        now = self._clock.now().replace(microsecond=0)
        body: dict[str, Any] = {
            "format": FORMAT,
            "key_id": key_id,
            "name": name,
            "person": who.id,
            "scopes": [str(one) for one in wanted],
            "purpose": canonical.text(purpose.strip(), "purpose", most=200, may_be_empty=True),
            "expires_at": to_text(now + timedelta(days=days)),
        }
        if dry_run:
            return key_of({**body, "key_id": ""}, sequence=0, at=to_text(now)), ""
        done = self._books.ledger.append(MADE, {**body, "hash": self._hasher.hash(text)})
        return key_of(body, sequence=done.sequence, at=done.time), text

    def revoke(self, *, name: str, person: str, reason: str, dry_run: bool = False) -> AutomationKey:
        """End a key; any enrolled person may. Ending it again changes nothing.

        Raises:
            UsageError: There is no such key.
            UnknownPersonError: The person is not enrolled.
            MalformedError: The reason is not one.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        found = next((one for one in self.all_made() if name in {one.name, one.key_id}), None)
        if found is None:
            raise UsageError(what="there is no such automation key", why=name[:40], fix="see `sealift automation list`")
        if not found.ended and not dry_run:
            body = {"key_id": found.key_id, "name": found.name, "person": who.id, "reason": require_reason(reason)}
            self._books.ledger.append(REVOKED, body)
            self._verified.pop(found.key_id, None)
        return next(one for one in self.all_made() if one.key_id == found.key_id)

    def all_made(self) -> tuple[AutomationKey, ...]:
        """Return every key that was ever made, the oldest first."""
        people = self._books.folder.people()
        made = self._books.ledger.find(kind=MADE, limit=EVERY, newest_first=False)
        return tuple(self._judged(leaf, people) for leaf in made)

    def use(self, untrusted_text: str, deed: str, *, about: str = "", says_line: bool = False) -> AutomationKey:
        """Return the key that may do this now; that it does is recorded, and so is that it may not.

        Args:
            untrusted_text: The key as it came.
            deed: One of `DEEDS`; anything else is refused.
            about: What it is about, for the record: a digest or a number.
            says_line: Whether it says for which line of production.

        Raises:
            AutomationKeyError: It is unknown, wrong, ended or past its date.
            AutomationRefusedError: It may not do that.
            TooOftenError: It asked too often.
        """
        key = self.require_may(untrusted_text, deed, says_line=says_line)
        self._require_pace(key, DEEDS[deed])
        body = {"key_id": key.key_id, "name": key.name, "person": key.person, "deed": deed, "about": about[:64]}
        self._books.ledger.append(USED, body)
        return key

    def require_may(self, untrusted_text: str, deed: str, *, says_line: bool = False) -> AutomationKey:
        """Return the key that may do this; that it does is not recorded by this, that it may not is.

        A key of a release before the scope `line` has it not, and asks for the line of a version's name alone.

        Raises:
            AutomationKeyError, AutomationRefusedError: As `use`.
        """
        self._books.catch_up()
        key = self._require_known(untrusted_text, deed)
        scope = DEEDS.get(deed)
        if scope is None:
            self.refuse("AUTO-3", deed, key)
            raise AutomationRefusedError(
                what="an automation key may not do that",
                why=f"AUTO-3: {_spoken(deed)} is for people, and no key ever may",
                fix="let an enrolled person do it, on the page or at the machine",
            )
        self._require_scope(key, scope, deed, what=deed)
        if says_line:
            self._require_scope(key, Scope.LINE, deed, what=f"{deed} with `beside` or `replaces`")
        return key

    def refuse(self, rule: str, deed: str, key: AutomationKey | None = None) -> None:
        """Record that something was refused to a key, or in the name of one; the refusal stands without its record."""
        known = {} if key is None else {"key_id": key.key_id, "name": key.name, "person": key.person}
        try:
            self._books.ledger.append(REFUSED, {**known, "deed": _spoken(deed), "rule": rule})
        except LedgerUnavailableError:
            return

    def require_nobodys_name(self, person: str) -> None:
        """Return when no key has a name that a new person would have as an id.

        Raises:
            ConflictError: One has.
        """
        if person and self._books.ledger.find(kind=MADE, field="name", value=person, limit=1):
            raise ConflictError(
                what=f"the id {person[:40]} is refused", why="an automation key has this name", fix="give another --id"
            )

    def _require_known(self, untrusted_text: str, deed: str) -> AutomationKey:
        key_id = key_id_of(untrusted_text)
        made = self._books.ledger.find(kind=MADE, field="key_id", value=key_id, limit=1) if key_id else []
        if not made or not self._is_text_of(key_id, str(made[0].body.get("hash")), untrusted_text):
            self.refuse("AUTO-1", deed)
            raise _unknown("it was never made here, or is wrong")
        key = self._judged(made[0], self._books.folder.people())
        if key.ended:
            self.refuse("AUTO-1", deed, key)
            raise _unknown(key.ended)
        return key

    def _require_scope(self, key: AutomationKey, scope: Scope, deed: str, *, what: str) -> None:
        if scope in key.scopes:
            return
        self.refuse("AUTO-2", deed, key)
        raise AutomationRefusedError(
            what="this automation key may not do that",
            why=f"AUTO-2: {what} takes the scope {scope}, and the key has {', '.join(key.scopes)}",
            fix="let an enrolled person make a key with that scope: `sealift automation create`",
        )

    def _is_text_of(self, key_id: str, stored: str, untrusted_text: str) -> bool:
        digest = sha256(untrusted_text.encode(errors="replace")).digest()
        if compare_digest(self._verified.get(key_id, b""), digest):
            return True
        try:
            self._hasher.verify(stored, untrusted_text)
        except (Argon2Error, InvalidHashError):
            return False
        self._verified[key_id] = digest
        return True

    def _judged(self, leaf: Leaf, people: SitePeople) -> AutomationKey:
        key = key_of(leaf.body, sequence=leaf.sequence, at=leaf.time)
        return key_of(leaf.body, sequence=leaf.sequence, at=leaf.time, ended=self._why_ended(key, people))

    def _why_ended(self, key: AutomationKey, people: SitePeople) -> str:
        ledger = self._books.ledger
        if revoked := ledger.find(kind=REVOKED, field="key_id", value=key.key_id, limit=1):
            return f"revoked by {revoked[0].body.get('person')} at {revoked[0].time}"
        if self._clock.now() >= from_text(key.expires_at):
            return f"it ended at {key.expires_at}"
        if key.person not in {one.id for one in people.active}:
            return f"{key.person}, who answers for it, was revoked"
        reset = ledger.find(kind=peoplebook.RESET, field="person", value=key.person, limit=1)
        if reset and reset[0].sequence > key.made:
            return f"the keys of {key.person}, who answers for it, were reset at {reset[0].time}"
        return ""

    def _require_free(self, name: str, people: SitePeople, known: Sequence[AutomationKey]) -> None:
        if any(one.name == name for one in known):
            raise ConflictError(
                what=f"the name {name[:40]} is refused", why="an automation key has or had it", fix="give another name"
            )
        if any(name in {one.id, id_from(one.name)} for one in people.people):
            raise ConflictError(
                what=f"the name {name[:40]} is refused",
                why="AUTO-4: it is a person's, and a machine is none",
                fix="name the key after what it does",
            )

    def _require_pace(self, key: AutomationKey, scope: Scope) -> None:
        now = self._clock.monotonic()
        pace = self._paces.setdefault(key.key_id, _Pace())
        if len(pace.asked) == PER_MINUTE and now - pace.asked[0] < 60:
            raise _too_often(f"{PER_MINUTE} times in a minute", "a minute")
        if scope in CHANGES and len(pace.changed) == CHANGES_PER_HOUR and now - pace.changed[0] < 3600:
            raise _too_often(f"{CHANGES_PER_HOUR} times in an hour it may ask for what changes something", "an hour")
        pace.asked.append(now)
        if scope in CHANGES:
            pace.changed.append(now)


def _spoken(deed: str) -> str:
    """Return a deed as it may stand in a record: what came from outside, in few plain letters."""
    return "".join(one for one in deed if one.isascii() and (one.isalnum() or one in " ._-"))[:64]


def _unknown(why: str) -> AutomationKeyError:
    return AutomationKeyError(
        what="the automation key is refused",
        why=why,
        fix="let an enrolled person make one: `sealift automation create`",
    )


def _too_often(why: str, wait: str) -> TooOftenError:
    return TooOftenError(what="the automation key asks too often", why=f"at most {why}", fix=f"ask again in {wait}")
