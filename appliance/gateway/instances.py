"""Which instance of a version answers next: pure over the seconds it is told, so that every rule can be tried.

Rules:
    RTE-1  Of the instances that are in, the one with the fewest running calls; of equals the one asked longest ago.
    RTE-2  An instance that failed three times in a row, with no answer that came to its end between, is out, as is one
           of whose last 20 first words three of four took five times as long as is usual of the others, and more than
           a second (a long prompt, or a wait within the engine, is one caller's): for 5 seconds first, twice as long
           each time, 5 minutes at most, and 5 seconds again behind 20 answers, or 20 streams where there are any.
           However many calls fail at once, that is one time. Only streams tell when first words came: how long a whole
           answer takes is for its caller.
    RTE-3  When its time is over one call tries an instance that was out; it is in again at the first word of that call,
           and until an answer of it comes to its end, one more failure puts it out again. A call that was asked before,
           and is answered later, brings nothing back; one that ends without a word, as when its caller leaves or its
           request is refused, lets the next one try.
    RTE-4  Kinds come in order: the version's own instances, then overflow (a CPU beside GPUs) while the former are out
           or have as many calls as they take, then a warm standby while all others are out, or were asked in vain.
    RTE-5  Putting out never leaves callers without an instance: where all are out, the one due back first is asked.
    RTE-6  A conversation has an instance of its own, the same on every gateway, which has read its beginning: of those
           with the fewest running calls it gets that one, and as it goes on also where that one has a few more.
    RTE-7  An instance that said nothing for two seconds is asked a short question before a caller has to wait for it,
           while another one is in; whoever does not answer that is out at once. Sockets take calls in for an engine
           that starts again, so that a connection says nothing. Calls that come meanwhile wait for that answer where
           only a later kind, or nobody, could take them: an idle engine is no reason to ask overflow. Where the one
           who asks leaves, nothing was learnt, and the next call asks.
    RTE-8  An instance for whose first words a call has waited for five seconds, or that did not answer the question of
           RTE-7, or broke a call off and did not answer it either, is asked whether it is well while another one is in,
           and has five seconds for its answer: a busy one may need longer than a moment. Whoever does not answer that
           stands still, and is out, and all that wait for its first words ask another one: it closes no connection, as
           one that ended does. Where no other one that is in answers such a question either, nothing is done: where
           all of it stops, engines that end what they began answer no questions, and where the box pauses, none does.
"""

import statistics
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import Final

FAULTS: Final = 3
SLOW_TIMES: Final = 5.0
SLOW_SECONDS: Final = 1.0
SLOW_SAMPLES: Final = 20
FIRST_OUT_SECONDS: Final = 5.0
LONGEST_OUT_SECONDS: Final = 300.0
SILENT_SECONDS: Final = 2.0
MORE_CALLS: Final = 4
"""By how many calls more a conversation's own instance may be busier than the others."""


class Kind(IntEnum):
    """What an instance is there for, the first choice first."""

    OWN = 0
    OVERFLOW = 1
    STANDBY = 2


@dataclass(slots=True, kw_only=True)
class Instance:
    """One engine of a version, as its calls went.

    Attributes:
        most: Calls that it takes before overflow is asked; 0 means any number.
        out_until: Until when it is out; 0 while it is in.
        out_seconds: How long it is out the next time.
        is_tried: A call is finding out whether it is well again.
        faults: How often it failed since an answer of it came to its end.
        answers: Those that came to their end since it was last out.
        firsts: How long the last first words took, in seconds, since then.
        heard_at: When it last said anything.
        is_questioned: Somebody waits for its word that it is well.
    """

    name: str
    kind: Kind = Kind.OWN
    most: int = 0
    running: int = 0
    faults: int = 0
    asked_at: float = 0.0
    out_until: float = 0.0
    out_seconds: float = FIRST_OUT_SECONDS
    is_tried: bool = False
    answers: int = 0
    firsts: "deque[float]" = field(default_factory=lambda: deque(maxlen=SLOW_SAMPLES))
    heard_at: float = float("-inf")
    is_questioned: bool = False

    @property
    def is_out(self) -> bool:
        """Whether callers are kept from it."""
        return self.out_until > 0


