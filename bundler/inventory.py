"""A site's inventory, believed only when the key of its ledger vouches for it."""

from dataclasses import dataclass

from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import Checkpoint
from bundler.siteword import Said
from media import inventory, limits
from media.digest import sha256_hex
from media.inventory import Inventory

_WHAT = "The inventory"


@dataclass(frozen=True, slots=True, kw_only=True)
class BelievedInventory:
    """What a site says that it holds, and who vouches for that.

    Args:
        inventory: The list.
        sha256: Of the file that the site sent.
        checkpoint: The head of the site's ledger at that time; None when the ledger's own proof is not there.
        vouched_by: signature, ledger, or both.
        keys: Of the site's ledger, after those that it leads to.
    """

    inventory: Inventory
    sha256: str
    checkpoint: Checkpoint | None
    vouched_by: tuple[str, ...]
    keys: SiteKeys


def site_of(untrusted: bytes) -> str:
    """Return the site that an inventory names, to look up the key that must have signed it.

    Raises:
        MediaError: It is no inventory.
    """
    return Inventory.from_payload(_said(untrusted).payload)[0].site


def read_inventory(untrusted: bytes, keys: SiteKeys) -> BelievedInventory:
    """Return a site's inventory, once the site's ledger key vouches for it.

    Raises:
        LimitExceededError, MalformedError: It is no inventory.
        UnsupportedFormatError: A later version of the format.
        BadSignatureError: Nothing vouches for it, or what does is wrong.
    """
    said = _said(untrusted)
    found, value = Inventory.from_payload(said.payload)
    vouched = said.require_vouched(value, keys, kind="inventory")
    return BelievedInventory(
        inventory=found, sha256=sha256_hex(untrusted), checkpoint=vouched.head, vouched_by=vouched.by, keys=vouched.keys
    )


def _said(untrusted: bytes) -> Said:
    return Said.opened(
        untrusted, payload_type=inventory.PAYLOAD_TYPE, what=_WHAT, max_bytes=limits.INVENTORY_BYTES + 2**20
    )
