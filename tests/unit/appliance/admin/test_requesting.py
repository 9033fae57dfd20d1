"""Asking for approvals on the page: where who asks does not approve, the person's password says who it is."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.state import projection
from appliance.state.database import open_state
from tests.support.adminpage import Page, logged_in, page_of
from tests.support.promotion import PASSWORD, open_site
from tests.support.signatories import signatories
from tests.support.versions import store_version


def page_where(root: Path, request: str) -> tuple[Page, Engine, str]:
    site = open_site(root, enrolled=3, request=request)
    site.config.at.registry.mkdir(parents=True, exist_ok=True)
    state = open_state(site.config.at)
    page = Page(site=site, state=state, browser=logged_in(page_of(site, state)))
    _, descriptor = store_version(site.config)
    site.validate(descriptor.model_digest)
    projection.catch_up(state, site.ledger)
    return page, state, descriptor.model_digest


def test_the_form_asks_for_the_password_and_the_promoter_judges_it(tmp_path: Path) -> None:
    page, state, version = page_where(tmp_path, "person")
    try:
        assert "asker-password" in page.browser.get(f"/versions/{version}").text
        for wrong in ({}, {"password": "guessed"}):
            assert page.post(f"/versions/{version}/request", meaning="better answers", **wrong).status_code == 400
        assert page.site.client.pending() == ()

        assert page.post(f"/versions/{version}/request", meaning="better", password=PASSWORD).status_code == 302
        assert page.site.client.pending()[0].statement.requested_by == signatories()[0].id
    finally:
        state.dispose()


def test_guesses_on_that_form_are_counted(tmp_path: Path) -> None:
    page, state, version = page_where(tmp_path, "person")
    try:
        answers = [
            page.post(f"/versions/{version}/request", meaning="better", password="guessed").status_code
            for _ in range(40)
        ]
        assert answers[-1] == 429
    finally:
        state.dispose()


@pytest.mark.parametrize("sent", [{}, {"password": "not looked at"}])
def test_where_the_release_is_the_request_the_login_is_enough(tmp_path: Path, sent: dict[str, str]) -> None:
    page, state, version = page_where(tmp_path, "release")
    try:
        assert "asker-password" not in page.browser.get(f"/versions/{version}").text
        assert page.post(f"/versions/{version}/request", meaning="better", **sent).status_code == 302
    finally:
        state.dispose()
