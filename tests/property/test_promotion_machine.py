"""Whatever people do, in whatever order and with whatever power cuts: two different people approved what serves."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.errors import ApplianceError, NotPromotedError
from appliance.promote.promoter import Request
from appliance.promote.standing import require_promoted
from media.errors import SealiftError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import NAMES, signatories

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

    def teardown(self) -> None:
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
        with pytest.MonkeyPatch.context() as patch:
            if torn:
                patch.setattr("appliance.promote.folder.PromoterFolder.save_promotion", _power_cut)
            try:
                self.site.client.promote(statement.sha256)
            except ApplianceError:
                return
            except KeyboardInterrupt:
                self.site.restart()
        assert len(self.said_yes[statement.sha256] - self.gone) >= 2

    @rule(version=st.sampled_from(VERSIONS), first=PEOPLE, second=PEOPLE)
    def go_forward(self, version: str, first: int, second: int) -> None:
        self.request(version, 0)
        if self.requests:
            for who in (first, second):
                self._approve(self.requests[-1], who, over=len(self.requests) - 1)
            self.promote(len(self.requests) - 1, torn=False)

    @rule(version=st.sampled_from((*VERSIONS, "")), who=PEOPLE)
    def roll_back(self, version: str, who: int) -> None:
        try:
            promotion = self.site.client.rollback(person=signatories()[who].id, reason="x", model_digest=version)
        except ApplianceError:
            return
        assert who not in self.gone
        assert promotion.model_digest in self.once_served

    @rule(who=PEOPLE)
    def stop(self, who: int) -> None:
        try:
            self.site.client.stop(person=signatories()[who].id, reason="x")
        except ApplianceError:
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
        current = self.site.client.current()["model_digest"]
        if current is None:
            return
        self.once_served.add(current)
        standing = require_promoted(self.site.config.at, current)
        assert len(self.said_yes[standing.statement_sha256]) >= 2
        assert len(set(standing.people)) >= 2
        assert json.loads(self.statement_of(standing.statement_sha256))["model_digest"] == current

    @invariant()
    def nothing_else_may_serve(self) -> None:
        current = self.site.client.current()["model_digest"]
        for version in VERSIONS:
            if version != current:
                with pytest.raises(NotPromotedError):
                    require_promoted(self.site.config.at, version)

    def statement_of(self, statement_sha256: str) -> bytes:
        return next(one.statement.to_bytes() for one in self.requests if one.statement.sha256 == statement_sha256)


def _power_cut(*_: object) -> None:
    raise KeyboardInterrupt


PromotionMachine.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_promotions = PromotionMachine.TestCase
