"""A maintenance window on the page: every page says that production rests, until when, by whom and why."""

from appliance.registry import windows
from tests.support.adminpage import Page
from tests.support.promotion import digest
from tests.support.signatories import signatories


def test_every_page_says_that_production_rests_and_how_to_end_it(page: Page) -> None:
    assert "maintenance window" not in page.browser.get("/").text
    asked = windows.Asked(
        purpose=windows.Purpose.VALIDATE, model_digest=digest("new"), person=signatories()[0].id, reason="<b>4711</b>"
    )
    window = windows.open_now(page.site.ledger, page.site.clock, asked, previous=None)

    shown = page.browser.get("/").text
    assert f"maintenance window until {window.until}" in shown
    assert "&lt;b&gt;4711&lt;/b&gt;" in shown
    assert "sealift window end" in shown
    windows.close(page.site.ledger, window, why=windows.Closing.DONE)
    assert "maintenance window" not in page.browser.get("/").text
