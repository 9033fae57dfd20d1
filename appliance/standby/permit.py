"""The permit to serve: a small file in memory that the lease's keeper renews and every gateway reads before it answers.

Promises: it names a moment of this machine's CLOCK_BOOTTIME, so a keeper that hangs, dies or is stopped lets it run out
by itself; where it is absent, cut or past, nobody serves. It lies below /run, which a reboot empties.
"""

import time
from pathlib import Path
from typing import Final, Protocol

from appliance.config import Config, Places
from appliance.errors import NotActiveError
from appliance.standby import volatile
from media import canonical
from media.errors import MediaError

FILE: Final = "permit"
_MOST_BYTES: Final = 512


def boottime() -> float:
    """Return seconds since the boot, counting sleep (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def folder_of(places: Places) -> Path:
    """Return the folder of the permit, written by the keeper alone."""
    return places.run / "lease"


def write(folder: Path, *, until: float, term: int) -> None:
    """Replace the permit in one step."""
    volatile.write(folder / FILE, {"until_milliseconds": int(until * 1000), "term": term})


def take_away(folder: Path) -> None:
    """Remove the permit: from now on nobody serves here."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path) -> tuple[float, int]:
    """Return until when and in which term this box may serve; (0, 0) for not at all."""
    try:
        untrusted = volatile.read(folder / FILE, most_bytes=_MOST_BYTES)
        fields = canonical.exact_keys(untrusted, ("until_milliseconds", "term"), what="permit")
        until = canonical.integer(fields["until_milliseconds"], "permit.until_milliseconds")
        return until / 1000, canonical.integer(fields["term"], "permit.term")
    except (OSError, MediaError):
        return 0.0, 0


def shown(config: Config) -> str:
    """Return ``serves`` or ``stands by``, as the page says it; nothing for a box that has no other."""
    if not config.standby.lease:
        return ""
    return "serves" if boottime() < read(folder_of(config.at))[0] else "stands by"


class Permit(Protocol):
    """What a gateway asks before it takes a request."""

    def require(self) -> None:
        """Return while this box may serve.

        Raises:
            NotActiveError: It may not, now.
        """
        ...


class FilePermit:
    """The permit of this box's keeper."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def require(self) -> None:
        """Return while the permit lasts; see `Permit`."""
        until, _ = read(self._folder)
        if boottime() >= until:
            raise NotActiveError(
                what="this box does not serve",
                why="it does not hold the lease of the service",
                fix="see `sealift standby lease`",
            )


class Always:
    """A box that has no other: it serves."""

    def require(self) -> None:
        """Return."""


def permit_of(config: Config) -> Permit:
    """Return what the site file asks for."""
    return FilePermit(folder_of(config.at)) if config.standby.lease else Always()
