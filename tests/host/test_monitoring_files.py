"""Rules and dashboard ask only for what exists, and say what helps."""

import re
import typing
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from appliance.observe import gunicorn_conf, posting
from tests.docs.test_commands import faults
from tests.support.monitoring import dashboard, offered, rules, used
from tests.support.unit_files import SYSTEMD, values

PAGE = Path(__file__).resolve().parents[2] / "docs/operator/monitoring.md"
NGINX = Path(__file__).resolve().parents[2] / "ansible/roles/nginx/templates/nginx.conf.j2"
ALERTMANAGER = Path(__file__).resolve().parents[2] / "ansible/roles/monitoring/templates/alertmanager.yml.j2"
FOREIGN = {"systemctl", "journalctl", "timedatectl", "df", "nginx", "nvidia-smi", "ss"}


def expressions() -> list[tuple[str, str]]:
    asked = [(rule["alert"], rule["expr"]) for rule in rules()]
    return asked + [(panel["title"], one["expr"]) for panel in dashboard()["panels"] for one in panel["targets"]]


@pytest.mark.parametrize(("name", "expression"), expressions(), ids=lambda value: value[:30])
def test_every_metric_that_is_asked_for_exists(name: str, expression: str) -> None:
    assert used(expression), name
    assert used(expression) <= offered()


def test_a_metric_that_does_not_exist_would_be_seen() -> None:
    assert used('sum by (le) (rate(sealift_nothing_total{part="up"}[5m])) > on(x) up') == {
        "sealift_nothing_total",
        "up",
    }
    assert not used("sealift_nothing_total") & offered()


def test_every_rule_says_what_it_means_and_which_command_helps() -> None:
    for rule in rules():
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        for command in notes["runbook"].split("; "):
            if command.startswith("sealift "):
                assert not faults(command), rule["alert"]
            else:
                assert command.split()[0] in FOREIGN, rule["alert"]


def test_what_clears_a_failed_drill_with_the_key_is_named() -> None:
    (runbook,) = (rule["annotations"]["runbook"] for rule in rules() if rule["alert"] == "DrillFailed")

    assert "sealift drill --by NAME --by NAME --home FOLDER" in runbook.split("; ")
    assert "`sealift drill --by NAME --by NAME --home FOLDER`" in PAGE.read_text()


def test_the_page_has_a_line_for_every_alert_and_for_no_other() -> None:
    lines = re.findall(r"^\| `([A-Z][A-Za-z]+)` \| (critical|warning) \|", PAGE.read_text(), re.MULTILINE)

    assert lines == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]


def test_alerts_reach_their_receiver_without_the_web_server() -> None:
    """Alertmanager posts where the socket listens, on loopback; the web server neither passes them on nor may."""
    _, port = values(SYSTEMD / "sealift-alerts.socket", "ListenStream")
    posted = re.findall(r"^ +- url: (.*)$", ALERTMANAGER.read_text(), re.MULTILINE)
    (down,) = (rule["annotations"]["description"] for rule in rules() if rule["alert"] == "WebServerDown")

    assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", port)
    assert posted == [f"http://{port}/alerts"]
    assert "alerts" not in NGINX.read_text()
    assert port not in NGINX.read_text()
    assert "mail" not in down


def test_only_this_machine_reaches_the_receiver_of_alerts_and_nobody_holds_it_for_long() -> None:
    """systemd.resource-control(5): a service's own list of addresses is not for sockets that are handed to it."""
    socket, (command,) = SYSTEMD / "sealift-alerts.socket", values(SYSTEMD / "sealift-alerts.service", "ExecStart")

    assert (values(socket, "IPAddressDeny"), values(socket, "IPAddressAllow")) == (["any"], ["localhost"])
    assert "--worker-class appliance.observe.posting.PostingWorker --worker-connections 16 " in command
    # All that may be held at a time, by as many threads as there are, for as long as one may: the watchdog bears it.
    (silence,) = values(SYSTEMD / "sealift-alerts.service", "WatchdogSec")
    assert 16 / gunicorn_conf.threads * posting.SECONDS < int(silence) / 2


def test_no_two_panels_lie_upon_each_other() -> None:
    places: list[tuple[int, int]] = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in dashboard()["panels"]]
    numbers: list[typing.Any] = [one["id"] for one in dashboard()["panels"]]

    assert len(set(places)) == len(places) == len(set(numbers))


def quantity(expression: str) -> str:
    """Return what an expression gives: a rate, a part, a time, what the names end with, or a count."""
    if " / " in expression or expression.startswith("1 - "):
        return "part"
    if "histogram_quantile(" in expression:
        return "seconds"
    if "rate(" in expression:
        return "bytes a second" if "_bytes_" in expression else "a second"
    ends = {re.sub(r".*_", "", name) for name in used(expression)}
    return {"seconds": "seconds", "bytes": "bytes", "perc": "part", "ratio": "part", "percent": "percent"}.get(
        ends.pop(), "count"
    )


UNITS = {
    "s": "seconds",
    "percentunit": "part",
    "percent": "percent",
    "reqps": "a second",
    "ops": "a second",
    "Bps": "bytes a second",
}


@pytest.mark.parametrize("panel", dashboard()["panels"], ids=lambda panel: panel["title"])
def test_a_panel_has_one_unit_for_all_that_it_shows(panel: dict[str, typing.Any]) -> None:
    """Grafana writes one unit at the axis: a number of engines beside seconds is read as seconds."""
    found = {quantity(one["expr"]) for one in panel["targets"]}

    assert len(found) == 1
    unit = panel["fieldConfig"]["defaults"]["unit"]
    assert found <= ({UNITS[unit]} if unit in UNITS else {"count", "a second"})


@pytest.mark.parametrize("gateway", ["gateway", "gateway-test"])
def test_the_gateways_numbers_are_asked_for_without_a_callers_address(gateway: str) -> None:
    text = NGINX.read_text()
    blocks = re.findall(rf"location = /metrics/{gateway} \{{(.*?)\n        \}}", text, re.DOTALL)

    # It refuses them to whatever the proxy marks as a caller's (`appliance.gateway.access.is_local`).
    assert len(blocks) == 2
    assert all('proxy_set_header X-Forwarded-For "";' in block for block in blocks)
