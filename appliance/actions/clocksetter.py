"""Sets this machine's clock as two people approved it: the one step of ours that may.

Entry point of `sealift-clock-set@DIGEST`: ``python -I -m appliance.actions.clocksetter --config FILE DIGEST``. It takes
the digest of a statement and nothing else.

Promises: every signature is verified again here; a statement is used once, in the boot and by the clock it was written
for; what will be set is in the ledger before it is set. The hardware clock follows by the unit's next line
(`appliance.timekeeping.hardwareclock`).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from appliance import config as configuration
from appliance.actions.clockwatch import SET
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import ClockUncertainError, PrivilegeError
from appliance.install import jobrights
from appliance.install.jobclient import JobsClient
from appliance.install.joboutcome import Outcome
from appliance.promote.clockchange import ClockRequest, require_clock_approved, require_possible
from appliance.timekeeping import record
from media import canonical
from media.clock import Clock, SystemClock, to_text
from media.errors import SealiftError

Setter = Callable[[datetime], None]
"""Sets the system's clock to a UTC time."""


def require_settable(config: Config, ledger: Ledger, untrusted_digest: str, *, clock: Clock) -> ClockRequest:
    """Return the request when it was approved, holds now and was not used.

    Raises:
        ClockUncertainError: It was not, does not, or was.
        LedgerUnavailableError: Whether it was used cannot be known.
    """
    digest = canonical.sha256_hex(untrusted_digest, "statement")
    request = require_clock_approved(config, digest)
    session = record.require_watched(config.at).session
    request.statement.require_current(session, now=clock.now(), ticks=int(clock.monotonic()))
    if ledger.find(kind=SET, field="statement_sha256", value=digest, limit=1):
        raise ClockUncertainError(
            what=f"the correction {digest[:12]} was used",
            why="it counts once",
            fix="ask for another: `sealift clock set`",
        )
    return request


def carry_out(config: Config, ledger: Ledger, untrusted_digest: str, *, clock: Clock, setter: Setter) -> Outcome:
    """Record and set; see the module.

    Raises:
        ClockUncertainError, LedgerUnavailableError: As `require_settable`; nothing was set.
        PrivilegeError: This process may not set the clock.
    """
    request = require_settable(config, ledger, untrusted_digest, clock=clock)
    statement = request.statement
    correction = timedelta(seconds=statement.correction_seconds)
    require_possible(clock.now() + correction)
    ledger.append(
        SET,
        {
            "statement_sha256": statement.sha256,
            "session": statement.session,
            "correction_seconds": statement.correction_seconds,
            "from": to_text(clock.now()),
            "to": to_text(clock.now() + correction),
            "approved_by": [one.person for one in request.approvals],
        },
    )
    setter(clock.now() + correction)
    return Outcome(ok=True, changed=bool(statement.correction_seconds))


def set_system_clock(moment: datetime) -> None:
    """Set the kernel's clock.

    Raises:
        PrivilegeError: This process may not.
    """
    try:
        time.clock_settime(time.CLOCK_REALTIME, moment.timestamp())
    except PermissionError as error:
        raise PrivilegeError(
            what="the clock cannot be set",
            why="CAP_SYS_TIME is missing",
            fix="ask for it: `sealift clock apply DIGEST`",
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Set the clock and tell the job service; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-clock-set")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("digest")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    ledger, jobs = SocketLedger(config.at.socket(ACTIONS)), JobsClient.open(config, jobrights.RECEIVE)
    try:
        outcome = carry_out(config, ledger, options.digest, clock=SystemClock(), setter=set_system_clock)
    except SealiftError as error:
        outcome = Outcome.of_error(error)
    finally:
        ledger.close()
    sys.stderr.write("" if outcome.ok else f"{outcome.what}: {outcome.why}\n")
    with suppress(SealiftError):
        jobs.tell_outcome(outcome)
    jobs.close()
    return 0 if outcome.ok else outcome.exit_code or 1


if __name__ == "__main__":
    raise SystemExit(main())
