"""With what gates compare a version while several models are in production."""

from collections.abc import Iterator

import pytest

from appliance.actions import known
from appliance.registry import catalog
from appliance.registry.descriptor import ModelDescriptor
from appliance.state.projection import catch_up
from tests.support import lines
from tests.support.floor import Floor, open_floor
from tests.unit.appliance.actions.test_lines_proven import request


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def compared(floor: Floor, version: ModelDescriptor) -> str | None:
    """Return the version in production with which another is compared."""
    with floor.state.connect() as session:
        asked = catalog.version(session, version.model_digest)
    found = known.others(floor.site.config, floor.state, asked).production
    return None if found is None else found.model_digest


def test_a_version_is_compared_with_what_serves_under_its_name_and_a_further_model_with_none(floor: Floor) -> None:
    chat, classes = floor.bring("chat", name="chat"), floor.bring("classes", name="classes")
    floor.serve(chat)
    assert compared(floor, classes) == chat.model_digest  # with one model it takes that one's place
    lines.open_line(floor.site, request(floor, classes, beside=True))
    catch_up(floor.state, floor.site.ledger)

    assert compared(floor, floor.bring("chat-2", name="chat")) == chat.model_digest
    assert compared(floor, floor.bring("classes-2", name="classes")) == classes.model_digest
    assert compared(floor, floor.bring("third", name="third")) is None
