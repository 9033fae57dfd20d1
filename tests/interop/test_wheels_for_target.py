"""pip, as a second opinion: what our closure calls complete installs without an index, and what it refuses does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.closure import require_complete
from bundler.errors import SourceError
from bundler.sources.server import requirements_text
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from bundler.targettags import target_platforms
from tests.support.payload import sha256, wheel

pytestmark = pytest.mark.interop

TARGET = Target(profile="box", python="3.12", glibc="2.28")
# pip judges markers by the Python that it runs on, whatever --python-version says, so these mean the same for both.
NEEDS = {
    "alpha": ("beta[fast]>=1", "gamma; python_version >= '3.11'", "old; python_version < '3'"),
    "beta": ("speed; extra == 'fast'", "slow; extra == 'slow'", "win; sys_platform == 'win32'"),
    "gamma": ("alpha",),
    "speed": (),
}


def chosen(folder: Path) -> dict[str, ChosenWheel]:
    """Write wheels for the target, which this machine could not run."""
    found = {}
    for name, needs in NEEDS.items():
        lines = "".join(f"\nRequires-Dist: {line}" for line in needs)
        extras = "\nProvides-Extra: fast\nProvides-Extra: slow" if name == "beta" else ""
        tag = "cp312-cp312-manylinux_2_28_x86_64" if name == "speed" else "py3-none-any"
        file = wheel(folder, name, license_line=f"License-Expression: MIT{extras}{lines}", tag=tag)
        found[name] = ChosenWheel(name=name, version="1.0", file=file, sha256=sha256(file))
    return found


def pip_installs(wheels: tuple[ChosenWheel, ...], folder: Path) -> bool:
    """Let pip resolve and install for the target from this folder alone, by hash, in a namespace without a network."""
    (folder / "requirements.txt").write_text(requirements_text(wheels).decode())
    (folder / "wheels").mkdir()
    for each in wheels:
        (folder / "wheels" / each.file.name).hardlink_to(each.file)
    platforms = [word for name in target_platforms(TARGET) for word in ("--platform", name)]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--require-hashes", "--only-binary=:all:",
        "--find-links", str(folder / "wheels"), "-r", str(folder / "requirements.txt"), "--target",
        str(folder / "site"), "--python-version", TARGET.python, "--implementation", "cp", *platforms,
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", *command],
        capture_output=True,
        text=True,
        env={**environment, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=False,
    )
    return done.returncode == 0 and (folder / "site" / "alpha" / "__init__.py").is_file()


def test_a_complete_environment_installs_for_another_python_without_a_network(tmp_path: Path) -> None:
    wheels = tuple(chosen(tmp_path / "made").values())

    require_complete(wheels, TARGET, label="x")

    assert pip_installs(wheels, tmp_path)


@pytest.mark.parametrize("left_out", ["beta", "gamma", "speed"])
def test_what_we_call_incomplete_pip_cannot_install(tmp_path: Path, left_out: str) -> None:
    wheels = tuple(each for name, each in chosen(tmp_path / "made").items() if name != left_out)

    with pytest.raises(SourceError, match="not complete"):
        require_complete(wheels, TARGET, label="x")

    assert not pip_installs(wheels, tmp_path)
