"""Debian's Prometheus after the clock was moved back: a rule and doctor tell that it takes nothing, and a repair."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from appliance.actions import alerting, numbers_taken
from media.clock import SystemClock
from tests.support.monitoring import RULES
from tests.support.ports import held_port

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus is absent"),
]
_SECONDS: Final = 60
_HOUR: Final = 3600
_SITE: Final = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: host
    static_configs: [{targets: ["127.0.0.1:PORT"]}]
"""


class Prometheus:
    """The real one in a folder, as its unit runs it; our rules wait for nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = held_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "rules.yml").write_text(re.sub(r"for: \d+[hm]", "for: 0s", RULES.read_text()))
        (folder / "prometheus.yml").write_text(_SITE.replace("PORT", str(self.port)))

    def hold(self, *, since: float, until: float) -> None:
        """Let its database hold that this box was there, once a minute."""
        lines = [f'up{{job="host"}} 1 {int(at)}' for at in range(int(since), int(until), 60)]
        (self.folder / "held.txt").write_text("\n".join(["# TYPE up gauge", *lines, "# EOF", ""]))
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "held.txt", "metrics2"]
        subprocess.run(command, cwd=self.folder, capture_output=True, check=True)

    def tell(self, verb: str) -> None:
        """Start or stop it, as systemd does."""
        if verb == "start":
            command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=metrics2"]
            command += [f"--web.listen-address=127.0.0.1:{self.port}"]
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
            wait(lambda: alerting.asked(self.port, "/-/ready"))
        elif self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def lost(self) -> numbers_taken.NotTaken | None:
        return numbers_taken.not_taken(self.ask)

    def ask(self, path: str) -> bytes | None:
        return alerting.asked(self.port, path)

    def fires(self, rule: str) -> bool:
        told = self.ask("/api/v1/alerts") or b""
        return f'"alertname":"{rule}"'.encode() in told


@contextmanager
def running(folder: Path, *, since: float, until: float) -> Iterator[Prometheus]:
    there = Prometheus(folder)
    there.hold(since=since, until=until)
    there.tell("start")
    try:
        yield there
    finally:
        there.tell("stop")


def wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_a_clock_that_was_moved_back_is_told_and_what_is_ahead_put_aside(tmp_path: Path) -> None:
    """It was three hours later once: the rules read what was so then, and find everything in order."""
    now = time.time()
    with running(tmp_path, since=now - _HOUR, until=now + 3 * _HOUR) as there:
        wait(lambda: there.fires("NumbersNotTaken"))
        assert not there.fires("FactsDown"), "it reads what was so when the clock showed this time before"
        lost = there.lost()
        assert lost is not None
        assert lost.is_ahead

        (aside,) = numbers_taken.put_aside(clock=SystemClock(), folder=tmp_path, tell=there.tell)
        wait(lambda: b'"value"' in (there.ask("/api/v1/query?query=up") or b""))

        assert there.lost() is None
        assert not there.fires("NumbersNotTaken")
    assert re.fullmatch(r"metrics2\.before-\d{8}T\d{6}Z", aside.name)
    assert len(list(aside.glob("*/meta.json"))) >= 2, "what it held is kept"


def test_where_nothing_was_ever_held_at_this_time_the_facts_are_told_missing(tmp_path: Path) -> None:
    """A clock that ran years ahead from the first day on, and was put right."""
    later = time.time() + 3 * 365 * 24 * _HOUR
    with running(tmp_path, since=later, until=later + _HOUR) as there:
        wait(lambda: there.fires("FactsDown"))
        wait(lambda: there.fires("NumbersNotTaken"))

        lost = there.lost()

    assert lost is not None
    assert lost.is_ahead


def test_what_goes_on_as_it_should_is_no_fault(tmp_path: Path) -> None:
    now = time.time()
    with running(tmp_path, since=now - 4 * _HOUR, until=now - _HOUR) as there:
        assert there.lost() is None, "it has only just started"
        wait(lambda: b'"value"' in (there.ask("/api/v1/query?query=up") or b""))
        wait(lambda: b'"health":"up"' in (there.ask("/api/v1/targets") or b""))

        assert there.lost() is None
        assert not there.fires("NumbersNotTaken")
