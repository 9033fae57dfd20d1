"""Alerts that fire now, as Alertmanager told them: a small file that the admin page reads for its banner.

Promises: an alert that is not told again goes by itself, so a dead Alertmanager leaves no stale banner; texts come from
our own rules and are still cut and stripped as if they did not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from media import canonical, durable, endings
from media.clock import Clock, to_text
from media.errors import MalformedError, MediaError

FORMAT: Final = 1
FILE: Final = "alerts.json"
KEPT: Final = timedelta(minutes=15)
"""How long an alert counts after it was last told; Alertmanager repeats every 5 minutes."""
MOST: Final = 100
_TEXT: Final = 300
_SEVERITIES: Final = frozenset({"critical", "warning"})
_WHAT: Final = "The alerts"
_INSTANCES: Final = ("place", "model", "digest", "unit", "gpu_id", "part", "voter", "gateway")
"""Labels by which two alerts of one rule differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    Args:
        name: Of the rule.
        severity: critical or warning.
        summary: One line.
        help: The command that helps.
        instance: What tells two alerts of one rule apart, e.g. a place or a model.
        until: When it counts no longer.
    """

    name: str
    severity: str
    summary: str
    help: str
    instance: str
    until: datetime

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return {
            "name": self.name,
            "severity": self.severity,
            "summary": self.summary,
            "help": self.help,
            "instance": self.instance,
            "until": to_text(self.until),
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read the fields.

        Raises:
            MediaError: They do not read.
        """
        value = canonical.exact_keys(untrusted, ("name", "severity", "summary", "help", "instance", "until"), (), _WHAT)
        return cls(
            name=canonical.text(value["name"], _WHAT),
            severity=canonical.text(value["severity"], _WHAT),
            summary=canonical.text(value["summary"], _WHAT),
            help=str(value["help"]),
            instance=str(value["instance"]),
            until=canonical.moment(value["until"], _WHAT),
        )

    @property
    def key(self) -> tuple[str, str]:
        """What tells it apart from every other one."""
        return self.name, self.instance

    @property
    def told(self) -> datetime:
        """When Alertmanager told it."""
        return self.until - KEPT

    @property
    def line(self) -> str:
        """The alert in one line, for the console and syslog."""
        where = f" ({self.instance})" if self.instance else ""
        return f"{self.severity.upper()} {self.name}{where}: {self.summary}" + (f"; {self.help}" if self.help else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one message of Alertmanager's says: alerts that fire, and names with instances of those that ended."""

    firing: tuple[Alert, ...]
    ended: frozenset[tuple[str, str]]

    @classmethod
    def from_bytes(cls, untrusted: bytes, *, clock: Clock) -> Self:
        """Read a webhook's body (Alertmanager's version 4).

        Raises:
            MediaError: It is none.
        """
        value = canonical.mapping(canonical.loads(untrusted), _WHAT)
        if value.get("version") != "4":
            raise MalformedError(
                what="this is no message of Alertmanager's", why="its version is not 4", fix="check its configuration"
            )
        firing, ended = [], set()
        for one in canonical.array(value.get("alerts"), _WHAT, most=1000):
            fields = canonical.mapping(one, _WHAT)
            labels = canonical.mapping(fields.get("labels"), _WHAT)
            notes = canonical.mapping(fields.get("annotations"), _WHAT)
            name = _clean(labels.get("alertname"))
            instance = _clean(next((labels[key] for key in _INSTANCES if key in labels), ""))
            if not name:
                continue
            if fields.get("status") == "resolved":
                ended.add((name, instance))
                continue
            severity = _clean(labels.get("severity"))
            firing.append(
                Alert(
                    name=name,
                    severity=severity if severity in _SEVERITIES else "warning",
                    summary=_clean(notes.get("summary")) or name,
                    help=_clean(notes.get("runbook")),
                    instance=instance,
                    until=(clock.now() + KEPT).replace(microsecond=0),
                )
            )
        return cls(firing=tuple(firing[:MOST]), ended=frozenset(ended))


class Opened:
    """Alerts that count now, in memory and in the file: what cannot be written is told all the same, and once.

    Args:
        folder: Where the file lies; what it holds counts as told.
        clock: The clock.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._now = {one.key: one for one in firing(folder, clock=clock)}

    @property
    def now(self) -> tuple[Alert, ...]:
        """The alerts that count now."""
        return _counting(self._now.values(), self._clock)

    def take(self, told: Told) -> tuple[Alert, ...]:
        """Merge a message, and return the alerts that are new in it."""
        before = {one.key: one for one in self.now}
        now = {key: one for key, one in before.items() if key not in told.ended}
        now |= {one.key: one for one in told.firing}
        self._now = dict(list(now.items())[-MOST:])
        return tuple(one for one in told.firing if one.key not in before)

    def write(self) -> None:
        """Put what counts now into the file.

        Raises:
            OSError: It cannot be written.
        """
        _write(self._folder, self._now.values())


def firing(folder: Path, *, clock: Clock) -> tuple[Alert, ...]:
    """Return the alerts that count now, the critical ones first; none where the file is absent or does not read."""
    try:
        untrusted = canonical.loads((folder / FILE).read_bytes())
        value = canonical.exact_keys(untrusted, ("format", "alerts"), (), _WHAT)
        if value["format"] != FORMAT:
            return ()
        found = [Alert.from_json(one) for one in canonical.array(value["alerts"], _WHAT, most=MOST)]
    except (OSError, MediaError):
        return ()
    return _counting(found, clock)


def _counting(found: Iterable[Alert], clock: Clock) -> tuple[Alert, ...]:
    # What lasts longer than an alert can was told by a clock that ran ahead, and would stay until it is caught up with.
    now = clock.now()
    return tuple(
        sorted(
            (one for one in found if now < one.until <= now + 2 * KEPT),
            key=lambda one: (one.severity, one.name, one.instance),
        )
    )


def _write(folder: Path, alerts: Iterable[Alert]) -> None:
    content: Mapping[str, Any] = {"format": FORMAT, "alerts": [one.to_json() for one in alerts]}
    durable.replace(folder / FILE, canonical.dumps(content), mode=0o644)


def _clean(untrusted: object) -> str:
    """Return one printable line: no control characters reach a terminal."""
    return endings.one_line(untrusted if isinstance(untrusted, str) else "", _TEXT).strip()
