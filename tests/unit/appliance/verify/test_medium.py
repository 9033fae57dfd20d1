"""Hostile volumes: what is not a plain file is refused by name, without being opened and without hanging."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.verify.medium import Medium
from media.errors import (
    ExtraFileError,
    LimitExceededError,
    MediaError,
    MissingFileError,
    UnreadableError,
    UnsafePathError,
)

Plant = Callable[[Path], None]


def volume(folder: Path) -> Path:
    release = folder / "release"
    (release / "data/wheels").mkdir(parents=True)
    (folder / "custody").mkdir()
    (release / "bagit.txt").write_bytes(b"bag")
    (release / "data/wheels/a.whl").write_bytes(b"wheel")
    return folder


def opened(folder: Path) -> Medium:
    return Medium.open(folder, label="volume folder 1")


def test_a_plain_volume_is_listed_with_sizes(tmp_path: Path) -> None:
    with opened(volume(tmp_path)) as medium:
        assert medium.files("release") == {"bagit.txt": 3, "data/wheels/a.whl": 5}
        assert medium.top_level().has_custody


def test_litter_at_the_root_is_listed_and_never_opened(tmp_path: Path) -> None:
    folder = volume(tmp_path)
    (folder / "System Volume Information").mkdir(mode=0o000)
    os.mkfifo(folder / "Thumbs.db")

    with opened(folder) as medium:
        assert medium.top_level().litter == ("System Volume Information", "Thumbs.db")


@pytest.mark.parametrize("name", ["readme.txt", "autorun.inf", "Release", ".hidden", "._payload.exe", "release2"])
def test_anything_else_at_the_root_does_not_belong_there(tmp_path: Path, name: str) -> None:
    (volume(tmp_path) / name).write_bytes(b"")

    with opened(tmp_path) as medium, pytest.raises(ExtraFileError, match="does not belong"):
        medium.top_level()


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._a.whl"])
def test_litter_inside_the_release_is_an_extra_file(tmp_path: Path, name: str) -> None:
    (volume(tmp_path) / "release/data" / name).write_bytes(b"")

    with opened(tmp_path) as medium, pytest.raises(ExtraFileError):
        medium.files("release")


def test_a_folder_without_a_release_is_no_volume(tmp_path: Path) -> None:
    with opened(tmp_path) as medium, pytest.raises(MissingFileError):
        medium.top_level()


def test_a_release_that_is_a_link_is_refused(tmp_path: Path) -> None:
    real = volume(tmp_path / "real")
    other = tmp_path / "other"
    other.mkdir()
    (other / "release").symlink_to(real / "release")

    with opened(other) as medium, pytest.raises(UnsafePathError):
        medium.top_level()


def _link_out(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def _link_to_folder(place: Path) -> None:
    place.symlink_to("/etc")


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _second_name(place: Path) -> None:
    place.hardlink_to(place.parent / "a.whl")


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))


def _device(place: Path) -> None:
    try:
        os.mknod(place, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs root")


@pytest.mark.parametrize("plant", [_link_out, _link_to_folder, _pipe, _second_name, _socket, _device])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = volume(tmp_path)
    monkeypatch.chdir(folder / "release/data/wheels")
    plant(Path("b.whl").absolute() if plant is not _socket else Path("b.whl"))

    with opened(folder) as medium, pytest.raises(UnsafePathError):
        medium.files("release")


@pytest.mark.parametrize("plant", [_link_out, _link_to_folder, _pipe, _device])
def test_what_became_no_plain_file_after_listing_is_refused_without_hanging(tmp_path: Path, plant: Plant) -> None:
    folder = volume(tmp_path)
    with opened(folder) as medium:
        medium.files("release")
        place = folder / "release/data/wheels/a.whl"
        place.unlink()
        plant(place)

        with pytest.raises(UnsafePathError):
            medium.read("release/data/wheels/a.whl", limit=100)


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = volume(tmp_path / "v")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.whl").write_bytes(b"evil!")
    with opened(folder) as medium:
        medium.files("release")
        (folder / "release/data/wheels/a.whl").unlink()
        (folder / "release/data/wheels").rmdir()
        (folder / "release/data/wheels").symlink_to(outside)

        with pytest.raises(UnsafePathError):
            medium.read("release/data/wheels/a.whl", limit=100)


@pytest.mark.parametrize(
    "name",
    ["a b", "..a", "-rf", "a\nb", "a\x1b[31m", "ä.whl", "a:b", "con", "nul.txt", "a.", "x" * 129, "a\\b", "*"],
)
def test_names_outside_the_allow_list_are_refused_and_shown_escaped(tmp_path: Path, name: str) -> None:
    (volume(tmp_path) / "release/data" / name).write_bytes(b"")

    with opened(tmp_path) as medium, pytest.raises(UnsafePathError) as refusal:
        medium.files("release")

    assert refusal.value.what.isascii()
    assert refusal.value.what.isprintable()


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    place = os.fsencode(volume(tmp_path) / "release/data") + b"/\xff\xfe"
    Path(os.fsdecode(place)).write_bytes(b"")

    with opened(tmp_path) as medium, pytest.raises(UnsafePathError):
        medium.files("release")


def test_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    folder = volume(tmp_path)
    (folder / "release/data/wheels/A.whl").write_bytes(b"")

    with opened(folder) as medium, pytest.raises(UnsafePathError) as refusal:
        medium.files("release")

    assert "differ only in case" in refusal.value.why


def test_too_deep_a_tree_is_refused(tmp_path: Path) -> None:
    folder = volume(tmp_path)
    (folder / "release/data" / "/".join("abcdefghijklm")).mkdir(parents=True)
    (folder / "release/data" / "/".join("abcdefghijklm") / "x").write_bytes(b"")

    with opened(folder) as medium, pytest.raises(UnsafePathError):
        medium.files("release")


def test_more_than_the_limit_is_not_read(tmp_path: Path) -> None:
    with opened(volume(tmp_path)) as medium, pytest.raises(LimitExceededError):
        medium.read("release/data/wheels/a.whl", limit=4)


def test_exactly_the_limit_is_read(tmp_path: Path) -> None:
    with opened(volume(tmp_path)) as medium:
        assert medium.read("release/data/wheels/a.whl", limit=5) == b"wheel"


def test_a_file_that_went_away_is_missing(tmp_path: Path) -> None:
    with opened(volume(tmp_path)) as medium, pytest.raises(MissingFileError):
        medium.read("release/data/wheels/gone.whl", limit=5)


def test_content_is_opened_once(tmp_path: Path) -> None:
    with opened(volume(tmp_path)) as medium:
        medium.read("release/bagit.txt", limit=5)

        with pytest.raises(RuntimeError, match="second time"):
            medium.read("release/bagit.txt", limit=5)


def test_a_folder_that_is_not_there_is_unreadable_and_its_path_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as refusal:
        Medium.open(tmp_path / "secret-name", label="volume folder 1")

    assert "secret-name" not in str(refusal.value.to_json())


def test_errors_carry_no_host_path(tmp_path: Path) -> None:
    folder = volume(tmp_path)
    (folder / "release/data/link").symlink_to(folder)

    with opened(folder) as medium, pytest.raises(MediaError) as refusal:
        medium.files("release")

    assert str(tmp_path) not in str(refusal.value.to_json())
