"""Folders that commands lend themselves, and what killed ones leave."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bundler.cache import Cache
from bundler.lent import lent, take_away

_HOLDS = "import sys, time; from pathlib import Path; from bundler.lent import lent\n"
_HOLDS += "with lent(Path(sys.argv[1]), 'x-') as folder: print(folder, flush=True); time.sleep(60)\n"


def holder(above: Path) -> tuple["subprocess.Popen[str]", Path]:
    """Start a command that has a folder, and return both."""
    child = subprocess.Popen([sys.executable, "-c", _HOLDS, str(above)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    (folder / "weights").mkdir()
    (folder / "weights" / "w.gguf").write_bytes(b"w")
    (folder / "weights" / "w.gguf").chmod(0o444)
    return child, folder


def test_what_a_killed_command_left_is_taken_away_and_a_running_ones_is_not(tmp_path: Path) -> None:
    killed, left = holder(tmp_path)
    running, held = holder(tmp_path)
    with killed, running:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert left.is_dir()

        assert take_away(tmp_path, "x-") == 1
        assert (left.exists(), (held / "weights" / "w.gguf").is_file()) == (False, True)
        assert take_away(tmp_path, "x-") == 0
        running.kill()
    assert take_away(tmp_path, "x-") == 1


def test_only_folders_of_that_name_are_taken_away(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "mine").mkdir(parents=True)
    for name in ("x-settings", "x-held-short", "y-held-abcdefgh", "x-held-ABCDEFGH"):
        (tmp_path / name).mkdir()
    (tmp_path / "x-held-abcdefgh").symlink_to(kept)
    (tmp_path / "x-held-abcdefg2").write_text("a file")
    before = sorted(tmp_path.rglob("*"))

    assert take_away(tmp_path, "x-") == 0
    assert take_away(tmp_path / "none", "x-") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_was_taken_away_before_it_was_held_is_made_again(tmp_path: Path) -> None:
    """Many lend and take away at once: whoever has a folder keeps it."""

    def use(number: int) -> bool:
        with lent(tmp_path, "x-") as folder:
            (folder / "f").write_text(str(number))
            take_away(tmp_path, "x-")
            time.sleep(0.001)
            return (folder / "f").read_text() == str(number)

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert all(pool.map(use, range(200)))
    assert list(tmp_path.iterdir()) == []


def test_the_cache_takes_away_what_builds_left_and_of_releases_before_what_rests_for_a_day(tmp_path: Path) -> None:
    """Those hold no lock, and may be at work beside this one."""
    cache, now = Cache(root=tmp_path), datetime.now(tz=UTC)
    assert cache.tidy(now=now) == 0
    with cache.scratch() as mine:
        shutil.copytree(mine, mine.with_name("held-abcdefgh"))
        for name in ("tmpabcdefgh", "tmp-kept", "other"):
            (tmp_path / "tmp" / name / "below").mkdir(parents=True)

        assert cache.tidy(now=now) == 1
        assert {path.name for path in (tmp_path / "tmp").iterdir()} == {mine.name, "tmpabcdefgh", "tmp-kept", "other"}
        assert cache.tidy(now=now + timedelta(days=1, minutes=1)) == 1
        assert {path.name for path in (tmp_path / "tmp").iterdir()} == {mine.name, "tmp-kept", "other"}
