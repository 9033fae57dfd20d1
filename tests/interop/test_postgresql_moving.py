"""A ledger on its way between a file and a real server, cut off at each step: never two go on, nothing is lost."""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance.actions.databases import copying, migrating
from appliance.actions.databases.moving import JOBS, LEDGER, TARGET, Mover
from appliance.audit import pin, storage
from appliance.audit.postgres_backend import PostgresBackend
from appliance.audit.postgres_opening import open_reader, open_writer
from appliance.audit.sqlite_backend import FILE_NAME, SqliteBackend
from appliance.audit.verify import verify
from appliance.config import Places
from appliance.errors import (
    ConfigError,
    ConflictError,
    DatabaseError,
    InstallError,
    LedgerDamagedError,
    LedgerUnavailableError,
    NotInstalledError,
    StoreWriteError,
    UnitError,
)
from appliance.install.supervisor import UnitFacts, UnitState
from appliance.install.trial import Trial, Trials
from appliance.state import held, projection
from appliance.state.database import open_state, writing
from media.clock import SystemClock
from tests.interop.test_postgresql_databases import CLOCK, Moving, everything
from tests.interop.test_postgresql_databases import moving as moving  # noqa: PLC0414 - a fixture
from tests.support.ledger import bodies, toml_of
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.interop

GATEWAY = "sealift-gateway.service"
ENGINE = f"sealift-engine-production@{'a' * 12}.service"


class PowerCutError(BaseException):
    """Nothing of the process runs after it."""


def goes_on_in_its_file(moving: Moving) -> bool:
    try:
        with moving.site.running():
            return True
    except LedgerDamagedError:
        return False


