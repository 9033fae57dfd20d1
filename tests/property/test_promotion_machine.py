"""Whatever people do, in whatever order and with whatever power cuts: two different people approved what serves.

The whole life: requests, approvals, promotions (two at once, too), canaries, cut-overs, going back, stopping, holds,
deletions and versions that come back; requests are answered meanwhile from a state that may lag behind the ledger.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from appliance.errors import ApplianceError, ConflictError, NotPromotedError, UnknownVersionError
from appliance.gateway.routing import StateRoutes
from appliance.promote.promoter import Request
from appliance.promote.record import Promotion
from appliance.promote.standing import require_loadable
from appliance.registry import deletion
from appliance.registry.aliases import aliases
from appliance.state import projection
from appliance.state.tables import Base
from media.errors import SealiftError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import NAMES, signatories

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]

VERSIONS = tuple(digest(name) for name in "ABC")
PEOPLE = st.integers(min_value=0, max_value=len(NAMES) - 1)


class PromotionMachine(RuleBasedStateMachine):
    """One site; three of four people are enrolled, and all four try everything."""

    def __init__(self) -> None:
        super().__init__()
        self._home = tempfile.TemporaryDirectory(prefix="slf")
        self.site: Site = open_site(Path(self._home.name), enrolled=3)
        self.requests: list[Request] = []
        self.said_yes: dict[str, set[int]] = {}
        self.gone: set[int] = {3}
        self.once_served: set[str] = set()
        self.state, self.lagging = (create_engine("sqlite+pysqlite://", poolclass=StaticPool) for _ in range(2))
        for engine in (self.state, self.lagging):
            Base.metadata.create_all(engine)
            projection.rebuild(engine, self.site.ledger)

    def teardown(self) -> None:
        self.state.dispose()
        self.lagging.dispose()
        self._home.cleanup()

    @rule(version=st.sampled_from(VERSIONS), who=PEOPLE)
    def request(self, version: str, who: int) -> None:
        try:
            self.requests.append(self.site.request(version, by=signatories()[who]))
        except SealiftError:
            assert who in self.gone or self.site.client.current()["model_digest"] == version

    @rule(which=st.integers(min_value=0, max_value=7), who=PEOPLE)
    def approve(self, which: int, who: int) -> None:
        if self.requests:
            self._approve(self.requests[which % len(self.requests)], who, over=which)

    @rule(which=st.integers(min_value=0, max_value=7), over=st.integers(min_value=0, max_value=7), who=PEOPLE)
    def approve_with_any_signature(self, which: int, over: int, who: int) -> None:
        if self.requests:
            self._approve(self.requests[which % len(self.requests)], who, over=over)

    def _approve(self, request: Request, who: int, *, over: int) -> None:
        signed = self.requests[over % len(self.requests)].statement
        signature = signatories()[who].sign(signed.to_bytes())
        try:
            self.site.client.approve(request.statement.sha256, signature)
        except ApplianceError:
            return
        assert signed == request.statement
        assert who not in self.gone
        yes = self.said_yes.setdefault(request.statement.sha256, set())
        assert who not in yes
        yes.add(who)

    @rule(which=st.integers(min_value=0, max_value=7), torn=st.booleans())
    def promote(self, which: int, *, torn: bool) -> None:
        if not self.requests:
            return
        statement = self.requests[which % len(self.requests)].statement
        if self._tried(lambda: self.site.client.promote(statement.sha256), torn=torn):
            assert len(self.said_yes[statement.sha256] - self.gone) >= 2
            assert deletion.deletion_of(self.site.ledger, statement.model_digest) is None

    def _tried(self, step: Callable[[], Promotion], *, torn: bool) -> bool:
        """Take a step, perhaps with the power cut between ledger and file; return whether it is in force afterwards."""
        with pytest.MonkeyPatch.context() as patch:
            if torn:
                patch.setattr("appliance.promote.folder.PromoterFolder.save_promotion", _power_cut)
            try:
                step()
            except ApplianceError:
                return False
            except KeyboardInterrupt:
                self.site.restart()
        self.site.client.judge_canary()  # reads the ledger, so that the files follow it
        self.once_served.update(self.site.folder.production().loadable)
        return True

    @rule(first=st.sampled_from(VERSIONS), second=st.sampled_from(VERSIONS), turned=st.booleans())
    def promote_two_at_once(self, first: str, second: str, *, turned: bool) -> None:
        if first == second or {0, 1} & self.gone:
            return
        before = len(self.requests)
        for version in (first, second):
            self.request(version, 0)
            for who in (0, 1) if len(self.requests) > before else ():
                self._approve(self.requests[-1], who, over=len(self.requests) - 1)
        if len(self.requests) != before + 2:
            return
        both = self.requests[:-3:-1] if turned else self.requests[-2:]
        refused = []
        for one in both:
            try:
                self.site.client.promote(one.statement.sha256)
            except ApplianceError as error:
                refused.append(error)
        assert refused
        if len(refused) == 1:
            assert isinstance(refused[0], ConflictError)
            assert self.site.client.current()["model_digest"] == both[0].statement.model_digest
        self.once_served.update(self.site.folder.production().loadable)

    @rule(which=st.integers(min_value=0, max_value=7), torn=st.booleans())
    def start_canary(self, which: int, *, torn: bool) -> None:
        if self.requests:
            statement = self.requests[which % len(self.requests)].statement
            begun = self._tried(
                lambda: self.site.client.start_canary(statement.sha256, percent=20, hours=2, watch_hours=2), torn=torn
            )
            assert not begun or len(self.said_yes[statement.sha256] - self.gone) >= 2

    @rule(step=st.sampled_from(("hold", "resume", "abort")), who=PEOPLE, torn=st.booleans())
    def step_canary(self, step: str, who: int, *, torn: bool) -> None:
        person = signatories()[who].id
        if self._tried(lambda: self.site.client.step_canary(step, person=person, reason="x"), torn=torn):
            assert who not in self.gone

    @rule(who=PEOPLE, keeps=st.booleans(), torn=st.booleans())
    def cut_over(self, who: int, *, keeps: bool, torn: bool) -> None:
        canary = self.site.client.canary()["canary"]
        person = signatories()[who].id
        if self._tried(lambda: self.site.client.cut_over(person=person, reason="x", keeps_before=keeps), torn=torn):
            assert who not in self.gone
            assert self.site.client.current()["model_digest"] == canary["version"]

    @rule(version=st.sampled_from(VERSIONS), who=PEOPLE)
    def delete(self, version: str, who: int) -> None:
        needed = self._needed(version)
        try:
            self.site.client.decide_model("delete", version, person=signatories()[who].id, reason="x")
        except UnknownVersionError:
            return
        except ApplianceError:
            assert needed or who in self.gone
            return
        assert not needed
        assert who not in self.gone

    @rule(order=st.permutations(VERSIONS), doomed=st.sampled_from(VERSIONS))
    def serve_one_after_another_and_delete(self, order: list[str], doomed: str) -> None:
        for version in order[:2]:
            self.go_forward(version, 0, 1)
        self.delete(doomed, 0)

    @rule(version=st.sampled_from(VERSIONS), who=PEOPLE, step=st.sampled_from(("hold", "lift")))
    def hold(self, version: str, who: int, step: str) -> None:
        held = deletion.hold_on(self.site.ledger, version)
        try:
            self.site.client.decide_model(step, version, person=signatories()[who].id, reason="x")
        except ApplianceError:
            return
        assert (held is None) == (step == "hold")
        assert step == "hold" or (held is not None and held.body["person"] != signatories()[who].id)

    def _needed(self, version: str) -> bool:
        """Tell by other means than the promoter's whether anything needs a version."""
        production = self.site.folder.production()
        gone = deletion.deleted(self.site.ledger)
        way_back = [one for one in production.returnable if one not in gone]
        waiting = {one.statement.model_digest for one in self.site.client.pending()}
        held = deletion.hold_on(self.site.ledger, version) is not None
        return version in {*production.loadable, *way_back[:1], *waiting} or held

    @rule(lag=st.booleans())
    def answer(self, *, lag: bool) -> None:
        """Answer one request as the gateway would, from the state as it is."""
        if not lag:
            projection.catch_up(self.lagging, self.site.ledger)
        routes = StateRoutes(self.site.config.at, self.site.clock)
        routes._engine = self.lagging
        serving = routes.lines().first
        for route in () if serving is None else serving.routes:
            # A state that follows the ledger names nothing that may not serve now; a late one what did just before.
            assert lag or route.model_digest in self.site.folder.production().loadable
            self.site.ledger.append("request.intent", {"model_digest": route.model_digest})

    @rule(version=st.sampled_from(VERSIONS), first=PEOPLE, second=PEOPLE)
    def go_forward(self, version: str, first: int, second: int) -> None:
        self.request(version, 0)
        if self.requests:
            for who in (first, second):
                self._approve(self.requests[-1], who, over=len(self.requests) - 1)
            self.promote(len(self.requests) - 1, torn=False)

    @rule(version=st.sampled_from((*VERSIONS, "")), who=PEOPLE, torn=st.booleans())
    def roll_back(self, version: str, who: int, *, torn: bool) -> None:
        person = signatories()[who].id
        if self._tried(lambda: self.site.client.rollback(person=person, reason="x", model_digest=version), torn=torn):
            assert who not in self.gone
            now = self.site.client.current()["model_digest"]
            assert now in self.once_served
            assert deletion.deletion_of(self.site.ledger, now) is None

    @rule(who=PEOPLE, torn=st.booleans())
    def stop(self, who: int, *, torn: bool) -> None:
        person = signatories()[who].id
        if not self._tried(lambda: self.site.client.stop(person=person, reason="x"), torn=torn):
            return
        assert who not in self.gone
        assert self.site.client.current()["model_digest"] is None

    @rule(who=PEOPLE)
    def revoke(self, who: int) -> None:
        if len(self.gone) < 2 and who != 0:
            ana = signatories()[0].id
            if who not in self.gone:
                self.site.client.revoke(person=signatories()[who].id, by=ana, password=PASSWORD, reason="left")
            self.gone.add(who)

    @rule(hours=st.integers(min_value=1, max_value=48))
    def wait(self, hours: int) -> None:
        self.site.clock.advance(hours * 3600)

    @rule()
    def restart(self) -> None:
        self.site.restart()

    @invariant()
    def what_serves_was_approved_by_two_different_people(self) -> None:
        for version in self.site.folder.production().loadable:
            self.once_served.add(version)
            standing = require_loadable(self.site.config.at, version)
            assert len(self.said_yes[standing.statement_sha256]) >= 2
            assert len(set(standing.people)) >= 2
            assert json.loads(self.statement_of(standing.statement_sha256))["model_digest"] == version

    @invariant()
    def nothing_else_may_serve(self) -> None:
        loadable = self.site.folder.production().loadable
        for version in VERSIONS:
            if version not in loadable:
                with pytest.raises(NotPromotedError):
                    require_loadable(self.site.config.at, version)

    @invariant()
    def what_answered_a_request_was_approved_when_it_did(self) -> None:
        approved: set[str] = set()
        for leaf in self.site.ledger.leaves(0, 100_000, kinds=set(_TELLING)):
            if leaf.kind == "request.intent":
                assert leaf.body["model_digest"] in approved
            elif len({one["person"] for one in leaf.body["approvals"]}) >= 2:
                approved.add(json.loads(str(leaf.body["statement"]))["model_digest"])

    @invariant()
    def what_is_needed_is_not_deleted(self) -> None:
        production = self.site.folder.production()
        gone = deletion.deleted(self.site.ledger)
        assert not set(production.loadable) & set(gone)

    @invariant()
    def the_state_has_the_aliases_of_the_chain(self) -> None:
        projection.catch_up(self.state, self.site.ledger)
        production = self.site.folder.production()
        gone = deletion.deleted(self.site.ledger)
        with self.state.connect() as session:
            found = aliases(session)
        assert found.get("production") == production.current
        assert found.get("previous") == next((one for one in production.returnable if one not in gone), None)
        assert found.get("candidate") == (production.canary.version if production.canary else None)

    def statement_of(self, statement_sha256: str) -> bytes:
        return next(one.statement.to_bytes() for one in self.requests if one.statement.sha256 == statement_sha256)


_TELLING = ("request.intent", "promotion.made", "promotion.canary-started")


def _power_cut(*_: object) -> None:
    raise KeyboardInterrupt


PromotionMachine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_promotions = PromotionMachine.TestCase
