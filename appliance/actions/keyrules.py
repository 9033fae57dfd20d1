"""Keys that the share of a canary does not decide on: pinned to a version, or kept out of canaries.

A pinned key is told in each answer when its version may be retired (`sunset`, RFC 8594), from the start of the canary
that would replace it on; after that it is refused rather than answered by another version.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, select

from appliance.actions import keys
from appliance.audit.facts import Ledger
from appliance.registry import catalog
from appliance.state import projection
from appliance.state.rollouts import FREE, OPEN
from appliance.state.tables import KeyRule, Rollout
from media import canonical
from media.errors import UsageError

RULED: Final = "key.ruled"
PINNED: Final = "pinned"
KEPT_OUT: Final = "kept-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFacts:
    """What was decided for a key; `leaves` is when its version may be retired, empty where that is not known."""

    key_id: str
    department: str
    owner: str
    rule: str
    model_digest: str | None
    leaves: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        fields = ("key_id", "department", "owner", "rule", "model_digest", "leaves")
        return {name: getattr(self, name) for name in fields}


def rules(state: Engine) -> tuple[RuleFacts, ...]:
    """Return every key for which something was decided, by its id."""
    known = {facts.key_id: facts for facts in keys.list_keys(state)}
    with state.connect() as connection:
        opened = connection.execute(select(Rollout.control, Rollout.ends_at).where(Rollout.state.in_(OPEN)))
        leaving = {row.control: row.ends_at for row in opened}
        rows = connection.execute(select(KeyRule.key_id, KeyRule.rule, KeyRule.model_digest).order_by(KeyRule.key_id))
        found = list(rows)
    return tuple(
        RuleFacts(
            key_id=row.key_id,
            department=known[row.key_id].department,
            owner=known[row.key_id].owner,
            rule=row.rule,
            model_digest=row.model_digest,
            leaves=leaving.get(row.model_digest or "", ""),
        )
        for row in found
        if row.key_id in known
    )


def decide(ledger: Ledger, state: Engine, *, key_id: str, rule: str, which: str = "", reason: str) -> None:
    """Record what holds for a key from now on; gateways see it within a second.

    Args:
        ledger: Where it is recorded.
        state: Brought up to the ledger.
        key_id: Of a key that was made here and not revoked.
        rule: pinned, kept-out, or free for neither.
        which: The version, where it is pinned.
        reason: Why, for the record.

    Raises:
        UsageError: There is no such key.
        UnknownVersionError: There is no such version.
        MalformedError: The reason is not a printable text.
    """
    digest = judged(state, key_id=key_id, rule=rule, which=which)
    text = canonical.text(reason.strip(), "reason", most=500)
    ledger.append(RULED, {"key_id": key_id, "rule": rule, "model_digest": digest, "reason": text})
    projection.catch_up(state, ledger)


def judged(state: Engine, *, key_id: str, rule: str, which: str = "") -> str | None:
    """Return the version that a rule for a key would name, None for none; nothing is recorded.

    Raises:
        UsageError: There is no such key.
        UnknownVersionError: There is no such version.
    """
    if key_id not in {facts.key_id for facts in keys.list_keys(state) if facts.revoked_at is None}:
        raise UsageError(
            what=f"there is no key {key_id[:20]}", why="it was never made here, or ended", fix="see `sealift keys list`"
        )
    if rule != PINNED:
        return None
    with state.connect() as session:
        return catalog.version(session, which).model_digest


__all__ = ("FREE", "KEPT_OUT", "PINNED", "RuleFacts", "decide", "judged", "rules")
