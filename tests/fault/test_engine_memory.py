"""An engine whose process the kernel ends for want of memory: it is loaded again, and gives up in the end.

A memory cgroup is what MemoryMax= of the unit is; the limit here is real, and so is the kernel's choice of whom to end.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import ApplianceError, EngineUnavailableError
from appliance.serve.client import EngineClient
from appliance.serve.launcher import MOST_WORKERS
from tests.support.versions import short_folder, store_version

pytestmark = pytest.mark.fault

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from tests.support import taken_over_engine; taken_over_engine.main()"
LIMIT_BYTES = 512 * 1024 * 1024


@pytest.fixture
def site() -> Iterator[Config]:
    with short_folder() as root:
        text = f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
        config = configuration.parse(text.encode())
        config.at.run.mkdir(parents=True)
        config.at.config_file.parent.mkdir(parents=True)
        config.at.config_file.write_text(text)
        yield config


@pytest.fixture
def bounded() -> Iterator[Path]:
    """A cgroup that holds half a GiB; version 1 or 2, whichever this machine has."""
    places = {"memory/": "memory.limit_in_bytes", "unified/": "memory.max", "": "memory.max"}
    for place, limit in places.items():
        folder = Path(f"/sys/fs/cgroup/{place}sealift-test-{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():
            (folder / limit).write_text(str(LIMIT_BYTES))
            for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
                with suppress(OSError):
                    (folder / swap).write_text("0" if swap.endswith("max") else str(LIMIT_BYTES))
            yield folder
            folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("no memory cgroup can be made here")


@contextmanager
def running(site: Config, bounded: Path) -> Iterator[tuple[str, "subprocess.Popen[str]", socket.socket]]:
    _, descriptor = store_version(site)
    name = f"test-{descriptor.model_digest[:12]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.settimeout(120)
        notices.bind(str(site.at.run / "notify"))
        program = [sys.executable, "-c", PROGRAM, "--config", str(site.at.config_file), "--instance", name]
        process = subprocess.Popen(
            ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(bounded), *program],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": notices.getsockname()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield name, process, notices
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_an_engine_that_ran_out_of_memory_answers_again_and_gives_up_in_the_end(site: Config, bounded: Path) -> None:
    answers: list[str] = []
    with running(site, bounded) as (name, process, notices):
        for _ in range(MOST_WORKERS):
            while b"READY=1" not in notices.recv(4096):
                pass
            with EngineClient(site.at.socket(f"engine-{name}")) as client:
                answers.append(client.complete({"prompt": "abc", "max_tokens": 8})["choices"][0]["text"])
                with pytest.raises(ApplianceError):
                    client.complete({"prompt": "eat", "max_tokens": 8})
        _, journal = process.communicate(timeout=60)

    assert answers == ["ABC"] * MOST_WORKERS
    assert journal.count(signal.Signals.SIGKILL.name) == MOST_WORKERS
    assert process.returncode == EngineUnavailableError.exit_code
    assert "it names what is short" in journal
