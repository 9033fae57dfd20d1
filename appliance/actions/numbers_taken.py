"""Whether Prometheus takes this box's numbers now; and puts aside what keeps it from that.

Its database takes nothing older than what it holds. A clock that was moved back, by two people or by a dead battery,
leaves numbers that are ahead of it: until it has caught up with them Prometheus takes none, and its rules read what was
so when the clock showed that time before. Nor does Alertmanager tell anything again until then that it told before.

Promises: nothing is deleted; what was put aside lies beside the new one, named with the time of the clock at that
moment; both programs are started again whatever fails.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from appliance.errors import UnitError
from media.clock import Clock

PUT_ASIDE: Final = "put aside"
"""The repair, by its name for `sealift doctor --mend`."""
SUBJECT: Final = "numbers that are ahead of the clock"
FOLDER: Final = Path("/var/lib/prometheus")
"""Where Debian's packages keep what they know."""
_KEPT: Final = ("metrics2", "alertmanager/nflog")
_UNITS: Final = ("prometheus.service", "prometheus-alertmanager.service")
MARGIN_SECONDS: Final = 300
"""What is ahead by no more passes by itself, before anybody could do anything."""
_AHEAD: Final = 'present_over_time(up{job="host"}[36500d] offset -36500d5m)'
"""Whatever is later than that; the rule NumbersNotTaken asks the same."""
_FRESH: Final = 'present_over_time(up{job="host"}[5m])'
_TARGETS: Final = "/api/v1/targets?state=active"
_SECONDS: Final = 90

Asked = Callable[[str], bytes | None]
"""Asks Prometheus for a path; nothing when it does not answer well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """Why Prometheus takes no numbers of this box.

    Attributes:
        text: What is wrong.
        is_ahead: Whether what it holds is ahead of the clock, which `put_aside` mends.
    """

    text: str
    is_ahead: bool = False


def not_taken(ask: Asked) -> NotTaken | None:
    """Return why Prometheus takes no numbers of this box; nothing where it does, or has only just started."""
    ahead, fresh = _answered(ask, _AHEAD), _answered(ask, _FRESH)
    if ahead is None or fresh is None:
        return NotTaken(text="Prometheus answers no question")
    if ahead:
        return NotTaken(
            text="Prometheus holds numbers that are ahead of the clock, and takes none until it has caught up:"
            " rules read what was so before",
            is_ahead=True,
        )
    if fresh or not _was_scraped(ask):
        return None
    return NotTaken(text="Prometheus took no numbers of this box for five minutes: rules read nothing")


def systemctl(verb: str) -> None:
    """Start or stop Prometheus and Alertmanager.

    Raises:
        UnitError: systemd refused, or it took too long.
    """
    command = ["systemctl", "--no-ask-password", verb, *_UNITS]
    try:
        code: int | str = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        code = type(error).__name__
    if code:
        raise UnitError(
            what=f"Prometheus and Alertmanager did not {verb}",
            why=f"systemctl {verb} answered {code}",
            fix=f"`systemctl status {' '.join(_UNITS)}`",
        )


def put_aside(*, clock: Clock, folder: Path = FOLDER, tell: Callable[[str], None] = systemctl) -> tuple[Path, ...]:
    """Stop both programs, put numbers and what was told aside, and start them anew; return where that lies now.

    Raises:
        UnitError: systemd refused.
        OSError: It could not be put aside.
    """
    moved = []
    try:
        tell("stop")
        for name in _KEPT:
            old = folder / name
            new = old.with_name(f"{old.name}.before-{clock.now():%Y%m%dT%H%M%SZ}")
            if old.exists():
                old.rename(new)
                moved.append(new)
    finally:
        tell("start")
    return tuple(moved)


def _answered(ask: Asked, question: str) -> list[Any] | None:
    data = _data(ask(f"/api/v1/query?query={quote(question)}"))
    found = data.get("result")
    return found if isinstance(found, list) else None


def _was_scraped(ask: Asked) -> bool:
    """Whether this box's facts were looked at since Prometheus started."""
    targets = _data(ask(_TARGETS)).get("activeTargets")
    try:
        return any(one["labels"]["job"] == "host" and one["health"] != "unknown" for one in targets or ())
    except (KeyError, TypeError):
        return False


def _data(untrusted: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(untrusted or b"")["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
