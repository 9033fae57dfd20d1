"""Whether somebody would be told of trouble now: that rules run, and that what fires is passed on.

Judged by what runs, not by what is named: a relay that nothing is sent to tells nobody, nor one that takes no mail.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Final

from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install import watching
from appliance.install.supervisor import Supervisor, UnitState, open_supervisor

UNIT: Final = "sealift-alerts.service"
PROMETHEUS: Final = 9092
ALERTMANAGER: Final = 9093
"""Where Debian's programs listen on loopback; ansible/roles/monitoring_ahead says so to them."""
_READY: Final = "/-/ready"
_RULES: Final = "/api/v1/rules?type=alert"
_MAIL_RULE: Final = "MailNotTaken"
_NOT_TAKEN: Final = "does not take every mail"
_QUIET: Final = "inactive"
_SECONDS: Final = 3.0
_MOST_BYTES: Final = 4 * 2**20

Ask = Callable[[int, str], bytes | None]
"""Asks a port of loopback for a path; nothing when it does not answer well."""


def asked(port: int, path: str, body: bytes | None = None) -> bytes | None:
    """Return what a program on loopback answers, to a post where there is a body; None when it does not, or refuses."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, body=body, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.read(_MOST_BYTES) if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def faults(config: Config, supervisor: Supervisor | None = None, *, ask: Ask = asked) -> list[str]:
    """Return why nobody would be told; empty when rules run and what fires is told."""
    if config.places.root != "/":
        return ["below a folder no rule runs, so nothing is told"]
    if not config.monitoring.enabled:
        return ["monitoring is off: no rule runs, so nothing is told"]
    found = []
    if ask(PROMETHEUS, _READY) is None:
        found.append("Prometheus does not answer")
    elif not (rules := _rules(ask(PROMETHEUS, _RULES))):
        found.append("Prometheus has no rules")
    elif config.alerts.mail_relay and rules.get(_MAIL_RULE, _QUIET) != _QUIET:
        # Told at once here; the page's banner waits for some minutes.
        found.append(f"{config.alerts.mail_relay} {_NOT_TAKEN}")
    if ask(ALERTMANAGER, _READY) is None:
        found.append("Alertmanager does not answer")
    try:
        state = (supervisor or open_supervisor(config)).state(UNIT)
    except UnitError as error:
        return [*found, f"{UNIT}: {error.what}"]
    return found if state is UnitState.ACTIVE else [*found, f"{UNIT} is {state}"]


def fix(config: Config) -> str:
    """Return what helps where there are faults."""
    if config.places.root != "/":
        return "a box tells, where monitoring is on"
    if not config.monitoring.enabled:
        return (
            f"set monitoring.enabled and run `sealift install`; where the release does not carry it, {watching.BUILD}"
        )
    return (
        "`systemctl status prometheus prometheus-alertmanager sealift-alerts`; `sealift install` puts them in anew; "
        "who gets no mail, and why, `sealift alerts try` and `journalctl -u prometheus-alertmanager` say"
    )


def findings(config: Config, supervisor: Supervisor | None = None, *, ask: Ask = asked) -> Iterator[Finding]:
    """Whether alerts are told; off and without anybody named it is only noted, since nobody believes to have any."""
    named = watching.ways(config)
    wrong = faults(config, supervisor, ask=ask)
    is_expected = config.places.root == "/" and bool(named or config.monitoring.enabled)
    text = ", ".join(("told on the page", "the console", *named))
    if wrong:
        is_mail_alone = len(wrong) == 1 and wrong[0].endswith(_NOT_TAKEN) and len(config.alerts.mail_to) > 1
        lost = "" if is_mail_alone or not named else f"named, and not told: {', '.join(named)}"
        text = "; ".join(filter(None, (*wrong, lost)))
    yield Finding(
        name="alerts",
        is_good=(False if is_expected else None) if wrong else True,
        text=text,
        why="who is not told of a full disk or a missing backup learns of it when it is too late",
        fix=fix(config),
    )


def _rules(untrusted: bytes | None) -> dict[str, str]:
    """Return what each rule is in by name: inactive, pending or firing; nothing where that does not read."""
    try:
        groups = json.loads(untrusted or b"")["data"]["groups"]
        return {str(rule["name"]): str(rule["state"]) for group in groups for rule in group["rules"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
