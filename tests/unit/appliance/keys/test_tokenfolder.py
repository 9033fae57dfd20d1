"""What is opened up for the group of the services, and what is left as it is."""

import grp
import os
import stat
from pathlib import Path

import pytest

from appliance.keys import tokenfolder

OWN = grp.getgrgid(os.getegid()).gr_name


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_files_and_folders_are_the_groups_too_and_so_is_what_comes_later(tmp_path: Path) -> None:
    inner = tmp_path / "tokens" / "1"
    inner.mkdir(parents=True, mode=0o700)
    (inner / "a.object").touch(0o600)

    tokenfolder.let_in(tmp_path / "tokens", OWN)

    assert mode(inner / "a.object") == 0o660
    assert mode(inner) & 0o2070 == 0o2070


def test_what_somebody_in_the_group_put_there_for_root_to_stumble_on_is_left(tmp_path: Path) -> None:
    folder, secret = tmp_path / "tokens", tmp_path / "secret"
    folder.mkdir()
    secret.touch(0o600)
    (folder / "link.object").symlink_to(secret)
    (folder / "twin.object").hardlink_to(secret)
    os.mkfifo(folder / "pipe.object", 0o600)

    tokenfolder.let_in(folder, OWN)

    assert (mode(secret), mode(folder / "pipe.object")) == (0o600, 0o600)


def test_a_folder_that_is_not_there_and_one_behind_a_link(tmp_path: Path) -> None:
    tokenfolder.let_in(tmp_path / "none", OWN)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.object").touch(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    tokenfolder.let_in(tmp_path / "link", OWN)

    assert mode(tmp_path / "real" / "a.object") == 0o660


def test_a_group_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        tokenfolder.let_in(tmp_path, "sl-nobody-is")


def test_in_a_unit_with_users_of_its_own_the_group_is_shown_as_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: the nightly run; the group of the file is right, and its number is not to be seen."""
    (tmp_path / "a.object").touch(0o600)
    shown = tmp_path / "gid_map"
    shown.write_text("         0          0          1\n")
    monkeypatch.setattr(tokenfolder, "_GROUPS", shown)
    monkeypatch.setattr(tokenfolder, "_NOBODYS", os.getegid())
    monkeypatch.setattr(grp, "getgrnam", lambda _: grp.struct_group(("g", "x", 4711, [])))

    tokenfolder.let_in(tmp_path, "g")

    assert (mode(tmp_path / "a.object"), (tmp_path / "a.object").stat().st_gid) == (0o660, os.getegid())
