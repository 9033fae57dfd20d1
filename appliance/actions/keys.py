"""API keys: made once, shown once, kept as a keyed hash.

Promises: the key's text is returned to the caller and nowhere else; the ledger and the state hold HMAC-SHA256 of it
under the site's pepper, which is useless without the pepper; a key works from the moment the ledger has it until the
moment the ledger has its revocation, or until its end. A key is for one stage: its hash is made under that stage's own
pepper, its text says which, and the other stage refuses it. What it is used for is said in one word when it is made and
never changes; each request's record names its key, so the word holds for all of them.
"""

import base64
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

from sqlalchemy import Engine, select

from appliance.audit.facts import EVERY, Ledger
from appliance.keys.provider import KeyProvider
from appliance.keys.stages import PEPPER, keys_of
from appliance.phi.policy import PhiMode
from appliance.stages import Stage
from appliance.state import projection
from appliance.state.tables import ApiKey
from media import canonical
from media.clock import Clock, from_text, to_text
from media.errors import UsageError

CREATED: Final = "key.created"
TIERS: Final = ("basic", "standard", "premium")
PRODUCTION: Final = Stage.PRODUCTION.value
TEST: Final = Stage.TEST.value
STAGES: Final = (PRODUCTION, TEST)
TEST_DAYS: Final = 30
USUAL_TIERS: Final = {PRODUCTION: "standard", TEST: "basic"}
MOST_DAYS: Final = 3660
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_ID_BYTES, _ID_LETTERS = 7, 10  # 10 letters of base32 hold 50 bits
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What is known of a key; never the key."""

    key_id: str
    department: str
    owner: str
    phi_mode: str
    tier: str
    created_at: str
    revoked_at: str | None
    stage: str = PRODUCTION
    expires_at: str | None = None
    purpose: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "key_id": self.key_id,
            "department": self.department,
            "owner": self.owner,
            "phi_mode": self.phi_mode,
            "tier": self.tier,
            "created_at": self.created_at,
            "revoked_at": self.revoked_at,
            "stage": self.stage,
            "expires_at": self.expires_at,
            "purpose": self.purpose,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that was just made; `text` is shown once."""

    facts: KeyFacts
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """For which stage a key is, until when (None for no end), and what its answers are for.

    `purpose` is one word (GDPR Art. 5): ``care``, ``billing``; empty where nobody says.
    """

    stage: str = PRODUCTION
    expires: datetime | None = None
    purpose: str = ""

    @classmethod
    def of(cls, stage: str, days: int, clock: Clock) -> Self:
        """Return what a stage and a number of days from now mean; a key for test always ends, after 30 days by itself.

        Raises:
            UsageError: There is no such stage, or the days are negative or too many.
        """
        if stage not in STAGES or not 0 <= days <= MOST_DAYS:
            raise UsageError(
                what="the stage or the number of days is unknown",
                why=f"stages: {', '.join(STAGES)}; at most {MOST_DAYS} days",
                fix="see `sealift keys create --help`",
            )
        lasts = days or (TEST_DAYS if stage == TEST else 0)
        return cls(stage=stage, expires=clock.now() + timedelta(days=lasts) if lasts else None)


