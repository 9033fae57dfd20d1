import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from bundler.cache import Cache
from bundler.errors import BuildError
from bundler.toolchain import Toolchain, interpreter, ready


def test_an_environment_that_is_complete_is_used_as_it_is(tmp_path: Path) -> None:
    lock = tmp_path / "build.txt"
    lock.write_text("hatchling==1 --hash=sha256:00\n")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = tmp_path / "cache" / "tools" / f"{digest[:16]}-{interpreter()}"
    folder.mkdir(parents=True)
    (folder / ".complete").touch()

    found = ready(Cache(root=tmp_path / "cache"), lock)

    assert (found.folder, found.lock_sha256) == (folder, digest)
    assert found.variables()["PATH"].startswith(f"{folder}/bin:")


def test_an_environment_that_another_build_makes_is_waited_for_and_not_taken_from_it(tmp_path: Path) -> None:
    """It began anew in the folder into which the other one was installing."""
    lock, cache, told = tmp_path / "build.txt", Cache(root=tmp_path / "cache"), Event()
    lock.write_text("hatchling==1 --hash=sha256:00\n")
    folder = cache.folder("tools", f"{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}-{interpreter()}")
    with ThreadPoolExecutor(max_workers=1) as beside:
        with cache.alone(folder.name, progress=print):
            folder.mkdir(parents=True)
            waits = beside.submit(ready, cache, lock, progress=lambda line: told.set() if "waiting" in line else None)
            assert told.wait(20)
            (folder / "half-made").touch()
            (folder / ".complete").touch()

        assert waits.result(20).folder == folder
    assert (folder / "half-made").exists()


def test_another_interpreter_has_environments_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the one before are gone with it, or lie where no sandbox reads."""
    ours = interpreter()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3"))

    assert interpreter() != ours
    assert interpreter().startswith(f"cp{sys.version_info.major}{sys.version_info.minor}-")


def test_an_environment_of_the_same_interpreter_is_known_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever environment asks."""
    ours = interpreter()
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).resolve()))

    assert interpreter() == ours


def test_a_lock_that_cannot_be_read_is_an_error_of_the_build(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="lock of the build tools"):
        ready(Cache(root=tmp_path), tmp_path / "none.txt")


def test_pip_runs_with_the_tools_first_on_the_path() -> None:
    tools = Toolchain(folder=Path(sys.prefix), lock_sha256="")

    assert "pip" in tools.pip("--version", what="w", fix="f")
    with pytest.raises(BuildError, match="w"):
        tools.pip("no-such-command", what="w", fix="f")
