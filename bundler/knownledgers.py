"""What the register knows of sites' ledgers: for `x-sealift-checkpoints`, so that a box cannot lose its history unseen.

Every receipt, inventory and evidence that came back brings the head of the site's ledger then, signed by its key.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from bundler import ledgerkeys
from bundler.inventory import BelievedInventory
from bundler.plan import ReleasePlan
from bundler.register import Entry, Register
from bundler.workfolder import WorkFolder
from media import durable
from media.clock import Clock, to_text

_KINDS = ("receipt", "inventory", "evidence")


def record_inventory(register: Register, believed: BelievedInventory, *, clock: Clock) -> bool:
    """Enter an inventory that came back and was believed; return whether it is new.

    Raises:
        MalformedError: The register is broken.
        UnreadableError: The register cannot be written.
    """
    known = (entry for entry in register.entries() if entry.kind == "inventory")
    if any(entry.facts["sha256"] == believed.sha256 for entry in known):
        return False
    ledgerkeys.remember(register, believed.inventory.site, believed.keys, clock=clock)
    head = believed.checkpoint
    facts = {
        "sha256": believed.sha256,
        "site": believed.inventory.site,
        "serial": believed.inventory.serial,
        "taken_at": to_text(believed.inventory.at),
        "vouched_by": list(believed.vouched_by),
        "checkpoint": None if head is None else {"origin": head.origin, "size": head.size, "root": head.root.hex()},
    }
    register.append("inventory", facts, clock=clock)
    return True


def checkpoints(entries: Sequence[Entry], sites: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the longest ledger that is known of each of these sites, by origin, as targets metadata carries it."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        head = entry.facts["checkpoint"] if entry.kind in _KINDS and entry.facts["site"] in sites else None
        if head is not None and head["size"] > found.get(head["origin"], {"size": -1})["size"]:
            found[head["origin"]] = {"size": head["size"], "root": head["root"]}
    return found


def remember_ledgers(work: WorkFolder, register: Register) -> dict[str, dict[str, Any]]:
    """Write into a release's plan how long the ledgers of its sites were when they last reported; return them.

    Before anyone signs: afterwards a box whose ledger is shorter stops at this release (FMT-64).

    Raises:
        MalformedError: The register or the plan is broken.
        SigningError: There is no plan.
    """
    plan = ReleasePlan.load(work.plan)
    known = checkpoints(register.entries(), plan.sites)
    if known:
        durable.replace(work.plan, replace(plan, checkpoints=known).to_bytes(), mode=0o644)
    return known
