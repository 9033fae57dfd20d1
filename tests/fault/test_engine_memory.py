"""An engine whose process the kernel ends for want of memory: it is loaded again, and gives up in the end.

A memory cgroup is what MemoryMax= of the unit is; the limit here is real, and so is the kernel's choice of whom to end.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import ApplianceError, EngineUnavailableError
from appliance.serve.client import EngineClient
from appliance.serve.launcher import MOST_WORKERS
from tests.support.engine_process import engine_site, running_engine, wait_ready

pytestmark = pytest.mark.fault

LIMIT_BYTES = 512 * 1024 * 1024


@pytest.fixture
def site() -> Iterator[Config]:
    with engine_site() as made:
        yield made


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


def _in(cgroup: Path) -> list[str]:
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(cgroup)]


def test_an_engine_that_ran_out_of_memory_answers_again_and_gives_up_in_the_end(site: Config, bounded: Path) -> None:
    answers: list[str] = []
    with running_engine(site, within=_in(bounded)) as (name, process, notices):
        for _ in range(MOST_WORKERS):
            wait_ready(notices)
            with EngineClient(site.at.socket(f"engine-{name}")) as client:
                answers.append(client.complete({"prompt": "abc", "max_tokens": 8})["choices"][0]["text"])
                with pytest.raises(ApplianceError):
                    client.complete({"prompt": "eat", "max_tokens": 8})
        _, journal = process.communicate(timeout=60)

    assert answers == ["ABC"] * MOST_WORKERS
    assert journal.count(signal.Signals.SIGKILL.name) == MOST_WORKERS
    assert process.returncode == EngineUnavailableError.exit_code
    assert "it names what is short" in journal
