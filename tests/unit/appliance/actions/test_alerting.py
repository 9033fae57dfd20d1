"""Alerts are judged by what runs: a relay that nothing is sent to tells nobody."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from appliance.actions import alerting, numbers_taken
from appliance.actions.alerting import Fault
from appliance.actions.readiness import Surroundings, Verdict, readiness
from appliance.config import Config
from appliance.install.supervisor import UnitState
from tests.support.floor import open_floor
from tests.support.supervisor import FakeSupervisor

RELAY = {"mail_relay": "10.0.0.25", "mail_to": ["duty@clinic.internal"]}


def rules(**states: str) -> bytes:
    told = [{"name": name, "state": state} for name, state in states.items()]
    return json.dumps({"data": {"groups": [{"rules": told}]}}).encode()


RULES = rules(DiskFull="firing", MailNotTaken="inactive")


def box(*, enabled: bool = True, alerts: dict[str, Any] | None = None) -> Config:
    return Config.model_validate({"site": "s", "monitoring": {"enabled": enabled}, "alerts": alerts or {}})


def running() -> FakeSupervisor:
    supervisor = FakeSupervisor()
    supervisor.start(alerting.UNIT)
    return supervisor


def numbers(path: str, *, ahead: bool = False, fresh: bool = True, health: str = "up") -> bytes | None:
    """What Prometheus says of the numbers that it has."""
    if "/query?" in path:
        is_there = ahead if "offset" in path else fresh
        return json.dumps({"data": {"result": [{"metric": {}, "value": [0, "1"]}] if is_there else []}}).encode()
    target = {"labels": {"job": "host"}, "health": health}
    return json.dumps({"data": {"activeTargets": [target]}}).encode() if "/targets?" in path else None


def good(_: int, path: str) -> bytes | None:
    return RULES if "rules" in path else numbers(path) or b"ready"


def silent(_: int, __: str) -> bytes | None:
    return None


def test_what_runs_and_is_named_holds() -> None:
    (found,) = alerting.findings(box(alerts=RELAY), running(), ask=good)

    assert (found.is_good, found.text) == (True, "told on the page, the console, mail to 1 by 10.0.0.25")


@pytest.mark.parametrize("alerts", [RELAY, {"syslog": "udp 10.0.0.6 514"}])
def test_a_named_way_without_monitoring_is_bad_and_the_fix_is_named(alerts: dict[str, Any]) -> None:
    (found,) = alerting.findings(box(enabled=False, alerts=alerts), running(), ask=good)

    assert found.is_good is False
    assert "monitoring is off: no rule runs" in found.text
    assert "named, and not told" in found.text
    assert "set monitoring.enabled and run `sealift install`" in found.fix
    assert "examples/monitored.toml" in found.fix


def test_off_and_nobody_named_is_only_noted() -> None:
    (found,) = alerting.findings(box(enabled=False), running(), ask=good)

    assert found.is_good is None


def test_each_part_that_does_not_run_is_named() -> None:
    (found,) = alerting.findings(box(), FakeSupervisor(), ask=silent)

    assert found.is_good is False
    assert found.text == (
        f"Prometheus does not answer; Alertmanager does not answer; {alerting.UNIT} is {UnitState.INACTIVE}"
    )


@pytest.mark.parametrize("answer", [None, b"", b"[]", b'{"data": {"groups": []}}', b'{"data": {"groups": [{}]}}'])
def test_prometheus_without_rules_is_found(answer: bytes | None) -> None:
    def ask(_: int, path: str) -> bytes | None:
        return answer if "rules" in path else b"ready"

    assert [one.text for one in alerting.faults(box(), running(), ask=ask)] == ["Prometheus has no rules"]


@pytest.mark.parametrize("state", ["pending", "firing"])
def test_a_relay_that_takes_no_mail_tells_nobody_and_where_to_read_why(state: str) -> None:
    def ask(_: int, path: str) -> bytes | None:
        return rules(DiskFull="inactive", MailNotTaken=state) if "rules" in path else good(0, path)

    (found,) = alerting.findings(box(alerts=RELAY), running(), ask=ask)

    assert found.is_good is False
    assert found.text == "10.0.0.25 does not take every mail; named, and not told: mail to 1 by 10.0.0.25"
    assert "journalctl -u prometheus-alertmanager" in found.fix


def test_where_one_of_several_is_refused_the_others_are_not_said_to_be_untold() -> None:
    both = {**RELAY, "mail_to": ["a@clinic.internal", "b@clinic.internal"]}

    def ask(_: int, path: str) -> bytes | None:
        return rules(MailNotTaken="firing") if "rules" in path else good(0, path)

    (found,) = alerting.findings(box(alerts=both), running(), ask=ask)

    assert (found.is_good, found.text) == (False, "10.0.0.25 does not take every mail")


SYSLOG = {"syslog": "tcp 10.0.0.6 514"}


@pytest.mark.parametrize(
    ("waiting", "is_fault"), [([("A", 2), ("A", 0)], True), ([("A", 0)], False), ([], False)], ids=str
)
def test_a_collector_that_did_not_take_an_alert_is_a_fault(waiting: list[tuple[str, int]], *, is_fault: bool) -> None:
    def ask(port: int, path: str) -> bytes | None:
        if port == alerting.RECEIVER:
            assert path == "/untold"
            return json.dumps({"untold": [{"name": name, "tries": tries} for name, tries in waiting]}).encode()
        return good(port, path)

    (found,) = alerting.findings(box(alerts={**RELAY, **SYSLOG}), running(), ask=ask)

    assert found.is_good is not is_fault
    if is_fault:
        assert found.text == "the syslog collector did not take every alert; named, and not told: syslog"
        assert "journalctl -u sealift-alerts" in found.fix


def test_numbers_ahead_of_the_clock_are_a_fault_that_can_be_mended() -> None:
    def ask(_: int, path: str) -> bytes | None:
        return RULES if "rules" in path else numbers(path, ahead=True) or b"ready"

    (found,) = alerting.findings(box(alerts=RELAY), running(), ask=ask)

    assert found.is_good is False
    assert "ahead of the clock" in found.text
    assert "not told: mail to 1 by 10.0.0.25" in found.text
    assert found.repair == (numbers_taken.PUT_ASIDE, numbers_taken.SUBJECT)
    assert "sealift doctor --mend" in found.fix


@pytest.mark.parametrize(("health", "is_fault"), [("up", True), ("down", True), ("unknown", False)])
def test_a_prometheus_that_took_nothing_of_late_is_a_fault_unless_it_only_just_started(
    health: str, *, is_fault: bool
) -> None:
    def ask(_: int, path: str) -> bytes | None:
        return RULES if "rules" in path else numbers(path, fresh=False, health=health) or b"ready"

    found = alerting.faults(box(), running(), ask=ask)

    assert [one.text for one in found] == (
        ["Prometheus took no numbers of this box for five minutes: rules read nothing"] if is_fault else []
    )
    assert not any(one.is_ahead for one in found)


@pytest.mark.parametrize("answer", [None, b"", b"[]", b'{"data": []}', b'{"data": {"result": 1}}'])
def test_a_prometheus_that_answers_no_question_is_a_fault(answer: bytes | None) -> None:
    def ask(_: int, path: str) -> bytes | None:
        return RULES if "rules" in path else answer if "query" in path else b"ready"

    assert [one.text for one in alerting.faults(box(), running(), ask=ask)] == ["Prometheus answers no question"]


def test_rules_of_a_release_before_say_nothing_of_mail() -> None:
    def ask(_: int, path: str) -> bytes | None:
        return rules(DiskFull="inactive") if "rules" in path else good(0, path)

    assert alerting.faults(box(alerts=RELAY), running(), ask=ask) == []


def test_loopback_is_asked_and_a_refusal_is_no_answer() -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/-/ready" else 503)
            self.end_headers()
            self.wfile.write(b"ready")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        assert alerting.asked(port, "/-/ready") == b"ready"
        assert alerting.asked(port, "/other") is None
        server.shutdown()
    assert alerting.asked(port, "/-/ready") is None


def test_the_go_live_report_goes_by_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_floor() as floor:
        here = floor.here

        def item(faults: list[Fault], alerts: dict[str, Any]) -> tuple[Verdict, str]:
            monkeypatch.setattr(alerting, "faults", lambda *_, **__: faults)
            config = here.config.model_copy(update={"alerts": box(alerts=alerts).alerts})
            report = readiness(
                Surroundings(
                    config=config, ledger=here.ledger, state=here.state, clock=here.clock, supervisor=here.supervisor
                )
            )
            (found,) = [one for one in report.items if one.id == "M22.7"]
            return found.verdict, found.found

        assert item([], RELAY) == (Verdict.HELD, "mail to 1 by 10.0.0.25")
        assert item([], {})[0] is Verdict.NOT_HELD
        verdict, text = item([Fault(text="monitoring is off")], RELAY)
        assert verdict is Verdict.NOT_HELD
        assert "monitoring is off; named, and not told: mail to 1 by 10.0.0.25" in text
        two = {**RELAY, "mail_to": ["a@clinic.internal", "b@clinic.internal"]}
        verdict, text = item([Fault(text="a mail is refused", is_of_mail=True)], two)
        assert (verdict, "not told" in text) == (Verdict.NOT_HELD, False)
