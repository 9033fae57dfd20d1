"""Fixtures of one PostgreSQL server for a whole run, with a database to copy from that has all our tables."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.config import DatabaseSection, Places

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

NewPlaces = Callable[[], Places]


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """A server that is never killed; who kills one starts another."""
    from tests.support.postgres import postgres_server

    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def prepared(postgres: "PostgresServer", tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with ledger and state, empty."""
    from appliance.actions.databases import migrating

    name = postgres.database()
    migrating.migrate(postgres.places(tmp_path_factory.mktemp("prepared"), name), "up")
    return name


@pytest.fixture(scope="session")
def new_database(postgres: "PostgresServer", prepared: str) -> Callable[[], DatabaseSection]:
    """Make a database with empty tables on demand, and return how a site file names it."""
    return lambda: postgres.section(postgres.database(prepared))


@pytest.fixture(scope="session")
def _shared(new_database: Callable[[], DatabaseSection]) -> DatabaseSection:
    return new_database()


@pytest.fixture
def on_server(postgres: "PostgresServer", _shared: DatabaseSection, tmp_path: Path) -> Places:
    """Places of a new site whose ledger and state are on the server: empty tables that tests use one after another."""
    postgres.empty(_shared.name)
    return Places(root=tmp_path / "box", run=tmp_path / "run", server=_shared)


@pytest.fixture
def alone_on_server(new_database: Callable[[], DatabaseSection], tmp_path: Path) -> Places:
    """The same, with a database of its own: for tests that change more than rows."""
    return Places(root=tmp_path / "box", run=tmp_path / "run", server=new_database())
