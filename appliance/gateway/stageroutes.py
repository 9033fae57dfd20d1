"""Which engines may answer in the test stage: the versions that somebody had loaded there, the newest first.

Callers choose among them: by a model's name (its newest), by NAME:VERSION, or `test` for what was loaded last. Nothing
of production is among them, also where the same version serves there: its engine is another process, of another user,
that this gateway cannot reach.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, inspect

from appliance.audit.leaf import Leaf
from appliance.errors import LedgerUnavailableError
from appliance.gateway.routing import Lines, Route, Serving, StateRoutes
from appliance.gateway.unapplied import loads
from appliance.modelaliases import PRODUCTION
from appliance.registry import stageloads
from appliance.stages import Stage
from appliance.state.projection import applied_sequence
from appliance.state.tables import StageLoad

ALIAS: Final = Stage.TEST.value


class StageRoutes(StateRoutes):
    """Reads what is loaded, and stops, from `state.db`, at most once a second; see `Routes`."""

    engines = f"engine-{Stage.TEST}"
    _recorded: Sequence[Leaf] = ()

    def _prepare(self) -> None:
        # Before the state is opened: nobody who writes it waits for the ledger. Without it nothing is answered anyway.
        with suppress(LedgerUnavailableError):
            self._recorded = self._unapplied.since(self._applied)

    def _read(self, connection: Connection, *, is_whole: bool) -> Lines:
        # After an upgrade this gateway may be there before whoever writes the state brings its schema up.
        if not is_whole or not inspect(connection).has_table(StageLoad.__tablename__):
            return Lines()
        found = tuple(self._loaded(connection))
        # What a site calls production is here what was loaded last, so that its clients can be tried.
        aliases = {alias: ALIAS if meant == PRODUCTION else meant for alias, meant in self._sites.items()}
        return Lines([Serving(production=found[0], others=found[1:], is_test=True)] if found else (), aliases=aliases)

    def _loaded(self, connection: Connection) -> Iterator[Route]:
        applied = applied_sequence(connection)
        told = [(one.model_digest, one.at) for one in stageloads.loads(connection)]
        for model_digest, at in loads(told, [leaf for leaf in self._recorded if leaf.sequence > applied]):
            route = self._route(connection, model_digest, at)
            if route is not None:
                yield route

    def _also(self, version: Any) -> tuple[str, ...]:
        return (f"{version.name}:{version.version}", ALIAS, *self._aliases)
