"""docs/operator/postgresql.md is true: its SQL, its two configuration files and its commands set a real server up."""

import getpass
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from appliance.actions.databases import checking, migrating
from appliance.audit.postgres_opening import open_writer
from appliance.config import Config, DatabaseSection, PlacesSection
from appliance.errors import DatabaseError
from appliance.postgres.connecting import ROLES, connect
from media.clock import SystemClock
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.interop

PAGE = (Path(__file__).resolve().parents[2] / "docs/operator/postgresql.md").read_text()


def block(language: str, holding: str) -> str:
    """Return the fenced block of a language that holds a text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in text]
    return str(found)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as made:
        for role in ROLES:
            made.admin(f"DROP ROLE sealift_{role}")
        for statement in block("sql", "CREATE ROLE").split(";\n"):
            made.admin(statement)
        yield made


@pytest.fixture
def config(server: PostgresServer, tmp_path: Path) -> Config:
    section = DatabaseSection(kind="postgresql", socket=str(server.socket))
    return Config(site="demo", places=PlacesSection(root=str(tmp_path)), database=section)


def test_the_page_sets_a_server_up(server: PostgresServer, config: Config) -> None:
    user = getpass.getuser()
    rules = server.data / "pg_hba.conf"
    rules.write_text(block("conf", "peer") + "local  all  admin  trust\n")
    names = server.data / "pg_ident.conf"
    names.write_text(re.sub(r"(?m)^sealift  root ", f"sealift  {user} ", block("conf", "sealift-gateway")))
    server.admin("SELECT pg_reload_conf()")
    server.stop()
    server.start()

    migrating.migrate(config.at, "up")

    open_writer(config.at).close()
    found = {one.name: one.state for one in checking.check(config, clock=SystemClock())}
    assert found["append-only"] == found["durability"] == found["state"] == "ok"
    assert found["ledger"] == "remark"  # no records yet
    assert {state for name, state in found.items() if name.startswith("role ")} == {"ok"}

    # Who is not in the map does not get in, whatever role they ask for.
    names.write_text(block("conf", "sealift-gateway").replace("root", "somebody-else"))
    server.admin("SELECT pg_reload_conf()")
    server.stop()
    server.start()
    for role in ROLES:
        with pytest.raises(DatabaseError) as caught:
            connect(config.at, role)
        assert "authentication failed" in caught.value.why


def test_others_cannot_even_connect(server: PostgresServer) -> None:
    server.admin("DROP ROLE IF EXISTS stranger")
    server.admin("CREATE ROLE stranger LOGIN")

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=str(server.socket), user="stranger", dbname="sealift")
