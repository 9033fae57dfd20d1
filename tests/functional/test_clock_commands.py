"""The clock by its commands, over a real ledger and promoter: shown, confirmed, corrected by two signatures."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance.actions import clocksetter, nettest
from appliance.actions.clockwatch import Watch
from appliance.actions.netprobes import Check
from appliance.actions.nettest import SelfTest
from appliance.audit.socket_ledger import SocketLedger
from appliance.install.jobclient import JobsClient
from appliance.install.jobrights import OPERATOR
from appliance.timekeeping import record
from appliance.timekeeping.record import Verdict
from media.clock import SystemClock, from_text
from tests.support.clocks import jumped_from
from tests.support.jobs import UnitRunner, job_service
from tests.support.promoting import enrol_all, homes, site
from tests.support.running_site import Run, RunningSite, as_json, runner

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

__all__ = ["homes", "site"]


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


@pytest.fixture
def watch(site: RunningSite) -> Iterator[Watch]:
    ledger = SocketLedger(site.config.at.socket("ledger-actions"))
    made = Watch(site.config, clock=SystemClock(), ledger=ledger, is_synchronised=lambda: False)
    made.start()
    yield made
    ledger.close()


def test_a_clock_is_confirmed_by_name_and_later_by_two_signatures(
    site: RunningSite, sealift: Run, homes: dict[str, Path], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_json(sealift, "clock", "show")["verdict"] == "unconfirmed"
    assert as_json(sealift, "clock", "confirm", "--by", "Iris", "--dry-run")["confirmed"] is False
    assert as_json(sealift, "clock", "confirm", "--by", "Iris")["confirmed"] is True
    assert watch.look().verdict is Verdict.GOOD
    enrol_all(site, sealift, homes)
    assert "a name alone" in sealift("clock", "confirm", "--by", "Iris", "--dry-run").err
    first, second = list(homes)[:2]
    assert as_json(sealift, "clock", "set", "now", "--as", first, "--reason", "x", "--dry-run")["asked"] is False

    asked = as_json(sealift, "clock", "set", "now", "--as", first, "--reason", "looked at two watches")
    digest = asked["statement"][:12]
    set_to: list[datetime] = []

    def start(self: UnitRunner, unit: str) -> None:
        # What the unit does, but for the one call that would set this machine's clock.
        ledger, jobs = SocketLedger(site.config.at.socket("ledger-actions")), JobsClient.open(site.config, OPERATOR)
        whole = unit.removeprefix("sealift-clock-set@").removesuffix(".service")
        try:
            jobs.tell_outcome(
                clocksetter.carry_out(site.config, ledger, whole, clock=SystemClock(), setter=set_to.append)
            )
        finally:
            ledger.close()
            jobs.close()

    monkeypatch.setattr(UnitRunner, "start", start)
    with job_service(site.config, site.supervisor):
        for person in (first, second):
            with_key = ("--as", person, "--gnupg-home", str(homes[person]), "--yes")
            approved = as_json(sealift, "clock", "approve", digest, *with_key)["approved_by"]
        assert len(approved) == 2
        assert len(as_json(sealift, "clock", "list")["waiting"]) == 1
        assert as_json(sealift, "clock", "apply", digest, "--dry-run")["set"] is False
        assert not set_to
        applied = as_json(sealift, "clock", "apply", digest)
        assert (applied["set"], applied["then"]) == (True, ""), "nobody watches this box"

    assert len(set_to) == 1
    assert watch.look().confirmed_by == ", ".join(approved)
    shown = as_json(sealift, "clock", "show")
    assert (shown["verdict"], shown["confirmed_by"]) == ("good", ", ".join(approved))


def test_the_watch_is_ready_when_the_clock_was_judged_and_ends_when_told(site: RunningSite, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        place = f"{site.root}/told"
        told.bind(place)
        told.settimeout(60)
        command = [sys.executable, "-m", "appliance.actions.clockwatch", "--config", str(site.config.at.config_file)]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": place}) as process:
            try:
                message = told.recv(4096).decode()
                found = record.published(site.config.at)
            finally:
                process.send_signal(signal.SIGTERM)

    assert message.splitlines() == ["READY=1", "STATUS=unconfirmed"]
    assert found is not None
    assert record.kept(site.config.at) == found
    assert process.returncode == 0


def test_a_key_with_an_end_that_is_made_by_a_clock_that_jumped_ends_when_it_was_meant_to(
    site: RunningSite, sealift: Run
) -> None:
    now = SystemClock()
    site.config.at.clock_now.mkdir(parents=True, exist_ok=True)
    right = now.now().replace(microsecond=0) - timedelta(days=400)  # a clock that is a year ahead of what is believed
    record.publish(site.config.at, jumped_from(right, shown=now.now(), ticks=int(now.monotonic())))

    made = as_json(sealift, "keys", "create", "--department", "cardiology", "--owner", "iris", "--days", "30")

    assert abs(from_text(made["expires_at"]) - right - timedelta(days=30)) < timedelta(minutes=5)


def test_the_network_is_shown_with_its_newest_self_test(site: RunningSite, sealift: Run) -> None:
    assert as_json(sealift, "network", "show")["tested"] is None
    ledger = SocketLedger(site.config.at.socket("ledger-actions"))
    check = Check(name="packet filter", holds=False, text="open: output")
    counters = {"egress_refused": 7}
    try:
        nettest.record(
            site.config, ledger, SelfTest(at="2027-01-01T00:00:00Z", ticks=1, checks=(check,), counters=counters)
        )
    finally:
        ledger.close()

    shown = as_json(sealift, "network", "show")
    assert shown["tested"]["counters"] == counters
    assert shown["clients"]
    text = sealift("network", "show").out
    assert "DOES NOT HOLD packet filter: open: output" in text
    assert "egress refused" in text
