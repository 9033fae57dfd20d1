"""The packages on a medium, read by apt itself as a bare machine would."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.sources import ospackages
from tests.support.debs import deb, remembering

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("apt-ftparchive") is None, reason="needs Debian's apt-utils"),
]


def apt(root: Path, *words: str) -> str:
    """Run apt in private folders, with the medium as its only source."""
    for folder in ("state/lists/partial", "cache/archives/partial", "log", "etc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    (root / "sources.list").write_text(f"deb [trusted=yes] file:{root / 'debs'} ./\n")
    options = {
        "Dir::State": "state",
        "Dir::State::status": "status",
        "Dir::Cache": "cache",
        "Dir::Log": "log",
        "Dir::Etc": "etc",
        "Dir::Etc::sourcelist": "sources.list",
        "Dir::Etc::sourceparts": "none",
    }
    given = [part for key, value in options.items() for part in ("-o", f"{key}={root / value}")]
    command = ["apt-get", "-o", "APT::Architecture=amd64", "-o", "Debug::NoLocking=true", *given, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_apt_takes_the_packages_of_a_medium_without_any_other_source(tmp_path: Path) -> None:
    recipe, debs, cache = remembering(tmp_path, deb(tmp_path, "alpha", "2:1.0-1"), deb(tmp_path, "beta"))
    (tmp_path / "debs").mkdir()
    for artifact in ospackages.gather(recipe, debs, cache=cache).artifacts:
        (tmp_path / artifact.target.removeprefix("data/")).write_bytes(artifact.read())

    apt(tmp_path, "update")
    told = apt(tmp_path, "install", "--simulate", "alpha", "beta")

    assert "Inst alpha (2:1.0-1 " in told
    assert "Inst beta (1.0-1 " in told
