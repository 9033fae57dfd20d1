"""What a release changes in the files by which it changes the host, as two people read it."""

from pathlib import Path

import pytest

from appliance.install.hostfilechanges import changed


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "1", tmp_path / "2"
    for folder in (before, after):
        (folder / "ansible/roles").mkdir(parents=True)
        (folder / "systemd").mkdir()
        (folder / "debs").mkdir()
    return before, after


def test_equal_files_are_nothing_and_packages_are_told_elsewhere(folders: tuple[Path, Path]) -> None:
    for number, folder in enumerate(folders):
        (folder / "systemd/a.service").write_text("[Service]\n")
        (folder / "debs/Packages").write_text(f"{number}")

    assert changed(*folders) == ""


def test_changed_new_and_gone_files_are_shown_in_the_order_of_their_names(folders: tuple[Path, Path]) -> None:
    before, after = folders
    (before / "systemd/b.service").write_text("[Service]\nUser=x\nA=1\n")
    (after / "systemd/b.service").write_text("[Service]\nUser=root\nA=1\n")
    (before / "ansible/gone.yml").write_text("- hosts: all\n")
    (after / "systemd/new.service").write_text("ExecStart=/bin/x\n")

    assert changed(before, after).splitlines() == [
        "FILES THAT CHANGE THE HOST",
        *("--- before/ansible/gone.yml", "+++ nothing", "@@ -1 +0,0 @@", "-- hosts: all"),
        *("--- before/systemd/b.service", "+++ after/systemd/b.service", "@@ -1,3 +1,3 @@"),
        *(" [Service]", "-User=x", "+User=root", " A=1"),
        *("--- nothing", "+++ after/systemd/new.service", "@@ -0,0 +1 @@", "+ExecStart=/bin/x", ""),
    ]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (b"a\r\n", b"a\n", []),
        (b"", None, []),
        (b"\xff", b"\xfe", ["- 1 bytes, SHA-256 a8100ae6", "+ 1 bytes, SHA-256 aa687b58"]),
        (b"a\0b", b"a", ["- 3 bytes, SHA-256 59b271ae", "+ 1 bytes, SHA-256 ca978112"]),
    ],
)
def test_what_no_lines_tell_is_named_all_the_same(
    folders: tuple[Path, Path], old: bytes, new: bytes | None, lines: list[str]
) -> None:
    before, after = folders
    (before / "systemd/x").write_bytes(old)
    if new is not None:
        (after / "systemd/x").write_bytes(new)

    _, first, second, *rest = changed(before, after).splitlines()

    assert (first, second) == ("--- before/systemd/x", "+++ nothing" if new is None else "+++ after/systemd/x")
    assert [line[:27] for line in rest[:-1]] == lines


def test_a_link_is_shown_as_one(folders: tuple[Path, Path]) -> None:
    before, after = folders
    (before / "systemd/x").write_text("a\n")
    (after / "systemd/x").symlink_to("/etc/passwd")

    assert "+a link to /etc/passwd" in changed(before, after).splitlines()
