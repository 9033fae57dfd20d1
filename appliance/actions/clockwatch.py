"""Watches the machine's clock: before the services start, and every few seconds from then on.

Entry point of `sealift-clock`: ``python -I -m appliance.actions.clockwatch --config FILE``. It tells systemd that it is
ready when the clock was judged and the verdict published, so no service starts on a clock that nobody looked at; then
it goes on looking, and brings to the ledger what it saw as soon as the ledger answers.

Promises: whatever the clock shows, the services start; the floor is durable and rises only with a clock that somebody
answered for; a correction is believed only when its statement verifies here, from the promoter's files.
"""

import argparse
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance import unit
from appliance.actions.hostplan import has_people
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.promote import clockchange
from appliance.timekeeping import judging, record
from appliance.timekeeping.judging import Reading
from appliance.timekeeping.record import ClockRecord, Verdict
from appliance.verify import trust
from appliance.verify.freshness import BUILT
from media.clock import Clock, SystemClock, to_text
from media.errors import SealiftError

SET: Final = "clock.set"
CONFIRMED: Final = "clock.confirmed"
ANSWERED: Final = "clock.answered"
SYNCHRONISED: Final = Path("/run/systemd/timesync/synchronized")
_LOOK_SECONDS: Final = 5.0
_KEEP_SECONDS: Final = 60
_PAGE: Final = 200


class Watch:
    """Judges the clock again and again, and keeps, publishes and records what it finds.

    Args:
        config: The site file.
        clock: The machine's clock.
        ledger: Where what was seen is recorded, and what people decided is read.
        is_synchronised: Whether a time server sets the clock now.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        ledger: Ledger,
        is_synchronised: Callable[[], bool] = SYNCHRONISED.exists,
    ) -> None:
        self._config = config
        self._clock = clock
        self._ledger = ledger
        self._is_synchronised = is_synchronised
        self._kept: ClockRecord | None = None
        self._is_durable = True

    def start(self) -> ClockRecord:
        """Judge the clock for the first time in this boot, or go on where a watch of this boot stopped.

        Raises:
            OSError: It cannot be published.
        """
        places = self._config.at
        for folder in (places.clock, places.clock_now):  # there on a box; not in a demo
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        here, now = record.published(places), self._read()
        if here is None or here.ticks > now.ticks:  # of another boot, where the folder outlives one
            session = secrets.token_hex(16)
            here = judging.at_start(record.kept(places), now, floor=_floor(self._config), session=session)
        self._write(here)
        return here

    def look(self) -> ClockRecord:
        """Judge the clock again, record what is new, and return what is known now.

        Raises:
            OSError: It cannot be published.
        """
        last = record.published(self._config.at) or self.start()
        # The clock first: what people approved is recorded before it is set, so a step that is seen can be explained.
        now = self._read()
        last, corrections, name = self._decided(last)
        if name and judging.is_plausible(now.wall, last.floor):
            found = judging.confirmed(last, now, by=name)
        else:
            found = judging.after(last, now, corrections=corrections)
        if found.verdict is Verdict.GOOD and (last.verdict is not Verdict.GOOD or corrections):
            found = _telling_answered(found, now)
        found = self._told(found)
        self._write(found)
        return found

    def _read(self) -> Reading:
        return Reading(
            wall=self._clock.now().replace(microsecond=0),
            ticks=int(self._clock.monotonic()),
            is_synchronised=bool(self._config.time.servers) and self._is_synchronised(),
        )

    def _decided(self, last: ClockRecord) -> tuple[ClockRecord, list[int], str]:
        """Return what people decided since the ledger was last looked through."""
        corrections: list[int] = []
        name, by = "", last.confirmed_by
        with suppress(SealiftError):
            size = self._ledger.head().size
            start = min(last.handled, size)  # a restored ledger may be shorter
            leaves = self._ledger.leaves(start, _PAGE, kinds={SET, CONFIRMED}) if size > start else []
            for leaf in leaves:
                if leaf.kind == CONFIRMED and not has_people(self._config.at, self._ledger):
                    name = str(leaf.body.get("by", ""))
                elif leaf.kind == SET:
                    seconds, people = self._approved(leaf.body, last)
                    corrections += seconds
                    by = people or by
            end = leaves[-1].sequence + 1 if leaves else 0
            last = replace(last, handled=end if len(leaves) == _PAGE else max(end, size), confirmed_by=by)
        return last, corrections, name

    def _approved(self, body: Any, last: ClockRecord) -> tuple[list[int], str]:
        try:
            request = clockchange.require_clock_approved(self._config, str(body.get("statement_sha256", "")))
        except SealiftError:
            return [], ""
        if request.statement.session != last.session:
            return [], ""
        return [request.statement.correction_seconds], ", ".join(one.name for one in request.approvals)[:200]

    def _told(self, found: ClockRecord) -> ClockRecord:
        """Record what the ledger has not taken yet; what it does not take now waits."""
        waiting = list(found.untold)
        with suppress(SealiftError):
            while waiting:
                self._ledger.append(str(waiting[0]["kind"]), dict(waiting[0]["body"]))
                waiting.pop(0)
        return replace(found, untold=tuple(waiting))

    def _write(self, found: ClockRecord) -> None:
        places, kept = self._config.at, self._kept
        record.publish(places, found)
        calm = kept is not None and replace(
            found, wall=kept.wall, ticks=kept.ticks, floor=kept.floor, anchor_wall=kept.anchor_wall,
            anchor_ticks=kept.anchor_ticks, handled=kept.handled,
        ) == kept  # fmt: skip
        if kept is None or not calm or found.ticks - kept.ticks >= _KEEP_SECONDS:
            self._keep(found)

    def _keep(self, found: ClockRecord) -> None:
        """Make the record durable, or try again with the next look: on a full disk it is watched all the same."""
        try:
            record.keep(self._config.at, found)
        except OSError as error:
            if self._is_durable:
                sys.stderr.write(f"<4>the clock is watched, and not noted for the next start: {error.strerror}\n")
            self._is_durable = False
        else:
            self._kept, self._is_durable = found, True


def _telling_answered(found: ClockRecord, now: Reading) -> ClockRecord:
    body = {"session": found.session, "shown": to_text(now.wall), "floor": to_text(found.floor)}
    return replace(found, untold=(*found.untold, {"kind": ANSWERED, "body": body})[-record.MOST_UNTOLD :])


def _floor(config: Config) -> datetime:
    """Return what is certain besides the watch's own record: when this program was made, and the last release."""
    with suppress(SealiftError):
        return max(BUILT, trust.load(config.at.trust, config.at.pinned_trust, may_begin=True).floor)
    return BUILT


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until SIGTERM; returns the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-clock")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    done = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        config = configuration.load(options.config)
        ledger = SocketLedger(config.at.socket(ACTIONS))
        watch = Watch(config, clock=SystemClock(), ledger=ledger)
        found = watch.start()
        unit.notify(f"READY=1\nSTATUS={found.verdict}")
        while not done.wait(_LOOK_SECONDS):
            unit.notify(f"STATUS={watch.look().verdict}\nWATCHDOG=1")
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    unit.notify("STOPPING=1")
    ledger.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
