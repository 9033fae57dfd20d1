"""What environments are compiled to: each content once, for every place that has it, and good where it is imported."""

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.install.compiling import compile_all

RAISES = "def fail():\n    raise ValueError('here')\n"


def environments(root: Path) -> list[Path]:
    """Return two folders of packages that share one module, each with another, and a file nobody can compile."""
    folders = [root / "one", root / "two"]
    for number, folder in enumerate(folders):
        (folder / "shared").mkdir(parents=True)
        (folder / "shared/module.py").write_text(RAISES)
        (folder / f"own{number}.py").write_text(f"VALUE = {number}\n")
    (folders[0] / "newer.py").write_text("type X[T = int] = list[T\n")
    return folders


def compiled(source: Path) -> bytes:
    return Path(importlib.util.cache_from_source(str(source))).read_bytes()


def test_what_environments_share_is_compiled_once_and_lies_in_each(tmp_path: Path) -> None:
    one, two = environments(tmp_path)

    assert compile_all([one, two], processes=1) == 3
    assert compiled(one / "shared/module.py") == compiled(two / "shared/module.py")
    assert not Path(importlib.util.cache_from_source(str(one / "newer.py"))).exists()


def test_it_names_no_time_and_is_not_compared_with_its_source_again(tmp_path: Path) -> None:
    one, two = environments(tmp_path)
    compile_all([one, two], processes=1)

    for source in (one / "own0.py", two / "own1.py", two / "shared/module.py"):
        flags = struct.unpack("<I", compiled(source)[4:8])[0]
        assert flags == 0b01  # of a hash, not to be checked


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_traceback_names_the_environment_that_the_file_lies_in(tmp_path: Path, name: str) -> None:
    compile_all(environments(tmp_path), processes=2)
    source = tmp_path / name / "shared/module.py"

    told = subprocess.run(
        [sys.executable, "-v", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import shared.module as m; m.fail()",
         str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert f'File "{source}", line 2, in fail' in told.stderr
    assert f"code object from '{importlib.util.cache_from_source(str(source))}'" in told.stderr
