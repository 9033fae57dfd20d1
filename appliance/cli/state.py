"""`sealift state`: the projection of the ledger."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import typer
from sqlalchemy.exc import DBAPIError

from appliance.audit.facts import Ledger
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of
from appliance.config import Places
from appliance.errors import StoreDamagedError
from appliance.state import projection
from appliance.state.database import FILE_NAME, open_state, require_whole, told

_ASIDE: Final = ".damaged"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    state = typer.Typer(help="The database that follows from the ledger.", no_args_is_help=True)
    app.add_typer(state, name="state")
    state.command("rebuild")(_rebuild)


def _rebuild(context: typer.Context) -> None:
    """Throw the state away and make it again from the ledger; a damaged file is kept aside."""
    own, aside = shared.of(context), None
    with ledger_of(own) as ledger:
        # The ledger first: without it nothing may be thrown away.
        ledger.head()
        try:
            reached, told_to = _made(own.config.at, ledger)
        except StoreDamagedError:
            aside = _put_aside(own.config.at)
            reached, told_to = _made(own.config.at, ledger)
    lines = [f"the state reflects the ledger up to record {reached}"]
    if aside is not None:
        lines.append(f"the damaged file was kept as {aside.name}")
    if told_to < reached:
        lines.append(
            f"what was decided at record {told_to + 1} is held back from callers until its engine was seen to answer:"
            " `sealift promote production` looks again"
        )
    facts = {"sequence": reached, "told": told_to, "damaged_file": aside.name if aside else None}
    own.result(facts, "\n".join(lines))


def _made(places: Places, ledger: Ledger) -> tuple[int, int]:
    """Return how far the state reflects the ledger, and how far callers are sent by it."""
    engine = open_state(places)
    try:
        require_whole(engine)  # what is damaged beside the rows that are written now would stay
        return projection.rebuild(engine, ledger), projection.told_sequence(engine)
    except DBAPIError as error:
        raise told(error) from error
    finally:
        engine.dispose()


def _put_aside(places: Places) -> Path:
    path = places.registry / FILE_NAME
    aside = path.with_name(path.name + _ASIDE)
    path.rename(aside)
    # Half of a transaction of the damaged file, which the new one must not find.
    with suppress(FileNotFoundError):
        path.with_name(path.name + "-journal").rename(aside.with_name(aside.name + "-journal"))
    return aside
