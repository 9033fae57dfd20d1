"""Rules and dashboard ask only for what exists, and say what helps."""

import re
import typing
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from tests.docs.test_commands import faults
from tests.support.monitoring import dashboard, offered, rules, used

PAGE = Path(__file__).resolve().parents[2] / "docs/operator/monitoring.md"
NGINX = Path(__file__).resolve().parents[2] / "ansible/roles/nginx/templates/nginx.conf.j2"
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


def test_the_page_has_a_line_for_every_alert_and_for_no_other() -> None:
    lines = re.findall(r"^\| `([A-Z][A-Za-z]+)` \| (critical|warning) \|", PAGE.read_text(), re.MULTILINE)

    assert lines == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]


def test_no_two_panels_lie_upon_each_other() -> None:
    places: list[tuple[int, int]] = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in dashboard()["panels"]]
    numbers: list[typing.Any] = [one["id"] for one in dashboard()["panels"]]

    assert len(set(places)) == len(places) == len(set(numbers))


@pytest.mark.parametrize("gateway", ["gateway", "gateway-test"])
def test_the_gateways_numbers_are_asked_for_without_a_callers_address(gateway: str) -> None:
    text = NGINX.read_text()
    blocks = re.findall(rf"location = /metrics/{gateway} \{{(.*?)\n        \}}", text, re.DOTALL)

    # It refuses them to whatever the proxy marks as a caller's (`appliance.gateway.access.is_local`).
    assert len(blocks) == 2
    assert all('proxy_set_header X-Forwarded-For "";' in block for block in blocks)
