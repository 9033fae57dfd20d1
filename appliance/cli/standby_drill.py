"""`sealift standby drill`: whether this standby could take over now, tried and recorded."""

import typer

from appliance.actions.standby import drilling
from appliance.actions.standby.drilling import Drill
from appliance.cli import context as shared
from appliance.cli import standby_lease
from appliance.cli.context import Context
from appliance.cli.marks import marked
from appliance.cli.opened import ledger_of, records_of
from appliance.errors import PreflightError
from appliance.keys.opening import open_keys
from appliance.timekeeping.believed import BelievedClock
from media.errors import SealiftError


def add(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("drill")(_drill)


def _drill(context: typer.Context) -> None:
    """Look whether this standby could take over now, and record it; nothing moves. Once a month `sync` does it, too."""
    own = shared.of(context)
    found = _drilled(own)
    own.result({**found.to_json(), "sequence": found.sequence}, "\n".join(lines(found)))
    if not found.is_ready:
        raise typer.Exit(PreflightError.exit_code)


def when_due(own: Context) -> Drill | None:
    """Drill once a month, on a standby; that it could not be done must not keep the standby from being current."""
    try:
        if not drilling.is_standby(own.config):
            return None
        with ledger_of(own) as ledger:
            is_due = drilling.is_due(ledger, BelievedClock(own.config.at, own.clock).now())
        return _drilled(own) if is_due else None
    except (SealiftError, OSError) as error:
        own.say(f"the fail-over was not drilled: {error.what if isinstance(error, SealiftError) else error.strerror}")
        return None


def _drilled(own: Context) -> Drill:
    with records_of(own) as (ledger, state):
        return drilling.drill(
            drilling.Surroundings(
                config=own.config,
                ledger=ledger,
                state=state,
                keys=open_keys(own.config),
                clock=own.clock,
                lease=lambda: standby_lease.asked(own, "lease") if own.config.standby.lease else None,
                ask=drilling.answered,
            )
        )


def lines(found: Drill) -> list[str]:
    """Return what a drill found, as people read it."""
    head = f"this box {'could' if found.is_ready else 'COULD NOT'} take over from {found.peer}; record {found.sequence}"
    return [head, *(marked(one.check, one.text, is_good=one.holds) for one in found.checks)]
