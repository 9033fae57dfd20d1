"""A node of several that has not the list of names on record says so on every page, for people who logged in."""

from collections.abc import Callable

import pytest

from appliance.actions import census, censusnodes
from appliance.actions.censusnodes import Word
from appliance.audit.facts import Ledger
from appliance.config import Config
from tests.support.adminpage import Page


def test_every_page_says_that_the_list_of_names_is_another_here(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = page.site.ledger
    record = ledger.append(census.IMPORTED, {"names": 1, "digest": "v1:00", "person": "ada"})
    assert "list of names" not in page.browser.get("/").text  # one box alone has its doctor for that

    told: Callable[[Config, Ledger], str] = lambda _, ledger: censusnodes.standing(ledger, "b")[1]  # noqa: E731
    monkeypatch.setattr(censusnodes, "fault", told)
    censusnodes.say(ledger, "b", Word.ABSENT, record.sequence)
    shown = page.browser.get("/").text
    assert "Node b lacks the list of names that is on record" in shown
    assert "sealift census import" in shown
