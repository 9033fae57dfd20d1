"""Several models in production on the page: it is asked which line is meant, said what goes away, and never guessed."""

import io
import re
from dataclasses import replace
from typing import Any

import pytest

from appliance.modelaliases import ModelsSection
from appliance.promote.statement import FORMAT, LINE_FORMAT
from appliance.registry.memory import Room
from appliance.state import projection
from tests.support.adminpage import Page, logged_in, page_of
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories
from tests.support.versions import store_version
from tests.unit.appliance.promote.test_watch import FAILED

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

ANA, BEN, *_ = signatories()
ALONE = {"reason": "wrong answers", "password": PASSWORD}


def bring(page: Page, name: str, serial: int, **said: Any) -> str:
    """Store a version and bring it into production; return its digest."""
    version = prepare(page, name, serial)
    page.site.promote(version, name=name, **said)
    projection.catch_up(page.state, page.site.ledger)
    return version


def prepare(page: Page, name: str, serial: int) -> str:
    """Store a version whose gates passed; return its digest."""
    version = store_version(page.site.config, serial=serial, weights=f"{serial}".encode(), name=name)[1].model_digest
    page.site.validate(version, name=name)
    projection.catch_up(page.state, page.site.ledger)
    return version


def standing(page: Page) -> dict[str, str | None]:
    return {one["name"]: one["model_digest"] for one in page.site.client.current()["lines"]}


def offered(text: str, field: str = "place") -> list[str]:
    return re.findall(rf'<input type="radio" name="{field}" value="([^"]+)"', text)


def test_a_version_of_another_name_comes_beside_by_the_page_and_people_sign_that(page: Page) -> None:
    chat = bring(page, "chat", 1)
    classes = prepare(page, "classes", 2)

    shown = page.browser.get(f"/versions/{classes}").text
    assert offered(shown) == ["beside", "in-place-of chat"]
    assert "checked" not in shown
    assert "classes 1 comes beside what is in production: chat 1 stays, nothing goes away" in shown
    assert "classes 1 takes the place of chat 1: chat goes away, and callers that ask for it by that name" in shown
    assert page.post(f"/versions/{classes}/request", meaning="to sort", place="beside").status_code == 302
    request = page.site.client.pending()[0]
    assert (request.statement.format, request.statement.replaces) == (LINE_FORMAT, None)
    for path in ("/promotion", f"/promotion/{request.statement.sha256}/approval"):
        assert "chat 1 stays, nothing goes away" in page.browser.get(path).text
    for person in (ANA, BEN):
        signature = io.BytesIO(person.sign(request.statement.to_bytes()))
        page.post(f"/promotion/{request.statement.sha256}/approve", signature=(signature, "s.sig"))
    assert "Leave the version before loaded" not in page.browser.get("/promotion").text
    page.job_after(page.post(f"/promotion/{request.statement.sha256}/promote"))

    assert standing(page) == {"chat": chat, "classes": classes}
    assert page.runner.asked == [("start", "sealift-switch@follow.service")]


def test_who_approves_on_the_page_reads_that_a_name_of_the_sites_own_is_this_models(page: Page) -> None:
    bring(page, "chat", 1)
    classes = prepare(page, "classes", 2)
    application = page.browser.application
    here = application.extensions["sealift"]
    models = ModelsSection(aliases={"classes": "production"})
    named = replace(here, config=here.config.model_copy(update={"models": models}))
    page.post(f"/versions/{classes}/request", meaning="to sort", place="beside")
    path = f"/promotion/{page.site.client.pending()[0].statement.sha256}/approval"

    before = page.browser.get(path).text
    application.extensions["sealift"] = named
    assert models.taken_by("classes") in page.browser.get(path).text
    assert "models.aliases" not in before


def test_in_place_of_one_of_several_the_statement_names_that_line(page: Page) -> None:
    chat = bring(page, "chat", 1)
    classes = bring(page, "classes", 2, beside=True)
    tags = prepare(page, "tags", 3)

    shown = page.browser.get(f"/versions/{tags}").text
    assert offered(shown) == ["beside", "in-place-of chat", "in-place-of classes"]
    assert "tags 1 takes the place of classes 1: classes goes away" in shown
    page.post(f"/versions/{tags}/request", meaning="finer", place="in-place-of classes")

    request = page.site.client.pending()[0]
    assert (request.statement.format, request.statement.replaces) == (LINE_FORMAT, classes)
    assert "chat 1 stays" in page.browser.get("/promotion").text
    page.post(f"/versions/{tags}/request", meaning="instead", place="in-place-of chat")
    assert {one.statement.format for one in page.site.client.pending()} == {LINE_FORMAT, FORMAT}
    assert standing(page) == {"chat": chat, "classes": classes}


