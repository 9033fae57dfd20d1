"""Alerts on the page, the console and syslog: told once, gone by themselves, printable."""

import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import alerts
from appliance.actions.alerts import Alert, Told
from appliance.observe.alerts import create_alerts_app, to_console, to_syslog
from appliance.observe.collecting import Collector
from media.clock import FixedClock
from media.errors import MediaError
from tests.support.told_alerts import keep

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CLOCK = FixedClock(at=NOW)


def message(name: str = "DiskFilling", *, status: str = "firing", summary: str = "80 %", **labels: str) -> bytes:
    one = {
        "status": status,
        "labels": {"alertname": name, "severity": "warning", **labels},
        "annotations": {"summary": summary, "description": "long", "runbook": "sealift status"},
    }
    return json.dumps({"version": "4", "groupKey": "k", "alerts": [one]}).encode()


def told(content: bytes) -> Told:
    return Told.from_bytes(content, clock=CLOCK)


def names(folder: Path, clock: FixedClock = CLOCK) -> list[tuple[str, str]]:
    return [(one.name, one.instance) for one in alerts.firing(folder, clock=clock)]


def test_an_alert_fires_until_it_is_resolved(tmp_path: Path) -> None:
    keep(tmp_path, told(message(place="state")), clock=CLOCK)
    keep(tmp_path, told(message(place="backup")), clock=CLOCK)
    assert names(tmp_path) == [("DiskFilling", "backup"), ("DiskFilling", "state")]

    keep(tmp_path, told(message(place="state", status="resolved")), clock=CLOCK)

    assert names(tmp_path) == [("DiskFilling", "backup")]


@pytest.mark.parametrize("label", ["place", "model", "digest", "unit", "gpu_id", "part", "voter"])
def test_two_alerts_of_one_rule_are_both_told(tmp_path: Path, label: str) -> None:
    first = keep(tmp_path, told(message(**{label: "a"})), clock=CLOCK)
    second = keep(tmp_path, told(message(**{label: "b"})), clock=CLOCK)

    assert (len(first), len(second), len(names(tmp_path))) == (1, 1, 2)


def test_an_alert_that_is_not_told_again_goes_by_itself(tmp_path: Path) -> None:
    keep(tmp_path, told(message()), clock=CLOCK)

    assert names(tmp_path, FixedClock(at=NOW + timedelta(minutes=14)))
    assert not names(tmp_path, FixedClock(at=NOW + timedelta(minutes=15)))


def test_an_alert_that_was_told_by_a_clock_that_ran_ahead_goes_with_the_correction(tmp_path: Path) -> None:
    ahead = FixedClock(at=NOW + timedelta(days=50 * 365))
    keep(tmp_path, Told.from_bytes(message(), clock=ahead), clock=ahead)
    assert names(tmp_path, ahead)

    assert not names(tmp_path, CLOCK)


def test_what_fires_already_is_not_new_again(tmp_path: Path) -> None:
    first = keep(tmp_path, told(message()), clock=CLOCK)
    second = keep(tmp_path, told(message()), clock=CLOCK)

    assert [one.name for one in first] == ["DiskFilling"]
    assert second == ()


def test_the_critical_ones_come_first(tmp_path: Path) -> None:
    keep(tmp_path, told(message("A")), clock=CLOCK)
    keep(tmp_path, told(message("B", severity="critical")), clock=CLOCK)

    assert [one.name for one in alerts.firing(tmp_path, clock=CLOCK)] == ["B", "A"]


def test_no_control_character_reaches_a_terminal(tmp_path: Path) -> None:
    found = told(message(summary="\x1b[31mred\nnext" + "x" * 1000, severity="terrible")).firing[0]

    assert found.line.isprintable()
    assert len(found.summary) <= 300
    assert found.severity == "warning"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"version":"3","alerts":[]}', b'{"version":"4","alerts":[1]}']
)
def test_what_is_no_message_is_refused_and_changes_nothing(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MediaError):
        told(content)
    app = create_alerts_app(tmp_path, say=(), clock=CLOCK)

    assert app.test_client().post("/alerts", data=content).status_code == 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format":2,"alerts":[]}', b'{"alerts":[{"name":1}],"format":1}'])
