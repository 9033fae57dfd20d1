"""A rehearsal on a real Debian: a copy boots without a network, is installed by the sheet's commands, and answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.box.machine import base_image, install_tools
from tests.box.sender import RECIPE

COMMAND = Path(sys.executable).with_name("sealift-bundler")


@pytest.mark.box
@pytest.mark.timeout(840)
def test_a_candidate_is_rehearsed_on_a_debian_that_boots(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can boot a system")
    install_tools()
    base, work = base_image(), tmp_path / "work"
    before = sorted(path.name for path in (base / "etc").iterdir())
    subprocess.run([COMMAND, "build", RECIPE, "--work", work], check=True)

    told = subprocess.run(
        [COMMAND, "--json", "rehearse", work, "--system", base, "--fresh"], check=True, capture_output=True
    ).stdout

    stated = json.loads((work / "attest/rehearsal.json").read_bytes())["predicate"]
    assert json.loads(told) == stated
    assert stated["level"] == "answered-on-cpu"
    assert stated["system"].startswith("Debian GNU/Linux 12")
    assert [model["name"] for model in stated["models"]] == ["smollm2-135m-instruct"]
    assert sorted(path.name for path in (base / "etc").iterdir()) == before
