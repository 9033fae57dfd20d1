"""The medium of a benchmark: where it lies, whether its data came from it, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.carrier import Carrier, carrier
from bench.measuring import ROOT, forget

SIZE = 2 * 2**20
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
END_ITSELF = """
import os, signal, sys
from pathlib import Path
from bench.carrier import carrier
from tests.functional.test_bench_medium import device_of
with carrier(Path(sys.argv[1]), most=2**20) as on:
    print(on.folder, device_of(on.folder), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""


def device_of(folder: Path) -> str:
    """The device that is mounted there; nothing where none is."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((words[0] for words in mounts if words[1] == str(folder)), "")


def holds_an_image(device: str) -> bool:
    """Whether a loop device still has an image of a benchmark, which has no folder any more after the unmounting."""
    backing = Path("/sys/block", Path(device).name, "loop/backing_file")
    return backing.exists() and backing.read_text().split()[0].endswith("/image")


def reading(path: Path) -> float:
    path.read_bytes()
    return 1.5


@is_root
def test_a_medium_in_memory_is_read_from_its_device_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_MEDIUM", "memory")
    with carrier(tmp_path, most=SIZE) as on:
        weights = on.folder / "weights"
        weights.write_bytes(os.urandom(SIZE))

        forget(on.folder)
        assert on.reading(lambda: reading(weights), least=SIZE)() == 1.5
        with pytest.raises(SystemExit, match="came from the medium"):  # what was read before is in memory
            on.reading(lambda: reading(weights), least=SIZE)()

        assert on.is_apart
        device = device_of(on.folder)
        assert holds_an_image(device)
    assert not on.folder.exists()
    assert not device_of(on.folder)
    assert not holds_an_image(device)


@is_root
def test_a_benchmark_that_is_ended_takes_its_medium_with_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", END_ITSELF, tmp_path],
        cwd=ROOT,
        env={**os.environ, "BENCH_MEDIUM": "memory"},
        capture_output=True,
        text=True,
        check=False,
    )
    folder, device = done.stdout.split()

    assert done.returncode == 128 + signal.SIGTERM
    assert not Path(folder).exists()
    assert device.startswith("/dev/loop")
    assert not holds_an_image(device)


def test_a_named_folder_on_the_same_disk_is_said_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_MEDIUM", str(tmp_path))
    with carrier(tmp_path, most=SIZE) as on:
        assert on == Carrier(folder=on.folder, kind="the same disk", is_apart=False)

    assert "one file system" in capsys.readouterr().err


def test_a_medium_that_cannot_hold_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="are needed for the medium"), carrier(tmp_path, most=2**60):
        pass
