"""Whether the host may be changed as a plan says: two people's approval, unless nobody is there to give one yet.

At first install the typed release code is the approval, and so it stays until the site's first people are enrolled.
"""

import os
from pathlib import Path
from typing import Final

from appliance.actions import recorded
from appliance.audit.client import open_ledger
from appliance.config import Config, Places
from appliance.errors import HostChangeError
from appliance.install.plans import Plan
from appliance.promote import hostchange
from media.clock import Clock
from media.digest import sha256_hex

FIRST_TRUST: Final = "first-trust"
NO_CHANGE: Final = "no-change"
NO_HOST: Final = "no-host"
DONE: Final = "install.done"
_DOOR: Final = "ledger-actions"


def has_people(places: Places) -> bool:
    """Tell whether anybody was ever enrolled here; a list that cannot be read counts as people."""
    if not (places.promoter / "people.json").exists():
        # Only a promoter's folder that can be looked into says that nobody is there.
        return places.promoter.exists() and not os.access(places.promoter, os.X_OK)
    return bool(hostchange.people_of(places).people)


def settings_digest(places: Places, config_file: Path) -> str:
    """Return the digest of the site file that fills the playbook's variables."""
    place = places.config_file if places.config_file.exists() else config_file
    return sha256_hex(place.read_bytes()) if place.exists() else sha256_hex(b"")


def require_approved(config: Config, plan: Plan, *, clock: Clock) -> str:
    """Return the digest of the statement by which two people approved exactly this plan.

    Raises:
        HostChangeError: They did not, it expired, or an install was done by it already.
        LedgerUnavailableError: Whether it was used before cannot be known.
    """
    request = hostchange.require_host_approved(config, plan.digest, plan.serial, now=clock.now())
    statement = request.statement.sha256
    ledger = open_ledger(config, _DOOR, clock=clock)
    try:
        done = recorded.bodies(config.at, ledger, DONE)
    finally:
        ledger.close()
    if any(body.get("host_approval") == statement for body in done):
        raise HostChangeError(
            what=f"the approval of plan {plan.digest[:12]} was used",
            why="an install was done by it",
            fix=f"let two people approve anew: `sealift install {plan.serial} --plan --as PERSON`",
        )
    return statement
