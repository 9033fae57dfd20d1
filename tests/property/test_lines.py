"""Several lines over one chain: they keep to a plain model of them, and a site with one line reads as it always did."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.errors import NotPromotedError
from appliance.promote.history import Production, replay
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import LINE_FORMAT
from appliance.promote.terms import Terms
from media.errors import MalformedError
from tests.support.oneline import OneLine
from tests.support.promotion import digest
from tests.unit.appliance.promote.test_record import YES
from tests.unit.appliance.promote.test_statement import STATEMENT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
VERSIONS = tuple(digest(name) for name in "ABCDE")
VERSION = st.sampled_from(VERSIONS)
LINE = st.integers(min_value=0, max_value=3)
WRONGLY = st.sampled_from([False, False, True])
_SIGNED = {Kind.MADE, Kind.CANARY_STARTED}


def promotion(before: Production | OneLine, kind: Kind, version: str | None, **changes: Any) -> Promotion:
    """Return the next promotion of a chain, of line 1 where nothing else is said."""
    number = before.number + 1
    signed, watch = kind in _SIGNED, changes.pop("watch", 0)
    statement = replace(
        STATEMENT,
        model_digest=version or VERSIONS[0],
        nonce=f"{number:032x}",
        replaces=changes.pop("replaces", None),
        format=changes.pop("format", 2),
    )
    made = Promotion(
        number=number,
        before=before.before,
        kind=kind,
        sequence=10 * number,
        leaf_hash=digest("leaf"),
        at=NOW + timedelta(hours=number),
        model_digest=before.current if kind.is_rollout and kind is not Kind.CUT_OVER else version,
        previous=before.current,
        statement=statement.to_bytes().decode() if signed else "",
        approvals=(YES,) if signed else (),
        requested_by="ana-petrova" if signed else "",
        person="" if signed else "ben-okafor",
        person_class="" if signed else "operator",
        reason="" if signed else "worse",
        terms=Terms(version=version or VERSIONS[0], watch_hours=watch) if kind.is_rollout else None,
    )
    return replace(made, **changes)


WRONG: dict[str, Any] = {
    "number": 7,
    "before": digest("elsewhere"),
    "sequence": 1,
    "previous": VERSIONS[4],
    "model_digest": VERSIONS[3],
    "statement": STATEMENT.to_bytes().decode(),
}
STEP = st.tuples(
    st.sampled_from([None, None, None, *Kind]),
    st.integers(min_value=0, max_value=59),
    VERSION,
    st.sampled_from([0, 2]),
    st.sampled_from([*[""] * 12, *WRONG]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, min_size=5, max_size=40))
def test_every_history_of_one_line_reads_as_it_did_before_there_were_several(steps: list[Any]) -> None:
    old, new = OneLine(), Production()
    for any_kind, which, version, watch, wrong in steps:
        likely = _likely(old)
        kind = any_kind or likely[which % len(likely)]
        about = version if any_kind else _likely_version(old, kind, version)
        about = None if kind is Kind.STOPPED else about
        step = promotion(old, kind, about, watch=watch)
        step = replace(step, **{wrong: WRONG[wrong]}) if wrong else step
        if not _is_whole(step):
            continue
        refused = [_refused(production, step) for production in (old, new)]
        assert refused[0] == refused[1]
        event(f"{kind} {'refused' if refused[0] else 'taken'}")

        for name in ("number", "last", "current", "returnable", "loadable", "before", "canary", "nonces", "promotions"):
            assert getattr(old, name) == getattr(new, name)
        for name in ("is_stopped", "beside", "watch"):
            assert getattr(old, name) == getattr(new.first, name)
        assert old.line == new.first.versions
        assert [old.made_for(one) for one in VERSIONS] == [new.made_for(one) for one in VERSIONS]
    assert [one.format for one in new.promotions] == [2 if one.kind.is_rollout else 1 for one in new.promotions]


def _likely(production: OneLine) -> list[Kind]:
    """Return what mostly follows, so that histories go on."""
    if production.current is None:
        return [Kind.MADE, Kind.MADE, Kind.ROLLED_BACK]
    if production.canary is None:
        return [Kind.CANARY_STARTED, Kind.CANARY_STARTED, Kind.MADE, Kind.ROLLED_BACK, Kind.STOPPED, Kind.RETIRED]
    paused = [Kind.CANARY_RESUMED] if production.canary.is_held else [Kind.CANARY_HELD, Kind.CUT_OVER]
    return [*paused, Kind.CUT_OVER, Kind.CANARY_ABORTED, Kind.MADE]


def _likely_version(production: OneLine, kind: Kind, version: str) -> str:
    if production.canary is not None and kind.is_rollout:
        return production.canary.version
    if production.beside is not None and kind is Kind.RETIRED:
        return production.beside.version
    return production.returnable[-1] if production.returnable and kind is Kind.ROLLED_BACK else version


def _is_whole(step: Promotion) -> bool:
    try:
        return Promotion.from_bytes(step.to_bytes()) == step
    except MalformedError:
        return False


def _refused(production: Production | OneLine, step: Promotion) -> str:
    try:
        production.take(step)
    except NotPromotedError as error:
        return error.why
    return ""


class LinesMachine(RuleBasedStateMachine):
    """Lines as lists in a dict, the one canary and what is kept beside; every step is tried, in any line."""

    def __init__(self) -> None:
        super().__init__()
        self.production = Production()
        self.lines: dict[int, list[str]] = {}
        self.stopped: set[int] = set()
        self.canary: tuple[int, str] | None = None
        self.beside: dict[int, str] = {}

    def _held(self, *, but: int) -> set[str]:
        tops = {line[-1] for number, line in self.lines.items() if number != but}
        kept = {version for number, version in self.beside.items() if number != but}
        return tops | kept | ({self.canary[1]} if self.canary is not None and self.canary[0] != but else set())

    def _number(self, which: int) -> int:
        return sorted(self.lines)[which % len(self.lines)]

    def _current(self, number: int) -> str | None:
        return None if number in self.stopped else self.lines[number][-1]

    def _try(self, kind: Kind, number: int, version: str | None, *, may: bool, **changes: Any) -> bool:
        """Take a step of a line, which the model says may or may not be taken."""
        fields: dict[str, Any] = {"previous": self._current(number) if number in self.lines else None}
        if number != 1:
            fields |= {"line": number, "format": LINE_FORMAT}
            fields |= {"replaces": self.lines[number][-1] if number in self.lines else None}
        if kind.is_rollout and kind is not Kind.CUT_OVER:
            fields |= {"model_digest": fields["previous"]}
        step = promotion(self.production, kind, version, **{**fields, **changes})
        if not may:
            was = asdict(self.production)
            with pytest.raises(NotPromotedError):
                self.production.take(step)
            assert asdict(self.production) == was
            return False
        self.production.take(Promotion.from_bytes(step.to_bytes()))
        event(f"{kind} taken in {'line 1' if number == 1 else 'a further line'}")
        return True

    def _changed(self, number: int) -> None:
        self.stopped.discard(number)
        self.beside.pop(number, None)
        if self.canary is not None and self.canary[0] == number:
            self.canary = None

    @initialize()
    def begin(self) -> None:
        self.open(VERSIONS[0])

    @rule(version=VERSION)
    def open(self, version: str) -> None:
        number = self.production.number + 1
        if self._try(Kind.MADE, number, version, may=version not in self._held(but=number)):
            self.lines[number] = [version]

    @rule(which=LINE, version=VERSION)
    def bring(self, which: int, version: str) -> None:
        number = self._number(which)
        if self._try(Kind.MADE, number, version, may=version not in self._held(but=number)):
            self._changed(number)
            if self.lines[number][-1] != version:
                self.lines[number].append(version)

    @rule(which=LINE, version=VERSION, wrong=WRONGLY)
    def go_back(self, which: int, version: str, *, wrong: bool) -> None:
        number = self._number(which)
        below = self.lines[number][:-1]
        version = below[which % len(below)] if below and not wrong else version
        may = version in below and version not in self._held(but=number)
        if self._try(Kind.ROLLED_BACK, number, version, may=may):
            self._changed(number)
            del self.lines[number][len(below) - below[::-1].index(version) :]

    @rule(which=LINE)
    def stop_one(self, which: int) -> None:
        number = self._number(which)
        may = self._current(number) is not None and (number != 1 or len(self.lines) > 1)
        if self._try(Kind.STOPPED, number, None, may=may, line=number):
            self._changed(number)
            self.stopped.add(number)

    @rule()
    def stop_all(self) -> None:
        may = any(self._current(number) for number in self.lines)
        if self._try(Kind.STOPPED, 1, None, may=may, line=None):
            for number in self.lines:
                self._changed(number)
            self.stopped.update(self.lines)

    @rule(which=LINE, version=VERSION)
    def start_canary(self, which: int, version: str) -> None:
        number = self._number(which)
        current = self._current(number)
        may = current not in {None, version} and self.canary is None and version not in self._held(but=number)
        if self._try(Kind.CANARY_STARTED, number, version, may=may):
            self.canary = (number, version)
            self.beside.pop(number, None)

    @rule(which=LINE, version=VERSION, watch=st.sampled_from([0, 2]), wrong=WRONGLY)
    def cut_over(self, which: int, version: str, watch: int, *, wrong: bool) -> None:
        number, version = self.canary if self.canary and not wrong else (self._number(which), version)
        if self._try(Kind.CUT_OVER, number, version, may=self.canary == (number, version), watch=watch):
            before = self.lines[number][-1]
            self._changed(number)
            self.lines[number].append(version)
            if watch:
                self.beside[number] = before

    @rule(which=LINE, version=VERSION, wrong=WRONGLY)
    def abort(self, which: int, version: str, *, wrong: bool) -> None:
        number, version = self.canary if self.canary and not wrong else (self._number(which), version)
        if self._try(Kind.CANARY_ABORTED, number, version, may=self.canary == (number, version)):
            self.canary = None

    @rule(which=LINE, version=VERSION, wrong=WRONGLY)
    def retire(self, which: int, version: str, *, wrong: bool) -> None:
        kept = sorted(self.beside.items())
        number, version = kept[which % len(kept)] if kept and not wrong else (self._number(which), version)
        if self._try(Kind.RETIRED, number, version, may=self.beside.get(number) == version):
            del self.beside[number]

    @rule(which=LINE, other=LINE, version=VERSION)
    def bring_by_what_was_signed_for_another(self, which: int, other: int, version: str) -> None:
        """The number in the record is nobody's word: what was signed must say the same line."""
        number, signed = self._number(which), self._number(other)
        if number != signed:
            wrong = {"format": LINE_FORMAT, "replaces": self.lines[signed][-1]} if signed != 1 else {"format": 2}
            self._try(Kind.MADE, number, version, may=False, **wrong)
        unknown = next(one for one in range(2, 99) if one not in {*self.lines, self.production.number + 1})
        self._try(Kind.MADE, unknown, version, may=False)
        self._try(Kind.MADE, self.production.number + 1, version, may=False, format=2)
        self._try(Kind.MADE, self.production.number + 1, version, may=False, replaces=self.lines[signed][-1])

    @invariant()
    def lines_are_the_models(self) -> None:
        found = {number: line.versions for number, line in self.production.lines.items() if line.versions}
        assert found == self.lines
        assert {number for number, line in self.production.lines.items() if line.is_stopped} == self.stopped
        assert {n: one.beside.version for n, one in self.production.lines.items() if one.beside} == self.beside
        canary = self.production.canary
        assert (None if canary is None else canary.version) == (None if self.canary is None else self.canary[1])

    @invariant()
    def what_may_load_is_the_union_line_1_first_and_nothing_twice(self) -> None:
        wanted: list[str] = []
        for number in sorted(self.lines):
            if (current := self._current(number)) is not None:
                canary = [self.canary[1]] if self.canary is not None and self.canary[0] == number else []
                wanted += [current, *canary, *([self.beside[number]] if number in self.beside else [])]
        assert self.production.loadable == tuple(wanted)
        assert len(set(wanted)) == len(wanted)

    @invariant()
    def what_may_load_was_signed_for_the_line_that_loads_it(self) -> None:
        for version in self.production.loadable:
            line, made = self.production.line_of(version), self.production.made_for(version)
            assert line is not None
            assert made is not None
            assert (made.line or 1, made.about) == (line.number, version)

    @invariant()
    def replaying_the_files_says_the_same(self) -> None:
        again = replay(Promotion.from_bytes(one.to_bytes()) for one in self.production.promotions)
        assert asdict(again) == asdict(self.production)


LinesMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_lines = LinesMachine.TestCase
