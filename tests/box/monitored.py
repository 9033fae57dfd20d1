"""Prometheus, Alertmanager and node exporter in a booted box: targets are scraped, a rule fires to banner and mail."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.demo.people import password_of
from tests.box import looks
from tests.box.network import FACILITY_ADDRESS, MAIL_PORT
from tests.box.run import ROOT, Run

_PAUSE = 2.0
RULE = "RecordsIncomplete"
_TARGETS = {"gateway", "gateway-test", "host", "node", "alertmanager"}
# What Prometheus takes from those who may: to end itself, read its files anew, delete series.
_REFUSED = [("POST", "/-/quit"), ("POST", "/-/reload"), ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up")]
# Of the engine that answers here, llama.cpp's: only it knows them.
_OF_ENGINES = {"vllm:gpu_cache_usage_perc", "vllm:prefix_cache_queries_total", "sealift_engine_requests_running"}
_FACT = "/var/lib/sealift/spool/000001-0badbeef.json"
_READ = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9092/api/v1/targets", timeout=20).read().decode())
"""
_NAMES = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9092/api/v1/label/__name__/values", timeout=20).read().decode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail that a relay took, and whether it came over TLS."""

    text: str
    is_secured: bool


Mails = Callable[[], list[Mail]]


@contextmanager
def relay(run: Run, certificate: Path | None = None) -> Iterator[Mails]:
    """Run the facility's mail relay, as the site file names it; yield what returns the mails that it was given.

    Args:
        run: The run.
        certificate: Its certificate and key in a file; it takes no mail without TLS then.
    """
    kept = run.out / "mails"
    kept.unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.box.relay", FACILITY_ADDRESS, str(MAIL_PORT), str(kept)]
    words += [str(certificate)] if certificate else []
    with subprocess.Popen(["ip", "netns", "exec", run.facility.name, *words], cwd=ROOT) as process:
        try:
            looks.wait(kept.exists, lambda: "the mail relay does not listen")
            yield lambda: [Mail(**json.loads(line)) for line in kept.read_text().splitlines()]
        finally:
            process.kill()
            process.wait()  # its port is free for another


def begin(run: Run) -> None:
    """Break something that a rule watches: a fact in the spool that does not read."""
    run.machine.shell(f"echo not a fact > {_FACT}; chown sealift-receive:sealift-ledger {_FACT}; chmod 660 {_FACT}")
    run.machine.run("systemctl", "restart", "sealift-ledger.service")


def mend(run: Run) -> None:
    """Take away what the rule found."""
    run.machine.shell("rm -r /var/lib/sealift/spool/rejected")


def targets_and_banner(run: Run, mails: Mails) -> None:
    """Wait until every target is up, the page's banner shows the rule that fires and a mail tells it; then mend it."""
    with run.stage.chapter("Monitoring in the booted box"):
        looks.wait(lambda: _up(run) == _TARGETS, lambda: "a target is not scraped", pause=_PAUSE)
        run.require("every target is scraped", _up(run) == _TARGETS)
        looks.wait(lambda: _names(run) >= _OF_ENGINES, lambda: f"not told: {_OF_ENGINES - _names(run)}", pause=_PAUSE)
        run.require("what an engine alone knows is kept", _names(run) >= _OF_ENGINES)
        seen = run.workstation("figures", refused=_REFUSED)
        read = set(seen["status"].values()) == {200} and min(seen["figures"].values()) > 2 and seen["series"] > 2
        run.require("the network of operations reads every figure at port 9090", read, seen)
        run.require("and changes nothing there", all(status >= 400 for status in seen["refused"]), seen)
        looks.wait(lambda: RULE in _told(run), lambda: "no alert reached the box's own list", pause=_PAUSE)
        banners = run.workstation("banners", person="iris", password=password_of("iris"))["banners"]
        print(f"   {banners}")
        run.require("a rule that fires shows on the page", any(RULE in one for one in banners), banners)
        journal = run.machine.run("journalctl", "-u", "sealift-alerts", "-o", "cat", shown=False).stdout
        run.require("and in the journal", RULE in journal, journal[-2000:])
        looks.wait(
            lambda: any(RULE in mail.text for mail in mails()), lambda: "no mail reached the relay", pause=_PAUSE
        )
        told = next(mail for mail in mails() if RULE in mail.text)
        run.require("and a mail about it reaches the facility's relay", "it-duty@hospital.internal" in told.text, told)
        mend(run)


def _up(run: Run) -> set[str]:
    told = run.machine.run("python3", "-I", "-c", _READ, shown=False, may_fail=True).stdout
    try:
        found = json.loads(told)["data"]["activeTargets"]
    except ValueError:
        return set()
    return {one["labels"]["job"] for one in found if one["health"] == "up"}


def _names(run: Run) -> set[str]:
    return set(json.loads(run.machine.run("python3", "-I", "-c", _NAMES, shown=False).stdout)["data"])


def _told(run: Run) -> str:
    # Looked at here, because the page lets nobody log in every second.
    return run.machine.run("cat", "/var/lib/sealift/alerts/alerts.json", shown=False, may_fail=True).stdout