def test_a_file_that_does_not_read_means_no_banner(tmp_path: Path, content: bytes) -> None:
    (tmp_path / alerts.FILE).write_bytes(content)

    assert alerts.firing(tmp_path, clock=CLOCK) == ()


def test_the_webhook_tells_every_listener_once(tmp_path: Path) -> None:
    heard: list[Alert] = []
    client = create_alerts_app(tmp_path, say=(heard.append,), clock=CLOCK).test_client()

    answers = [client.post("/alerts", data=message()).status_code for _ in range(2)]

    assert answers == [204, 204]
    assert [one.name for one in heard] == ["DiskFilling"]


def test_of_posts_that_come_at_one_moment_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = alerts.firing

    def slowly(folder: Path, *, clock: FixedClock) -> tuple[Alert, ...]:
        found = read(folder, clock=clock)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(alerts, "firing", slowly)
    app = create_alerts_app(tmp_path, say=(), clock=CLOCK)
    answers: list[int] = []

    def post(name: str) -> None:
        answers.append(app.test_client().post("/alerts", data=message(name)).status_code)

    posts = [threading.Thread(target=post, args=(name,)) for name in ("A", "B", "C")]
    for one in posts:
        one.start()
    for one in posts:
        one.join()

    assert answers == [204] * 3
    assert [name for name, _ in sorted(names(tmp_path))] == ["A", "B", "C"]


def test_what_cannot_be_written_is_told_once_and_shown_when_it_can_be(tmp_path: Path) -> None:
    """The disk is full, of which nobody would hear otherwise: its alert is the first that cannot be written."""
    heard: list[Alert] = []
    folder = tmp_path / "cannot be written"
    client = create_alerts_app(folder, say=(heard.append,), clock=CLOCK).test_client()

    answers = [client.post("/alerts", data=message("DiskFull")).status_code for _ in range(3)]
    assert answers == [503] * 3, "Alertmanager repeats it"
    assert [one.name for one in heard] == ["DiskFull"]
    folder.mkdir()

    assert client.post("/alerts", data=message("DiskFull")).status_code == 204
    assert names(folder) == [("DiskFull", "")]
    assert len(heard) == 1


def test_what_ended_while_nothing_could_be_written_is_told_anew_when_it_fires_again(tmp_path: Path) -> None:
    heard: list[Alert] = []
    client = create_alerts_app(tmp_path / "none", say=(heard.append,), clock=CLOCK).test_client()

    for status in ("firing", "firing", "resolved", "firing"):
        client.post("/alerts", data=message(status=status))

    assert len(heard) == 2


def test_one_way_that_fails_keeps_no_other(tmp_path: Path) -> None:
    heard: list[Alert] = []

    def fails(_: Alert) -> None:
        raise OSError(28, "No space left on device")

    client = create_alerts_app(tmp_path, say=(fails, heard.append), clock=CLOCK).test_client()

    assert client.post("/alerts", data=message()).status_code == 204
    assert len(heard) == 1


class Away:
    """A collector that takes nothing while it is away."""

    def __init__(self) -> None:
        self.is_there = False
        self.asked = 0
        self.took: list[tuple[str, datetime]] = []

    def __call__(self, alert: Alert) -> bool:
        self.asked += 1
        self.took += [(alert.name, alert.told)] if self.is_there else []
        return self.is_there


