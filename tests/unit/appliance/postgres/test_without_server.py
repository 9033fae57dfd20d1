"""What can be said about a database server without one: the site file, refusals before anything is tried, the marks."""

import os
import sys
from pathlib import Path

import psycopg
import pytest

from appliance import config as configuration
from appliance.actions.databases import checking, copying
from appliance.actions.recorded import ledger_may_exist
from appliance.audit import storage
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, DatabaseSection, Places
from appliance.errors import (
    ConfigError,
    DatabaseError,
    LedgerDamagedError,
    LedgerUnavailableError,
    NotInstalledError,
    PreflightError,
)
from appliance.postgres.connecting import AwayError, connect, reason
from appliance.state.database import open_state
from media.clock import SystemClock
from media.errors import UsageError
from tests.support.ledger import LedgerSite, ledger_site

SOCKET = 'kind = "postgresql"\nsocket = "/run/postgresql"\n'
TLS = 'kind = "postgresql"\nserver = "db1.hospital.internal"\naddress = "10.0.0.8"\nport = 6432\n'


def parsed(section: str) -> Config:
    return configuration.parse(f'site = "demo"\n[database]\n{section}'.encode())


def places(tmp_path: Path, **section: str) -> Places:
    return Places(root=tmp_path, run=tmp_path, server=DatabaseSection(kind="postgresql", **section))  # type: ignore[arg-type]


def test_without_the_section_everything_lies_in_files() -> None:
    assert configuration.parse(b'site = "demo"').at.server is None
    assert parsed('kind = "sqlite"\nsocket = "/run/postgresql"\n').at.server is None


def test_a_server_over_the_network_is_opened_in_the_packet_filter_by_being_named() -> None:
    assert parsed(TLS).destinations == ("tcp 10.0.0.8 6432",)
    assert parsed(SOCKET).destinations == ()
    assert parsed(TLS.replace("postgresql", "sqlite")).destinations == parsed(TLS).destinations  # it moves there later


@pytest.mark.parametrize(
    "section",
    [
        'kind = "postgresql"\n',
        SOCKET + 'server = "db1"\naddress = "10.0.0.8"\n',
        'kind = "postgresql"\nserver = "db1.hospital.internal"\n',
        'kind = "postgresql"\naddress = "10.0.0.8"\n',
        'kind = "mysql"\n',
        SOCKET + 'password = "x"\n',
        SOCKET + 'name = "a b"\n',
        TLS.replace("db1.hospital.internal", "db1 host=/evil"),
        SOCKET.replace("/run/postgresql", "run/postgresql"),
        SOCKET + "port = 0\n",
    ],
)
def test_a_section_that_leaves_a_choice_open_or_smuggles_one_in_is_refused(section: str) -> None:
    with pytest.raises(ConfigError):
        parsed(section)


def test_a_release_without_the_driver_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(DatabaseError, match="no PostgreSQL driver") as caught:
        connect(places(tmp_path, socket=str(tmp_path)), "ledger")

    assert "server-postgresql.txt" in caught.value.fix


def test_an_error_says_why_without_where() -> None:
    error = psycopg.OperationalError(
        'connection failed: connection to server on socket "/secret/.s.PGSQL.5432" failed: FATAL:  role "x" is gone'
    )

    assert reason(error) == 'role "x" is gone'
    assert reason(psycopg.OperationalError("something with /secret/place")) == "OperationalError"
    assert reason(psycopg.errors.UniqueViolation("Key (a)=(b)")) == "SQLSTATE 23505 (UniqueViolation)"


def test_a_server_that_is_away_fails_closed_everywhere(tmp_path: Path) -> None:
    away = places(tmp_path, socket=str(tmp_path))

    for read_only in (True, False):
        with pytest.raises(AwayError):
            open_state(away, read_only=read_only)
    with pytest.raises(LedgerUnavailableError), storage.writing(away, wait_seconds=0, server_seconds=0):
        pass
    assert not (away.ledger / storage.ELSEWHERE).exists()


@pytest.fixture
def site(tmp_path: Path) -> LedgerSite:
    with ledger_site(tmp_path) as made:
        return made


def test_records_that_went_to_a_server_do_not_go_on_in_the_file(site: LedgerSite) -> None:
    with storage.writing(site.places, wait_seconds=0) as (backend, facts):
        assert backend.size() == 0
        assert set(facts) == {"sqlite"}
    storage.mark_elsewhere(site.places.ledger)

    with (
        pytest.raises(LedgerDamagedError, match="on a PostgreSQL server"),
        storage.writing(site.places, wait_seconds=0),
    ):
        pass
    (ledger, *_) = [one for one in checking.check(site.config, clock=SystemClock()) if one.name == "ledger"]
    assert (ledger.state, ledger.fix) == (checking.FAULT, "`sealift db move --to postgresql`")


def test_a_kind_that_was_set_by_hand_is_found_before_anything_is_installed() -> None:
    in_file = parsed('kind = "sqlite"\nsocket = "/run/postgresql"\n')
    ledger = MemoryLedger()
    checking.require_place(parsed(SOCKET), ledger)  # a ledger that never said where it records
    ledger.append("ledger.started", {"sqlite": "3.40.1"})

    checking.require_place(in_file, ledger)
    with pytest.raises(PreflightError, match="another place") as caught:
        checking.require_place(parsed(SOCKET), ledger)
    assert "db move --to postgresql" in caught.value.fix

    ledger.append("ledger.started", {"postgresql": "15.18"})
    checking.require_place(parsed(SOCKET), ledger)
    with pytest.raises(PreflightError):
        checking.require_place(in_file, ledger)


def test_there_may_be_a_ledger_on_a_server_once_this_box_used_one(tmp_path: Path) -> None:
    box = places(tmp_path, socket=str(tmp_path))
    assert not ledger_may_exist(box)

    box.ledger.mkdir(parents=True)
    storage.mark_elsewhere(box.ledger)
    storage.mark_elsewhere(box.ledger)

    assert ledger_may_exist(box)


def test_copying_needs_a_server_and_something_to_copy(site: LedgerSite, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no PostgreSQL server"):
        copying.copy(site.config, "postgresql", clock=SystemClock())
    section = DatabaseSection(kind="sqlite", socket=str(tmp_path))
    config = site.config.model_copy(update={"database": section})
    with pytest.raises(NotInstalledError, match="no ledger to copy") as caught:
        copying.copy(config, "postgresql", clock=SystemClock())
    assert "sealift db check" in caught.value.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="root lends another user's rights")
def test_who_may_not_look_is_sent_to_root_and_not_for_a_certificate(tmp_path: Path) -> None:
    here = places(tmp_path, server="db1.hospital.internal", address="10.0.0.8")
    here.database_secrets.mkdir(parents=True, mode=0o700)
    (here.database_secrets / "server-authority.pem").write_text("there")
    os.seteuid(65534)
    try:
        with pytest.raises(DatabaseError) as refused:
            connect(here, "reader")
    finally:
        os.seteuid(0)

    assert (refused.value.what, refused.value.fix) == (
        "the database server cannot be asked",
        "run it as root, with sudo",
    )
