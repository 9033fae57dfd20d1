"""Two versions side by side on the page: from their evidence, with what got worse in words, and nothing started."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.adminpage import logged_in, page_of
from tests.support.floor import Floor, open_floor


@pytest.fixture(scope="module")
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


@pytest.fixture(scope="module")
def versions(floor: Floor) -> tuple[str, ...]:
    """Three versions: two that are validated whole, and one that knows nothing, so that its gates end early."""
    brought = [floor.bring("first"), floor.bring("second", quantization="Q8_0 <b>"), floor.bring("third", wrong=True)]
    for one in brought:
        floor.validate(one)
    return tuple(one.model_digest for one in brought)


@pytest.fixture
def browser(floor: Floor) -> FlaskClient:
    return logged_in(page_of(floor.site, floor.state))


def asked(browser: FlaskClient, first: str, second: str) -> Any:
    return browser.get("/compare", query_string={"first": first, "second": second})


def worse(text: str) -> list[str]:
    return re.findall(r'<li class="bad">(.*?)</li>', text)


def test_quality_and_speed_at_one_and_at_sixteen_callers_are_shown_and_drawn(
    versions: tuple[str, ...], browser: FlaskClient
) -> None:
    first, second, _ = versions
    found = asked(browser, first, second)

    assert found.status_code == 200
    for callers in (1, 16):
        for figure in ("tokens/s", "first token", "whole answer"):
            assert f"{callers} at once: {figure}</th>" in found.text
    assert found.text.count("<svg") == 1
    assert "Tokens per second by callers" in found.text
    assert "<b>" not in found.text
    assert f"/compare?second={second}" in browser.get(f"/versions/{second}").text
    assert 'href="/compare"' in browser.get("/versions").text


def test_what_got_worse_is_said_and_the_other_way_round_is_no_loss(
    versions: tuple[str, ...], browser: FlaskClient
) -> None:
    first, _, dumb = versions
    found = asked(browser, first, dumb).text

    assert "facts: 100.0 points less (-100.0 to -100.0), more than chance" in worse(found)
    assert "no speed that both were asked for in the same way" in found
    assert worse(asked(browser, dumb, first).text) == []
    assert worse(asked(browser, first, first).text) == []


def test_what_was_not_validated_is_said_and_what_is_not_known_is_not_found(
    floor: Floor, versions: tuple[str, ...], browser: FlaskClient
) -> None:
    unseen = floor.bring("fourth").model_digest
    size, units = floor.site.ledger.head().size, floor.supervisor.units()

    assert "was not evaluated on this box" in asked(browser, versions[0], unseen).text
    assert "<option" in browser.get("/compare").text
    assert asked(browser, versions[0], "0" * 64).status_code == 404
    assert asked(browser, "<script>", unseen).status_code == 400
    assert (floor.site.ledger.head().size, floor.supervisor.units()) == (size, units)
    assert page_of(floor.site, floor.state).test_client().get("/compare").status_code == 302