def test_a_collector_that_was_away_gets_each_alert_once_with_the_time_at_which_it_began(tmp_path: Path) -> None:
    away, clock = Away(), FixedClock(at=NOW)
    client = create_alerts_app(tmp_path, say=(), clock=clock, collector=Collector(away)).test_client()

    assert client.post("/alerts", data=message("A")).status_code == 204
    clock.advance(60)
    client.post("/alerts", data=message("B"))
    client.post("/alerts", data=message("A", status="resolved"))
    assert away.asked == 3, "one attempt at each message, however many wait"
    assert client.get("/untold").json == {
        "format": 1,
        "untold": [{"name": "A", "tries": 3}, {"name": "B", "tries": 2}],
    }
    away.is_there = True
    for _ in range(3):
        client.post("/alerts", data=message("B"))

    assert away.took == [("A", NOW), ("B", NOW + timedelta(seconds=60))]
    assert client.get("/untold").json == {"format": 1, "untold": []}


def test_what_the_file_holds_is_sent_to_the_collector_once_more_after_a_start(tmp_path: Path) -> None:
    away, heard = Away(), list[Alert]()
    keep(tmp_path, told(message("A")), clock=CLOCK)
    client = create_alerts_app(tmp_path, say=(heard.append,), clock=CLOCK, collector=Collector(away)).test_client()
    assert client.get("/untold").json == {"format": 1, "untold": [{"name": "A", "tries": 0}]}
    away.is_there = True

    client.post("/alerts", data=message("A"))

    assert ([name for name, _ in away.took], heard) == (["A"], [])


def test_of_what_waits_for_a_collector_the_oldest_goes(tmp_path: Path) -> None:
    collector = Collector(Away())
    one = told(message()).firing[0]

    collector.add([one] * (alerts.MOST + 1))

    assert len(collector.untold()) == alerts.MOST


def test_what_is_added_while_another_is_sent_goes_with_it() -> None:
    took: list[str] = []
    first, second = told(message("A")).firing[0], told(message("B")).firing[0]

    def say(alert: Alert) -> bool:
        took.append(alert.name)
        if alert is first:  # as another thread would
            collector.add([second])
            collector.send()
        return True

    collector = Collector(say)
    collector.add([first])
    collector.send()

    assert took == ["A", "B"]
    assert collector.untold() == ()


def test_a_failure_of_ours_does_not_keep_the_next_pass() -> None:
    tries: list[Alert] = []

    def say(alert: Alert) -> bool:
        tries.append(alert)
        if len(tries) == 1:
            raise RuntimeError
        return True

    collector = Collector(say)
    collector.add(told(message()).firing)
    with pytest.raises(RuntimeError):
        collector.send()
    collector.send()

    assert len(tries) == 2
    assert collector.untold() == ()


def test_the_console_gets_one_line_with_its_priority(capsys: pytest.CaptureFixture[str]) -> None:
    to_console(told(message(severity="critical", place="state")).firing[0])

    assert capsys.readouterr().err == "<2>CRITICAL DiskFilling (state): 80 %; sealift status\n"


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_collector_gets_a_message_of_rfc_5424(protocol: str) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(60)
        if protocol == "tcp":
            collector.listen(1)
        send = to_syslog(f"{protocol} 127.0.0.1 {collector.getsockname()[1]}", host="box")
        assert send(told(message()).firing[0])
        received = _received(collector, protocol)

    length, _, text = received.partition(" ") if protocol == "tcp" else ("", "", received)
    assert not length or int(length) == len(text)
    assert text == ("<132>1 2026-11-20T12:00:00Z box sealift - DiskFilling - WARNING DiskFilling: 80 %; sealift status")


def _received(collector: socket.socket, protocol: str) -> str:
    if protocol == "udp":
        return collector.recv(4096).decode()
    line, _ = collector.accept()
    with line:
        return line.recv(4096).decode()


def test_a_collector_that_does_not_answer_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: Any = taken.getsockname()[1]
        assert not to_syslog(f"tcp 127.0.0.1 {port}", host="box")(told(message()).firing[0])

    assert capsys.readouterr().err.count("\n") == 1
