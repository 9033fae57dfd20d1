"""The shape of the tree, as ARCHITECTURE.md and CONTRIBUTING.md promise it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("media", "bundler", "appliance", "bench")
LONGEST_MODULE = 400
# One file for people who distrust our packages: a medium, a ledger and two kinds of signatures (ADR 35).
STAND_ALONE = {"bundler/check/verify.py": 1420}
HOME_PATH = re.compile(rb"/(?:home|Users|work)/[a-z]+/")
REGISTRY_HOST = re.compile(r"(pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian\.org|huggingface\.co)")


def tracked() -> list[Path]:
    """Return the files git knows, so that nobody's scratch files are judged."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_module_is_longer_than_the_hard_stop() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in CODE
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines()))
        > STAND_ALONE.get(path.relative_to(ROOT).as_posix(), LONGEST_MODULE)
    }

    assert long == {}


@pytest.mark.parametrize("folder", ["ansible", "systemd"])
def test_data_folders_never_become_packages_that_shadow_real_libraries(folder: str) -> None:
    assert list((ROOT / folder).rglob("__init__.py")) == []


def test_there_are_no_modules_named_after_nothing() -> None:
    vague = {"utils", "helpers", "common", "misc", "managers", "models"}

    found = [path for package in CODE for path in (ROOT / package).rglob("*") if path.stem in vague]

    assert found == []


def test_no_tracked_file_names_a_package_registry() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path != Path(__file__) and REGISTRY_HOST.search(path.read_bytes().decode(errors="replace"))
    ]

    assert found == []


def test_no_tracked_file_names_a_path_of_a_developers_machine() -> None:
    own = Path(__file__)

    assert [str(path) for path in tracked() if path != own and HOME_PATH.search(path.read_bytes())] == []


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]
