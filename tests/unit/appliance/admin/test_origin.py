"""The origin of an answer on the page."""

from tests.unit.appliance.admin.test_work import Page, page

__all__ = ["page"]


def test_an_answer_that_is_not_known_holds_in_nothing_and_is_not_code(page: Page) -> None:
    assert "Not everything holds" not in page.browser.get("/origin").text
    shown = page.browser.get("/origin?request=<script>x</script>").text

    assert "Not everything holds." in shown
    assert "<script>" not in shown


def test_a_record_of_a_request_leads_to_its_origin(page: Page) -> None:
    asked = page.site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})

    assert "/origin?request=req_one" in page.browser.get(f"/ledger/{asked.sequence}").text
    assert "req_one" in page.browser.get("/origin?request=req_one").text