def test_the_overview_names_what_each_line_serves_also_while_the_first_is_stopped(page: Page) -> None:
    chat = bring(page, "chat", 1)
    classes = bring(page, "classes", 2, beside=True)

    shown = page.browser.get("/").text
    assert [f"/versions/{one}" in shown for one in (chat, classes)] == [True, True]
    page.post("/promotion/stop", line="line-of chat", **ALONE)
    projection.catch_up(page.state, page.site.ledger)

    shown = page.browser.get("/").text
    assert [f"/versions/{one}" in shown for one in (chat, classes)] == [False, True]
    assert "No version is promoted" not in shown
    rows = re.findall(r"<tr>.*?</tr>", page.browser.get("/versions").text, re.DOTALL)
    marked = {one for one in (chat, classes) for row in rows if one in row and "<td>production</td>" in row}
    assert marked == {classes}


def test_without_a_choice_or_room_for_it_nothing_is_requested(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(page, "chat", 1)
    classes = prepare(page, "classes", 2)
    refused = {
        "": "it is not said what becomes of what is in production when classes comes",
        "in-place-of ": "Choose where the version comes",
        "in-place-of mail": "no line of production serves mail",
        "chat": "Choose where the version comes",
    }

    for place, words in refused.items():
        answer = page.post(f"/versions/{classes}/request", meaning="to sort", place=place)
        assert (answer.status_code, words in answer.text) == (400, True), answer.text
    monkeypatch.setattr("appliance.actions.fit.memory.room", lambda: Room(total=2, available=1))
    answer = page.post(f"/versions/{classes}/request", meaning="to sort", place="beside")
    assert (answer.status_code, "does not fit this machine" in answer.text) == (400, True)
    assert page.site.client.pending() == ()


def test_with_one_line_and_its_name_no_form_asks(page: Page) -> None:
    bring(page, "chat", 1)
    bring(page, "chat", 2)
    third = prepare(page, "chat", 3)
    page.post(f"/versions/{third}/request", meaning="better")

    for path in (f"/versions/{third}", "/promotion", "/rollout"):
        shown = page.browser.get(path).text
        assert 'type="radio"' not in shown, path
        assert 'name="line"' not in shown, path
    assert page.site.client.pending()[0].statement.format == FORMAT
    assert "What becomes of production" not in page.browser.get("/promotion").text


def test_the_first_version_of_a_site_has_nothing_to_choose(page: Page) -> None:
    chat = prepare(page, "chat", 1)

    assert offered(page.browser.get(f"/versions/{chat}").text) == []
    assert page.post(f"/versions/{chat}/request", meaning="the first").status_code == 302


def test_where_no_line_may_be_opened_the_page_says_why_and_offers_the_others(page: Page) -> None:
    bring(page, "chat", 1)
    classes = prepare(page, "classes", 2)
    database = page.site.config.database.model_copy(update={"node": "two"})
    page.site.config = page.site.config.model_copy(update={"database": database})
    page.site.restart()
    browser = logged_in(page_of(page.site, page.state))

    shown = browser.get(f"/versions/{classes}").text

    assert offered(shown) == ["in-place-of chat"]
    assert "It cannot come beside what is in production: several nodes answer for this site" in shown


def test_one_line_stops_by_the_page_or_every_one_and_none_is_guessed(page: Page) -> None:
    chat, classes = bring(page, "chat", 1), bring(page, "classes", 2, beside=True)
    assert offered(page.browser.get("/promotion").text, "line") == ["line-of chat", "line-of classes", "every"]
    for wrong in ({}, {"line": "classes"}, {"line": "line-of mail"}):
        assert page.post("/promotion/stop", **ALONE, **wrong).status_code == 400
    assert page.post("/promotion/stop", line="line-of classes", reason="x", password="guessed").status_code == 400
    assert standing(page) == {"chat": chat, "classes": classes}
    page.job_after(page.post("/promotion/stop", line="line-of chat", **ALONE))

    assert standing(page) == {"chat": None, "classes": classes}
    assert halted(page) == chat
    assert offered(page.browser.get("/promotion").text, "line") == ["line-of classes", "every"]
    page.job_after(page.post("/promotion/stop", line="every", **ALONE))
    assert standing(page) == {"chat": None, "classes": None}
    assert halted(page) == classes


def halted(page: Page) -> str:
    """Return the version that the newest job is to take out of service."""
    asked = page.site.ledger.find(kind="job.asked")[0].body
    assert asked["kind"] == "halt-production"
    return str(asked["digest"])


def test_the_line_that_is_chosen_goes_back_and_the_canary_of_another_stays(page: Page) -> None:
    chat, classes = bring(page, "chat", 1), bring(page, "classes", 2, beside=True)
    bring(page, "chat", 3)
    canary = prepare(page, "classes", 4)
    request = page.site.approve(page.site.request(canary, name="classes"), ANA, BEN)
    page.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)

    both = ["line-of chat", "line-of classes"]
    assert offered(page.browser.get("/promotion").text, "line") == [*both, *both, "every"]
    assert page.post("/promotion/rollback", **ALONE).status_code == 400
    page.job_after(page.post("/promotion/rollback", line="line-of chat", **ALONE))
    assert standing(page) == {"chat": chat, "classes": classes}
    running = page.site.client.canary()["canary"]
    assert running is not None
    assert running["version"] == canary
    page.job_after(page.post("/promotion/rollback", line="line-of classes", **ALONE))
    assert page.site.client.canary()["canary"] is None
    assert standing(page) == {"chat": chat, "classes": classes}


