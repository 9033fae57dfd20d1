"""What `sealift standby` says to a person who mistyped, came too early, or is not root: what to do is about that."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from appliance.actions.standby import introducing
from appliance.cli import policy, standby, standby_lease
from appliance.errors import PrivilegeError, WireError
from media.errors import UsageError
from tests.support.commands import Run, typed


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sl") as folder:  # paths of sockets have to be short
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def sealift(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    config = root / "etc/sealift/sealift.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'site = "s"\nenvironment = "demo"\n[places]\nroot = "{root}"\n')
    (root / "run/sealift").mkdir(parents=True)
    return typed(config, (standby, policy), capsys)


@pytest.mark.parametrize(
    "words",
    [
        (
            "standby",
            "pair",
            "/none/two.card",
            "--to",
            "/none/1.half",
            "--role",
            "primary",
            "--code",
            "a",
            "--code",
            "a",
        ),
        ("standby", "join", "/none/1.half", "/none/2.half"),
        ("policy", "import", "/none/ward.toml", "--as", "ann", "--reason", "x"),
    ],
)
def test_a_file_that_is_not_there_is_asked_for_and_no_root_of_a_medium(sealift: Run, words: tuple[str, ...]) -> None:
    done = sealift(*words)

    assert "No such file or directory" in done.err
    assert "fix: give the path of the file itself" in done.err


def test_before_the_lease_was_switched_on_the_command_says_how_that_is_done(sealift: Run) -> None:
    done = sealift("standby", "lease")

    assert done.code == WireError.exit_code
    assert "systemctl enable --now sealift-standby.socket sealift-standby.service" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="root lends another user's rights")
def test_who_is_not_root_is_sent_to_root_and_not_to_a_unit(sealift: Run, root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(root / "run/sealift/lease.sock"))
        door.listen()
        (root / "run/sealift/lease.sock").chmod(0o600)
        os.seteuid(65534)
        try:
            done = sealift("standby", "lease")
        finally:
            os.seteuid(0)

    assert (done.code, "as root" in done.err) == (PrivilegeError.exit_code, True)


def test_a_name_that_no_box_can_have_is_the_typists_and_nothing_another_box_brought(sealift: Run, root: Path) -> None:
    done = sealift("standby", "part", "Room 2", "--by", "Ana", "--by", "Ben", "--reason", "x")

    assert done.code == UsageError.exit_code
    assert "'Room 2' is no name of a box" in done.err
    assert not (root / "etc/sealift/boxes").exists()


def test_a_box_of_two_without_a_lease_is_told_so_and_is_no_witness(
    sealift: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "etc/sealift/sealift.toml"
    said = {"me": "room-1", "is_witness": True, "holder": "", "term": 0, "voters": []}
    monkeypatch.setattr(standby_lease, "asked", lambda *_: dict(said))

    assert "is a witness" in sealift("standby", "lease").out
    file.write_text(f'{file.read_text()}[standby]\nlisten = "10.0.0.1"\npeer = "room-2"\n')
    told = sealift("standby", "lease").out

    assert "keeps no lease (standby.lease is false)" in told
    assert "witness" not in told


def test_who_parts_from_a_box_hears_that_the_running_process_knows_it_still(
    sealift: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "ledger_of", lambda _: nullcontext(None))
    monkeypatch.setattr(introducing, "part", lambda *_, **__: 7)
    words = ("standby", "part", "room-2", "--by", "Ana", "--by", "Ben", "--reason", "stolen")

    assert "started anew" not in sealift(*words).out  # nothing listens for boxes here
    file = root / "etc/sealift/sealift.toml"
    file.write_text(f'{file.read_text()}[standby]\nlisten = "10.0.0.1"\npeer = "room-2"\n')

    assert "it is answered, and asked, until sealift-standby.service is started anew" in sealift(*words).out
