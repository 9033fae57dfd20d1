"""A mirror that is lost, damaged or held by another process is told as that, and never taken for an empty one."""

from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest

from appliance.actions.standby import drilling, status, stopping
from appliance.actions.standby.drilling import Surroundings
from appliance.actions.standby.status import Box
from appliance.errors import LedgerDamagedError
from appliance.standby import mirror
from appliance.standby.pairing import require_paired
from appliance.state import projection
from appliance.state.database import open_state
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site

__all__ = ["first", "second"]  # fixtures

Spoiler = Callable[[Path], None]


def gone(file: Path) -> None:
    file.unlink()


def no_database(file: Path) -> None:
    file.write_bytes(b"no database, and longer than a page " * 200)


def folder_of(box: Site) -> Path:
    return mirror.folder_of(box.config.at, require_paired(box.config.at, "one").peer)


def looked_at(box: Site) -> Box:
    (found,) = status.read(box.config, ledger=box.ledger, clock=box.clock)
    return found


@pytest.mark.parametrize(
    ("spoil", "why"), [(gone, "its mirror holds 0 records, and"), (no_database, "the mirror of one is damaged")]
)
def test_it_is_told_by_status_and_drill_and_filled_again(first: Site, second: Site, spoil: Spoiler, why: str) -> None:
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    assert (looked_at(second).waiting, looked_at(second).fault) == (2, "")
    spoil(folder_of(second) / "ledger.db")

    box, drilled = looked_at(second), checks(second)

    assert (box.mirrored, why in box.fault, why in box.line()) == (0, True, True)
    assert drilled["mirror"] == (False, box.fault)
    assert drilled["decisions"] == (False, "what waits is not known")
    folder_of(second).rename(folder_of(second).with_suffix(".damaged"))
    again = boxes.grow(second, boxes.bundle(first, "two", since=0), "one")
    assert (again.before, looked_at(second).mirrored, looked_at(second).fault) == (0, again.size, "")


def checks(box: Site) -> dict[str, tuple[bool | None, str]]:
    """Return what a drill finds."""
    state = open_state(box.config.at)
    projection.catch_up(state, box.ledger)
    try:
        found = drilling.drill(
            Surroundings(
                config=box.config,
                ledger=box.ledger,
                state=state,
                keys=boxes.keys_of(box),
                clock=box.clock,
                lease=lambda: None,
                ask=lambda *_: None,
            )
        )
    finally:
        state.dispose()
    return {one.check: (one.holds, one.text) for one in found.checks}


def test_no_command_sends_people_to_the_own_ledger_for_it(first: Site, second: Site) -> None:
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    no_database(folder_of(second) / "ledger.db")
    promoter = second.client

    for ask in (
        lambda: boxes.take(second, "one"),
        lambda: boxes.bundle(second, "one"),
        lambda: boxes.grow(second, boxes.bundle(first, "two"), "one"),
        lambda: stopping.take_over(second.config, "one", ledger=second.ledger, promoter=promoter, clock=second.clock),
    ):
        with pytest.raises(LedgerDamagedError, match="the mirror of one is damaged") as damaged:
            ask()
        assert "a mirror that is damaged" in damaged.value.fix


def test_who_looks_waits_for_who_grows_it(first: Site, second: Site) -> None:
    grown = boxes.grow(second, boxes.bundle(first, "two"), "one")
    held = mirror.Mirror(folder_of(second), require_paired(second.config.at, "one").peer)
    Timer(0.3, held.__exit__).start()

    found = looked_at(second)

    assert (found.mirrored, found.waiting, found.fault) == (grown.size, 2, "")


def test_what_may_not_be_looked_at_is_not_called_empty(
    first: Site, second: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    real = Path.stat

    def refused(path: Path, **more: bool) -> object:
        if path.name == "ledger.db":
            raise PermissionError(13, "Permission denied")
        return real(path, **more)

    with monkeypatch.context() as hidden:
        hidden.setattr(Path, "stat", refused)
        found = looked_at(second)

    assert "cannot be read" in found.fault