def test_a_canary_of_a_further_line_is_held_and_cut_over_against_its_own_line(page: Page) -> None:
    _, classes = bring(page, "chat", 1), bring(page, "classes", 2, beside=True)
    canary = prepare(page, "classes", 3)
    request = page.site.approve(page.site.request(canary, name="classes"), ANA, BEN)
    page.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)

    assert "<dt>Line</dt><dd>classes</dd>" in page.browser.get("/rollout").text
    page.job_after(page.post("/rollout/hold", **ALONE))
    page.job_after(page.post("/rollout/resume", **ALONE))
    shown = page.browser.get("/rollout/cutover").text
    assert "Cut over to classes 1?" in shown
    assert "chat 1 serves now" not in shown
    assert "sealift rollback --line classes" in shown
    page.site.approve(page.site.request(canary, name="classes"), ANA, BEN)
    page.job_after(page.post("/rollout/cutover", version=canary, **ALONE))

    assert standing(page)["classes"] == canary
    shown = page.browser.get("/rollout").text
    assert "The watch of classes:" in shown
    assert f"Of classes, line 2: {classes[:12]} stays loaded" in shown


def test_what_the_watch_of_a_further_line_found_is_decided_in_that_line(page: Page) -> None:
    _, classes = bring(page, "chat", 1), bring(page, "classes", 2, beside=True)
    count(page, 200, 100, {"model_digest": classes})
    count(page, 60, 2, {"model_digest": bring(page, "classes", 3)})
    page.site.client.judge_canary()

    shown = page.browser.get("/rollout").text
    assert "The watch of classes:" in shown
    assert shown.count('<input type="hidden" name="line" value="line-of classes">') == 2
    assert page.post("/rollout/keep", **ALONE).status_code == 400
    assert page.post("/rollout/keep", line="line-of classes", **ALONE).status_code == 302

    assert "in spite of the verdict" in page.browser.get("/rollout").text


def count(page: Page, number: int, every: int, asked: dict[str, str]) -> None:
    """Record requests of a version, each `every`-th a failure."""
    ledger = page.site.ledger
    for place in range(number):
        request_id = f"req_{asked['model_digest'][:6]}{place}"
        body = {"request_id": request_id, "arm": "production", "assigned": "only", "stream": True, "bucket": 1}
        ledger.append("request.intent", body | asked)
        fine = {"request_id": request_id, "outcome": "ok", "status": 200, "ttft_ms": 100, "latency_ms": 900}
        ledger.append("request.outcome", fine | (FAILED if place % every == 0 else {}))
