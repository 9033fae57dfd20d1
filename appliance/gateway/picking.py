"""Picks an instance of a version for each call, by how the calls before it went.

Instances of a version are found by their sockets (`enginesockets`). Which of them runs is not the gateway's to decide.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.gateway.departures import Departures
from appliance.gateway.enginesockets import engines_at
from appliance.gateway.instances import Instance, Instances, Kind
from appliance.gateway.lookout import Lookout
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import caller_left
from appliance.gateway.upstream import Call, Picked, Upstream
from appliance.gateway.wellness import LOOK_SECONDS, never
from media.clock import Clock

_FRESH_SECONDS: Final = 1.0
_KINDS: Final = {"cpu": Kind.OVERFLOW, "standby": Kind.STANDBY}
_QUESTION_SECONDS: Final = 3.0  # longer than a short question can take


class Picking:
    """One version's engines; safe for threads.

    Args:
        path: The socket of its first instance.
        clock: Its monotonic seconds are used.
        metrics: Told of instances that are out, and of calls that were asked elsewhere.
        most: Calls that each of the version's own instances takes before overflow is asked; 0 means any number.
    """

    def __init__(self, path: Path, *, clock: Clock, metrics: Metrics, most: int = 0) -> None:
        self._path = path
        self._most = most
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._heard = threading.Condition(self._lock)
        self._instances = Instances()
        self._upstreams = {path.name: Upstream(path)}
        self._looked_at = float("-inf")
        self.departures = Departures()
        self._lookout = Lookout(self.departures.waited, self._look_after)

    def is_well(self) -> bool:
        """Tell whether an instance answers; those that are in, and spoke last, are asked first."""
        with self._lock:
            self._look()
            known = sorted(self._instances.known.values(), key=lambda one: (one.is_out, -one.heard_at))
            upstreams = [self._upstreams[one.name] for one in known]
        return any(one.client.health() for one in upstreams)

    def pick(
        self, tried: frozenset[str], session: str = "", *, goes_on: bool = False, left: Callable[[], bool] = never
    ) -> Picked | None:
        """Return the instance to ask, whose call counts as running; None where all were tried.

        Raises:
            Problem: The caller left while somebody was asked whether an engine is well.
        """
        while True:
            with self._lock:
                self._look()
                self._wait_for_word(tried, left)
                now = self._clock.monotonic()
                chosen = self._instances.choose(now, tried=tried, session=session, goes_on=goes_on)
                if chosen is None:
                    return None
                picked = Picked(upstream=self._upstreams[chosen.name], is_trial=chosen.is_tried)
                if not self._instances.doubted(chosen.name, now):
                    return picked
            if self._question(picked, left):
                return picked

    def is_alone(self) -> bool:
        """Tell whether there is no other instance to ask."""
        with self._lock:
            return len(self._instances.known) < 2

    def broke_off(self, name: str, *, left: Callable[[], bool] = never) -> bool:
        """Find out whether an instance that broke a call off answers a short question at once; if not, it is out.

        What else waits for it is asked elsewhere once it is found to stand still (RTE-8): it may only be busy.

        Returns:
            Whether it is out. Where it is the only one, that is not asked: there is nobody else. Where the caller
            `left` meanwhile, nothing is known.
        """
        with self._lock:
            upstream, one = self._upstreams.get(name), self._instances.known.get(name)
            if one is not None and one.out_until > self._clock.monotonic():
                return True  # another call has found that out
        if upstream is None or self.is_alone() or upstream.is_well(left) or left():
            return False
        with self._lock:
            self._instances.gone(name, self._clock.monotonic())
            self._tell()
        self._lookout.doubt(name)
        return True

    def waits(self, name: str, call: Call, *, since: int) -> None:
        """Note that a call waits for an instance's first words; see `Departures.waits`."""
        if len(self._upstreams) > 1:
            self._lookout.begin()
        self.departures.waits(name, call, since=since)

    def heard(self, name: str) -> None:
        """Note that an instance said anything, be it no word of an answer."""
        with self._lock:
            self._instances.heard(name, self._clock.monotonic())

    def answered(self, name: str, seconds: float | None, *, is_trial: bool) -> None:
        """Note that an instance began to answer, after so many seconds where its first words could be seen."""
        with self._lock:
            self._instances.answered(name, seconds, self._clock.monotonic(), is_trial=is_trial)
            self._tell()

    def ended_well(self, name: str) -> None:
        """Note that an answer of an instance came to its end."""
        with self._lock:
            self._instances.ended_well(name, self._clock.monotonic())

    def failed(self, name: str) -> None:
        """Note that an instance failed a call."""
        with self._lock:
            self._instances.failed(name, self._clock.monotonic())
            self._tell()

    def ended(self, name: str, *, is_trial: bool) -> None:
        """Note that a call is over."""
        with self._lock:
            self._instances.ended(name, is_trial=is_trial)
            self._heard.notify_all()

    def elsewhere(self) -> None:
        """Count a call that another instance was asked for."""
        self._metrics.asked_elsewhere()

    def now(self) -> float:
        """Return the clock's monotonic seconds."""
        return self._clock.monotonic()

    def close(self) -> None:
        """Drop the idle connections."""
        self._lookout.close()
        with self._lock:
            for one in self._upstreams.values():
                one.close()

    def _wait_for_word(self, tried: frozenset[str], left: Callable[[], bool]) -> None:
        """Wait for the answer to another call's short question, holding the lock, which others have meanwhile."""
        until = time.monotonic() + _QUESTION_SECONDS
        while self._instances.awaits(self.now(), tried) and time.monotonic() < until:
            self._heard.wait(LOOK_SECONDS)
            if left():
                raise caller_left()

    def _question(self, picked: Picked, left: Callable[[], bool]) -> bool:
        is_well = has_left = False
        try:
            is_well = picked.upstream.is_well(left)
            has_left = not is_well and left()
        finally:
            with self._lock:
                if has_left:  # no word is no fault then
                    self._instances.unasked(picked.name, is_trial=picked.is_trial)
                else:
                    self._instances.questioned(picked.name, self._clock.monotonic(), is_well=is_well)
                self._tell()
        if has_left:
            raise caller_left()
        if not is_well:
            self._lookout.doubt(picked.name)
        return is_well

    def _look_after(self, name: str) -> None:
        """Put an instance out that stands still while calls wait for its first words, see RTE-8."""
        with self._lock:
            upstream = self._upstreams.get(name)
            if upstream is None or not self._instances.has_another(name):
                return
        is_still = upstream.stands_still()
        if is_still and not self._answers_another(name):
            return  # nobody would be sooner than this one, which may only pause, or end what it began before it stops
        with self._lock:
            now = self._clock.monotonic()
            if not is_still:
                self._instances.heard(name, now)
            elif self._instances.has_another(name):
                self._instances.gone(name, now)
                self.departures.gone(name)
                self._tell()

    def _answers_another(self, name: str) -> bool:
        """Tell whether another instance that is in answers a short question; it has as long as one that is doubted."""
        with self._lock:
            others = [one for one in self._instances.known.values() if one.name != name and not one.is_out]
            others.sort(key=lambda one: -one.heard_at)
            upstreams = [self._upstreams[one.name] for one in others]
        return any(not one.stands_still() for one in upstreams)

    def _look(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at <= _FRESH_SECONDS and self._instances.known:
            return
        self._looked_at = now
        found = {path.name: _KINDS.get(word, Kind.OWN) for path, word in engines_at(self._path).items()}
        self._instances.set([Instance(name=name, kind=kind) for name, kind in found.items()])
        has_overflow = Kind.OVERFLOW in found.values()
        for one in self._instances.known.values():  # of those known before, too: overflow starts after them
            one.most = self._most if has_overflow and one.kind is Kind.OWN else 0
        for name in [name for name in self._upstreams if name not in found]:
            self._upstreams.pop(name).close()
        for name in found:
            if name not in self._upstreams:
                self._upstreams[name] = Upstream(self._path.with_name(name))

    def _tell(self) -> None:
        self._heard.notify_all()
        self._metrics.engines_out(self._path.stem, sum(one.is_out for one in self._instances.known.values()))
