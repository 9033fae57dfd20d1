"""Alerts that Alertmanager told, as the unit that takes them keeps them."""

from pathlib import Path

from appliance.actions.alerts import Alert, Opened, Told
from media.clock import Clock


def keep(folder: Path, told: Told, *, clock: Clock) -> tuple[Alert, ...]:
    """Merge a message into the file and return the alerts that are new in it."""
    opened = Opened(folder, clock=clock)
    fresh = opened.take(told)
    opened.write()
    return fresh
