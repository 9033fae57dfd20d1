"""The origin of an answer on the page."""

import pytest

from appliance.actions.tracing import proofs
from appliance.actions.tracing.reading import ONE_READ_SECONDS, READ
from appliance.errors import LedgerUnavailableError
from media.clock import to_text
from tests.support.adminpage import Page
from tests.support.signatories import signatories


def test_an_answer_that_is_not_known_holds_in_nothing_and_is_not_code(page: Page) -> None:
    assert "Not everything holds" not in page.browser.get("/origin").text
    shown = page.browser.get("/origin?request=<script>x</script>").text

    assert "Not everything holds." in shown
    assert "<script>" not in shown


def test_where_another_boxs_records_are_mirrored_an_answer_that_is_not_known_leads_there(page: Page) -> None:
    assert "Another box may have answered it" not in page.browser.get("/origin?request=req_one").text
    page.site.ledger.append("standby.imported", {"peer": "room-1", "sender": "sealift/demo/0", "size": 1, "root": ""})
    assert "sealift prove req_one" in page.browser.get("/origin?request=chatcmpl-one").text
    page.site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})

    assert "Another box may have answered it" not in page.browser.get("/origin?request=req_one").text


def test_a_record_of_a_request_leads_to_its_origin(page: Page) -> None:
    asked = page.site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})

    assert "/origin?request=req_one" in page.browser.get(f"/ledger/{asked.sequence}").text
    assert "req_one" in page.browser.get("/origin?request=req_one").text


def test_every_link_is_verified_afresh_by_a_job_that_names_the_record(page: Page) -> None:
    asked = page.site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})
    shown = page.browser.get("/origin?request=req_one").text
    assert "Nobody had it verified yet." in shown
    ended = page.job_after(page.post("/origin", request="chatcmpl-one"))

    assert page.runner.asked == [("start", f"sealift-prove@{asked.sequence}.service")]
    assert "said nothing" in ended
    assert "See what was found" not in ended
    body = page.site.ledger.find(kind="job.asked")[0].body
    assert (body["kind"], body["record"], body["person"]) == ("prove-answer", asked.sequence, signatories()[0].id)


def test_what_a_job_found_of_each_link_is_shown_with_its_time_and_as_recorded_only(page: Page) -> None:
    site = page.site
    asked = site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})
    report = proofs.keep(site.config, site.ledger, asked.sequence, clock=site.clock)
    assert not report.ok
    shown = page.browser.get("/origin?request=req_one").text
    assert "broken at request" in shown
    assert to_text(site.clock.now()) in shown
    assert page.browser.get(f"/origin/{asked.sequence}").headers["Location"] == "/origin?request=req_one"
    assert page.browser.get(f"/origin/{asked.sequence}/proof.json").status_code == 404
    kept = site.config.at.proofs / f"{asked.sequence}.json"
    kept.write_bytes(kept.read_bytes().replace(b'"ok":false', b'"ok":true'))

    shown = page.browser.get("/origin?request=req_one").text
    assert "is not here as it was recorded" in shown
    assert "broken at request" in shown


def test_no_job_is_asked_for_and_no_file_reached_by_what_is_no_answer(page: Page) -> None:
    other = page.site.ledger.append("request.refused", {"request_id": "req_no", "status": 401})

    assert page.post("/origin", request="req_nothing").status_code == 404
    assert page.post("/origin", request="").status_code == 404
    assert page.browser.get(f"/origin/{other.sequence}").status_code == 404
    assert page.browser.get("/origin/..%2f..%2fetc/proof.json").status_code == 404
    assert page.runner.asked == []


def test_who_reads_a_record_or_an_origin_on_the_page_is_recorded_once_a_minute(page: Page) -> None:
    site, person = page.site, signatories()[0].id
    asked = site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})
    for path in (f"/ledger/{asked.sequence}", f"/ledger/{asked.sequence}", "/ledger/0", "/origin?request=chatcmpl-one"):
        assert page.browser.get(path).status_code == 200
    site.clock.advance(ONE_READ_SECONDS)
    page.browser.get(f"/ledger/{asked.sequence}")
    page.browser.get("/origin?request=made-up")
    page.browser.get("/ledger")

    told = [leaf.body for leaf in site.ledger.find(kind=READ, newest_first=False)]
    assert [(one["how"], one["first"], one["last"], one["request_id"]) for one in told] == [
        ("show", asked.sequence, asked.sequence, None),
        ("show", 0, 0, None),
        ("prove", asked.sequence, asked.sequence, "req_one"),
        ("show", asked.sequence, asked.sequence, None),
    ]
    assert {(one["person"], one["records"]) for one in told} == {(person, 1)}


def test_no_record_is_shown_on_the_page_while_that_cannot_be_recorded(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = page.site.ledger.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})

    def fails(*_: object, **__: object) -> None:
        raise LedgerUnavailableError(what="the ledger is away", why="a test", fix="none")

    with monkeypatch.context() as patched:
        patched.setattr(page.site.ledger, "append", fails)
        for path in (f"/ledger/{asked.sequence}", "/origin?request=req_one"):
            answer = page.browser.get(path)
            assert (answer.status_code, "req_one" in answer.text) == (503, False)

    assert page.browser.get(f"/ledger/{asked.sequence}").status_code == 200
    assert len(page.site.ledger.find(kind=READ)) == 1
