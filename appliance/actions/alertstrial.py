"""A trial of how alerts are told: one that says that it is one, on the page, the console, by syslog and by mail.

A relay is asked nothing before there is a mail to send, so whether it takes any is known too late. Promises: the trial
goes the way of every alert, through Alertmanager to whomever the site file names; whoever did not get it is said, by
name where the journal can be read; it ends with the command. Alertmanager gives each receiver a mail of its own, so one
whom the relay refuses takes nothing from the others. Names are said to who asked, and written nowhere.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.actions import alerting, alerts, journal
from appliance.actions.alerting import ALERTMANAGER, Ask
from appliance.config import Config
from appliance.errors import ConfigError, UnitError
from media.clock import Clock, to_text

NAME: Final = "TrialAlert"
_ALERTS: Final = "/api/v2/alerts"
_METRICS: Final = "/metrics"
_MAILS: Final = re.compile(
    rb'^alertmanager_notification_requests_(total|failed_total)\{integration="email"\} (\d+)$', re.MULTILINE
)
_PATIENCE: Final = 90.0
"""A mail waits half a minute for others of its kind (ansible/roles/monitoring/templates/alertmanager.yml.j2)."""
_ONCE_MORE: Final = 8.0
"""How long a relay that failed may still take a mail; Alertmanager tries again after a second or two."""
_LASTS: Final = timedelta(minutes=5)
_UNIT: Final = "prometheus-alertmanager.service"
_LINES: Final = 1000
_OF_ONE: Final = re.compile(r" receiver=mail integration=email\[(\d{1,4})\] msg=\"(Notify [^\"]*)\"")
_WHY: Final = re.compile(r' err="((?:[^"\\]|\\.)*)"')
_TAKEN: Final = "Notify success"
_MOST_SAID: Final = 160
_SAYS: Final = {
    "summary": "A trial of how alerts are told",
    "description": "Somebody asked for it by sealift alerts try. Nothing is wrong.",
    "runbook": "",
}

Tell = Callable[[int, str, bytes], bool]
"""Posts to a port of loopback; whether it was taken."""

Logged = Callable[[datetime], list[str]]
"""What Alertmanager wrote into the journal since a time; nothing where it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Who was told.

    Args:
        on_page: Whether the page shows it, and with it the console.
        collected: Whether the syslog collector took it, or none is named; None while nobody knows.
        receivers: How many mail addresses the site file names.
        mailed: How many mails the relay took meanwhile; it is not asked which.
        refused: Who got none, with the reason, as far as the journal says it.
    """

    on_page: bool = False
    collected: bool | None = True
    receivers: int = 0
    mailed: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether everybody was told."""
        return self.on_page and bool(self.collected) and self.mailed >= self.receivers and not self.refused

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be waited for."""
        return self.on_page and self.collected is not None and self.mailed >= self.receivers

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "on_page": self.on_page,
            "collected": self.collected,
            "receivers": self.receivers,
            "mailed": self.mailed,
        }


@dataclass(frozen=True, slots=True)
class _Mails:
    tried: int
    failed: int

    @property
    def taken(self) -> int:
        return self.tried - self.failed


def told(port: int, path: str, body: bytes) -> bool:
    """Post a document to a program on loopback."""
    return alerting.asked(port, path, body) is not None


def logged(since: datetime) -> list[str]:
    """Return what Alertmanager wrote since a time; nothing where the journal cannot be read, as by who is not root."""
    asked = journal.Asked(units=(_UNIT,), lines=_LINES, since=f"@{int(since.timestamp())}")
    try:
        return [str(one["text"]) for one in journal.records(asked)]
    except UnitError:
        return []


def trial(
    config: Config,
    *,
    clock: Clock,
    ask: Ask = alerting.asked,
    tell: Tell = told,
    log: Logged = logged,
    sleep: Callable[[float], None] = time.sleep,
) -> Trial:
    """Send a trial and wait until everybody has it.

    Raises:
        ConfigError: Monitoring is off, so nothing is told.
        UnitError: Somebody did not get it; `why` says who.
    """
    if not config.monitoring.enabled:
        raise ConfigError(what="nothing is told of trouble", why="monitoring is off", fix=alerting.fix(config))
    before, began = _mails(ask), clock.now()
    # Under a name of its own: one of before may still be told, and would be taken for it.
    name = f"{NAME}-{began:%H%M%S}"
    if before is None or not tell(ALERTMANAGER, _ALERTS, _body(name, began, until=began + _LASTS)):
        raise UnitError(what="the trial was not sent", why="Alertmanager does not take it", fix=alerting.fix(config))
    try:
        found = _waited(config, name, before, clock=clock, ask=ask, sleep=sleep)
        # Read at the end: a mail of another alert may have been counted for one that was refused.
        found = replace(found, refused=_refused(config, log(began)))
    finally:
        tell(ALERTMANAGER, _ALERTS, _body(name, began, until=clock.now()))
    if not found.is_whole:
        raise UnitError(
            what="the trial did not reach everybody",
            why="; ".join(_missing(config, found)),
            fix="`journalctl -u prometheus-alertmanager -n 20` and `journalctl -u sealift-alerts -n 20` say why",
        )
    return found


def _waited(
    config: Config, name: str, before: _Mails, *, clock: Clock, ask: Ask, sleep: Callable[[float], None]
) -> Trial:
    receivers = len(config.alerts.mail_to) if config.alerts.mail_relay else 0
    until = clock.monotonic() + _PATIENCE
    failed_at = None
    while True:
        now = _mails(ask) or before
        page = any(one.name == name for one in alerts.firing(config.at.alerts, clock=clock))
        collected = _collected(config, name, ask) if page else None
        mailed = min(now.taken - before.taken, receivers)
        found = Trial(on_page=page, collected=collected, receivers=receivers, mailed=mailed)
        if failed_at is None and now.failed > before.failed:
            failed_at = clock.monotonic()
        is_over = failed_at is not None and clock.monotonic() - failed_at > _ONCE_MORE
        if found.is_over or is_over or clock.monotonic() > until:
            return found
        sleep(1)


def _missing(config: Config, found: Trial) -> list[str]:
    missing = [] if found.on_page else ["neither page nor console told it"]
    if found.on_page and not found.collected:
        missing.append(
            "the syslog collector did not take it"
            if found.collected is False
            else "whether the syslog collector took it is not known"
        )
    if found.mailed < found.receivers:
        missing.append(f"the mail relay {config.alerts.mail_relay} took {found.mailed} of {found.receivers} mails")
    return missing + [f"{address} got none: {why}" for address, why in found.refused.items()]


def _collected(config: Config, name: str, ask: Ask) -> bool | None:
    """Return whether the collector took it; the receiver lets it wait before the page shows it."""
    if not config.alerts.syslog:
        return True
    waiting = alerting.uncollected(ask)
    if waiting is None or waiting.get(name) == 0:
        return None
    return name not in waiting


def _refused(config: Config, lines: list[str]) -> dict[str, str]:
    """Return who got no mail and why: Alertmanager numbers receivers as the site file lists them."""
    last: dict[int, str] = {}
    for line in lines:
        if (of := _OF_ONE.search(line)) is not None:
            why = _WHY.search(line)
            # The relay's own words, which are a stranger's.
            said = re.sub(r"[^ -~]", "?", why[1].replace('\\"', '"') if why else "it was not taken")
            last[int(of[1])] = "" if of[2] == _TAKEN else said[:_MOST_SAID]
    named = config.alerts.mail_to
    return {named[number]: why for number, why in sorted(last.items()) if why and number < len(named)}


def _mails(ask: Ask) -> _Mails | None:
    counted = {name: int(number) for name, number in _MAILS.findall(ask(ALERTMANAGER, _METRICS) or b"")}
    return _Mails(tried=counted[b"total"], failed=counted[b"failed_total"]) if len(counted) > 1 else None


def _body(name: str, began: datetime, *, until: datetime) -> bytes:
    labels = {"alertname": name, "severity": "warning"}
    alert = {"labels": labels, "annotations": _SAYS, "startsAt": to_text(began), "endsAt": to_text(until)}
    return json.dumps([alert]).encode()
