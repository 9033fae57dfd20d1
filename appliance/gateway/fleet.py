"""The engines of each version as one to ask: picks an instance for each call, and another before a caller heard a word.

Instances of a version are found by their sockets (`enginesockets`). Which of them runs is not the gateway's to decide.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.gateway.calls import OneAfterAnother
from appliance.gateway.departures import Departures
from appliance.gateway.enginesockets import engines_at
from appliance.gateway.instances import Instance, Instances, Kind
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import caller_left
from appliance.gateway.upstream import FAILURES, Call, Picked, Upstream, is_of_request
from appliance.gateway.wellness import LOOK_SECONDS, never
from appliance.gateway.words import Words, require_no_failure
from appliance.serve.client import EngineClient
from media.clock import Clock

_FRESH_SECONDS: Final = 1.0
_KINDS: Final = {"cpu": Kind.OVERFLOW, "standby": Kind.STANDBY}
_QUESTION_SECONDS: Final = 3.0  # longer than a short question can take
_T = TypeVar("_T")


class Fleet:
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

    def is_well(self) -> bool:
        """Tell whether an instance answers; those that are in, and spoke last, are asked first."""
        with self._lock:
            self._look()
            known = sorted(self._instances.known.values(), key=lambda one: (one.is_out, -one.heard_at))
            upstreams = [self._upstreams[one.name] for one in known]
        return any(one.client.health() for one in upstreams)

    def ask(self, question: Callable[[EngineClient], _T], *, left: Callable[[], bool] = never) -> _T:
        """Put a short question to an instance, and to another one where that does not answer or is busy.

        Raises:
            Problem: The caller `left` before an instance was found.
            EngineRefusedError: It refused, or all are busy.
            EngineUnavailableError, EngineProtocolError: None answers.
        """
        tried: frozenset[str] = frozenset()
        last: Exception | None = None
        while (picked := self.pick(tried, left=left)) is not None:
            tried |= {picked.name}
            try:
                return question(picked.upstream.client)
            except FAILURES as error:
                if is_of_request(error):
                    raise
                self.broke_off(picked.name, left=left)  # that it is slow to count says nothing about its answers
                last = error
            finally:
                self.ended(picked.name, is_trial=picked.is_trial)
        raise last or _nobody()

    def start(
        self,
        route: str,
        body: Mapping[str, Any],
        *,
        session: str = "",
        goes_on: bool = False,
        left: Callable[[], bool] = never,
    ) -> "FleetCall":
        """Send a request to an instance without waiting for its answer.

        Args:
            route: Of the engine.
            body: What it is asked.
            session: What belongs together and is best answered by one instance; empty where nothing does.
            goes_on: Whether the session was answered before.
            left: Whether the caller has left; asked until this returns, from where on `cancel` is for that.

        Raises:
            Problem: The caller left.
            EngineUnavailableError: Nobody listens.
        """
        return FleetCall(self, route=route, body=body, session=session, goes_on=goes_on, left=left)

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
        """Find out whether an instance that broke a call off is gone; then all that waits for it asks another one.

        Returns:
            Whether it is gone. Where it is the only one, that is not asked: there is nobody else. Where the caller
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
            self.departures.gone(name)
            self._tell()
        return True

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
        return is_well

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


