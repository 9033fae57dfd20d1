import hashlib
import sys
from pathlib import Path

import pytest

from bundler.cache import Cache
from bundler.errors import BuildError
from bundler.toolchain import Toolchain, ready


def test_an_environment_that_is_complete_is_used_as_it_is(tmp_path: Path) -> None:
    lock = tmp_path / "build.txt"
    lock.write_text("hatchling==1 --hash=sha256:00\n")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = tmp_path / "cache" / "tools" / f"{digest[:16]}-cp{sys.version_info.major}{sys.version_info.minor}"
    folder.mkdir(parents=True)
    (folder / ".complete").touch()

    found = ready(Cache(root=tmp_path / "cache"), lock)

    assert (found.folder, found.lock_sha256) == (folder, digest)
    assert found.variables()["PATH"].startswith(f"{folder}/bin:")


def test_a_lock_that_cannot_be_read_is_an_error_of_the_build(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="lock of the build tools"):
        ready(Cache(root=tmp_path), tmp_path / "none.txt")


def test_pip_runs_with_the_tools_first_on_the_path() -> None:
    tools = Toolchain(folder=Path(sys.prefix), lock_sha256="")

    assert "pip" in tools.pip("--version", what="w", fix="f")
    with pytest.raises(BuildError, match="w"):
        tools.pip("no-such-command", what="w", fix="f")