def create(
    ledger: Ledger,
    state: Engine,
    keys: KeyProvider,
    *,
    department: str,
    owner: str,
    phi_mode: str,
    tier: str = "",
    validity: Validity = Validity(),
) -> NewKey:
    """Make a key for a department and record it.

    Args:
        ledger: Where it is recorded.
        state: Brought up to the ledger.
        keys: Holds the pepper.
        department: Who uses it.
        owner: Who answers for it.
        phi_mode: What happens to identifiers.
        tier: How much it may ask; the stage's own when none is named, the lowest for test.
        validity: For which stage, until when and what for.

    Raises:
        UsageError: The PHI mode or the tier is none we know, or the purpose is no word.
        MalformedError: The department or the owner is not a printable text.
        KeyMissingError: The pepper is not there.
        LedgerUnavailableError: It could not be recorded; there is no such key.
    """
    tier = tier or USUAL_TIERS[validity.stage]
    if phi_mode not in set(PhiMode) or tier not in TIERS:
        raise UsageError(
            what="the PHI mode or the tier is unknown",
            why=f"modes: {', '.join(PhiMode)}; tiers: {', '.join(TIERS)}",
            fix="see `sealift keys create --help`",
        )
    if validity.purpose and not _PURPOSE.fullmatch(validity.purpose):
        raise UsageError(
            what="the purpose is no word",
            why="small letters, digits and hyphens, 32 at most: it stands in records and reports beside counts",
            fix="name what the answers are for, e.g. care, documentation, billing, research",
        )
    key_id = base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode()[:_ID_LETTERS].lower()
    own = keys_of(Stage(validity.stage), keys)
    # What a key is for can be read from it, so that the other stage can say so without knowing it.
    mark = "test-" if validity.stage == TEST else ""
    text = f"sl-{mark}{key_id}-{secrets.token_urlsafe(_SECRET_BYTES)}"
    body = {
        "key_id": key_id,
        "secret_hmac": own.hmac(PEPPER, text.encode()).hex(),
        "key_version": own.newest(PEPPER),
        "department": canonical.text(department.strip(), "department", most=100),
        "owner": canonical.text(owner.strip(), "owner", most=100),
        "phi_mode": phi_mode,
        "tier": tier,
    }
    if validity.purpose:
        body["purpose"] = validity.purpose
    if validity.expires is not None:
        body["expires_at"] = to_text(validity.expires)
    if validity.stage == TEST:
        body["stage"] = TEST
    done = ledger.append(CREATED, body)
    projection.catch_up(state, ledger)
    facts = KeyFacts(
        key_id=key_id,
        department=str(body["department"]),
        owner=str(body["owner"]),
        phi_mode=phi_mode,
        tier=tier,
        created_at=done.time,
        revoked_at=None,
        stage=validity.stage,
        expires_at=None if "expires_at" not in body else str(body["expires_at"]),
        purpose=validity.purpose,
    )
    return NewKey(facts=facts, text=text)


def list_keys(state: Engine) -> tuple[KeyFacts, ...]:
    """Return every key that was ever made, the oldest first."""
    with state.connect() as connection:
        rows = connection.execute(select(ApiKey.__table__).order_by(ApiKey.created_at, ApiKey.key_id)).all()
    return tuple(
        KeyFacts(
            key_id=row.key_id,
            department=row.department,
            owner=row.owner,
            phi_mode=row.phi_mode,
            tier=row.tier,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            stage=row.stage or PRODUCTION,
            expires_at=row.expires_at,
        )
        for row in rows
    )


def in_force(state: Engine, clock: Clock) -> tuple[KeyFacts, ...]:
    """Return the keys that callers may use now, of either stage: not revoked, and not at their end.

    Args:
        state: Where keys are listed.
        clock: The time that is believed, by which the gateway judges their ends.
    """
    now = clock.now()
    return tuple(
        one
        for one in list_keys(state)
        if one.revoked_at is None and (one.expires_at is None or from_text(one.expires_at) > now)
    )


def purposes(ledger: Ledger) -> dict[str, str]:
    """Return what each key is for by its id, as the ledger has it; those that were made without a word are absent."""
    found = ((leaf.body.get("key_id"), leaf.body.get("purpose")) for leaf in ledger.find(kind=CREATED, limit=EVERY))
    return {str(key_id): str(purpose) for key_id, purpose in found if purpose}


def revoke(ledger: Ledger, state: Engine, *, key_id: str, reason: str) -> KeyFacts:
    """End a key; ending it again changes nothing.

    Raises:
        UsageError: There is no such key.
        MalformedError: The reason is not a printable text.
        LedgerUnavailableError: It could not be recorded; the key still works.
    """
    known = {facts.key_id: facts for facts in list_keys(state)}
    if key_id not in known:
        raise UsageError(
            what=f"there is no key {key_id[:20]}", why="it was never made here", fix="see `sealift keys list`"
        )
    if known[key_id].revoked_at is None:
        body = {"key_id": key_id, "reason": canonical.text(reason.strip(), "reason", most=500)}
        ledger.append("key.revoked", body)
        projection.catch_up(state, ledger)
        known = {facts.key_id: facts for facts in list_keys(state)}
    return known[key_id]
