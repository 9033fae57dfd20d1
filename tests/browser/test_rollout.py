"""A canary from its start to its cut-over by the page, in a real browser: held, resumed, cut over, watched, kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.state.database import open_state
from tests.support.adminpage import page_of
from tests.support.browser import chromium, faults_of, served
from tests.support.ports import held_port
from tests.support.promotion import PASSWORD, open_site
from tests.support.servedpage import ServedPage
from tests.support.signatories import signatories
from tests.support.versions import store_version
from tests.unit.appliance.promote.test_watch import FAILED, answers

pytestmark = pytest.mark.browser
ANA, BEN, *_ = signatories()


@dataclass(slots=True, kw_only=True)
class Opened(ServedPage):
    """A site with one version in production and a canary of another, and a tab in which Ana is logged in."""

    old: str
    new: str

    def decide(self, button: str, reason: str) -> None:
        """Fill in the form of a button and press it."""
        form = self.tab.locator("form").filter(has=self.tab.get_by_role("button", name=button))
        form.get_by_label("Reason").fill(reason)
        form.get_by_label("Your password").fill(PASSWORD)
        form.get_by_role("button", name=button).click()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    port = held_port()
    site = open_site(tmp_path / "s")
    for place in (site.config.at.promoter, site.config.at.registry):
        place.mkdir(parents=True, exist_ok=True)
    old, new = (
        store_version(site.config, serial=serial, weights=word)[1].model_digest
        for serial, word in ((1, b"old"), (2, b"new"))
    )
    site.promote(old)
    answers(site, 200, every=100, **FAILED)
    request = site.approve(site.request(new), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
    state = open_state(site.config.at)
    app = page_of(site, state)
    with served(app, port), chromium(tmp_path / "profile") as context:
        tab, base = context.new_page(), f"http://127.0.0.1:{port}"
        faults = faults_of(tab)
        page = Opened(site=site, tab=tab, base=base, state=state, old=old, new=new)
        page.log_in(ANA.id)
        yield page
        assert faults == []
    state.dispose()


def test_one_person_takes_a_canary_to_its_cut_over_and_decides_what_the_watch_found(opened: Opened) -> None:
    site, tab = opened.site, opened.tab
    opened.go("/rollout")
    opened.decide("Add no caller for now", "a look at the answers")
    tab.wait_for_url("**/jobs/*")
    assert site.client.canary()["canary"]["held"] is True
    opened.go("/rollout")
    assert tab.get_by_role("link", name="cut over").count() == 0
    opened.decide("Let it go on", "they are fine")
    tab.wait_for_url("**/jobs/*")

    opened.go("/rollout")
    tab.get_by_role("link", name="Read what a cut-over changes").click()
    for number, heading in enumerate(("What changes", "For whom", "What got worse", "How to undo it", "Decide")):
        tab.get_by_role("heading", name=f"{number + 1}. {heading}").wait_for()
    assert "One person cannot cut over yet: 48.0 hours are left" in tab.content()
    opened.decide("Cut over", "too early")
    tab.get_by_text("one person cannot cut over yet").wait_for()
    assert site.client.current()["model_digest"] == opened.old

    site.approve(site.request(opened.new), ANA, BEN)
    opened.go("/rollout/cutover")
    opened.decide("Cut over", "two of us looked at it")
    tab.wait_for_url("**/jobs/*")
    assert site.client.current()["model_digest"] == opened.new

    answers(site, 60, every=2, **FAILED)
    site.client.judge_canary()
    opened.go("/")
    tab.get_by_role("alert").get_by_role("link", name="go back, or keep it").click()
    tab.get_by_role("heading", name="The watch").wait_for()
    opened.decide("Keep it all the same", "the network was down")
    tab.get_by_text("in spite of the verdict").wait_for()
    assert site.client.canary()["watch"]["kept_by"] == ANA.id
    tab.get_by_role("heading", name="kept a version that the watch found worse").wait_for()
    opened.go("/")
    assert tab.get_by_role("alert").count() == 0


def test_a_canary_is_ended_by_the_page(opened: Opened) -> None:
    opened.go("/rollout")
    opened.decide("End it: every caller is production's again", "nonsense")
    opened.tab.wait_for_url("**/jobs/*")

    assert opened.site.client.canary()["canary"] is None
    opened.go("/rollout")
    opened.tab.get_by_text("No canary runs").wait_for()
    opened.tab.get_by_role("heading", name="ended a canary").wait_for()
    opened.go("/rollout/cutover")
    assert opened.tab.get_by_role("button", name="Cut over").count() == 0
