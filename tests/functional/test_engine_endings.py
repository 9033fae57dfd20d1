"""How an engine's process ends when it cannot serve: with the number that its unit is told not to start again for."""

import configparser
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import EngineLoadError, EngineUnavailableError, NotPromotedError, UnknownVersionError
from appliance.serve.launcher import MOST_WORKERS
from tests.support.engine_process import engine_site
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


def test_what_is_refused_is_not_tried_again(site: Config) -> None:
    _, descriptor = store_version(site)

    code, told = ended(begin(site, f"test-{descriptor.model_digest[:12]}", ("-c", _REFUSED)))

    assert code == EngineLoadError.exit_code, told
    assert told.count("(no card is found)") == 1
    assert "again and again" not in told
