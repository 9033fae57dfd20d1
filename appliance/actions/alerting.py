"""Whether somebody would be told of trouble now: that rules run, and that what fires is passed on.

Judged by what runs, not by what is named: a relay that nothing is sent to tells nobody, nor one that takes no mail.
"""

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from appliance.actions import numbers_taken
from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install import watching
from appliance.install.supervisor import Supervisor, UnitState, open_supervisor

UNIT: Final = "sealift-alerts.service"
PROMETHEUS: Final = 9092
ALERTMANAGER: Final = 9093
"""Where Debian's programs listen on loopback; ansible/roles/monitoring_ahead says so to them."""
RECEIVER: Final = 9095
"""Where our own unit does; systemd/sealift-alerts.socket."""
_UNTOLD: Final = "/untold"
_READY: Final = "/-/ready"
_RULES: Final = "/api/v1/rules?type=alert"
_MAIL_RULE: Final = "MailNotTaken"
_QUIET: Final = "inactive"
_SECONDS: Final = 3.0
_MOST_BYTES: Final = 4 * 2**20

Ask = Callable[[int, str], bytes | None]
"""Asks a port of loopback for a path; nothing when it does not answer well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why somebody would not be told.

    Attributes:
        text: What is wrong.
        is_of_mail: Only that the relay refuses a mail: who else is named may be told.
        is_of_syslog: Only that the collector did not take an alert yet.
        is_ahead: Prometheus holds numbers that are ahead of the clock, which `sealift doctor --mend` puts aside.
    """

    text: str
    is_of_mail: bool = False
    is_of_syslog: bool = False
    is_ahead: bool = False


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


def faults(config: Config, supervisor: Supervisor | None = None, *, ask: Ask = asked) -> list[Fault]:
    """Return why somebody would not be told; empty when rules run and what fires is told."""
    if config.places.root != "/":
        return [Fault(text="below a folder no rule runs, so nothing is told")]
    if not config.monitoring.enabled:
        return [Fault(text="monitoring is off: no rule runs, so nothing is told")]
    found = []
    if ask(PROMETHEUS, _READY) is None:
        found.append(Fault(text="Prometheus does not answer"))
    elif not (rules := _rules(ask(PROMETHEUS, _RULES))):
        found.append(Fault(text="Prometheus has no rules"))
    elif (lost := numbers_taken.not_taken(partial(ask, PROMETHEUS))) is not None:
        found.append(Fault(text=lost.text, is_ahead=lost.is_ahead))
    elif config.alerts.mail_relay and rules.get(_MAIL_RULE, _QUIET) != _QUIET:
        # Told at once here; the page's banner waits for some minutes.
        found.append(Fault(text=f"{config.alerts.mail_relay} does not take every mail", is_of_mail=True))
    if ask(ALERTMANAGER, _READY) is None:
        found.append(Fault(text="Alertmanager does not answer"))
    if config.alerts.syslog and any(tries for tries in (uncollected(ask) or {}).values()):
        found.append(Fault(text="the syslog collector did not take every alert", is_of_syslog=True))
    try:
        state = (supervisor or open_supervisor(config)).state(UNIT)
    except UnitError as error:
        return [*found, Fault(text=f"{UNIT}: {error.what}")]
    return found if state is UnitState.ACTIVE else [*found, Fault(text=f"{UNIT} is {state}")]


def uncollected(ask: Ask = asked) -> dict[str, int] | None:
    """Return which alerts the syslog collector did not take yet, and how often each was tried; None where none says."""
    found: dict[str, int] = {}
    try:
        for one in json.loads(ask(RECEIVER, _UNTOLD) or b"")["untold"]:
            found[str(one["name"])] = max(int(one["tries"]), found.get(str(one["name"]), 0))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found


def untold(config: Config, wrong: Sequence[Fault]) -> str:
    """Return who is named and not told where these are the faults; of several receivers of mails it may be one."""
    named = watching.ways(config)
    if all(fault.is_of_mail or fault.is_of_syslog for fault in wrong):
        is_mail = any(fault.is_of_mail for fault in wrong) and len(config.alerts.mail_to) < 2
        is_syslog = any(fault.is_of_syslog for fault in wrong)
        mails, collectors = watching.by_mail(config), watching.by_syslog(config)
        named = (*(mails if is_mail else ()), *(collectors if is_syslog else ()))
    return f"named, and not told: {', '.join(named)}" if named else ""


def fix(config: Config, wrong: Sequence[Fault] = ()) -> str:
    """Return what helps where there are these faults."""
    if config.places.root != "/":
        return "a box tells, where monitoring is on"
    if not config.monitoring.enabled:
        return (
            f"set monitoring.enabled and run `sealift install`; where the release does not carry it, {watching.BUILD}"
        )
    if any(fault.is_ahead for fault in wrong):
        return "with the clock right (`sealift clock show`), `sealift doctor --mend` as root puts them aside"
    return (
        "`systemctl status prometheus prometheus-alertmanager sealift-alerts`; `sealift install` puts them in anew; "
        "who gets no mail, and why, `sealift alerts try` and `journalctl -u prometheus-alertmanager` say; "
        "why the collector takes nothing, `journalctl -u sealift-alerts`"
    )


def findings(config: Config, supervisor: Supervisor | None = None, *, ask: Ask = asked) -> Iterator[Finding]:
    """Whether alerts are told; off and without anybody named it is only noted, since nobody believes to have any."""
    named = watching.ways(config)
    wrong = faults(config, supervisor, ask=ask)
    is_expected = config.places.root == "/" and bool(named or config.monitoring.enabled)
    text = ", ".join(("told on the page", "the console", *named))
    if wrong:
        text = "; ".join(filter(None, (*(fault.text for fault in wrong), untold(config, wrong))))
    yield Finding(
        name="alerts",
        is_good=(False if is_expected else None) if wrong else True,
        text=text,
        why="who is not told of a full disk or a missing backup learns of it when it is too late",
        fix=fix(config, wrong),
        repair=(numbers_taken.PUT_ASIDE, numbers_taken.SUBJECT) if any(fault.is_ahead for fault in wrong) else (),
    )


def _rules(untrusted: bytes | None) -> dict[str, str]:
    """Return what each rule is in by name: inactive, pending or firing; nothing where that does not read."""
    try:
        groups = json.loads(untrusted or b"")["data"]["groups"]
        return {str(rule["name"]): str(rule["state"]) for group in groups for rule in group["rules"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
