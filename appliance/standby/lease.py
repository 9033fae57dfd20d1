"""Who may serve: a lease between two boxes, with a witness or without, as a state machine that does no I/O.

A box serves only while it holds the lease; a lease is what the other box, or the witness, granted for some seconds.
Promises, with clocks that run at the same pace within `drift` and never go back (CLOCK_BOOTTIME, which counts sleep):

  LEASE-1  The holder counts from when it asked, whoever grants counts from when it answered, and adds a margin. So who
           granted knows that the holder has stopped before anybody else may begin.
  LEASE-2  A term names one holder; who has heard of a higher term refuses a lower one and steps down. What a restart
           must not forget (term, holder, whether alone) is kept by the caller before anything else is done.
           People can make one term two boxes': they say that the other one is off, and it comes back with a term that
           it took while this one was off, or its cable does. At their first word the one whose name is first goes on.
  LEASE-3  With a witness a box serves by the grant of the other box or of the witness, and takes over only when its own
           grant has run out and the witness grants it the next term; two of three always overlap.
  LEASE-4  Without one, the other box is the only one who grants, so when its grant has run out it takes over by itself.
           It does so only after the holder said to this very run that it lives by grants; otherwise people decide.
  LEASE-5  A box that nobody may grant to serves `alone`: after taking over without a witness, when the other box has
           resigned (a planned stop), or when two people said so. The first grant ends that.
  LEASE-6  After a start nothing is granted to a new holder before every lease that could be out has run out.
  LEASE-7  A box never follows by itself a holder that goes by a witness which this box does not ask: such a holder may
           have grants that this box knows nothing of. So it is while a witness is added to two boxes, one by one.
  LEASE-8  A witness counts for a box only once the other box is bound by it, too. For the holder: once the other box
           granted an ask that names it, since LEASE-7 holds for that box then. For the other box: once the holder said
           to it that it lives by grants and names the same one. That is kept with the term, for as long as this box
           names the witness. Else a box that begins to name one could serve by its grant beside a box that serves alone
           and never asked it; people decide there.
  LEASE-9  A box that lost records which the other box holds (`lost`) neither serves nor takes over, nor is it handed
           anything; it goes on granting. After a start it waits until the other box was heard about that, or a lease
           long where that one is away; people who say that it is off end the wait, and never the first.
  LEASE-10 A box that was kept as serving alone asks no grant of anybody. So after a start, and where it stood still for
           a lease, it hears first from each other voter which term that one knows, and steps down before a higher one
           (LEASE-2) without having served; who is away is waited for as in LEASE-9.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from appliance.errors import NotActiveError

DRIFT: Final = 0.01
"""Share by which two boxes' clocks may differ in pace; quartz is a hundred times better."""
ITSELF: Final = "itself"
"""What a witness has for the name of one."""


class Event(StrEnum):
    """What happened to this box's lease, as it is recorded."""

    TOOK_OVER = "took-over"
    RESUMED = "resumed"
    LOST = "lease-lost"
    STEPPED_DOWN = "stepped-down"
    ALONE = "serves-alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What survives a restart; `witness` is the one that both boxes are known to be bound by in this term."""

    term: int = 0
    holder: str = ""
    alone: bool = False
    witness: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """`holder` asks to hold `term`; `leased` says that it stops when grants run out, `witness` who else gives it those.

    `run` is the run of the process that is asked, as the holder last heard of it: what was said to an earlier run, and
    arrives late, must not count in this one.
    """

    term: int
    holder: str
    leased: bool
    run: str = ""
    witness: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether it was granted, the term and holder that who answers knows, and the run of the process that answers."""

    granted: bool
    term: int
    holder: str
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What both boxes have in their site files.

    Attributes:
        seconds: How long a grant lasts.
        witness: Name of the third voter; empty for none, `ITSELF` in the witness's own.
        automatic: Whether a box may take over without people.
        margin: Seconds that who granted waits beyond the lease, besides drift.
    """

    seconds: float
    witness: str = ""
    automatic: bool = True
    margin: float = 0.5

    @property
    def is_witness(self) -> bool:
        """Whether this voter is the witness, which only grants."""
        return self.witness == ITSELF

    @property
    def surely_out(self) -> float:
        """Seconds after which a grant has run out for certain."""
        return self.seconds * (1 + DRIFT) + self.margin