def goes_on_on_the_server(moving: Moving) -> bool:
    try:
        with storage.writing(moving.tables(), wait_seconds=0, server_seconds=0):
            return True
    except LedgerDamagedError:
        return False


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Cut the power right before or right after a step of a copy: nothing is taken back."""

    def cut(when: str) -> None:
        def never(*_: object) -> None:
            return None

        def mark(folder: Path, where: bytes = storage.THERE) -> None:
            if when == "before it is marked" or (when == "before it is settled" and where == storage.THERE):
                raise PowerCutError
            whole_mark(folder, where)
            if when == "before the commit":
                raise PowerCutError

        def unmark(folder: Path) -> None:
            if when == "before the mark is taken away":
                raise PowerCutError
            whole_unmark(folder)

        def leave(backend: PostgresBackend, to: str) -> None:
            if when == "before the server is left":
                raise PowerCutError
            whole_leave(backend, to)

        monkeypatch.setattr(copying, "_take_back", never)
        monkeypatch.setattr(storage, "mark_elsewhere", mark)
        monkeypatch.setattr(storage, "unmark", unmark)
        monkeypatch.setattr(PostgresBackend, "leave", leave)

    whole_mark, whole_unmark, whole_leave = storage.mark_elsewhere, storage.unmark, PostgresBackend.leave
    yield cut
    monkeypatch.undo()


@contextmanager
def cut_off(power: Callable[[str], None], when: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    power(when)
    with pytest.raises(PowerCutError):
        yield
    monkeypatch.undo()


@pytest.mark.parametrize("then", ["postgresql", "sqlite"])
@pytest.mark.parametrize("when", ["before it is marked", "before the commit", "before it is settled"])
def test_a_copy_to_the_server_that_is_cut_off_is_ended_either_way(
    moving: Moving, power: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, when: str, then: Any
) -> None:
    before = everything(moving.files())
    with cut_off(power, when, monkeypatch):
        copying.copy(moving.file, "postgresql", clock=CLOCK)

    nothing_left = when == "before it is marked"
    assert everything(moving.files()) == before
    assert goes_on_in_its_file(moving) is nothing_left
    before = everything(moving.files())  # which has one more start where it went on
    if nothing_left and then == "sqlite":
        with pytest.raises(NotInstalledError):
            copying.copy(moving.file, then, clock=CLOCK)
        return
    copying.copy(moving.file, then, clock=CLOCK)

    places = moving.tables() if then == "postgresql" else moving.files()
    assert everything(places) == before
    assert goes_on_in_its_file(moving) is (then == "sqlite")
    if then == "postgresql":
        assert goes_on_on_the_server(moving)


@pytest.mark.parametrize("when", ["before the server is left", "before the mark is taken away"])
def test_a_copy_to_the_file_that_is_cut_off_is_ended_by_the_same_again(
    moving: Moving, power: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    before = everything(moving.tables())
    with cut_off(power, when, monkeypatch):
        copying.copy(moving.server, "sqlite", clock=CLOCK)

    assert not goes_on_in_its_file(moving)
    assert goes_on_on_the_server(moving) is (when == "before the server is left")
    copying.copy(moving.server, "sqlite", clock=CLOCK)

    assert everything(moving.files()) == before
    assert goes_on_in_its_file(moving)
    assert not goes_on_on_the_server(moving)


def test_what_is_held_back_from_callers_goes_with_the_records_and_is_left_nowhere(moving: Moving) -> None:
    def hold(places: Places, *sequences: int) -> None:
        state = open_state(places)
        with writing(state) as connection:
            held.save(connection, sequences)
        state.dispose()

    def held_back(places: Places) -> frozenset[int]:
        state = open_state(places, read_only=True)
        with state.connect() as connection:
            found = held.held(connection)
        state.dispose()
        return found

    hold(moving.files(), 5)
    for _ in range(2):
        copying.copy(moving.file, "postgresql", clock=CLOCK)
        assert (held_back(moving.tables()), held_back(moving.files())) == (frozenset({5}), frozenset())

    hold(moving.tables(), 7)
    for _ in range(2):
        copying.copy(moving.server, "sqlite", clock=CLOCK)
        assert (held_back(moving.files()), held_back(moving.tables())) == (frozenset({7}), frozenset())
    assert projection.told_sequence(open_state(moving.files())) == 6


def test_what_was_decided_and_not_carried_out_before_a_move_is_held_back_after_it(moving: Moving) -> None:
    with moving.site.running():
        ledger = moving.site.door("ledger-actions")
        state = open_state(moving.files())
        projection.tell(state, ledger, through=ledger.head().size - 1)
        state.dispose()
        ledger.close()
        ledger = moving.site.door("ledger-promoter")
        made = ledger.append("promotion.made", bodies()["promotion.made"]).sequence
        ledger.close()  # and its command is killed, or waits for its engine

    for _ in range(2):
        copying.copy(moving.file, "postgresql", clock=CLOCK)
        state = open_state(moving.tables(), read_only=True)
        assert projection.told_sequence(state) == made - 1
        assert not projection.is_told(state, made)
        state.dispose()


@pytest.mark.parametrize("way", ["postgresql", "sqlite"])
def test_a_move_that_was_cut_off_is_ended_in_its_own_database_alone(
    moving: Moving,
    power: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,
    way: Any,
) -> None:
    with cut_off(power, "before it is settled", monkeypatch):
        copying.copy(moving.file, "postgresql", clock=CLOCK)
    database = moving.file.database.model_copy(update={"name": postgres.database()})
    other = moving.file.model_copy(update={"database": database})
    there = copying.both(other)[1]
    migrating.migrate(there, "up", None)

    with pytest.raises(ConflictError, match="another database"):
        copying.copy(other, way, clock=CLOCK)
    with pytest.raises(ConflictError, match="another database"):
        copying.require_possible(other, way)
    with pytest.raises(LedgerDamagedError, match="another database"), storage.writing(there, wait_seconds=0):
        pass
    assert not goes_on_in_its_file(moving)
    copying.copy(moving.file, way, clock=CLOCK)
    assert goes_on_on_the_server(moving) == (way == "postgresql")


def test_a_copy_that_fails_opens_the_file_again(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = storage.mark_elsewhere

    def fail(folder: Path, where: bytes = storage.THERE) -> None:
        whole(folder, where)
        with closing(open_reader(moving.tables())) as reader:  # the server ends the session that copies
            reader._all("SELECT 1")
        raise LedgerUnavailableError(what="the server went away")

    monkeypatch.setattr(storage, "mark_elsewhere", fail)
    with pytest.raises(LedgerUnavailableError):
        copying.copy(moving.file, "postgresql", clock=CLOCK)
    monkeypatch.undo()

    assert goes_on_in_its_file(moving)


def test_a_copy_that_fails_behind_its_commit_leaves_the_file_shut(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = storage.mark_elsewhere

    def fail(folder: Path, where: bytes = storage.THERE) -> None:
        if where == storage.THERE:
            raise OSError(errno.EIO, "the disk is gone")
        whole(folder, where)

    monkeypatch.setattr(storage, "mark_elsewhere", fail)
    with pytest.raises(StoreWriteError):
        copying.copy(moving.file, "postgresql", clock=CLOCK)
    monkeypatch.undo()

    assert not goes_on_in_its_file(moving)
    assert copying.copy(moving.file, "postgresql", clock=CLOCK).size
    assert goes_on_on_the_server(moving)


def test_a_copy_to_the_file_that_fails_leaves_nothing_beside_it(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    folder = moving.files().ledger

    def fail(*_: object) -> None:
        raise LedgerUnavailableError(what="the disk is full")

    monkeypatch.setattr(SqliteBackend, "save_checkpoint", fail)
    with pytest.raises(LedgerUnavailableError):
        copying.copy(moving.server, "sqlite", clock=CLOCK)

    assert [path.name for path in folder.iterdir() if "copying" in path.name] == []
    assert goes_on_on_the_server(moving)


def test_a_file_on_a_box_that_never_used_the_server_is_shut_until_the_server_is_left(
    moving: Moving, power: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    for name in (FILE_NAME, storage.ELSEWHERE):
        (moving.files().ledger / name).unlink()
    with cut_off(power, "before the server is left", monkeypatch):
        copying.copy(moving.server, "sqlite", clock=CLOCK)

    assert not goes_on_in_its_file(moving)
    copying.copy(moving.server, "sqlite", clock=CLOCK)
    assert goes_on_in_its_file(moving)


def test_a_file_that_was_left_behind_does_not_come_back_where_the_server_lost_everything(
    moving: Moving, postgres: PostgresServer
) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    assert moving.server.database is not None
    postgres.empty(moving.server.database.name)

    for to in ("postgresql", "sqlite"):
        with pytest.raises(ConflictError, match="this database has none"):
            copying.copy(moving.server, to, clock=CLOCK)
    assert not goes_on_in_its_file(moving)
    assert not goes_on_on_the_server(moving)


def test_records_of_a_file_are_not_left_behind_for_those_of_a_server(moving: Moving) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    (moving.files().ledger / storage.ELSEWHERE).unlink()  # as on another box, which has records of its own

    with (
        pytest.raises(LedgerDamagedError, match="the database has others"),
        storage.writing(moving.tables(), wait_seconds=0, server_seconds=0),
    ):
        pass


def test_what_was_left_behind_is_replaced_only_where_it_is_the_beginning(moving: Moving) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    (moving.files().ledger / storage.ELSEWHERE).unlink()
    assert goes_on_in_its_file(moving)  # somebody removed the mark: two ledgers
    storage.mark_elsewhere(moving.files().ledger)

    with pytest.raises(ConflictError, match="other records"):
        copying.copy(moving.server, "sqlite", clock=CLOCK)
    with pytest.raises(ConflictError, match="other records"):
        copying.copy(moving.server, "postgresql", clock=CLOCK)


@dataclass(kw_only=True)
class Units:
    """A supervisor whose ledger is a real one, run as the site file says at its start; the rest are names."""

    moving: Moving
    broken: bool = False
    work: tuple[str, ...] = ()
    running: set[str] = field(default_factory=lambda: {JOBS, GATEWAY, ENGINE, TARGET})
    calls: list[str] = field(default_factory=list)
    ledger: ExitStack = field(default_factory=ExitStack)

    def start(self, unit: str) -> None:
        self.calls.append(f"start {unit}")
        if unit == LEDGER and LEDGER not in self.running:
            config = configuration.load(self.moving.site.config_file)
            if self.broken and config.database.kind == "postgresql":
                raise UnitError(what=f"{unit} did not start")
            try:
                self.ledger.enter_context(replace(self.moving.site, config=config).running())
            except (LedgerDamagedError, LedgerUnavailableError) as error:
                raise UnitError(what=f"{unit} did not start", why=error.what) from error
        self.running.add(unit)

    def stop(self, unit: str) -> None:
        self.calls.append(f"stop {unit}")
        if unit == LEDGER:
            self.ledger.close()
        self.running.discard(unit)

    rest = stop

    def kill(self, unit: str) -> None:
        raise AssertionError(unit)

    def state(self, unit: str) -> UnitState:
        return UnitState.ACTIVE if unit in self.running else UnitState.INACTIVE

    def units(self) -> tuple[UnitFacts, ...]:
        facts = [UnitFacts(name=name, state=UnitState.ACTIVE) for name in self.running if name.endswith(".service")]
        return (*facts, *(UnitFacts(name=name, state=UnitState.STARTING) for name in self.work))


@pytest.fixture
def units(moving: Moving, tmp_path: Path) -> Iterator[Units]:
    """A box that answers from its file; its site file names the server."""
    file = moving.site.config_file
    file.write_text(file.read_text() + toml_of(moving.file.database))
    etc = moving.files().config_file
    etc.parent.mkdir(parents=True, exist_ok=True)
    file.rename(etc)
    file.symlink_to(etc)
    folder = tmp_path / "units"
    folder.mkdir()
    for name in ("sealift-ledger-gateway.socket", "sealift-jobs-admin.socket"):
        (folder / name).touch()
    (folder / "sealift-backup.service").write_text("[Service]\nType=oneshot\n")
    found = Units(moving=moving)
    found.start(LEDGER)
    found.calls.clear()
    yield found
    found.ledger.close()


def mover(units: Units, tmp_path: Path) -> Mover:
    return Mover(
        config=configuration.load(units.moving.site.config_file),
        supervisor=units,
        clock=SystemClock(),
        tell=lambda _: None,
        progress=lambda _done, _of: None,
        units=tmp_path / "units",
    )


def kind(units: Units) -> str:
    return configuration.load(units.moving.site.config_file).database.kind


def size(units: Units) -> int:
    ledger = units.moving.site.door("ledger-actions")
    with closing(ledger):
        assert verify(ledger, pinned=pin.read_pin(units.moving.files())).ok
        return ledger.head().size


def test_one_command_moves_a_box_there_and_back(units: Units, tmp_path: Path) -> None:
    before = size(units)
    previewed = mover(units, tmp_path).preview("postgresql")
    assert (previewed.size, previewed.restarted, units.calls) == (before, (GATEWAY,), [])

    there = mover(units, tmp_path).move("postgresql")

    assert (kind(units), there.copied is not None and there.copied.size) == ("postgresql", before)
    assert size(units) > before  # that the ledger started is a record
    assert units.calls[:4] == [
        "stop sealift-jobs-admin.socket",
        f"stop {JOBS}",
        "stop sealift-ledger-gateway.socket",
        f"stop {LEDGER}",
    ]
    assert units.calls[4:] == [
        "stop sealift-ledger-gateway.socket",
        f"stop {LEDGER}",
        f"start {LEDGER}",
        f"stop {GATEWAY}",
        f"start {GATEWAY}",
        f"start {JOBS}",
        f"start {TARGET}",
    ]
    units.calls.clear()
    assert not mover(units, tmp_path).preview("postgresql").needed
    assert not mover(units, tmp_path).move("postgresql").needed
    assert units.calls == []

    back = mover(units, tmp_path).move("sqlite")

    assert (kind(units), back.to) == ("sqlite", "sqlite")
    assert size(units) > there.size
    with pytest.raises(ConflictError) as caught:
        mover(units, tmp_path).move("postgresql")
    assert "empty" in caught.value.fix
    assert units.running >= {LEDGER, JOBS, GATEWAY}


def test_a_ledger_that_does_not_start_on_the_server_is_back_in_its_file(units: Units, tmp_path: Path) -> None:
    units.broken = True

    with pytest.raises(UnitError, match="back in its file"):
        mover(units, tmp_path).move("postgresql")

    assert kind(units) == "sqlite"
    assert units.running >= {LEDGER, JOBS, GATEWAY}
    assert size(units)


def test_a_copy_that_fails_leaves_everything_running_as_it_was(
    units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = size(units)

    def fail(*_: object, **__: object) -> None:
        raise DatabaseError(what="the server went away")

    monkeypatch.setattr(copying, "copy", fail)
    with pytest.raises(DatabaseError):
        mover(units, tmp_path).move("postgresql")

    assert (kind(units), size(units)) == ("sqlite", before + 1)  # that it started
    assert units.running >= {LEDGER, JOBS, GATEWAY}


def test_nothing_is_stopped_where_something_speaks_against_it(
    units: Units, tmp_path: Path, postgres: PostgresServer
) -> None:
    units.work = ("sealift-backup.service",)
    with pytest.raises(ConflictError, match="at work"):
        mover(units, tmp_path).move("postgresql")
    units.work = ()
    whole = mover(units, tmp_path)
    shared = whole.config.model_copy(update={"standby": whole.config.standby.model_copy(update={"lease": True})})
    with pytest.raises(ConflictError, match="lease"):
        replace(whole, config=shared).move("postgresql")
    trials = Trials(units.moving.files())
    trials.begin(Trial(serial=2, release="r2", previous=0, at="2026-11-20T08:00:00Z"))
    with pytest.raises(InstallError, match="cut off"):
        mover(units, tmp_path).move("postgresql")
    trials.confirm(units.moving.files().config_file.read_bytes())
    file = units.moving.files().config_file
    file.write_text(file.read_text().replace(f'"{units.moving.file.database.name}"', f'"{postgres.database()}"'))
    with pytest.raises(DatabaseError) as caught:
        mover(units, tmp_path).move("postgresql")
    assert "db migrate up --on postgresql" in caught.value.fix

    assert units.calls == []
    assert (units.moving.files().ledger / FILE_NAME).exists()


def test_whoever_has_the_ledger_on_the_server_open_is_waited_for_while_the_box_answers(
    units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "LOCK_SECONDS", 1.0)
    with (
        closing(open_writer(units.moving.tables())),
        pytest.raises(ConflictError, match="another process"),
    ):
        mover(units, tmp_path).move("postgresql")
    assert units.calls == []

    dead = open_writer(units.moving.tables())
    timer = threading.Timer(0.3, dead.close)  # as the server does with a box that lost its power
    timer.start()
    mover(units, tmp_path).move("postgresql")
    timer.join()

    assert kind(units) == "postgresql"


def test_a_site_file_that_says_it_too_late_is_mended_by_the_same_command(units: Units, tmp_path: Path) -> None:
    units.ledger.close()
    units.running.discard(LEDGER)
    copying.copy(units.moving.file, "postgresql", clock=CLOCK)  # and the power fails
    with pytest.raises(UnitError):
        units.start(LEDGER)

    mover(units, tmp_path).move("postgresql")

    assert kind(units) == "postgresql"
    assert size(units)


def test_what_a_kill_left_with_the_records_of_before_is_started_anew_by_the_same_command(
    units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise PowerCutError

    monkeypatch.setattr(Mover, "_start_anew", killed)
    with pytest.raises(PowerCutError):
        mover(units, tmp_path).move("postgresql")
    monkeypatch.undo()
    assert (kind(units), LEDGER in units.running, JOBS in units.running) == ("postgresql", True, False)
    units.calls.clear()

    ended = mover(units, tmp_path).move("postgresql")

    assert (ended.copied, ended.restarted) == (None, (GATEWAY,))
    assert units.calls == [f"stop {GATEWAY}", f"start {GATEWAY}", f"start {JOBS}", f"start {TARGET}"]


def test_an_install_that_goes_back_finds_the_records_in_the_database_that_they_were_moved_to_last(
    units: Units, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, trials = units.moving.files().config_file, Trials(units.moving.files())
    mover(units, tmp_path).move("postgresql")
    trials.confirm(file.read_bytes())
    mover(units, tmp_path).move("sqlite")
    first, second = units.moving.file.database.name, postgres.database()
    file.write_text(file.read_text().replace(f'"{first}"', f'"{second}"'))
    migrating.migrate(copying.both(configuration.load(file))[1], "up", None)
    noted = Trials.note_move

    def killed(*_: object) -> None:
        raise PowerCutError

    monkeypatch.setattr(Trials, "note_move", killed)
    with pytest.raises(PowerCutError):
        mover(units, tmp_path).move("postgresql")
    monkeypatch.setattr(Trials, "note_move", noted)
    mover(units, tmp_path).move("postgresql")
    file.write_text(file.read_text() + "\n[limits]\nconcurrent_requests = 3\n")

    trials.restore_settings(file)

    found = configuration.load(file).database
    assert (found.kind, found.name) == ("postgresql", second)
    units.stop(LEDGER)
    units.start(LEDGER)
    assert size(units)


def test_an_edit_of_the_site_file_while_records_are_copied_stays(
    units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, whole = units.moving.files().config_file, copying.copy

    def copy(*given: Any, **named: Any) -> Any:
        file.write_text(f"# by Ana\n{file.read_text()}")
        return whole(*given, **named)

    monkeypatch.setattr(copying, "copy", copy)
    mover(units, tmp_path).move("postgresql")
    assert file.read_text().startswith("# by Ana\n")

    mover(units, tmp_path).move("sqlite")
    assert file.read_text().startswith("# by Ana\n# by Ana\n")


def test_a_site_file_that_cannot_be_changed_any_more_is_said_and_the_same_command_goes_on(
    units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, whole = units.moving.files().config_file, copying.copy
    before = file.read_text()

    def copy(*given: Any, **named: Any) -> Any:
        done = whole(*given, **named)
        file.write_text("format = ")
        return done

    monkeypatch.setattr(copying, "copy", copy)
    with pytest.raises(ConfigError, match="the records are moved"):
        mover(units, tmp_path).move("postgresql")
    monkeypatch.undo()
    assert not goes_on_in_its_file(units.moving)

    file.write_text(before)
    mover(units, tmp_path).move("postgresql")
    assert kind(units) == "postgresql"
    assert units.running >= {LEDGER, JOBS, GATEWAY}


def test_a_ledger_that_does_not_start_is_not_started_by_its_callers_while_it_goes_back(
    units: Units, tmp_path: Path
) -> None:
    units.broken = True

    with pytest.raises(UnitError, match="back in its file"):
        mover(units, tmp_path).move("postgresql")

    at = len(units.calls) - 1 - units.calls[::-1].index(f"stop {LEDGER}")
    assert units.calls[at - 1] == "stop sealift-ledger-gateway.socket"
    assert units.calls.index(f"start {LEDGER}") < at - 1
