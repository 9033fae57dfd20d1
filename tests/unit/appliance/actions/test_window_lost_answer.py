"""A cut-over whose promoter promotes and is not heard: what it makes of it, what it says, what is recorded."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from appliance.actions import window
from appliance.actions.production import settle
from appliance.errors import ConflictError, EngineLoadError, WireError
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.windowjobs import TESTED
from appliance.promote.client import PromoterClient
from appliance.promote.desk import ACTIONS_DOOR
from appliance.registry import windows
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.windows import Asked, Closing, Purpose
from appliance.wire import Peer
from media.errors import SealiftError
from tests.support.floor import Floor, approved, serving_floor
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

__all__ = ["approved", "serving_floor"]  # fixtures
ANA, *_ = signatories()
AWAY = WireError(what="the promoter does not answer", why="timed out", fix="")
REFUSED = ConflictError(what="it is in production", why="it was asked twice", fix="")


class Unheard:
    """The promoter, whose answer to a promotion is lost, and that does not answer `unanswered` questions after it."""

    def __init__(self, floor: Floor, *, lost_as: BaseException = AWAY, unanswered: int = 0) -> None:
        self.floor, self.lost_as, self.unanswered = floor, lost_as, unanswered
        self.has_promoted = False

    def __call__(self, do: str, **fields: Any) -> Mapping[str, Any]:
        if self.has_promoted and self.unanswered:
            self.unanswered -= 1
            raise AWAY
        peer = Peer(door=ACTIONS_DOOR, pid=os.getpid(), uid=os.getuid(), gid=os.getgid())
        answer = self.floor.site.desk(peer, {"do": do, **fields})
        if do == "promote":
            self.has_promoted = True
            raise self.lost_as
        return answer


def by_job(floor: Floor) -> Any:
    """Return what stands for the job service: engines follow the chain, however its asker fared."""

    def carry_out(_kind: Kind, asked: Asked, *, seen: Callable[[str, int, int], None]) -> Outcome:
        opened = windows.open_now(
            floor.site.ledger, floor.here.clock, asked, previous=floor.here.promoter.current()["model_digest"]
        )
        try:
            seen(TESTED, 0, 0)
        finally:
            settle(floor.here)
            is_forward = floor.here.promoter.current()["model_digest"] == asked.model_digest
            windows.close(floor.site.ledger, opened, why=Closing.DONE, cut_over=is_forward)
        return Outcome(ok=True)

    return carry_out


def by_itself(_floor: Floor) -> None:
    """Return what stands for no job service: the command carries the window out."""


@pytest.fixture(params=[by_job, by_itself])
def carried_out(request: pytest.FixtureRequest, floor: Floor) -> Any:
    return request.param(floor)


def cut_over(floor: Floor, new: ModelDescriptor, promoter: Unheard, service: Any) -> window.WindowFacts:
    asked = Asked(purpose=Purpose.CUT_OVER, model_digest=new.model_digest, person=ANA.id, reason="change 4711")
    return window.cut_over(replace(floor.here, promoter=PromoterClient(promoter), in_window=service), asked)


@pytest.mark.parametrize("lost_as", [AWAY, REFUSED], ids=["away", "asked twice"])
def test_a_promotion_whose_answer_was_lost_is_gone_on_with(
    floor: Floor, new: ModelDescriptor, carried_out: Any, lost_as: SealiftError
) -> None:
    old = floor.in_production()

    facts = cut_over(floor, new, Unheard(floor, lost_as=lost_as), carried_out)

    assert (facts.promotion.model_digest, facts.promotion.previous) == (new.model_digest, old)
    assert floor.in_production() == new.model_digest
    (closed,) = floor.site.ledger.find(kind=windows.CLOSED)
    assert (closed.body["cut_over"], closed.body["why"]) == (True, "done")
    assert floor.site.client.reviews() == ()  # nobody went back


def test_what_serves_is_said_where_the_promoter_answers_only_after_the_window(
    floor: Floor, new: ModelDescriptor, carried_out: Any
) -> None:
    with pytest.raises(EngineLoadError) as ended:
        cut_over(floor, new, Unheard(floor, unanswered=1), carried_out)

    assert f"ended with version {new.model_digest[:12]} in production" in ended.value.what
    assert floor.in_production() == new.model_digest
    (closed,) = floor.site.ledger.find(kind=windows.CLOSED)
    assert closed.body["cut_over"] is True


def test_nothing_is_said_of_what_serves_where_the_promoter_answers_no_more(floor: Floor, new: ModelDescriptor) -> None:
    with pytest.raises(EngineLoadError) as ended:
        cut_over(floor, new, Unheard(floor, unanswered=99), by_job(floor))

    assert "a version that the promoter does not tell" in ended.value.what
    assert "version before" not in str(ended.value.to_json())


def test_without_job_service_the_window_stays_open_until_the_promoter_says_what_serves(
    floor: Floor, new: ModelDescriptor
) -> None:
    with pytest.raises(WireError):
        cut_over(floor, new, Unheard(floor, unanswered=99), None)

    assert windows.opened(floor.site.ledger) is not None
    window.end(floor.here, ANA.id)
    (closed,) = floor.site.ledger.find(kind=windows.CLOSED)
    assert closed.body["cut_over"] is True


def test_one_broken_off_while_its_answer_is_on_the_way_is_gone_back_from(
    floor: Floor, new: ModelDescriptor, carried_out: Any
) -> None:
    old = floor.in_production()

    with pytest.raises(KeyboardInterrupt):
        cut_over(floor, new, Unheard(floor, lost_as=KeyboardInterrupt()), carried_out)

    assert floor.in_production() == old == floor.here.promoter.current()["model_digest"]
    assert [one["what"] for one in floor.site.client.reviews()] == ["went back"]
