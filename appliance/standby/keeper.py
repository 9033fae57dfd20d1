"""Keeps the lease: asks and answers the other boxes, writes the permit, moves the service address, records changes.

A box that has nothing to ask asks the other voters who holds the lease, so that one which is away is known before it is
needed.

The order is what fences: what must survive a restart is on the disk before it has any effect; the permit is taken away
before the address; the address comes before the permit, so that the first request finds both.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from appliance.errors import NotActiveError, WireError
from appliance.standby import kept, permit, voters
from appliance.standby.address import ServiceAddress
from appliance.standby.lease import Answer, Ask, Event, Lease
from appliance.standby.noted import Noted, Record
from appliance.standby.peers import PeerLine
from appliance.standby.voters import Hearing
from appliance.standby.whole import AGAIN_SECONDS, Whole, lost
from appliance.watchdog.loops import Pulse
from media import canonical
from media.errors import SealiftError, UsageError

_PERIODS: Final = 4
_RUN_CHARS: Final = 64
_NAME_CHARS: Final = 32
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Voters:
    """Who has a word in the lease, as one voter knows it.

    Attributes:
        others: Lines to the other voters, by name.
        candidates: Names of the boxes that may ask to serve; no other paired box may, whatever it says.
        serves: Whether this box may serve at all; a witness may not.
        whole: Compares this box's records with what the other box holds of them; None where there is no lease.
    """

    others: Mapping[str, PeerLine]
    candidates: frozenset[str]
    serves: bool
    whole: Whole | None = None


class Keeper:
    """One voter at work.

    Args:
        lease: The state machine.
        state: Folder of what survives a reboot.
        run: Folder of the permit.
        known: Whom it asks, and who may ask it.
        address: Where clients reach the service.
        record: Appends to this box's ledger; may raise, and is tried again.
        now: CLOCK_BOOTTIME in seconds.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        state: Path,
        run: Path,
        known: Voters,
        address: ServiceAddress,
        record: Record,
        now: Callable[[], float] = permit.boottime,
    ) -> None:
        self._lease = lease
        self._state = state
        self._run = run
        self._others = known.others
        self._candidates = known.candidates
        self._may_serve = known.serves
        self._whole = known.whole
        self._address = address
        self._noted = Noted(record)
        self._now = now
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._kept = lease.kept
        self._is_kept = False
        self._again_from = 0.0
        # Whom to hear after a start: who serves by grants asks for those, who served alone would ask nobody (LEASE-10).
        self._unheard = set(known.others) if self._whole is None or lease.kept.alone else {self._whole.peer}
        self._serving = False
        self._served_until = 0.0
        rules = lease.rules
        self._hearing = Hearing(known.others, witness=rules.witness, started=lease.started, patience=rules.surely_out)
        self.pulse = Pulse()

    def start(self) -> None:
        """Begin to keep the lease, in threads of its own: one turns, one asks each other voter."""
        period = self._lease.rules.seconds / _PERIODS
        threading.Thread(target=self._every, args=(period / 2, self.turn), name="lease", daemon=True).start()
        threading.Thread(target=self._every, args=(0.5, self._noted.tell_ledger), name="records", daemon=True).start()
        for name, line in self._others.items():
            threading.Thread(
                target=self._every,
                args=(period, lambda name=name, line=line: self._ask(name, line)),
                name=f"ask-{name}",
                daemon=True,
            ).start()
        if self._whole is not None and (peer := self._others.get(self._whole.peer)) is not None:
            apart = peer.twin()
            threading.Thread(
                target=self._every, args=(AGAIN_SECONDS, lambda: self._compare_again(apart)), name="whole", daemon=True
            ).start()

    def stop(self, *, resign: bool = True) -> None:
        """Stop serving; where this box only granted, let the other one serve alone."""
        self._ending.set()
        with self._lock:
            term, is_holder = self._lease.kept.term, self._lease.is_holder
            if not is_holder and resign:
                self._lease.resign()
        if not is_holder and resign:
            for line in self._others.values():
                with contextlib.suppress(SealiftError):  # it finds out by its grant running out
                    line.call("resign", term=term, run=self._lease.run)
        with self._lock:
            permit.take_away(self._run)
            self._address.take_away()
            voters.take_away(self._run)
        self._noted.tell_ledger()

    def turn(self) -> None:
        """Notice what time has changed, and bring permit and address to it; then tell which voters answer."""
        with self._lock:
            if self._lease.stood_still(self._now()):
                self._unheard = set(self._others)
            self._lease.tick(self._now())
            self._settle()
            if self._serving:
                self._address.keep(self._now())
        self.pulse.beat()
        with self._lock:
            if not self._ending.is_set():
                self._hearing.tell(self._run, self._now())

    def handle(self, peer: str, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer a paired box.

        Raises:
            MalformedError: A field is of another shape.
            WireError: Nobody knows this message, or it is not for this peer to send.
        """
        do = str(untrusted.get("do"))
        if do == "lease":
            return {"term": self._kept.term, "holder": self._kept.holder, "unfit": self._unfit(self._now())}
        term = canonical.integer(untrusted.get("term", 0), "term")
        run = canonical.text(untrusted.get("run", ""), "run", most=_RUN_CHARS, may_be_empty=True)
        witness = canonical.text(untrusted.get("witness", ""), "witness", most=_NAME_CHARS, may_be_empty=True)
        if peer not in self._candidates or (do != "ask" and not self._may_serve):
            raise WireError(
                what="a box asked what it may not ask",
                why=f"{do[:40]} of {peer}",
                fix="see standby.peer of the site file",
            )
        with self._lock:
            if do == "ask":
                leased = canonical.boolean(untrusted.get("leased"), "leased")
                ask = Ask(term=term, holder=peer, leased=leased, run=run, witness=witness)
                answer = self._lease.answer(self._now(), ask)
                self._settle()
                if self._serving and term < self._lease.kept.term:
                    with contextlib.suppress(OSError):
                        self._address.put()  # that box had it until now: neighbours are told once more where it is
                return asdict(answer)
            if do == "resign":
                alone = self._lease.peer_resigned(term, run)
                self._settle()
                return {"alone": alone}
            if do == "hand":
                taken = self._lease.handed(self._now(), Ask(term=term, holder=self._lease.me, leased=False))
                self._settle()
                return {"taken": taken}
        raise WireError(what="a box asked what nobody knows", why=do[:40], fix="use the same release on both")

    def command(self, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer a local command of people: ``lease``, ``take-over`` or ``hand-over``.

        Raises:
            NotActiveError: There is nothing to hand over, or the other box cannot take it.
            PairingRefusedError: This box lost records that the other one holds.
            UsageError: The command is unknown, or a witness is asked to serve.
        """
        do = str(untrusted.get("do"))
        if do != "lease" and not self._may_serve:
            raise UsageError(
                what="this box only grants", why="standby.lease is false", fix="use it on the box to serve"
            )
        if do == "take-over":
            by = [canonical.text(one, "by", most=100) for one in canonical.array(untrusted.get("by"), "by", most=8)]
            body = {"by": by, "reason": canonical.text(untrusted.get("reason"), "reason", most=500)}
            if self._whole is not None and self._whole.why:
                raise lost(self._whole.peer, self._whole.why)
            with self._lock:
                self._lease.take_by_people(self._now())
                self._note("people-took-over", body)
                self._settle()
        elif do == "hand-over":
            self._hand_over(untrusted)
        elif do != "lease":
            raise UsageError(what="that is no command of the lease", why=do[:40], fix="see `sealift standby --help`")
        with self._lock:
            now = self._now()
            hindered = self._hindered(now)
            return {
                "me": self._lease.me,
                "term": self._lease.kept.term,
                "holder": self._lease.kept.holder,
                "alone": self._lease.kept.alone,
                "serving": self._lease.is_serving(now),
                "would_follow": self._lease.would_follow and not hindered,
                "hindered": hindered,
                "seconds_left": round(max(self._lease.serves_until(now) - now, 0.0), 3),
                "is_witness": self._lease.rules.is_witness,
                "voters": [one.shown_at(now) for one in self._hearing.voters(now)],
            }

    def _hindered(self, now: float) -> str:
        """Return what keeps this box from taking over by itself, besides its own rules; nothing where it serves."""
        witness = self._lease.rules.witness
        if self._lease.lost:
            return self._unfit(now)
        if not self._may_serve or self._lease.is_holder:
            return ""
        if other := self._lease.other_witness:
            return f"the other box goes by the witness {other}, and this one by {witness or 'none'}"
        if witness and not self._lease.witness_counts:
            return f"the other box was not heard to go by the witness {witness} since this one names it"
        if witness and not self._hearing.has_answered(witness, now):
            return f"the witness {witness} does not answer"
        return ""

    def _unfit(self, now: float) -> str:
        """Return why this box cannot be handed the service; nothing where it can."""
        if self._whole is not None and self._whole.why:
            return f"{self._lease.me} lost records that {self._whole.peer} holds: {self._whole.why}"
        return "it is just starting: again in some seconds" if now < self._lease.unheard_until else ""

    @property
    def _others_to_serve(self) -> list[str]:
        return sorted(name for name in self._others if name != self._lease.rules.witness)

    def _hand_over(self, untrusted: Mapping[str, Any]) -> None:
        to = canonical.text(untrusted.get("to"), "to", most=32)
        line = self._others.get(to)
        if line is None or to not in self._others_to_serve:
            raise UsageError(
                what=f"{to} cannot take the service",
                why="it is not the other box of this one's lease",
                fix=f"name the other box: {', '.join(self._others_to_serve) or 'see standby.peer of the site file'}",
            )
        by = canonical.text(untrusted.get("by"), "by", most=100)
        # Nothing is given up while the other does not answer, or may not serve, of which a release of before is silent.
        if why := canonical.text(line.call("lease").get("unfit", ""), "unfit", may_be_empty=True):
            raise NotActiveError(what=f"{to} cannot take the service", why=why, fix="see `sealift standby lease` there")
        with self._lock:
            ask = self._lease.hand_over(self._now(), to)
            self._note("handed-over", {"to": to, "by": by})
            self._settle()
        line.call("hand", term=ask.term)

    def _ask(self, name: str, line: PeerLine) -> None:
        if self._whole is not None and name == self._whole.peer and not self._compare(self._whole, line):
            return
        with self._lock:
            self._keep()
            ask, sent_at = self._lease.asks(self._now()), self._now()
        try:
            if ask is None:
                self._listen(name, line)
                return
            untrusted = line.call("ask", term=ask.term, leased=ask.leased, run=ask.run, witness=ask.witness)
            answer = Answer(
                granted=canonical.boolean(untrusted.get("granted"), "granted"),
                term=canonical.integer(untrusted.get("term"), "term"),
                holder=canonical.text(untrusted.get("holder"), "holder", may_be_empty=True),
                run=canonical.text(untrusted.get("run"), "run", most=_RUN_CHARS, may_be_empty=True),
            )
        except SealiftError:
            return  # no answer is no grant
        with self._lock:
            self._hearing.heard(name, self._now())
            self._lease.answered(self._now(), sent_at, ask, answer, by=name)
            self._lease.tick(self._now())
            self._settle()

    def _listen(self, name: str, line: PeerLine) -> None:
        """Hear which term another voter knows; a later one ends what this box was kept as.

        Raises:
            SealiftError: It does not answer, or not by the protocol.
        """
        untrusted = line.call("lease")
        term = canonical.integer(untrusted.get("term"), "term")
        holder = canonical.text(untrusted.get("holder"), "holder", may_be_empty=True)
        with self._lock:
            self._hearing.heard(name, self._now())
            self._lease.heard(self._now(), term, holder)
            # Of the other box it is heard first what it holds.
            if self._whole is None or name != self._whole.peer or self._whole.is_compared:
                self._heard_again(name)
            self._lease.tick(self._now())
            self._settle()

    def _heard_again(self, name: str) -> None:
        """Under the lock: end the wait once nobody is left to hear."""
        self._unheard.discard(name)
        if not self._unheard:
            self._lease.unheard_until = 0.0

    def _compare(self, whole: Whole, line: PeerLine) -> bool:
        """Before anything that the other box grants counts, hear whether this one has what that one holds of it.

        Returns whether it was heard, now or before.
        """
        if whole.is_due(self._now()):
            if self._compare_with(whole, line) is None and not whole.is_compared:
                return False
            self._go_by(whole)
        return True

    def _compare_again(self, line: PeerLine) -> None:
        """Notice a ledger that was put back meanwhile. No grant waits for that, since ledgers start anew, too."""
        whole, now = self._whole, self._now()
        if whole is None or not whole.is_compared or whole.why or now < self._again_from:
            return  # the first time, and while records are missing, `_ask` compares
        lacking = self._compare_with(whole, line)
        if lacking is None:  # whose disk stands still is not asked again and again
            self._again_from = now + _PATIENCE_SECONDS
        elif lacking:
            self._go_by(whole)

    def _compare_with(self, whole: Whole, line: PeerLine) -> str | None:
        """Compare, and return what is lacking; None where either side is silent, or it could not be kept."""
        try:
            self._listen(whole.peer, line)
            whole.compare(line.call("have"), self._now())
        except (SealiftError, OSError):
            return whole.why or None
        return whole.why

    def _go_by(self, whole: Whole) -> None:
        with self._lock:
            self._lease.lost = bool(whole.why)
            self._heard_again(whole.peer)
            self._lease.tick(self._now())
            self._settle()

    def _settle(self) -> None:
        """Under the lock: keep first, then stop or begin."""
        self._keep()
        now = self._now()
        until, serving = self._lease.serves_until(now), self._lease.is_serving(now)
        if not serving and self._serving:
            permit.take_away(self._run)
            self._address.take_away()
        elif serving and not self._serving:
            self._address.put()
        if serving and not self._ending.is_set():
            permit.write(self._run, until=until, term=self._lease.kept.term)
        self._serving = serving
        for event in self._lease.events:
            self._note(str(event), {"away_milliseconds": self._away(now) if event in _BEGINNINGS else 0})
        self._lease.events.clear()
        self._served_until = until if serving else self._served_until

    def _keep(self) -> None:
        # At the start, too: a witness that is not named any more must be forgotten before anybody hears of that.
        if self._is_kept and self._lease.kept == self._kept:
            return
        kept.store(self._state, self._lease.kept)
        self._kept, self._is_kept = self._lease.kept, True

    def _away(self, now: float) -> int:
        """Return for how long this box knows of nobody who served: since the last grant it gave, or held."""
        since = max(self._lease.last_granted, self._served_until)
        return max(int((now - since) * 1000), 0) if since else 0

    def _note(self, event: str, body: Mapping[str, Any]) -> None:
        self._noted.note(f"standby.{event}", {"term": self._lease.kept.term, "holder": self._lease.kept.holder, **body})

    def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while not self._ending.wait(seconds):
            # What cannot be kept has no effect: the permit runs out, and a turn that never succeeds ends the process.
            with contextlib.suppress(OSError):
                work()


_BEGINNINGS: Final[Sequence[Event]] = (Event.TOOK_OVER, Event.RESUMED)
