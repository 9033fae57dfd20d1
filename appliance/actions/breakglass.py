"""Emergency access, for root at the machine: first the record, then a key that ends when the record says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from appliance.actions import keys as keys_action
from appliance.audit.facts import Ledger
from appliance.keys.provider import KeyProvider
from appliance.phi.policy import PhiMode
from appliance.promote.breakglass import owner
from media.clock import from_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the person gets; `text` is shown once."""

    number: int
    department: str
    key_id: str
    ends: str
    text: str = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, the key among them."""
        return {name: getattr(self, name) for name in ("number", "department", "key_id", "ends", "text")}


def key_for(ledger: Ledger, state: Engine, keys: KeyProvider, begun: Mapping[str, Any]) -> Access:
    """Make the key of an emergency access that the promoter has recorded.

    Args:
        ledger: Where the key is recorded.
        state: Brought up to the ledger.
        keys: Holds the pepper.
        begun: What `PromoterClient.begin_emergency` returned.

    Raises:
        KeyMissingError: There is no pepper; what was recorded ends by itself, without a key.
        LedgerUnavailableError: It could not be recorded; there is no such key.
    """
    made = keys_action.create(
        ledger,
        state,
        keys,
        department=str(begun["department"]),
        owner=owner(int(begun["number"])),
        phi_mode=PhiMode.TOKENISE,
        validity=keys_action.Validity(expires=from_text(str(begun["ends"]))),
    )
    return Access(
        number=int(begun["number"]),
        department=str(begun["department"]),
        key_id=made.facts.key_id,
        ends=str(begun["ends"]),
        text=made.text,
    )