@dataclass(slots=True)
class Lease:
    """The lease as one voter knows it. All times are seconds of this machine's CLOCK_BOOTTIME.

    Args:
        me: This voter's name.
        rules: As both boxes have them.
        kept: What was kept before the restart.
        started: The time of the start.
        until: Until when a grant lasts that was found from before a restart of this process alone.
        run: Names this run of the process, differently each time.
        lost: Whether this box lost records that the other one holds.
        unheard_until: Until when it waits to hear whether it did, and whether another serves by now.
    """

    me: str
    rules: Rules
    kept: Kept
    started: float
    until: float = 0.0
    run: str = ""
    lost: bool = False
    unheard_until: float = 0.0
    events: list[Event] = field(default_factory=list)
    last_granted: float = 0.0
    _other_run: str = ""
    _promised: str = ""
    _promised_until: float = 0.0
    _promised_leased: bool = False
    _promised_witness: str = ""
    _unlike_until: float = 0.0
    _was_serving: bool = False
    _resigned: bool = False
    _awake: float = 0.0

    def __post_init__(self) -> None:
        """Count every lease that could be out as promised, and a witness that this box does not name as unknown."""
        self._promised_until = self._unlike_until = self.started + self.rules.surely_out
        if self.kept.witness != self.rules.witness:
            self.kept = replace(self.kept, witness="")

    @property
    def is_holder(self) -> bool:
        """Whether this box is the one that serves, or would if it had a grant."""
        return self.kept.holder == self.me

    @property
    def would_follow(self) -> bool:
        """Whether this box would take over by itself if the holder fell silent now."""
        if self.is_holder or self._resigned or self.lost or not self.rules.automatic or not self.kept.holder:
            return False
        if self.other_witness:
            return False
        if self.rules.witness:
            return self.witness_counts
        return bool(self._promised) and self._promised_leased

    @property
    def witness_counts(self) -> bool:
        """Whether this box may go by what the witness grants; not before the other box is bound by it, too."""
        return bool(self.rules.witness) and self.kept.witness == self.rules.witness

    @property
    def other_witness(self) -> str:
        """The witness that the holder last said it goes by and this box does not ask; empty for none."""
        return "" if self._promised_witness == self.rules.witness else self._promised_witness

    def is_serving(self, now: float) -> bool:
        """Tell whether this box may serve at this very moment."""
        return self.is_holder and not self._is_barred(now) and (self.kept.alone or now < self.until)

    def serves_until(self, now: float) -> float:
        """Return until when it may serve without asking again; `now` for not at all."""
        if not self.is_serving(now):
            return now
        return now + self.rules.seconds if self.kept.alone else self.until

    def asks(self, now: float) -> Ask | None:
        """Return what to ask the other voters now: a renewal, or the next term; None where nothing is to be asked."""
        if self._is_barred(now):
            return None
        if self.is_holder:
            return Ask(
                term=self.kept.term,
                holder=self.me,
                leased=not self.kept.alone,
                run=self._other_run,
                witness=self.rules.witness,
            )
        if self.rules.witness and self._may_take_over(now):
            return Ask(term=self.kept.term + 1, holder=self.me, leased=True, witness=self.rules.witness)
        return None

    def answer(self, now: float, ask: Ask) -> Answer:
        """Grant or refuse what another voter asks."""
        if self._resigned or ask.holder == self.me or ask.term < self.kept.term:
            return self._refusal()
        if ask.term == self.kept.term and ask.holder != self.kept.holder:
            if not self._yields(ask.term, ask.holder):
                return self._refusal()
            self._step_down(now, ask.term, ask.holder)
        promised_to_another = bool(self._promised) and self._promised != ask.holder and now <= self._promised_until
        starting = not self._promised and now <= self._promised_until and ask.term > self.kept.term
        if self.is_serving(now):
            if ask.leased and not self.kept.alone:
                return self._refusal()  # a box that was away asks for the next term; this one has its grants
            # Only people can have given another box a higher term while this one serves: they are obeyed at once.
            self._step_down(now, ask.term, ask.holder)
        elif promised_to_another or (starting and self.rules.witness):
            return self._refusal()
        if (ask.term, ask.holder) != (self.kept.term, self.kept.holder):
            self.kept = Kept(term=ask.term, holder=ask.holder)
            self.until = 0.0
        self.kept = replace(self.kept, witness=self._witness_of(now, ask))
        self._promised, self._promised_leased = ask.holder, ask.leased and ask.run == self.run
        self._promised_witness = ask.witness
        self._promised_until = now + self.rules.surely_out
        self.last_granted = now
        return Answer(granted=True, term=self.kept.term, holder=self.kept.holder, run=self.run)

    def _yields(self, term: int, holder: str) -> bool:
        """Whether another box that holds the very term of this one goes on, and this one does not."""
        return self.is_holder and term == self.kept.term and bool(holder) and holder < self.me

    def stood_still(self, now: float) -> bool:
        """Tell whether this process did, as the machine that slept, for so long that the others are to be heard first.

        Asked several times a lease (LEASE-10).
        """
        before, self._awake = self._awake, now
        if not before or now - before <= self.rules.surely_out or not self.kept.alone:
            return False
        self.unheard_until = now + self.rules.surely_out
        return True

    def heard(self, now: float, term: int, holder: str) -> None:
        """Take which term another voter knows, and whose: who holds an earlier one steps down (LEASE-2)."""
        if self.is_holder and holder != self.me and (term > self.kept.term or self._yields(term, holder)):
            self._step_down(now, term, holder)

    def answered(self, now: float, sent_at: float, ask: Ask, answer: Answer, *, by: str) -> None:
        """Take what the voter `by` answered to what was asked at `sent_at`."""
        is_witness = by == self.rules.witness
        if not is_witness:
            self._other_run = answer.run
        if not answer.granted:
            if answer.holder != self.me and (answer.term > self.kept.term or self._yields(answer.term, answer.holder)):
                self._step_down(now, answer.term, answer.holder)
            return
        until = sent_at + self.rules.seconds
        # A grant of what was asked before the other box resigned: it has been taken back since.
        if ask.holder != self.me or now >= until or (self.kept.alone and ask.leased):
            return
        if is_witness and not self.witness_counts:
            return
        if self.is_holder and ask.term == self.kept.term:
            # What an earlier run of this process asked, without a witness, may still be on its way.
            is_bound = self.witness_counts or sent_at > self.started + self.rules.surely_out
            self.kept = replace(self.kept, alone=False, witness=ask.witness if is_bound else "")
            self.until = max(self.until, until)
        elif ask.term == self.kept.term + 1 and self._may_take_over(now):
            self.kept = Kept(term=ask.term, holder=self.me, witness=ask.witness)
            self.until = until
            self._began(Event.TOOK_OVER)

    def tick(self, now: float) -> None:
        """Notice what time alone has changed."""
        if not self.rules.witness and self._may_take_over(now):
            self.kept = Kept(term=self.kept.term + 1, holder=self.me, alone=True)
            self._began(Event.TOOK_OVER)
        serving = self.is_serving(now)
        if serving and not self._was_serving:
            self._began(Event.RESUMED)
        elif not serving and self._was_serving:
            self.events.append(Event.LOST)
        self._was_serving = serving

    def resign(self) -> None:
        """Give up granting and taking over until the next start: a planned stop, so that the other serves alone."""
        self._promised_leased, self._resigned = False, True

    def peer_resigned(self, term: int, run: str) -> bool:
        """Serve alone, because that run of the other box has given up taking over; return whether that was so."""
        known = self.is_holder and (term, run) == (self.kept.term, self._other_run)
        if self.rules.witness or not known or self.kept.alone:
            return False
        self.kept = replace(self.kept, alone=True)
        self.events.append(Event.ALONE)
        return True

    def take_by_people(self, now: float) -> None:
        """Serve from now on because two people said so; they have seen to it that the other box does not."""
        self.unheard_until = 0.0
        self.kept = Kept(term=self.kept.term + 1, holder=self.me, alone=True)
        self._promised, self._promised_leased = "", False
        self._began(Event.TOOK_OVER)
        self.tick(now)

    def hand_over(self, now: float, to: str) -> Ask:
        """Stop serving and return the term that the other box now holds; it is told at once.

        Raises:
            NotActiveError: This box does not serve.
        """
        if not self.is_serving(now):
            raise NotActiveError(
                what="this box does not serve",
                why=f"{self.kept.holder or 'nobody'} holds the lease",
                fix="run it on the box that serves" if self.kept.holder else "see `sealift standby take-over --help`",
            )
        self._step_down(now, self.kept.term + 1, to)
        return Ask(term=self.kept.term, holder=to, leased=False)

    def handed(self, now: float, ask: Ask) -> bool:
        """Take what the other box hands over; return whether this box holds it now."""
        if ask.holder != self.me or ask.term <= self.kept.term or self._is_barred(now):
            return False
        # Who hands over follows nobody that it has not heard of, so it is bound by whatever this box names.
        self.kept = Kept(term=ask.term, holder=self.me, alone=not self.rules.witness, witness=self.rules.witness)
        self._promised, self._promised_leased = "", False
        if self.kept.alone:
            self._began(Event.TOOK_OVER)
        self.tick(now)
        return True

    def _is_barred(self, now: float) -> bool:
        return self.lost or now < self.unheard_until

    def _may_take_over(self, now: float) -> bool:
        # Where nobody was ever the holder, who is first is for people to say.
        return self.would_follow and now > self._promised_until

    def _witness_of(self, now: float, ask: Ask) -> str:
        """Return the witness that counts after an ask was granted; what an earlier run asked may come late."""
        if not ask.leased or ask.witness != self.rules.witness:
            self._unlike_until = now + self.rules.surely_out
            return ""
        return ask.witness if self.witness_counts or now > self._unlike_until else ""

    def _refusal(self) -> Answer:
        return Answer(granted=False, term=self.kept.term, holder=self.kept.holder, run=self.run)

    def _step_down(self, now: float, term: int, holder: str) -> None:
        if self.is_holder:
            self.events.append(Event.STEPPED_DOWN)
        self._was_serving = False
        self.kept = Kept(term=term, holder=holder)
        self.until = 0.0
        # The new holder has a whole lease to show itself.
        self._promised_until = max(self._promised_until, now + self.rules.surely_out)

    def _began(self, event: Event) -> None:
        if not self._was_serving:
            self.events.append(event)
        self._was_serving = True
