"""Looking at a medium that arrived: a volume, another stick, one that cannot be read; and what the ledger keeps."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions import arriving
from appliance.actions.arriving import look
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, PlacesSection
from appliance.install import arrivals
from appliance.install.arrivals import EXPORT_LABEL, Arrival, Shown
from media import limits
from media.clock import SystemClock
from tests.support.medium import make_medium

STICK = Arrival(
    name="sdb1",
    id="0123456789abcdef",
    state="mounted",
    why="",
    filesystem="vfat",
    label=EXPORT_LABEL,
    bytes=2**30,
    at="2026-11-20T12:00:00Z",
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / arrivals.BLOCK / "sdb1").mkdir(parents=True)
    found = Config(site="demo", environment="demo", places=PlacesSection(root=str(tmp_path)))
    (found.at.media / "sdb1").mkdir(parents=True)
    return found


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(SystemClock())


def seen(config: Config, ledger: MemoryLedger, tmp_path: Path, arrival: Arrival = STICK) -> Shown:
    arrivals.keep(config.at, arrival)
    look(config, arrival, ledger)
    return arrivals.shown(config.at, "sdb1")


def test_a_volume_is_shown_with_what_it_claims_and_never_written_to(
    config: Config, ledger: MemoryLedger, tmp_path: Path
) -> None:
    shutil.copytree(make_medium(tmp_path / "m").volumes[0], config.at.media / "sdb1", dirs_exist_ok=True)

    found = seen(config, ledger, tmp_path)

    assert found.claims is not None
    assert found.claims["untrusted_release"] == "demo-1"
    assert found.problem == ""
    assert not found.may_take_exports


def test_the_record_of_an_arrival_holds_no_word_of_the_medium(
    config: Config, ledger: MemoryLedger, tmp_path: Path
) -> None:
    shutil.copytree(make_medium(tmp_path / "m").volumes[0], config.at.media / "sdb1", dirs_exist_ok=True)
    seen(config, ledger, tmp_path, replace(STICK, label="Mrs Miller"))

    (leaf,) = ledger.find(kind=arriving.ARRIVED)
    assert leaf.body == {
        "medium": "sdb1",
        "stay": STICK.id,
        "filesystem": "vfat",
        "bytes": 2**30,
        "volume": True,
        "untrusted_serial": 1,
    }


def test_a_stick_without_a_release_is_said_to_be_none_and_may_take_exports(
    config: Config, ledger: MemoryLedger, tmp_path: Path
) -> None:
    (config.at.media / "sdb1/holiday.jpg").write_bytes(b"x")

    found = seen(config, ledger, tmp_path)

    assert (found.claims, found.problem, found.may_take_exports) == (None, "it is no Sealift volume", True)
    assert ledger.find(kind=arriving.ARRIVED)[0].body["volume"] is False


def test_a_release_that_cannot_be_read_stays_a_volume(config: Config, ledger: MemoryLedger, tmp_path: Path) -> None:
    (config.at.media / "sdb1/release").write_text("a file where a folder belongs")

    found = seen(config, ledger, tmp_path)

    assert found.claims is not None
    assert found.problem
    assert not found.may_take_exports


def test_a_refused_medium_is_recorded_and_not_read(config: Config, ledger: MemoryLedger, tmp_path: Path) -> None:
    found = seen(config, ledger, tmp_path, replace(STICK, state="refused", why="its file system is ntfs"))

    assert not found.is_read
    assert [leaf.body["stay"] for leaf in ledger.find(kind=arriving.REFUSED)] == [STICK.id]


def test_whatever_a_volume_claims_that_it_came_is_recorded(
    config: Config, ledger: MemoryLedger, tmp_path: Path
) -> None:
    """A list that is larger than any is read once; a number beyond 2**53 would not be written down here."""
    made = make_medium(tmp_path / "m")
    made.replace("metadata/timestamp.json", b" " * (limits.JSON_BYTES + 1), volume=1)
    said = made.path("bag-info.txt", volume=1).read_bytes().replace(b"Serial: 1\n", b"Serial: 999999999999999999\n")
    made.replace("bag-info.txt", said, volume=1)
    shutil.copytree(made.volumes[0], config.at.media / "sdb1", dirs_exist_ok=True)

    found = seen(config, ledger, tmp_path)

    assert found.claims is not None
    assert len(found.claims["problems"]) == 2
    assert not found.may_take_exports
    assert [leaf.body["volume"] for leaf in ledger.find(kind=arriving.ARRIVED)] == [True]


def test_a_stick_with_a_root_of_many_names_is_not_listed_to_see_that_it_is_no_volume(
    config: Config, ledger: MemoryLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made file system may have more names than there is memory; then nothing of it would be recorded."""
    root = config.at.media / "sdb1"
    for number in range(1000):
        (root / f"{number}").touch()
    real, seen_names = os.scandir, 0

    @contextmanager
    def counted(place: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        with real(place) as entries:

            def each() -> Iterator[os.DirEntry[str]]:
                nonlocal seen_names
                for entry in entries:
                    seen_names += 1
                    yield entry

            yield each()

    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("all names are listed"))

    found = seen(config, ledger, tmp_path)

    assert (found.claims, found.problem) == (None, "it is no Sealift volume")
    assert seen_names == 1


def test_a_claim_that_cannot_be_kept_keeps_no_arrival_from_the_record(
    config: Config, ledger: MemoryLedger, tmp_path: Path
) -> None:
    config.at.inspected.parent.mkdir(parents=True, exist_ok=True)
    config.at.inspected.write_text("no folder")

    with pytest.raises(OSError, match="inspected"):
        seen(config, ledger, tmp_path)

    assert len(ledger.find(kind=arriving.ARRIVED)) == 1
