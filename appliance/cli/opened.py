"""What commands open for the actions they call, and close again: ledger, state, promoter, supervisor."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from appliance.actions import production, validate
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.cli.context import Context
from appliance.install.supervisor import open_supervisor
from appliance.promote.client import PromoterClient
from appliance.state import projection
from appliance.state.database import open_state


@contextmanager
def ledger_of(own: Context) -> Iterator[Ledger]:
    """Yield the ledger through the door of actions, or read-only from its file when nothing runs."""
    ledger = open_ledger(own.config, ACTIONS, clock=own.clock)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def records_of(own: Context) -> Iterator[tuple[Ledger, Engine]]:
    """Yield ledger and state, the state brought up to the ledger."""
    with ledger_of(own) as ledger:
        state = open_state(own.config.at)
        try:
            projection.catch_up(state, ledger)
            yield ledger, state
        finally:
            state.dispose()


@contextmanager
def promoter_of(own: Context) -> Iterator[PromoterClient]:
    """Yield the promoter through the door of local commands."""
    promoter = PromoterClient.open(own.config)
    try:
        yield promoter
    finally:
        promoter.close()


@contextmanager
def production_of(own: Context) -> Iterator[production.Surroundings]:
    """Yield what actions on production work with."""
    with ledger_of(own) as ledger, promoter_of(own) as promoter:
        # Not caught up: the route changes when the new engine is up, and that is the action's to say.
        state = open_state(own.config.at)
        try:
            yield production.Surroundings(
                config=own.config,
                ledger=ledger,
                state=state,
                promoter=promoter,
                supervisor=open_supervisor(own.config),
                clock=own.clock,
                tell=own.say,
            )
        finally:
            state.dispose()


@contextmanager
def bench_of(own: Context) -> Iterator[validate.Surroundings]:
    """Yield what validation works with."""
    with records_of(own) as (ledger, state):
        yield validate.Surroundings(
            config=own.config, ledger=ledger, state=state, supervisor=open_supervisor(own.config), clock=own.clock
        )
