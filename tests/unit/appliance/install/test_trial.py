"""The record of a trial: it reads back, a torn one stops an install, and what is shown is one line without folders."""

from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.errors import InstallError
from appliance.install import sitefile
from appliance.install.supervisor import ALL
from appliance.install.trial import Returned, Trial, Trials, one_line
from tests.support.installable import places_below

TRIAL = Trial(serial=2, release="r2", previous=1, at="2026-11-20T08:00:00Z")


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    places_below(tmp_path).releases.mkdir(parents=True)
    return Trials(places_below(tmp_path))


def test_a_trial_is_pending_until_it_is_confirmed(trials: Trials, tmp_path: Path) -> None:
    site_file = tmp_path / "sealift.toml"
    site_file.write_text("format = 1")
    trials.begin(TRIAL)
    begun = trials.pending()
    trials.confirm(site_file.read_bytes())

    assert (begun, trials.pending()) == (TRIAL, None)
    assert trials.settings() == b"format = 1"
    assert (tmp_path / "opt/sealift/before").readlink() == Path("releases/1")


def test_a_trial_that_does_not_read_stops_what_comes_after(trials: Trials, tmp_path: Path) -> None:
    (tmp_path / "opt/sealift/releases/trial.json").write_text('{"format":1')

    with pytest.raises(InstallError, match="cannot be read"):
        trials.pending()


def test_a_notice_of_a_return_that_does_not_read_is_none(trials: Trials, tmp_path: Path) -> None:
    trials.went_back(Returned(serial=2, release="r2", back_to=1, why="", at="2026-11-20T08:00:00Z"))
    whole = trials.last_return()
    (tmp_path / "opt/sealift/releases/returned.json").write_text("{}")

    assert whole is not None
    assert trials.last_return() is None


def test_without_a_site_file_that_ended_well_the_one_that_is_there_stays(trials: Trials, tmp_path: Path) -> None:
    site_file = tmp_path / "sealift.toml"
    site_file.write_text("format = 1")

    assert trials.restore_settings(site_file) is None
    assert site_file.read_text() == "format = 1"


@pytest.mark.parametrize("named", ['socket = "/run/postgresql"\n', ""])
def test_records_that_moved_since_stay_where_they_are_when_a_box_goes_back(
    trials: Trials, tmp_path: Path, named: str
) -> None:
    site_file, database = tmp_path / "sealift.toml", f"[database]\n{named}"
    site_file.write_text(f'site = "s"\nprofile = "single-gpu"\n{database}')
    trials.confirm(site_file.read_bytes())
    site_file.write_text('site = "s"\n[database]\nkind = "postgresql"\nsocket = "/run/postgresql"\n')

    restored = trials.restore_settings(site_file)

    assert restored == site_file.read_bytes()
    found = configuration.parse(site_file.read_bytes())
    assert (found.profile, found.database.kind, found.database.socket) == (
        "single-gpu",
        "postgresql",
        "/run/postgresql",
    )


def test_a_release_whose_good_end_was_cut_off_goes_back_with_the_site_file_of_before(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file, folder = tmp_path / "sealift.toml", tmp_path / "opt/sealift/releases"
    trials.confirm(b"of release 1")
    trials.begin(TRIAL)
    site_file.write_bytes(b"of release 2")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "_drop", cut)
    with pytest.raises(KeyboardInterrupt):
        trials.confirm(site_file.read_bytes())
    monkeypatch.undo()

    assert trials.pending() == TRIAL
    trials.restore_settings(site_file)
    trials.went_back(Returned(serial=2, release="r2", back_to=1, why="cut off", at="2026-11-20T08:00:00Z"))

    assert (site_file.read_bytes(), trials.settings()) == (b"of release 1", b"of release 1")
    assert sorted(path.name for path in folder.glob("*.toml")) == ["settings.toml"]


def test_a_good_end_leaves_the_site_file_of_before_nowhere(trials: Trials, tmp_path: Path) -> None:
    trials.confirm(b"of release 1")
    trials.begin(TRIAL)

    trials.confirm(b"of release 2")

    assert trials.settings() == b"of release 2"
    assert sorted(path.name for path in (tmp_path / "opt/sealift/releases").glob("*.toml")) == ["settings.toml"]


SERVER = 'site = "s"\nprofile = "{}"\n[database]\nkind = "{}"\nsocket = "/run/postgresql"\nname = "{}"\n'


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_records_that_moved_to_another_database_are_not_looked_for_in_the_one_that_they_left(
    trials: Trials, tmp_path: Path, kind: str
) -> None:
    site_file = tmp_path / "sealift.toml"
    trials.confirm(SERVER.format("single-gpu", kind, "first").encode())
    site_file.write_text(SERVER.format("standard", "postgresql", "second"))
    trials.note_move(site_file)
    assert trials.settings_beside(site_file.read_bytes()) == trials.settings()

    site_file.write_text(SERVER.format("cpu-only", "postgresql", "second"))
    trials.restore_settings(site_file)

    found = configuration.parse(site_file.read_bytes())
    assert (found.profile, found.database.kind, found.database.name) == ("single-gpu", "postgresql", "second")


def test_a_database_that_a_person_named_is_tried_like_the_rest_of_the_site_file(trials: Trials, tmp_path: Path) -> None:
    site_file, before = tmp_path / "sealift.toml", SERVER.format("single-gpu", "postgresql", "first")
    trials.confirm(before.encode())
    site_file.write_text(SERVER.format("single-gpu", "postgresql", "mistyped"))

    trials.restore_settings(site_file)

    assert site_file.read_text() == before


def test_records_that_moved_since_are_no_change_that_anybody_has_to_read(trials: Trials) -> None:
    present = b'site = "s"\n[database]\nkind = "postgresql"\nsocket = "/run/postgresql"\n'
    trials.confirm(b'site = "s"\n[database]\nsocket = "/run/postgresql"\n')
    beside = trials.settings_beside(present)

    assert beside is not None
    assert sitefile.readers(beside, present) == ""
    assert sitefile.readers(trials.settings() or b"", present) == ALL


def test_a_reason_is_one_line_without_folders_of_the_host() -> None:
    told = one_line("nginx: /etc/nginx/nginx.conf failed\\n\x1b[31mand\n'/root/a b'" + "x" * 900)

    assert told.startswith("nginx: nginx.conf failed")
    assert "/root" not in told
    assert told.isprintable()
    assert len(told) <= 400
