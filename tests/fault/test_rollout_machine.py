"""Whatever people and the judge do about a canary, with power cuts at any write: old or new, approved by two.

After each step the engines that may run, the promoter's chain and the state that gateways read say the same.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import select

from appliance.errors import ApplianceError
from appliance.promote.canary import offset_of
from appliance.promote.standing import require_loadable
from appliance.state import projection
from appliance.state.database import open_state
from appliance.state.rollouts import OPEN
from appliance.state.tables import Promotion, Rollout
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

pytestmark = [pytest.mark.fault, pytest.mark.timeout(800)]
VERSIONS = tuple(digest(name) for name in "ABC")
ANA, BEN, *_ = signatories()
TORN = st.sampled_from(("", "before the file", "before the ledger answers"))


class _PowerCutError(BaseException):
    pass


class RolloutMachine(RuleBasedStateMachine):
    """One site; two people approve anything, one person does the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._home = tempfile.TemporaryDirectory(prefix="slf")
        self.site: Site = open_site(Path(self._home.name))
        self.site.promote(VERSIONS[0])
        self.state = open_state(self.site.config.at)
        self.approved = {VERSIONS[0]}
        self.approved_beside: set[str] = set()  # since a canary began; an approval from before has lost its force
        self.requests = 0

    def teardown(self) -> None:
        self.state.dispose()
        self._home.cleanup()

    def change(self, torn: str, do: Callable[[], Any]) -> None:
        """Do something that may be refused, or be cut off; then the promoter starts again."""
        with pytest.MonkeyPatch.context() as patch:
            if torn == "before the file":
                patch.setattr("appliance.promote.folder.PromoterFolder.save_promotion", _cut)
            elif torn:
                patch.setattr(self.site.ledger, "append", self._append_and_cut(self.site.ledger.append))
            try:
                do()
            except ApplianceError:
                return
            except _PowerCutError:
                self.site.restart()
        self.site.client.judge_canary()  # whatever comes first finishes what was cut off

    def _append_and_cut(self, append: Callable[..., Any]) -> Callable[..., Any]:
        def torn(kind: str, body: Any) -> Any:
            done = append(kind, body)
            if kind.startswith("promotion.") and kind not in {"promotion.requested", "promotion.canary-judged"}:
                raise _PowerCutError
            return done

        return torn

    @rule(version=st.sampled_from(VERSIONS[1:]), torn=TORN)
    def start(self, version: str, torn: str) -> None:
        request = self._approved(version)
        if request:
            terms = {"percent": 20, "hours": 2, "watch_hours": 2}
            before = self._canary_began()
            self.change(torn, lambda: self.site.client.start_canary(request, **terms))
            if self._canary_began() != before:
                self.approved_beside.clear()

    def _canary_began(self) -> int | None:
        canary = self.site.client.canary()["canary"]
        return None if canary is None else int(canary["sequence"])

    def _approved(self, version: str) -> str:
        self.requests += 1
        try:
            request = self.site.request(version, meaning=f"number {self.requests}")
            self.site.approve(request, ANA, BEN)
        except ApplianceError:
            return ""  # it is in production
        self.approved.add(version)
        self.approved_beside.add(version)
        return request.statement.sha256

    @rule(step=st.sampled_from(("hold", "resume", "abort")), torn=TORN)
    def step(self, step: str, torn: str) -> None:
        self.change(torn, lambda: self.site.client.step_canary(step, person=ANA.id, reason="x"))

    @rule(torn=TORN, keeps=st.booleans(), anew=st.booleans())
    def cut_over(self, torn: str, keeps: bool, anew: bool) -> None:  # noqa: FBT001
        canary = self.site.client.canary()["canary"]
        if canary and anew:
            self._approved(str(canary["version"]))
        self.change(torn, lambda: self.site.client.cut_over(person=ANA.id, reason="x", keeps_before=keeps))
        # A start or a promotion that was refused while the canary ran leaves its approvals: they are of that time, too.
        if canary and canary["version"] not in self.approved_beside:
            current = self.site.client.current()["model_digest"]
            assert current != canary["version"], "nobody approved it anew, and no request was seen"

    @rule(failing=st.booleans())
    def judge(self, failing: bool) -> None:  # noqa: FBT001
        canary = self.site.client.canary()["canary"]
        if canary and failing:
            for number in range(15):
                for arm, outcome in (("production", "ok"), ("canary", "error")):
                    name = f"{self.site.ledger.head().size}-{number}-{arm}"
                    self.site.ledger.append("request.intent", {"request_id": name, "arm": arm, "assigned": "share"})
                    body = {"request_id": name, "outcome": outcome, "status": 200 if outcome == "ok" else 502}
                    self.site.ledger.append("request.outcome", body)
        self.site.client.judge_canary()
        if canary and failing:
            assert self.site.client.canary()["canary"] is None

    @rule(deed=st.sampled_from(("rollback", "stop")), torn=TORN)
    def go_back_or_stop(self, deed: str, torn: str) -> None:
        self.change(torn, lambda: getattr(self.site.client, deed)(person=BEN.id, reason="x"))

    @rule(version=st.sampled_from(VERSIONS))
    def promote(self, version: str) -> None:
        request = self._approved(version)
        if request:
            self.change("", lambda: self.site.client.promote(request))

    @rule(hours=st.integers(min_value=1, max_value=3))
    def wait(self, hours: int) -> None:
        self.site.clock.advance(hours * 3600)

    @rule()
    def restart(self) -> None:
        self.site.restart()

    @invariant()
    def what_may_run_was_approved_by_two(self) -> None:
        for version in self.site.folder.production().loadable:
            assert version in self.approved
            assert len(set(require_loadable(self.site.config.at, version).people)) >= 2

    @invariant()
    def gateways_read_what_the_chain_says(self) -> None:
        production = self.site.folder.production()
        projection.catch_up(self.state, self.site.ledger)
        with self.state.connect() as connection:
            newest = connection.execute(select(Promotion.model_digest).order_by(Promotion.sequence.desc())).first()
            row = connection.execute(select(Rollout.__table__).where(Rollout.state.in_(OPEN))).first()
        assert newest is not None
        assert newest.model_digest == production.current
        if production.canary is not None:
            assert row is not None
            assert (row.model_digest, row.control) == (production.canary.version, production.current)
            assert row.state == ("held" if production.canary.is_held else "running")
            assert offset_of(row.sequence) == production.canary.offset
        elif production.first.beside is not None:
            assert row is not None
            assert (row.state, row.control, row.sequence) == (
                "beside",
                production.first.beside.version,
                production.first.beside.since,
            )
        else:
            assert row is None


def _cut(*_: object) -> None:
    raise _PowerCutError


RolloutMachine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_rollouts = RolloutMachine.TestCase
