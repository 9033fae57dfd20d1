"""A standby that follows a box with two models in production runs both engines, and its callers find both names."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.actions.promote import promote
from appliance.actions.standby import taking
from appliance.promote.destination import Said
from appliance.state import lines
from appliance.state.database import open_state
from tests.support import boxes
from tests.support.floor import Floor
from tests.support.signatories import signatories
from tests.support.versions import EngineSupervisor, short_folder
from tests.unit.appliance.actions.test_lines import unit_of

ANA, BEN, *_ = signatories()


@contextmanager
def floor_of_a_box() -> Iterator[Floor]:
    """Yield a whole site that can be paired; nobody is enrolled yet."""
    with short_folder() as root:
        box = boxes.open_box(root)
        floor = Floor(site=box, state=open_state(box.config.at), supervisor=EngineSupervisor(box.config))
        try:
            yield floor
        finally:
            floor.supervisor.close()
            floor.state.dispose()


@pytest.fixture
def both() -> Iterator[tuple[Floor, Floor]]:
    """Yield a box with two people, and its standby."""
    with floor_of_a_box() as first, floor_of_a_box() as second:
        boxes.pair(first.site, second.site)
        first.site.enrol(ANA, BEN)
        yield first, second


def test_both_models_are_served_by_the_standby(both: tuple[Floor, Floor]) -> None:
    first, second = both
    chat, classes = first.bring("chat"), first.bring("classes", name="classes")
    assert [second.bring("chat"), second.bring("classes", name="classes")] == [chat, classes]
    first.serve(chat)
    first.validate(classes).require_passed()
    facts = promote(first.here, classes.model_digest, person=ANA.id, said=Said(beside=True))
    assert facts.request is not None
    first.site.approve(facts.request, ANA, BEN)
    promote(first.here, classes.model_digest, person="")

    taken = boxes.carry(first.site, second.site, name="two", peer="one")
    taking.settle(second.here, engines=bool(taken.promotions))

    assert (taken.promotions, taken.waits) == (2, "")
    assert second.running() >= {unit_of(chat), unit_of(classes)}
    with second.state.connect() as session:
        assert lines.served(session) == {1: chat.model_digest, 2: classes.model_digest}
