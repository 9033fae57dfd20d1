"""The promoter's process: one at a time, ends cleanly, says why when it cannot start."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.promote.client import PromoterClient
from tests.support.versions import short_folder

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each


def start(root: Path) -> subprocess.Popen[bytes]:
    path = root / "sealift.toml"
    path.write_text(f'format = 1\nsite = "demo"\nenvironment = "demo"\n[places]\nroot = "{root}"\n')
    return run(path)


def run(site_file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-m", "appliance.promote.service", "--config", str(site_file)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    _, said = process.communicate(timeout=20)
    return process.returncode, said


def test_it_serves_both_doors_alone_until_it_is_told_to_end() -> None:
    with short_folder() as root:
        sockets = [root / f"run/sealift/promoter-{door}.sock" for door in ("admin", "actions")]
        first = start(root)
        try:
            while not all(path.exists() for path in sockets):
                assert first.poll() is None
                time.sleep(0.02)
            for path in sockets:
                client = PromoterClient.at(path)
                assert client.people() == ()
                client.close()

            code, said = ended(start(root))
            assert (code, b"another promoter is running" in said) == (47, True)
        finally:
            first.send_signal(signal.SIGTERM)
        assert ended(first) == (0, b"")


@pytest.mark.parametrize("content", [None, b"format = 2\n", b"not toml ["])
def test_a_site_file_that_is_not_right_ends_it_with_its_code(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "sealift.toml"
    if content is not None:
        path.write_bytes(content)

    assert ended(run(path))[0] == 50
