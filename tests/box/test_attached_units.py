"""An attached engine as the unit that systemd starts: llama.cpp's own server behind the unit's walls (ADR 50).

The box is a bare Debian 12 with this machine's /usr; the engine's environment has a wheel that a file of hashes names.
What a release brings, people decide and callers see is shown on a whole box (`attached`).
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.registry.descriptor import ModelDescriptor
from tests.box.checkout import booted, journal, lay_down, start
from tests.box.engineunit import LIBRARIES, EngineUnit, lay_environment
from tests.support import attached
from tests.support.installable import places_below, store_release
from tests.support.real_engine import shipped_tasks

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

TEMPLATE = b"{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
QUESTION = {"messages": [{"role": "user", "content": "Tell a long story about the sea."}], "temperature": 0}
PATIENCE_SECONDS = 60.0
BACK_SECONDS = 20.0
TOKENS = 64


class Engine(EngineUnit):
    """The unit of a version whose answers another's program makes."""

    @property
    def processes(self) -> tuple[str, ...]:
        """The launcher, its worker and the other's program; fewer while one of them starts."""
        found = [self.main]
        while len(found) < 3:
            told = self.box.shell(f"cat /proc/{found[-1]}/task/{found[-1]}/children").stdout.split()
            if len(told) != 1 or not told[0].isdigit():
                break
            found += told
        return tuple(found)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    files = attached.files_of(
        weights=attached.demo_weights(), template=TEMPLATE, tasks=shipped_tasks(), n_ctx=2048, n_batch=512, n_seq_max=4
    )
    digest = ModelDescriptor.from_bytes(files["data/models/tiny/descriptor.json"]).model_digest
    (libraries,) = attached.environment().parents[1].glob("lib/python3*/site-packages")

    def lay(root: Path) -> None:
        lay_down(root, 'format = 1\nsite = "demo"\n')
        store_release(places_below(root), files)
        lay_environment(root, digest[:12], "/srv/checkout", "/srv/packages", LIBRARIES)

    with booted("slattached", lay, media={LIBRARIES: libraries}) as machine:
        yield Engine(box=machine, digest12=digest[:12], patience_seconds=PATIENCE_SECONDS)


@pytest.fixture
def started(engine: Engine) -> Engine:
    engine.box.shell(f"systemctl reset-failed {engine.unit}")
    start(engine.box, engine.unit)
    return engine


def test_anothers_program_answers_behind_the_walls_of_the_unit(started: Engine) -> None:
    box, processes = started.box, started.processes

    assert started.ask(QUESTION, tokens=8)["usage"]["completion_tokens"] == 8
    assert len(processes) == 3, journal(box, started.unit)
    user = box.shell("id -u sealift-engine-test").stdout.strip()
    held = [box.status_of(process) for process in processes]
    assert [one["Uid"].split() for one in held] == [[user] * 4] * 3
    assert [(one["NoNewPrivs"], one["Seccomp"], int(one["CapBnd"], 16)) for one in held] == [("1", "2", 0)] * 3
    # The worker starts nothing more; the program that it started has the unit's filter, which it was started by.
    launcher, worker, program = (int(one["Seccomp_filters"]) for one in held)
    assert (worker, program) == (launcher + 1, launcher)
    links = [box.shell(f"tail -n +3 /proc/{process}/net/dev | cut -d: -f1").stdout.split() for process in processes]
    assert links == [["lo"]] * 3
    groups = [box.shell(f"cut -d: -f3 /proc/{process}/cgroup").stdout for process in processes]
    assert groups[0] == groups[1] == groups[2]
    assert f"/{started.unit}\n" in groups[0]


@pytest.mark.parametrize("which", ["unit", "launcher", "worker", "program"])
def test_whatever_of_it_is_killed_is_back_by_itself(started: Engine, which: str) -> None:
    box, before = started.box, started.processes
    words = dict(zip(("launcher", "worker", "program"), (f"kill -KILL {one}" for one in before), strict=True))

    began = time.monotonic()
    box.shell(words.get(which, f"systemctl kill --signal=KILL {started.unit}"))
    while before[2] in started.processes or not started.answers(QUESTION):
        assert time.monotonic() - began < PATIENCE_SECONDS, journal(box, started.unit)
        time.sleep(0.1)

    assert time.monotonic() - began < BACK_SECONDS
    assert len(started.processes) == 3
    assert box.shell("pgrep -c -u sealift-engine-test").stdout.strip() == "3"


def test_a_stop_ends_what_was_begun(started: Engine) -> None:
    told: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: told.append(started.ask(QUESTION, tokens=TOKENS)))
    asking.start()
    with started.client() as client:
        while not client.running():
            time.sleep(0.02)

    stopped = started.box.shell(f"systemctl stop {started.unit}")
    asking.join()

    assert stopped.returncode == 0, stopped.stdout
    assert [one["usage"]["completion_tokens"] for one in told] == [TOKENS], journal(started.box, started.unit)
    assert started.box.shell("pgrep -u sealift-engine-test").stdout == ""