@dataclass(slots=True)
class Instances:
    """The instances of one version; not safe for threads."""

    known: dict[str, Instance] = field(default_factory=dict)

    def set(self, found: Collection[Instance]) -> None:
        """Take what there is now; what is known of an instance that stays is kept."""
        self.known = {one.name: self.known.get(one.name, one) for one in found}

    def choose(
        self, now: float, *, tried: Collection[str] = (), session: str = "", goes_on: bool = False
    ) -> Instance | None:
        """Return which one to ask, and count the call as running; None where all were tried.

        Where the instance is out, the call is to find out whether it is well again: a trial, see RTE-3.

        Args:
            now: Monotonic seconds.
            tried: What the caller has asked already.
            session: What belongs together, under any name; empty where nothing does.
            goes_on: Whether the session has been answered before.
        """
        left = [one for one in self.known.values() if one.name not in tried]
        left = [one for one in left if not one.is_questioned] or left
        if not left:
            return None
        chosen = self._due_back(left, now) or self._best(left, session, MORE_CALLS if goes_on else 0)
        chosen = chosen or min(left, key=lambda one: one.out_until)
        chosen.is_tried = chosen.is_out
        chosen.running += 1
        chosen.asked_at = now
        return chosen

    def awaits(self, now: float, tried: Collection[str] = ()) -> bool:
        """Tell whether the next call had better wait for the answer to a short question, see RTE-7."""
        if not any(one.is_questioned for one in self.known.values()):
            return False
        left = [one for one in self.known.values() if one.name not in tried]
        if self._due_back([one for one in left if not one.is_questioned], now):
            return False
        first = _first(left)
        return bool(first) and all(one.is_questioned for one in first)

    def doubted(self, name: str, now: float) -> bool:
        """Tell whether it must be asked a short question first; then `questioned` says how it answered."""
        one = self.known.get(name)
        if one is None or not self.has_another(name) or (now - one.heard_at <= SILENT_SECONDS and not one.is_out):
            return False
        one.is_questioned = True
        return True

    def has_another(self, name: str) -> bool:
        """Tell whether another instance is in, which could be asked in place of this one."""
        return any(not each.is_out for each in self.known.values() if each.name != name)

    def questioned(self, name: str, now: float, *, is_well: bool) -> None:
        """Note whether it answered a short question; if not, it is out, and the call that was to ask it is over."""
        one = self.known.get(name)
        if one is None:
            return
        one.is_questioned = False
        if is_well:
            one.heard_at = now
            return
        self._put_out(one, now)
        self.ended(name)

    def unasked(self, name: str, *, is_trial: bool) -> None:
        """Note that whoever asked the short question left before its answer: it says nothing, the next call asks."""
        one = self.known.get(name)
        if one is not None:
            one.is_questioned = False
        self.ended(name, is_trial=is_trial)

    def gone(self, name: str, now: float) -> None:
        """Put one out at once: it broke off or stands still, and answers no short question either."""
        one = self.known.get(name)
        if one is not None:
            one.faults += 1
            self._put_out(one, now)

    def heard(self, name: str, now: float) -> None:
        """Note that it said anything."""
        one = self.known.get(name)
        if one is not None:
            one.heard_at = now

    def answered(self, name: str, seconds: float | None, now: float, *, is_trial: bool = False) -> None:
        """Note that an instance began to answer, after so many seconds where its first words could be seen."""
        one = self.known.get(name)
        if one is None:
            return
        one.heard_at = now
        if one.is_out and not is_trial:
            return  # A slow one has others of the kind under way when it is put out, and they would undo it.
        if one.is_out:
            one.out_until, one.is_tried, one.answers = 0.0, False, 0
            one.firsts.clear()
            one.faults = FAULTS - 1  # until an answer comes to its end
        if seconds is not None:
            one.firsts.append(seconds)
        others = [statistics.median(each.firsts) for each in self._peers(one) if len(each.firsts) == SLOW_SAMPLES]
        if others and len(one.firsts) == SLOW_SAMPLES:
            quick = sorted(one.firsts)[SLOW_SAMPLES // 4]
            if quick > max(SLOW_TIMES * statistics.median(others), SLOW_SECONDS):
                self._put_out(one, now)

    def ended_well(self, name: str, now: float) -> None:
        """Note that an answer of an instance came to its end."""
        one = self.known.get(name)
        if one is None:
            return
        one.heard_at = now
        if one.is_out:
            return  # as above
        one.faults = 0
        one.answers += 1
        # Whole answers alone do not say that it is slow no more.
        if one.answers >= SLOW_SAMPLES and not 0 < len(one.firsts) < SLOW_SAMPLES:
            one.out_seconds = FIRST_OUT_SECONDS

    def failed(self, name: str, now: float) -> None:
        """Note that an instance could not be reached, refused as busy, broke off or said that it failed."""
        one = self.known.get(name)
        if one is None:
            return
        one.faults += 1
        if one.is_out or one.faults >= FAULTS:
            self._put_out(one, now)

    def ended(self, name: str, *, is_trial: bool = False) -> None:
        """Note that a call is over, however it ended."""
        one = self.known.get(name)
        if one is not None:
            one.running = max(one.running - 1, 0)
            if is_trial or not one.running:
                one.is_tried = False

    def _put_out(self, one: Instance, now: float) -> None:
        one.is_tried = False
        if now < one.out_until:
            # One crash fails all its calls, and where all are out, each caller tries: no longer for that, but it is
            # behind those that failed before.
            one.out_until = max(one.out_until, now + FIRST_OUT_SECONDS)
            return
        one.out_until = now + one.out_seconds
        one.out_seconds = min(one.out_seconds * 2, LONGEST_OUT_SECONDS)

    def _due_back(self, left: Collection[Instance], now: float) -> Instance | None:
        due = [one for one in left if one.is_out and one.out_until <= now and not one.is_tried]
        return min(due, key=lambda one: one.out_until, default=None)

    def _best(self, left: Collection[Instance], session: str, more: int) -> Instance | None:
        first = _first(left)
        if first and session:
            least = min(one.running for one in first)
            near = [one for one in first if one.running <= least + more]
            return max(near, key=lambda one: _points_to(session, one.name))
        return min(first, key=lambda one: (one.running, one.asked_at), default=None)

    def _peers(self, one: Instance) -> list[Instance]:
        return [each for each in _in(self.known.values(), one.kind) if each is not one]


def _in(left: Collection[Instance], kind: Kind) -> list[Instance]:
    return [one for one in left if one.kind is kind and not one.is_out]


def _first(left: Collection[Instance]) -> list[Instance]:
    """Return those of which one is to be asked, see RTE-4: rather a full one than a standby."""
    serving = (Kind.OWN, Kind.OVERFLOW)
    choices = [*(_free(left, kind) for kind in serving), *(_in(left, kind) for kind in serving)]
    return next(filter(None, choices), _in(left, Kind.STANDBY))


def _free(left: Collection[Instance], kind: Kind) -> list[Instance]:
    return [one for one in _in(left, kind) if not one.most or one.running < one.most]


def _points_to(session: str, name: str) -> bytes:
    """Return how much a session's name points to an instance (rendezvous hashing): most for one, always the same."""
    return blake2b(f"{session}\0{name}".encode(), digest_size=8).digest()
