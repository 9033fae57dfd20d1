"""A cut-over that the job service carries out, as the command sees it: what it asks for, what it makes of the end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from appliance.actions import window
from appliance.actions.production import settle
from appliance.errors import ApprovalRefusedError, ConflictError, EngineLoadError
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.windowjobs import TESTED
from appliance.promote.doubted import DOUBTED
from appliance.registry import windows
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.windows import Asked, Closing, Purpose
from appliance.wire import RemoteError
from media.errors import SealiftError
from tests.support.floor import Floor, approved, serving_floor
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow

__all__ = ["approved", "serving_floor"]  # fixtures
ANA, *_ = signatories()


class Service:
    """Stands for the job service: engines follow the chain once the version was brought forward."""

    def __init__(self, floor: Floor, *, records: bool) -> None:
        self.floor, self.records, self.kinds = floor, records, list[Kind]()

    def __call__(self, kind: Kind, asked: Asked, *, seen: Any) -> Outcome:
        self.kinds.append(kind)
        ledger, here = self.floor.site.ledger, self.floor.here
        opened = windows.open_now(ledger, here.clock, asked, previous=self.floor.in_production())
        for step in ("rest", "rest", TESTED, TESTED):
            seen(step, 0, 0)
        settle(here)
        if self.records:
            windows.close(ledger, opened, why=Closing.DONE, cut_over=True, silent_seconds=12.5)
        return Outcome(ok=True, millis=7000)

    def end(self, asked: Asked) -> None:
        raise AssertionError(asked)


def cut_over(
    floor: Floor, new: ModelDescriptor, service: Any, *, tell: Callable[[str], None] = lambda _: None
) -> window.WindowFacts:
    asked = Asked(purpose=Purpose.CUT_OVER, model_digest=new.model_digest, person=ANA.id, reason="change 4711")
    return window.cut_over(replace(floor.here, in_window=service, tell=tell), asked)


@pytest.mark.parametrize("silent", [12.5, 0.0], ids=["recorded", "not yet"])
def test_a_version_that_serves_does_not_go_back_because_the_windows_end_is_not_on_record_yet(
    floor: Floor, new: ModelDescriptor, silent: float
) -> None:
    service, told = Service(floor, records=silent > 0), list[str]()

    facts = cut_over(floor, new, service, tell=told.append)

    assert told.count("rest") == 1
    assert service.kinds == [Kind.CUT_OVER_IN_WINDOW]
    assert (facts.silent_seconds, facts.tested_seconds) == (silent, 7.0)
    assert floor.in_production() == new.model_digest == floor.here.promoter.current()["model_digest"]
    assert floor.site.client.reviews() == ()  # nobody went back


def test_a_window_that_the_job_service_refuses_stops_nothing_and_says_so(floor: Floor, new: ModelDescriptor) -> None:
    old, since = floor.in_production(), len(floor.supervisor.asked)

    class Refuses(Service):
        def __call__(self, kind: Kind, asked: Asked, *, seen: Any) -> Outcome:
            raise RemoteError(
                what=f"{kind} has to wait", why="job 7 runs", fix="ask again", code="conflict", exit_code=3
            )

    with pytest.raises(RemoteError, match="has to wait"):
        cut_over(floor, new, Refuses(floor, records=False))

    assert (floor.in_production(), floor.supervisor.asked[since:]) == (old, [])


def test_nothing_stops_for_a_version_in_doubt(floor: Floor, new: ModelDescriptor) -> None:
    old, since, service = floor.in_production(), len(floor.supervisor.asked), Service(floor, records=True)
    floor.site.ledger.append(DOUBTED, {"model_digests": [new.model_digest]})

    with pytest.raises(ApprovalRefusedError, match="came with a release in doubt"):
        cut_over(floor, new, service)

    assert (floor.in_production(), floor.supervisor.asked[since:], service.kinds) == (old, [], [])


def test_a_version_that_does_not_serve_goes_back_in_the_name_of_whoever_opened_the_window(
    floor: Floor, new: ModelDescriptor
) -> None:
    old = floor.in_production()

    class Fails(Service):
        def __call__(self, kind: Kind, asked: Asked, *, seen: Any) -> Outcome:
            seen(TESTED, 0, 0)
            return Outcome.of_error(
                SealiftError(what="its engine did not start", why="no memory", fix="see the journal")
            )

    with pytest.raises(EngineLoadError, match="ended with the version before"):
        cut_over(floor, new, Fails(floor, records=False))

    assert floor.in_production() == old == floor.here.promoter.current()["model_digest"]
    (review,) = floor.site.client.reviews()
    assert "change 4711" in str(review)


def test_the_window_of_another_node_is_not_ended_here_and_it_is_said_where(floor: Floor, new: ModelDescriptor) -> None:
    floor.site.ledger.log.node = "a"
    asked = Asked(purpose=Purpose.VALIDATE, model_digest=new.model_digest, person=ANA.id, reason="change 4711")
    windows.open_now(floor.site.ledger, floor.here.clock, asked, previous=floor.in_production())

    service: Any = Service(floor, records=True)
    with pytest.raises(ConflictError, match="node a's") as caught:
        window.end(replace(floor.here, in_window=service), ANA.id)
    assert "--node NAME" in caught.value.fix
    assert windows.opened(floor.site.ledger) is not None
