"""Folders that are gone when the work in them ends, however it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance import throwaway
from appliance.throwaway import Throwaway
from tests.support.ledger import ROOT

# A process with a secret in such a folder, until it is told to end.
_PROGRAM = """
import sys, time
from pathlib import Path
from appliance import throwaway
with throwaway.folder("sealift-try-") as folder:
    (folder / "secret").write_text("x")
    try:
        sys.stdout.write(str(folder) + "\\n")
        sys.stdout.flush()
        time.sleep(60)
    finally:
        sys.stdout.write("left\\n")
        sys.stdout.flush()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def nobody_hears_signals() -> Iterator[None]:
    """As in a process of `sealift`: commands of the bundler that ran in this one before hear SIGTERM by themselves."""
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for one, heard in before.items():
        signal.signal(one, heard)


@contextmanager
def holder(place: Path) -> Iterator["tuple[subprocess.Popen[str], Path]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(place)},
    )
    with process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_it_is_gone_after_the_block_and_after_an_error(place: Path) -> None:
    with throwaway.folder("sealift-try-") as folder:
        (folder / "secret").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ValueError, match="of ours"), throwaway.folder("sealift-try-"):
        raise ValueError("of ours")

    assert list(place.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_told_to_end_leaves_nothing_and_ends_by_that_signal(
    place: Path, ends: signal.Signals
) -> None:
    with holder(place) as (process, folder):
        assert (folder / "secret").exists()
        process.send_signal(ends)
        said, _ = process.communicate(timeout=60)

        assert (process.returncode, said) == (-ends, "left\n")
        assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_and_what_lives_stays(place: Path) -> None:
    (place / "sealift-try-of-another-making").mkdir()
    (place / "sealift-try-a-file.lent").write_text("")
    with holder(place) as (killed, left), holder(place) as (_, lives):
        killed.kill()
        killed.wait(60)
        assert (left / "secret").exists(), "nothing can be done then"

        with throwaway.folder("sealift-other-"):
            assert left.exists(), "of another kind"
        with throwaway.folder("sealift-try-"):
            assert not left.exists()
            assert (lives / "secret").exists()
    assert {one.name for one in place.iterdir()} >= {"sealift-try-of-another-making", "sealift-try-a-file.lent"}


def test_many_that_are_made_at_once_take_none_of_the_others(place: Path) -> None:
    fault: list[BaseException] = []

    def lend() -> None:
        try:
            for _ in range(50):
                with throwaway.folder("sealift-try-") as folder:
                    (folder / "secret").write_text("x")
                    assert (folder / "secret").exists()
        except BaseException as error:  # noqa: BLE001 - told below
            fault.append(error)

    threads = [threading.Thread(target=lend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert fault == []
    assert list(place.iterdir()) == []


def test_one_without_a_block_is_removed_once_or_with_its_owner(place: Path) -> None:
    made = Throwaway("sealift-try-")
    made.remove()
    made.remove()
    forgotten = Throwaway("sealift-try-")
    assert forgotten.path.is_dir()
    del forgotten

    assert list(place.iterdir()) == []


def test_a_command_that_has_a_handler_of_its_own_keeps_it(place: Path) -> None:
    def own(_number: int, _frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        with throwaway.folder("sealift-try-"):
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(place.iterdir()) == []


def test_what_killed_processes_left_can_be_looked_at_before_it_goes(place: Path) -> None:
    (place / "sealift-try-left.lent").mkdir()
    (place / "sealift-try-left.lent/secret").write_text("x")
    with throwaway.folder("sealift-try-") as used:
        (place / "sealift-try-more.lent").mkdir()

        found = [path.name for path in throwaway.left("sealift-try-")]

        assert used.exists()
    assert found == ["sealift-try-more.lent"]
    assert list(place.iterdir()) == []