class FleetCall(OneAfterAnother[Call]):
    """One request and its answer, from whichever instance began to give it. Only `cancel` is for other threads."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        route: str,
        body: Mapping[str, Any],
        session: str = "",
        goes_on: bool = False,
        left: Callable[[], bool] = never,
    ) -> None:
        super().__init__()
        self._fleet = fleet
        self._session = session
        self._goes_on = goes_on
        self._route = route
        self._body = body
        self._tried: frozenset[str] = frozenset()
        self._is_spared = self._is_open = self._is_trial = False
        self._name = ""
        self._began = 0.0
        self._since = 0
        self._left = left
        self._call = self._another(None)
        self._left = never  # from here on somebody watches, who cancels

    def close(self) -> None:
        """Give up what was not read."""
        self._call.close()
        self._end()

    def fileno(self) -> int:
        """Return what can be read when the instance that is asked answers; -1 where the call is over."""
        return self._call.fileno()

    def opened(self) -> None:
        """Wait until an instance accepts the request; one that does not is left for another that was not asked yet.

        Raises:
            EngineRefusedError: As `appliance.gateway.upstream.Call.opened`, of the last instance.
            EngineUnavailableError: Likewise.
            EngineProtocolError: Likewise.
        """
        while not self._is_open:
            try:
                self._first_words()
            except FAILURES as error:
                if is_of_request(error):
                    self._fleet.heard(self._name)
                    raise
                self._leave(error)
            else:
                self._is_open = True
                self._fleet.heard(self._name)

    def answer(self) -> dict[str, Any]:
        """Return the whole answer; see `appliance.gateway.upstream.Call.answer`.

        An instance that failed in the middle of it is left for another one: nobody has heard a word of it.
        """
        while True:
            self.opened()
            try:
                said = self._call.answer()
                require_no_failure(said)
            except (EngineUnavailableError, EngineProtocolError) as error:
                self._leave(error)
            else:
                self._fleet.answered(self._name, None, is_trial=self._is_trial)
                self._fleet.ended_well(self._name)
                return said

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; see `appliance.gateway.upstream.Call.events`.

        An instance that failed before its first word is left for another one; see `Words` for what is none, and fails.
        """
        while True:
            self.opened()
            words = Words(self._call.events(), began=self._begins)
            try:
                yield from words
            except (EngineUnavailableError, EngineProtocolError) as error:
                if words.is_begun:
                    self._fault(error)
                    raise
                self._leave(error)
            else:
                if words.is_whole and not self._is_cancelled:
                    self._fleet.ended_well(self._name)
                return

    def _begins(self) -> None:
        self._fleet.answered(self._name, self._fleet.now() - self._began, is_trial=self._is_trial)

    def _first_words(self) -> None:
        name, call = self._name, self._call
        self._fleet.departures.waits(name, call, since=self._since)
        try:
            call.opened()
        finally:
            self._fleet.departures.heard(name, call)

    def _leave(self, error: Exception) -> None:
        """Go on with another instance than the one that failed.

        Raises:
            Exception: `error`, where the caller left or nobody else is to be asked.
        """
        self._fault(error, was_kept=self._call.was_kept)
        if self._is_cancelled:
            raise error
        self._call.close()
        self._end()
        self._follow(self._another(error))
        self._fleet.elsewhere()
        self._is_open = False

    def _another(self, error: Exception | None) -> Call:
        while True:
            self._since = self._fleet.departures.count
            picked = self._fleet.pick(self._tried, self._session, goes_on=self._goes_on, left=self._has_left)
            if picked is None:
                raise error or _nobody()
            self._name, self._is_trial, self._began = picked.name, picked.is_trial, self._fleet.now()
            self._tried |= {picked.name}
            try:
                return picked.upstream.start(self._route, self._body, again=self._fleet.is_alone())
            except EngineUnavailableError as unreachable:
                self._fault(unreachable, was_kept=True)  # where nobody listens, it is gone and not spared
                self._end()
                error = unreachable

    def _fault(self, error: Exception, *, was_kept: bool = False) -> None:
        is_broken = isinstance(error, EngineUnavailableError | EngineProtocolError)
        left = self._has_left
        if left() or (is_broken and self._fleet.broke_off(self._name, left=left)) or left():
            return  # it was the caller who broke off, also while it was found out whether the instance is gone
        if is_broken and was_kept and not self._is_spared and not self._is_open and not self._fleet.is_alone():
            # It is well, and had closed an idle connection, as engines do: no fault, and it may be asked once more.
            self._is_spared = True
            self._tried -= {self._name}
            return
        self._fleet.failed(self._name)

    def _has_left(self) -> bool:
        return self._is_cancelled or self._left()

    def _end(self) -> None:
        name, self._name = self._name, ""
        if name:
            self._fleet.ended(name, is_trial=self._is_trial)


def _nobody() -> EngineUnavailableError:
    return EngineUnavailableError(what="no engine answers", why="all were asked", fix="see `sealift status`")
