"""How an engine's process ends when it cannot serve: with the number that its unit is told not to start again for."""

import configparser
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import EngineLoadError, EngineUnavailableError, NotPromotedError, UnknownVersionError
from appliance.serve.launcher import MOST_WORKERS
from appliance.watchdog.workers import STOP_SECONDS
from tests.support.engine_process import engine_site, running_engine, wait_ready
from tests.support.versions import store_version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site() -> Iterator[Config]:
    with engine_site() as lent:
        yield lent


def begin(
    site: Config, instance: str, program: tuple[str, ...] = ("-m", "appliance.serve.launcher")
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program, "--config", str(site.at.config_file), "--instance", instance],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.slow
def test_each_refusal_ends_with_its_own_number_and_says_why(site: Config) -> None:
    _, descriptor = store_version(site)
    digest = descriptor.model_digest[:12]
    running = {
        "weights that are none": (begin(site, f"test-{digest}"), EngineLoadError),
        "nothing is promoted": (begin(site, f"production-{digest}"), NotPromotedError),
        "no such version": (begin(site, "test-0123456789ab"), UnknownVersionError),
    }

    for what, (process, error) in running.items():
        code, told = ended(process)
        assert code == error.exit_code, (what, told)
        assert "Traceback" not in told.partition("Exception in worker process")[0]


def test_the_units_know_these_numbers() -> None:
    for stage in ("test", "production"):
        unit = configparser.RawConfigParser(strict=False)
        unit.read_string(
            re.sub(r"^#.*$", "", (ROOT / f"systemd/sealift-engine-{stage}@.service").read_text(), flags=re.MULTILINE)
        )
        prevented = unit["Service"]["RestartPreventExitStatus"].split()
        refused = (EngineLoadError, NotPromotedError, UnknownVersionError)
        assert {str(error.exit_code) for error in refused} <= set(prevented)
        # Killed for memory is worth another try, a bounded number of times.
        assert str(EngineUnavailableError.exit_code) not in prevented
        assert int(unit["Unit"]["StartLimitBurst"]) <= 3


_KILLED = """
import os, signal, sys
from appliance.serve import launcher

def killed(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short

launcher.load = killed
launcher.main()
"""


def test_a_worker_that_memory_kills_again_and_again_ends_the_unit(site: Config) -> None:
    _, descriptor = store_version(site)

    began = time.monotonic()
    code, told = ended(begin(site, f"test-{descriptor.model_digest[:12]}", ("-c", _KILLED)))

    assert code == EngineUnavailableError.exit_code, told
    assert told.count(signal.Signals.SIGKILL.name) == MOST_WORKERS
    assert "the engine's process was killed again and again" in told
    assert time.monotonic() - began < 30


_REFUSED = """
from appliance.errors import EngineLoadError
from appliance.serve import launcher

def refused(*arguments, **options):
    raise EngineLoadError(what="it is not loaded", why="no card is found", fix="look for the card")

launcher.load = refused
launcher.main()
"""


_SLOW = """
import time
from flask import Flask, Response
from appliance.serve import launcher

app = Flask("slow")

@app.get("/slow")
def slow():
    def parts():
        for _ in range(24):
            yield b"."
            time.sleep(0.5)
    return Response(parts())

launcher.load = lambda *arguments, **options: launcher.Loaded(app=app, turns=lambda seconds: True)
launcher.main()
"""


@pytest.mark.slow
def test_what_was_begun_is_answered_for_longer_than_a_gateway_that_stops_with_it_waits(site: Config) -> None:
    with running_engine(site, program=_SLOW) as (name, process, notices), socket.socket(socket.AF_UNIX) as caller:
        wait_ready(notices)
        caller.settimeout(30)
        caller.connect(str(site.at.socket(f"engine-{name}")))
        caller.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        assert caller.recv(12) == b"HTTP/1.0 200"
        process.terminate()
        answer = b"".join(iter(lambda: caller.recv(4096), b""))

        assert answer.rpartition(b"\r\n\r\n")[2] == 24 * b"."
        assert process.wait(5) == 0


@pytest.mark.parametrize("name", ["engine-production@", "engine-test@", "gateway", "gateway@", "gateway-test"])
def test_no_unit_is_killed_before_what_it_began_has_had_its_time(name: str) -> None:
    given = re.findall(r"^TimeoutStopSec=(\d+)$", (ROOT / f"systemd/sealift-{name}.service").read_text(), re.MULTILINE)

    # An engine's launcher ends another's program after that, and vLLM in two tries.
    assert int(given[0]) > STOP_SECONDS + (2 * 10 if name.startswith("engine") else 0)


def test_what_is_refused_is_not_tried_again(site: Config) -> None:
    _, descriptor = store_version(site)

    code, told = ended(begin(site, f"test-{descriptor.model_digest[:12]}", ("-c", _REFUSED)))

    assert code == EngineLoadError.exit_code, told
    assert told.count("(no card is found)") == 1
    assert "again and again" not in told
