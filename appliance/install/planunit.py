"""The unit that makes plans: started for a release, and what it says read back as something a stranger said.

It carries out a playbook that nobody approved, so it runs as a user without rights, and what it leaves is its word
alone: how it ended, and a plan under its digest. Both lie in the folder of plans.

    plans/SERIAL.outcome     how the last run for that release ended, the plan's digest among it
    plans/SHA256.json        the plan (`appliance.install.plans`)

Promises: what an earlier run said is never taken for what this one says; what is read is bounded, of one form, and no
link is followed. Whether a plan is about what is to be installed is for the caller to see.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.errors import HostChangeError, InstallError
from appliance.install import plans
from appliance.install.joboutcome import Outcome
from appliance.install.plans import Plan
from appliance.install.supervisor import Supervisor
from media import canonical, durable
from media.errors import MediaError, SealiftError

UNIT: Final = "sealift-plan@{serial}.service"
_MAX_BYTES: Final = 64 * 1024


def run(places: Places, supervisor: Supervisor, serial: int) -> Plan:
    """Start the unit for a stored release, wait for its end, and return the plan that it made.

    Raises:
        RemoteError: It could not make one; the error is the one it told.
        UnitError: The unit did not come to its end, or was not started.
        HostChangeError: It left no plan, or one that is not what its digest says.
        InstallError: What an earlier run said cannot be taken away.
    """
    try:
        _outcome(places, serial).unlink(missing_ok=True)
    except OSError as error:
        raise InstallError(
            what="no plan can be made",
            why=f"the folder of plans: {error.strerror}",
            fix="check the disk of the state folder",
        ) from error
    try:
        supervisor.start(UNIT.format(serial=serial))
    except SealiftError:
        if (outcome := told(places, serial)) is not None:
            outcome.require_ok()
        raise
    outcome = told(places, serial)
    if outcome is None:
        raise HostChangeError(
            what="the plan was not made",
            why="its unit said nothing",
            fix=f"read `journalctl -u {UNIT.format(serial=serial)}`",
        )
    return plans.read(places, outcome.require_ok().digest)


def tell(places: Places, serial: int, outcome: Outcome) -> None:
    """Leave how this run ended, for `told`.

    Raises:
        OSError: It cannot be written.
    """
    durable.replace(_outcome(places, serial), canonical.dumps(outcome.to_json()), mode=0o644)


def told(places: Places, serial: int) -> Outcome | None:
    """Return how the last run for a release ended as its unit says it; nothing where it said nothing that reads."""
    with suppress(OSError, MediaError):
        untrusted = canonical.loads(plans.read_strange(_outcome(places, serial), _MAX_BYTES))
        return Outcome.from_json(canonical.mapping(untrusted, "outcome"))
    return None


def _outcome(places: Places, serial: int) -> Path:
    return plans.folder(places) / f"{serial}.outcome"
