"""What is opened up for the group of the services, and what is left as it is."""

import grp
import os
import stat
from pathlib import Path

import pytest

from appliance.keys import handingon, tokenfolder
from tests.support.unit_files import SYSTEMD, values

OWN = grp.getgrgid(os.getegid()).gr_name


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_files_and_folders_are_the_groups_too_and_so_is_what_comes_later(tmp_path: Path) -> None:
    inner = tmp_path / "tokens" / "1"
    inner.mkdir(parents=True, mode=0o700)
    (inner / "a.object").touch(0o600)

    tokenfolder.let_in(tmp_path / "tokens", OWN, frozenset())

    assert mode(inner / "a.object") == 0o660
    assert mode(inner) & 0o2070 == 0o2070


def test_what_was_there_before_the_key_is_left_but_for_the_tokens_own_files(tmp_path: Path) -> None:
    """Scenario: a vendor keeps settings and libraries in the folder, and another program has a token there."""
    ours, other = tmp_path / "1", tmp_path / "2"
    left = [tmp_path / "settings.cfg", ours / "older.object", other / "token.object", other / "k.object"]
    for path in (*left, ours / "token.object", ours / "generation"):
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.touch(0o600)
    tmp_path.chmod(0o700)
    before = tokenfolder.look(tmp_path)
    (ours / "new.object").touch(0o600)

    tokenfolder.let_in(tmp_path, OWN, before)

    assert [mode(path) for path in (*left, other)] == [0o600] * 4 + [0o700]
    assert {mode(ours / name) for name in ("new.object", "token.object", "generation")} == {0o660}
    assert (mode(ours) & 0o2070, mode(tmp_path)) == (0o2070, 0o750)
    assert tokenfolder.made_in(tmp_path, before) == (ours,)


def test_keys_that_lie_right_in_the_folder_open_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "generation").touch(0o600)
    before = tokenfolder.look(tmp_path)
    (tmp_path / "new.key").touch(0o600)

    tokenfolder.let_in(tmp_path, OWN, before)

    assert (mode(tmp_path / "generation"), mode(tmp_path / "new.key")) == (0o600, 0o660)
    assert "-R" not in tokenfolder.opening([tmp_path], OWN, below=tmp_path)


@pytest.mark.parametrize(("label", "is_ours"), [("ward-7", True), ("my-ward-7", False), ("", True)])
def test_closed_files_are_told_of_our_token_alone(tmp_path: Path, label: str, *, is_ours: bool) -> None:
    """Without a file that names the token, a folder counts in which something is open to the group."""
    (folder := tmp_path / "it's").mkdir()
    (tmp_path / "settings.cfg").touch(0o600)
    for name in ("open.object", "a.object"):
        (folder / name).touch(0o600)
    (folder / "open.object").chmod(0o660)
    if label:
        (folder / "token.object").write_bytes(b"\0\0" + label.encode().ljust(32) + b"\0")
        (folder / "token.object").chmod(0o660)

    assert tokenfolder.closed_to(tmp_path, OWN, "ward-7") == ((folder / "a.object",) if is_ours else ())
    assert "it'\"'\"'s' -type d" in tokenfolder.opening([folder], OWN, below=tmp_path)


def test_a_folder_in_which_nothing_is_the_groups_is_not_said_to_be_ours(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.object").touch(0o600)

    assert tokenfolder.closed_to(tmp_path, OWN, "ward-7") == ()


def test_what_somebody_in_the_group_put_there_for_root_to_stumble_on_is_left(tmp_path: Path) -> None:
    folder, secret = tmp_path / "tokens", tmp_path / "secret"
    folder.mkdir()
    secret.touch(0o600)
    (folder / "link.object").symlink_to(secret)
    (folder / "twin.object").hardlink_to(secret)
    os.mkfifo(folder / "pipe.object", 0o600)

    tokenfolder.let_in(folder, OWN, frozenset())

    assert (mode(secret), mode(folder / "pipe.object")) == (0o600, 0o600)


def test_a_folder_that_is_not_there_and_one_behind_a_link(tmp_path: Path) -> None:
    tokenfolder.let_in(tmp_path / "none", OWN, frozenset())
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.object").touch(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    tokenfolder.let_in(tmp_path / "link", OWN, frozenset())

    assert mode(tmp_path / "real" / "a.object") == 0o660


def test_a_group_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        tokenfolder.let_in(tmp_path, "sl-nobody-is", frozenset())


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

    tokenfolder.let_in(tmp_path, "g", frozenset())

    assert (mode(tmp_path / "a.object"), (tmp_path / "a.object").stat().st_gid) == (0o660, os.getegid())


def before(tmp_path: Path, label: str = "ward-7") -> Path:
    """Return a folder as SoftHSM2 makes it and people opened it by hand: nothing that comes later is the group's."""
    folder = tmp_path / "tokens" / "1"
    folder.mkdir(parents=True)
    (folder / "token.object").write_bytes(b"\0\0" + label.encode().ljust(32) + b"\0")
    os.chown(folder, -1, grp.getgrnam(OWN).gr_gid)
    folder.chmod(0o770)
    return folder


def test_a_folder_that_people_opened_by_hand_gives_what_comes_later_to_the_group(tmp_path: Path) -> None:
    folder = before(tmp_path)

    assert tokenfolder.hand_on(tmp_path / "tokens", OWN, "ward-7") == 1
    assert tokenfolder.hand_on(tmp_path / "tokens", OWN, "ward-7") == 0

    assert mode(folder) == 0o2770
    assert tokenfolder.hand_on(tmp_path / "none", OWN, "ward-7") == 0


def test_a_folder_is_left_that_is_not_the_groups_nor_our_tokens_or_lies_behind_a_link(tmp_path: Path) -> None:
    """Scenario: somebody of the group has root's nightly run look at a folder that is not the token's."""
    folder = before(tmp_path)
    folder.chmod(0o750)
    other = before(tmp_path / "other", label="dnssec")
    linked = before(tmp_path / "linked")
    (tmp_path / "tokens" / "2").symlink_to(linked)

    assert tokenfolder.hand_on(tmp_path / "tokens", OWN, "ward-7") == 0
    assert tokenfolder.hand_on(tmp_path / "other/tokens", OWN, "ward-7") == 0

    assert [mode(path) for path in (folder, other, linked)] == [0o750, 0o770, 0o770]


def test_the_nightly_run_has_it_done_as_the_site_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, site = before(tmp_path), tmp_path / "sealift.toml"
    (line,) = values(SYSTEMD / "sealift-retention.service", "ExecStartPre")
    # Root at large, since a unit may set no such bit; and without it the run goes on to all else that is due.
    assert line.startswith("-+")
    assert "-m appliance.keys.handingon " in line
    plain = f'site = "s"\nenvironment = "demo"\n[places]\nroot = "{tmp_path}"\n'
    token = f'[keys]\nprovider = "token"\nmodule = "/m.so"\ntoken = "ward-7"\nfolder = "{tmp_path}/tokens"\n'

    site.write_text(plain)
    assert handingon.main(["--config", str(site)]) == 0
    assert mode(folder) == 0o770
    site.write_text(plain + token + 'group = "sl-nobody-is"\n')
    assert handingon.main(["--config", str(site)]) == 1
    site.write_text(plain + token + f'group = "{OWN}"\n')
    assert handingon.main(["--config", str(site)]) == 0

    assert mode(folder) == 0o2770
    assert str(tmp_path) not in capsys.readouterr().err
