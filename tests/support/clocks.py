"""A machine whose clock a test can break, over a site with a promoter and a ledger in memory."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.actions.clockwatch import Watch
from appliance.config import Config
from appliance.timekeeping import judging, record
from appliance.timekeeping.judging import Reading
from appliance.timekeeping.record import ClockRecord
from media.clock import FixedClock
from tests.support.promotion import Site, open_site

TODAY = datetime(2027, 3, 4, 8, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Machine:
    """One box: `run` lets time go by, `jump` moves the clock alone, `boot` starts it again."""

    site: Site
    synchronised: bool = False
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        for folder in (self.config.at.clock, self.config.at.clock_now):
            folder.mkdir(parents=True, exist_ok=True)
        self.boot(at=self.clock.at)

    @property
    def config(self) -> Config:
        """The site file."""
        return self.site.config

    @property
    def clock(self) -> FixedClock:
        """The machine's clock."""
        return self.site.clock

    @property
    def record(self) -> ClockRecord:
        """What is published now."""
        return record.require_watched(self.config.at)

    def boot(self, *, at: datetime, uptime: float = 20.0) -> ClockRecord:
        """Start the machine with a clock that shows `at`; what was published is gone."""
        (self.config.at.clock_now / record.FILE).unlink(missing_ok=True)
        self.clock.at, self.clock.ticks = at, uptime
        self.watch = Watch(
            self.config, clock=self.clock, ledger=self.site.ledger, is_synchronised=lambda: self.synchronised
        )
        return self.watch.start()

    def run(self, seconds: float = 5.0, *, drift: float = 0.0) -> ClockRecord:
        """Let time go by, with the clock `drift` seconds faster, and look."""
        self.clock.advance(seconds)
        self.clock.at += timedelta(seconds=drift)
        return self.watch.look()

    def jump(self, by: timedelta) -> ClockRecord:
        """Move the clock alone, and look."""
        self.clock.at += by
        return self.watch.look()

    def confirm(self) -> ClockRecord:
        """Have the clock confirmed by name, as at an install, before anybody is enrolled."""
        self.site.ledger.append("clock.confirmed", {"by": "Iris", "shown": "x"})
        return self.watch.look()


def answered_for(right: datetime, *, ticks: int = 0) -> ClockRecord:
    """Return what is published of a clock that is right and that somebody answered for."""
    now = Reading(wall=right, ticks=ticks)
    return judging.confirmed(judging.at_start(None, now, floor=right, session="ab" * 16), now, by="Iris")


def jumped_from(right: datetime, *, shown: datetime, ticks: int = 0) -> ClockRecord:
    """Return what is published after a clock that was right and answered for came to show another time."""
    return judging.after(answered_for(right, ticks=ticks), Reading(wall=shown, ticks=ticks))


def machine(folder: Path, *, at: datetime = TODAY, enrolled: int = 0, confirmed: bool = True) -> Machine:
    """Return a running machine."""
    site = open_site(folder, enrolled=0)
    site.clock.at = at
    found = Machine(site)
    if confirmed:
        found.confirm()
    if enrolled:
        from tests.support.signatories import signatories

        site.enrol(*signatories()[:enrolled])
    return found
