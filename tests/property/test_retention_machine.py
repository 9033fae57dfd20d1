"""Holds, expiry, erasure and the end of years in any order, beside a plain account of what must still be there.

A sample is readable while its time runs or a hold covers it, and until a deed takes it; nothing under a hold ever goes;
what went can be read by nobody, and none of its text is in the store's files.
"""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.actions.retention.deeds import FLOOR_YEARS
from appliance.actions.tracing.holding import EVERYTHING
from appliance.errors import KeyMissingError, LegalHoldError
from media.errors import UsageError
from tests.support.retention import DAY, WHO, kept

PEOPLE = ("amal", "bea", "carl")
HASH = "h" * 64


class Life(RuleBasedStateMachine):
    """One box's review store through the years."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="sealift-retention-")
        self.site = kept(Path(self._folder.name))
        self.there: dict[str, tuple[str, datetime, bytes, int]] = {}
        self.gone: dict[str, bytes] = {}
        self.holds: dict[int, str] = {}

    @initialize(person=st.sampled_from(PEOPLE))
    def begin(self, person: str) -> None:
        self.add(person, 30)

    @rule(person=st.sampled_from(PEOPLE), days=st.sampled_from([1, 30, 400]))
    def add(self, person: str, days: int) -> None:
        request = f"req_{len(self.there) + len(self.gone)}"
        content = f"what {person} asked in {request}".encode() * 4
        sample = self.site.store.add(request, subject=person, content=content, days=days)
        assert sample.expires > sample.made
        self.there[request] = (person, self.now + timedelta(days=days), content, self.now.year)

    @rule(days=st.sampled_from([1, 31, 200, 900]))
    def wait(self, days: int) -> None:
        self.site.clock.advance(days * DAY)

    @rule(about=st.sampled_from([EVERYTHING, "req_0", "req_1", "req_2", "req_9"]))
    def hold(self, about: str) -> None:
        self.holds[self.site.retention.hold(about, **WHO).number] = about

    @precondition(lambda self: self.holds)
    @rule(place=st.integers(0, 9))
    def release(self, place: int) -> None:
        number = list(self.holds)[place % len(self.holds)]
        self.site.retention.release(number, **WHO)
        del self.holds[number]

    @rule()
    def release_none(self) -> None:
        with pytest.raises(UsageError):
            self.site.retention.release(10**6, **WHO)

    @rule()
    def expire(self) -> None:
        due = {name for name, (_, ends, _, _) in self.there.items() if ends <= self.now and not self.held(name)}
        assert self.site.retention.expire() == len(due)
        self.leave(due)

    @rule(person=st.sampled_from(PEOPLE))
    def erase(self, person: str) -> None:
        theirs = {name for name, (owner, _, _, _) in self.there.items() if owner == person}
        if EVERYTHING in self.holds.values() or any(self.held(name) for name in theirs):
            with pytest.raises(LegalHoldError):
                self.site.retention.erase(person, subject_hash=HASH, **WHO)
            return
        assert self.site.retention.erase(person, subject_hash=HASH, **WHO) == len(theirs)
        self.leave(theirs)

    @rule(back=st.integers(0, 9), years=st.sampled_from([FLOOR_YEARS - 1, FLOOR_YEARS, 7]))
    def end_year(self, back: int, years: int) -> None:
        year = self.now.year - back
        of_year = {name for name, (_, _, _, made) in self.there.items() if made == year}
        if years < FLOOR_YEARS or self.now < datetime(year + years + 1, 1, 1, tzinfo=UTC):
            with pytest.raises(UsageError):
                self.site.retention.end_year(year, years=years)
        elif self.holds:
            with pytest.raises(LegalHoldError):
                self.site.retention.end_year(year, years=years)
        else:
            assert self.site.retention.end_year(year, years=years) == len(of_year)
            self.leave(of_year)

    @rule()
    def tidy(self) -> None:
        self.site.store.tidy()

    @invariant()
    def who_may_read_reads_and_nobody_else(self) -> None:
        for name, (_, ends, content, _) in self.there.items():
            if ends > self.now or self.held(name):
                assert self.site.retention.read(name, **WHO) == content
            else:
                with pytest.raises(UsageError):
                    self.site.retention.read(name, **WHO)
        for name in self.gone:
            with pytest.raises((UsageError, KeyMissingError)):
                self.site.retention.read(name, **WHO)

    @invariant()
    def no_text_lies_in_the_open(self) -> None:
        raw = b"".join(path.read_bytes() for path in Path(self._folder.name, "review").glob("*"))
        assert b" asked in " not in raw

    @property
    def now(self) -> datetime:
        return self.site.clock.now()

    def held(self, name: str) -> bool:
        return bool({EVERYTHING, name} & set(self.holds.values()))

    def leave(self, names: set[str]) -> None:
        for name in names:
            self.gone[name] = self.there.pop(name)[2]

    def teardown(self) -> None:
        self._folder.cleanup()


Life.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestLife = Life.TestCase
