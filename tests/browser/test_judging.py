"""A person judges answers in a real browser, with mouse and keyboard, and comes back to where they were."""

from pathlib import Path

import pytest

from appliance.promote.sheet import JUDGED
from tests.support.browser import chromium, faults_of, served
from tests.support.judging import open_judging
from tests.support.ports import held_port
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories

pytestmark = pytest.mark.browser
ANA = signatories()[0]


def test_answers_are_judged_left_continued_after_a_restart_and_handed_in(tmp_path: Path) -> None:
    port = held_port()
    base = f"http://127.0.0.1:{port}"
    with open_judging() as judging, chromium(tmp_path / "profile") as context:
        tab = context.new_page()
        faults = faults_of(tab)

        def log_in() -> None:
            tab.goto(f"{base}/login")
            tab.fill("#person", ANA.id)
            tab.fill("#password", PASSWORD)
            tab.get_by_role("button", name="Log in").click()
            tab.wait_for_url(f"{base}/")

        def judge(place: int) -> None:
            tab.get_by_role("heading", name=f"Answer {place} of 4", exact=True).wait_for()
            assert judging.other not in tab.content()
            lone = tab.get_by_label("Good", exact=True).count() > 0
            tab.get_by_label("Good" if lone else "No difference", exact=True).check()
            if lone:
                tab.get_by_label("polite", exact=True).check()
            tab.keyboard.press("Enter")

        with served(judging.page(), port):
            log_in()
            tab.goto(f"{base}/versions/{judging.digest}")
            tab.get_by_role("link", name="Judge sampled answers, blinded").click()
            tab.get_by_role("link", name="Begin with answer 1").click()
            judge(1)
            judge(2)
            tab.get_by_role("heading", name="Answer 3 of 4", exact=True).wait_for()
        with served(judging.page(), port):
            log_in()
            tab.goto(f"{base}/versions/{judging.digest}/answers")
            assert "2 of 4 judged" in tab.content()
            assert tab.get_by_role("button", name="Hand in my judgement").count() == 0
            tab.get_by_role("link", name="Go on with answer 3").click()
            judge(3)
            judge(4)
            tab.get_by_role("heading", name="Hand in").wait_for()
            tab.fill("#password", PASSWORD)
            tab.get_by_role("button", name="Hand in my judgement").click()
            tab.wait_for_url(f"{base}/versions/{judging.digest}")

        [leaf] = judging.floor.site.ledger.find(kind=JUDGED)
        assert (leaf.body["person"], leaf.body["same"], leaf.body["good"], leaf.body["points"]) == (ANA.id, 3, 1, 1)
        shown = judging.floor.site.ledger.find(kind="admin.answers-shown", limit=50)
        assert {one.body["entry"] for one in shown} == {1, 2, 3, 4}
        assert faults == []
