"""Whether the host may be changed as a plan says: two people's approval, unless nobody is there to give one yet.

At first install the typed release code is the approval, and so it stays until the site's first people are enrolled.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from appliance.actions import recorded
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config, Places
from appliance.errors import HostChangeError, LedgerUnavailableError
from appliance.install import plans
from appliance.install.plans import Plan
from appliance.install.releases import InstalledReleases
from appliance.promote import hostchange
from appliance.promote.peoplebook import ENROLLED
from appliance.timekeeping.believed import BelievedClock
from media.clock import Clock
from media.digest import sha256_hex

FIRST_TRUST: Final = "first-trust"
NO_CHANGE: Final = "no-change"
NO_HOST: Final = "no-host"
_DOOR: Final = "ledger-actions"
_MOST_NAMED: Final = 6


def has_people(places: Places, ledger: Ledger) -> bool:
    """Tell whether anybody was ever enrolled here; a list that cannot be read counts as people.

    A list that is gone or empty says nothing by itself: whoever could take it away would need no approval any more. So
    it is asked of the ledger, which forgets nobody.

    Raises:
        LedgerUnavailableError: No list names anybody, and the ledger is there and does not answer.
    """
    if (places.promoter / "people.json").exists():
        if hostchange.people_of(places).people:
            return True
    elif places.promoter.exists() and not os.access(places.promoter, os.X_OK):
        # Only a promoter's folder that can be looked into says that nobody is there.
        return True
    try:
        return bool(ledger.find(kind=ENROLLED, limit=1))
    except LedgerUnavailableError:
        if recorded.ledger_may_exist(places):
            raise
        return False


def is_anybody_here(config: Config, *, clock: Clock) -> bool:
    """Tell what `has_people` does, by the ledger of this machine.

    Raises:
        LedgerUnavailableError: As `has_people`.
    """
    ledger = open_ledger(config, _DOOR, clock=clock)
    try:
        return has_people(config.at, ledger)
    finally:
        ledger.close()


def waits_for_people(config: Config, *, clock: Clock) -> bool:
    """Tell whether a change of this host waits for two people's approval: it has a release, and people are enrolled.

    Raises:
        LedgerUnavailableError: As `has_people`.
        InstallError: Which release is in use cannot be told.
    """
    return InstalledReleases(config.at).in_use() is not None and is_anybody_here(config, clock=clock)


def settings_digest(places: Places, config_file: Path) -> str:
    """Return the digest of the site file that fills the playbook's variables."""
    place = places.config_file if places.config_file.exists() else config_file
    return sha256_hex(place.read_bytes()) if place.exists() else sha256_hex(b"")


def require_asked(config: Config, expected: Plan, *, clock: Clock) -> None:
    """Return when two people approved a plan that is about what lies here now, whatever it would change.

    Raises:
        HostChangeError: They did not, it expired by the time that is believed, or it is about something else by now.
    """
    requests = hostchange.approved_hosts(config, expected.serial, now=BelievedClock(config.at, clock).now())
    for request in requests:
        with suppress(HostChangeError):
            if plans.identity(plans.read(config.at, request.statement.plan_digest)) == plans.identity(expected):
                return
    raise HostChangeError(
        what=f"what two people approved for serial {expected.serial} is not what lies here now",
        why="the release in use, the playbooks or the site file are others since",
        fix=f"make a new plan and let two people approve it: `sealift install {expected.serial} --plan --as PERSON`",
    )


def require_approved(config: Config, plan: Plan, *, clock: Clock) -> str:
    """Return the digest of the statement by which two people approved exactly this plan.

    Raises:
        HostChangeError: They did not, it expired by the time that is believed, or an install was done by it already.
        LedgerUnavailableError: Whether it was used before cannot be known.
    """
    now = BelievedClock(config.at, clock).now()
    try:
        requests = hostchange.approved_hosts(config, plan.serial, now=now, plan_digest=plan.digest)
    except HostChangeError as error:
        if (changed := _since_changed(config, plan, now=now)) is not None:
            raise changed from error
        raise
    ledger = open_ledger(config, _DOOR, clock=clock)
    try:
        used = {body.get(hostchange.BY) for body in recorded.bodies(config.at, ledger, hostchange.DONE)}
    finally:
        ledger.close()
    for request in requests:
        if request.statement.sha256 not in used:
            return request.statement.sha256
    raise HostChangeError(
        what=f"the approval of plan {plan.digest[:12]} was used",
        why="an install was done by it",
        fix=f"let two people approve anew: `sealift install {plan.serial} --plan --as PERSON`",
    )


def _since_changed(config: Config, plan: Plan, *, now: datetime) -> HostChangeError | None:
    """Return what changed on the host since two people approved a plan about the same, where they did."""
    with suppress(HostChangeError):
        for request in hostchange.approved_hosts(config, plan.serial, now=now):
            approved = plans.read(config.at, request.statement.plan_digest)
            if plans.identity(approved) == plans.identity(plan):
                names = plans.differing(approved, plan)
                more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
                return HostChangeError(
                    what=f"the host is not as it was when two people approved plan {approved.digest[:12]}",
                    why=f"another outcome now of: {', '.join(names[:_MOST_NAMED]) or 'no task by name'}{more}",
                    fix=f"read the new plan and let two people approve it: `sealift install {plan.serial} --plan`",
                )
    return None
