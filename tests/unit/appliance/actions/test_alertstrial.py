"""A trial alert reaches everybody whom the site file names, or it is said who did not get it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import alerts, alertstrial
from appliance.config import Config
from appliance.errors import ConfigError, UnitError
from media.canonical import dumps
from media.clock import FixedClock, from_text
from tests.support.told_alerts import keep

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
TWO = {"mail_relay": "10.0.0.25", "mail_to": ["duty@clinic.internal", "night@clinic.internal"]}


@dataclass
class Alertmanager:
    """Tells page and relay of what it was given, as many seconds later as each is said to take; None is never."""

    folder: Path
    clock: FixedClock
    page: int | None = 10
    mails: tuple[int | None, ...] = ()
    fails: int | None = None
    given: list[dict[str, Any]] = field(default_factory=list)
    is_there: bool = True
    collector: tuple[int | None, int | None] | None = (10, None)
    """After how many seconds it took the trial, and after how many it did not; nobody says when absent."""

    @property
    def age(self) -> float:
        return (self.clock.now() - NOW).total_seconds() if self.given else -1

    def ask(self, port: int, path: str) -> bytes | None:
        if port == 9095:
            return self.untold()
        assert path == "/metrics"
        taken = sum(1 for one in self.mails if one is not None and self.age >= one)
        failed = 4 if self.fails is not None and self.age >= self.fails else 3
        told = {"total": 20 + taken + failed, "failed_total": failed}
        lines = [
            f'alertmanager_notification_requests_{name}{{integration="{one}"}} {count}'
            for one, more in (("email", 0), ("webhook", 100))
            for name, count in ((name, count + more) for name, count in told.items())
        ]
        return "\n".join(lines).encode() if self.is_there else None

    def untold(self) -> bytes | None:
        if self.collector is None:
            return None
        took, refused = (one is not None and self.age >= one for one in self.collector)
        waiting = [{"name": self.given[0]["labels"]["alertname"], "tries": int(refused)}]
        return json.dumps({"format": 1, "untold": [] if took else waiting}).encode()

    def tell(self, port: int, path: str, body: bytes) -> bool:
        assert (port, path) == (9093, "/api/v2/alerts")
        self.given += json.loads(body)
        return self.is_there

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        if self.page is not None and self.age >= self.page:
            alert = {"status": "firing", "labels": self.given[0]["labels"], "annotations": self.given[0]["annotations"]}
            told = alerts.Told.from_bytes(dumps({"version": "4", "alerts": [alert]}), clock=self.clock)
            keep(self.folder, told, clock=self.clock)


def site(root: Path, *, enabled: bool = True, given: dict[str, Any] | None = None) -> Config:
    config = Config.model_validate(
        {"site": "s", "places": {"root": str(root)}, "monitoring": {"enabled": enabled}, "alerts": given or {}}
    )
    config.at.alerts.mkdir(parents=True)
    return config


def said(number: int, text: str = "Notify attempt failed, will retry later", *, why: str = "") -> str:
    """One line as Alertmanager 0.25 writes it."""
    place = f"caller=notify.go:732 level=warn component=dispatcher receiver=mail integration=email[{number}]"
    return f'{place} msg="{text}" attempts=1' + (f' err="{why}"' if why else "")


def tried(
    config: Config, *, lines: list[str] | None = None, **how: Any
) -> tuple[Alertmanager, Callable[[], alertstrial.Trial]]:
    clock = FixedClock(at=NOW)
    there = Alertmanager(folder=config.at.alerts, clock=clock, **how)

    def log(since: datetime) -> list[str]:
        assert since == NOW
        return lines or []

    def run() -> alertstrial.Trial:
        return alertstrial.trial(config, clock=clock, ask=there.ask, tell=there.tell, log=log, sleep=there.sleep)

    return there, run


def test_whoever_is_named_is_waited_for_and_the_trial_ends_with_it(tmp_path: Path) -> None:
    there, run = tried(site(tmp_path, given=TWO), mails=(30, 32))

    found = run()

    assert found.to_json() == {"on_page": True, "collected": True, "receivers": 2, "mailed": 2}
    begun, ended = there.given
    assert begun["labels"] == ended["labels"] == {"alertname": "TrialAlert-090000", "severity": "warning"}
    assert begun["startsAt"] == ended["startsAt"]
    assert from_text(begun["endsAt"]) > there.clock.now() == from_text(ended["endsAt"])


def test_without_a_relay_page_and_console_are_all(tmp_path: Path) -> None:
    _, run = tried(site(tmp_path))

    assert run() == alertstrial.Trial(on_page=True)


@pytest.mark.parametrize(
    ("collector", "why", "seconds"),
    [
        ((14, None), "", 20),
        ((None, 14), "the syslog collector did not take it", 20),
        ((None, None), "whether the syslog collector took it is not known", 95),
        (None, "whether the syslog collector took it is not known", 95),
    ],
    ids=["it takes it after a while", "it is away", "it does not end", "the unit does not say"],
)
def test_a_collector_that_does_not_take_the_trial_is_said(
    tmp_path: Path, collector: tuple[int | None, int | None] | None, why: str, seconds: int
) -> None:
    there, run = tried(site(tmp_path, given={"syslog": "tcp 10.0.0.6 514"}), collector=collector)

    if why:
        with pytest.raises(UnitError) as missed:
            run()
        assert missed.value.why == why
        assert "journalctl -u sealift-alerts" in missed.value.fix
    else:
        assert run().is_whole
    assert there.age < seconds


@pytest.mark.parametrize(
    ("how", "why", "seconds"),
    [
        ({"fails": 31}, "the mail relay 10.0.0.25 took 0 of 2 mails", 45),
        ({"fails": 31, "mails": (30, None)}, "the mail relay 10.0.0.25 took 1 of 2 mails", 45),
        ({"page": None, "mails": (30, 30)}, "neither page nor console told it", 95),
        ({"page": None}, "neither page nor console told it; the mail relay 10.0.0.25 took 0 of 2 mails", 95),
    ],
)
def test_who_did_not_get_it_is_said_in_time(tmp_path: Path, how: dict[str, Any], why: str, seconds: int) -> None:
    there, run = tried(site(tmp_path, given=TWO), **how)

    with pytest.raises(UnitError) as missed:
        run()

    assert (missed.value.what, missed.value.why) == ("the trial did not reach everybody", why)
    assert "journalctl -u prometheus-alertmanager" in missed.value.fix
    assert there.age < seconds
    assert len(there.given) == 2  # it was ended all the same


@pytest.mark.parametrize("mails", [(30, None), (30, 31)], ids=["counted", "another alert's was counted for it"])
def test_who_was_refused_is_named_in_the_relays_own_words(tmp_path: Path, mails: tuple[int | None, ...]) -> None:
    why = r"send RCPT command: 550 5.1.1 \"night\": no\tsuch \x1b[2Juser" + "x" * 200
    other = 'component=dispatcher receiver=box integration=webhook[0] msg="Notify attempt failed" err="refused"'
    lines = [other, said(1, why=why), said(7, why="of nobody")]
    _, run = tried(site(tmp_path, given=TWO), lines=lines, fails=31, mails=mails)

    with pytest.raises(UnitError) as missed:
        run()

    told = missed.value.why.split("; ")[-1]
    assert told.startswith('night@clinic.internal got none: send RCPT command: 550 5.1.1 "night": no')
    assert told.isascii()
    assert told.isprintable()
    assert len(told) < 200
    assert "duty@" not in missed.value.why
    assert "of nobody" not in missed.value.why


def test_who_was_refused_first_and_taken_then_got_it(tmp_path: Path) -> None:
    lines = [said(0, why="450 4.2.0 later"), said(0, "Notify success")]
    _, run = tried(site(tmp_path, given=TWO), lines=lines, fails=30, mails=(33, 34))

    assert run().is_whole


def test_who_may_not_read_the_journal_is_told_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert alertstrial.logged(NOW) == []


def test_a_relay_that_fails_once_and_then_takes_it_is_good(tmp_path: Path) -> None:
    _, run = tried(site(tmp_path, given=TWO), fails=30, mails=(33, 34))

    assert run().is_whole


def test_an_alertmanager_that_does_not_answer_is_said(tmp_path: Path) -> None:
    _, run = tried(site(tmp_path), is_there=False)

    with pytest.raises(UnitError, match="was not sent"):
        run()


def test_where_nothing_is_told_there_is_nothing_to_try(tmp_path: Path) -> None:
    there, run = tried(site(tmp_path, enabled=False, given=TWO))

    with pytest.raises(ConfigError, match="nothing is told"):
        run()
    assert there.given == []
