"""What people do on the page, with the real promoter and the real job desk behind their doors."""

import io
import re
import threading
from dataclasses import replace

import pytest

from appliance.install import plans
from appliance.promote.hostchange import HostRequest
from appliance.promote.withdrawing import WITHDRAWN
from appliance.state import projection
from appliance.wire import Line
from tests.support.adminpage import Page, token
from tests.support.hostplans import make_plan
from tests.support.promotion import PASSWORD, digest
from tests.support.signatories import signatories
from tests.support.versions import store_version


def test_validating_runs_as_a_job_whose_page_tells_how_it_ended(page: Page) -> None:
    _, descriptor = store_version(page.site.config)

    text = page.job_after(page.post(f"/versions/{descriptor.model_digest}/validate"))

    # The unit of this test said nothing, which is a failure and is shown as one.
    assert "failed" in text
    assert "said nothing" in text
    assert page.runner.asked == [("start", f"sealift-validate@{descriptor.model_digest}.service")]
    asked = page.site.ledger.find(kind="job.asked")[0].body
    assert (asked["person"], asked["door"]) == (signatories()[0].id, "jobs-admin")
    assert descriptor.model_digest in page.browser.get("/jobs").text or "validate" in page.browser.get("/jobs").text


def test_a_version_goes_to_production_and_out_of_service_by_the_page(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    served, (ana, ben, *_) = descriptor.model_digest, signatories()
    page.site.validate(served)

    assert page.post(f"/versions/{served}/request", meaning="better answers").status_code == 302
    request = page.site.client.pending()[0]
    for person in (ana, ben):
        signature = io.BytesIO(person.sign(request.statement.to_bytes()))
        page.post(f"/promotion/{request.statement.sha256}/approve", signature=(signature, "s.sig"))
    shown = page.browser.get("/promotion").text
    assert "Bring it to production" in shown
    for person in (ana, ben):  # who signed, and when
        at = f"{page.site.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        assert f"{person.name} (lower class: is an admin too), {at}" in shown
    page.job_after(page.post(f"/promotion/{request.statement.sha256}/promote"))
    assert page.site.client.current()["model_digest"] == served

    wrong = page.post("/promotion/stop", reason="maintenance", password="guessed")
    assert wrong.status_code == 400
    assert page.site.client.current()["model_digest"] == served
    page.job_after(page.post("/promotion/stop", reason="maintenance", password=PASSWORD))
    assert page.site.client.current()["model_digest"] is None

    kinds = [leaf.body["kind"] for leaf in page.site.ledger.find(kind="job.asked", newest_first=False)]
    assert kinds == ["switch-production", "halt-production"]


def test_a_request_that_nobody_is_to_approve_any_more_is_withdrawn_by_the_page(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.validate(descriptor.model_digest)
    page.post(f"/versions/{descriptor.model_digest}/request", meaning="better answers")
    asked = page.site.client.pending()[0].statement.sha256
    assert f"/promotion/{asked}/withdraw" in page.browser.get("/promotion").text

    for refused in ({"reason": "asked too soon", "password": "guessed"}, {"reason": "", "password": PASSWORD}):
        assert page.post(f"/promotion/{asked}/withdraw", **refused).status_code == 400
        assert page.site.client.pending()
    assert page.post(f"/promotion/{asked}/withdraw", reason="asked too soon", password=PASSWORD).status_code == 302

    assert page.site.client.pending() == ()
    assert "Nothing waits for approval" in page.browser.get("/promotion").text
    (withdrawn,) = [leaf.body for leaf in page.site.ledger.find(kind=WITHDRAWN)]
    assert (withdrawn["person"], withdrawn["statement_sha256"]) == (signatories()[0].id, asked)
    assert (withdrawn["reason"], withdrawn["class"]) == ("asked too soon", "password")
    assert page.post(f"/promotion/{asked}/withdraw", reason="once more", password=PASSWORD).status_code >= 400


def test_who_approves_is_led_to_both_versions_side_by_side(page: Page) -> None:
    (_, old), (_, new) = (store_version(page.site.config, serial=n, weights=w) for n, w in ((1, b"old"), (2, b"new")))
    page.site.promote(old.model_digest)
    page.site.validate(new.model_digest)
    projection.catch_up(page.state, page.site.ledger)
    page.post(f"/versions/{new.model_digest}/request", meaning="better answers")
    request = page.site.client.pending()[0]

    shown = page.browser.get(f"/promotion/{request.statement.sha256}/approval").text
    assert f"/compare?first={old.model_digest}&amp;second={new.model_digest}" in shown


def test_a_version_is_offered_for_comparing_before_anything_serves(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.validate(descriptor.model_digest)
    projection.catch_up(page.state, page.site.ledger)

    shown = page.browser.get(f"/compare?second={descriptor.model_digest}")

    assert shown.status_code == 200
    assert f'<option value="{descriptor.model_digest}" selected>' in shown.text


def test_one_person_goes_back_by_the_page(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.promote(descriptor.model_digest)
    page.site.promote(digest("a later version"))

    page.job_after(page.post("/promotion/rollback", reason="worse answers", password=PASSWORD))

    assert page.site.client.current()["model_digest"] == descriptor.model_digest
    assert page.runner.asked == [("start", "sealift-switch@follow.service")]


def test_production_is_stopped_by_the_page_while_it_goes_back(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.promote(descriptor.model_digest)
    page.site.promote(digest("a later version"))
    loaded = threading.Event()
    page.runner.tell = lambda: (loaded.wait(10), None)[1]
    back = page.post("/promotion/rollback", reason="worse answers", password=PASSWORD)

    stop = page.post("/promotion/stop", reason="both are wrong", password=PASSWORD)

    assert stop.status_code == 302, stop.text
    assert "waiting" in page.browser.get(stop.headers["Location"]).text
    loaded.set()
    for answer in (back, stop):
        page.job_after(answer)
    assert page.runner.asked == [("start", "sealift-switch@follow.service")] * 2


def test_a_decision_whose_job_is_refused_is_told_as_one_and_a_stop_is_carried_out_by_asking_again(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.promote(descriptor.model_digest)
    application = page.browser.application
    here = application.extensions["sealift"]
    form = {"reason": "wrong answers", "password": PASSWORD}
    application.extensions["sealift"] = replace(here, jobs=Line(page.site.root / "none.sock"))
    refused = page.post("/promotion/stop", **form)
    application.extensions["sealift"] = here

    assert (refused.status_code, "it is decided and recorded" in refused.text) == (503, True)
    page.job_after(page.post("/promotion/stop", **form))
    assert page.runner.asked == [("start", "sealift-switch@follow.service")]
    assert len(page.site.ledger.find(kind="promotion.stopped")) == 1


def test_who_guesses_at_the_login_keeps_nobody_who_is_in_from_stopping_production(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.promote(descriptor.model_digest)
    stranger = page.browser.application.test_client()
    for _ in range(12):
        form = {"csrf": token(stranger, "/login"), "person": signatories()[0].id, "password": "guessed"}
        stranger.post("/login", data=form)

    page.job_after(page.post("/promotion/stop", reason="wrong answers", password=PASSWORD))

    assert page.site.client.current()["model_digest"] is None


def seen(page: Page, path: str) -> str:
    """Return the number that the forms of a page were shown with."""
    projection.catch_up(page.state, page.site.ledger)
    (found,) = set(re.findall(r'name="seen" value="([0-9]+)"', page.browser.get(path).text))
    return str(found)


def test_going_back_twice_from_one_page_goes_back_once(page: Page) -> None:
    (_, first), (_, second) = (store_version(page.site.config, serial=n, weights=bytes([n])) for n in (1, 2))
    for version in (first.model_digest, second.model_digest, digest("a worse version")):
        page.site.promote(version)
    form = {"reason": "worse answers", "password": PASSWORD, "seen": seen(page, "/promotion")}

    page.job_after(page.post("/promotion/rollback", **form))
    again = page.post("/promotion/rollback", **form)  # a second click, or somebody else's page of before

    assert again.status_code == 400
    assert "production changed since this was decided" in again.text
    assert page.site.client.current()["model_digest"] == second.model_digest
    assert page.runner.asked == [("start", "sealift-switch@follow.service")]


def test_ending_a_canary_twice_from_one_page_leaves_production_alone(page: Page) -> None:
    (_, first), (_, second) = (store_version(page.site.config, serial=n, weights=bytes([n])) for n in (1, 2))
    for version in (first.model_digest, second.model_digest):
        page.site.promote(version)
    request = page.site.approve(page.site.request(digest("a canary")), *signatories()[:2])
    page.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
    form = {"reason": "worse answers", "password": PASSWORD, "seen": seen(page, "/promotion")}

    page.job_after(page.post("/promotion/rollback", **form))
    assert page.post("/promotion/rollback", **form).status_code == 400

    assert page.site.client.canary()["canary"] is None
    assert page.site.client.current()["model_digest"] == second.model_digest


def test_only_the_canary_that_was_shown_goes_on(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.promote(descriptor.model_digest)
    form = {"reason": "it is fine", "password": PASSWORD}
    for name in ("a canary", "another canary"):
        request = page.site.approve(page.site.request(digest(name)), *signatories()[:2])
        page.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
        page.post("/rollout/hold", **form)
        if name == "a canary":
            form["seen"] = seen(page, "/rollout")
            page.post("/rollout/abort", **form)

    assert page.post("/rollout/resume", **form).status_code == 400
    assert page.site.client.canary()["canary"]["held"] is True
    assert page.post("/rollout/resume", **{**form, "seen": seen(page, "/rollout")}).status_code == 302
    assert page.site.client.canary()["canary"]["held"] is False


def test_one_person_holds_a_canary_and_going_back_ends_it(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.promote(descriptor.model_digest)
    request = page.site.approve(page.site.request(digest("a canary")), *signatories()[:2])
    page.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
    assert "Add no caller for now" in page.browser.get("/rollout").text

    assert page.post("/rollout/hold", reason="to look at it", password="guessed").status_code == 400
    page.job_after(page.post("/rollout/hold", reason="to look at it", password=PASSWORD))
    assert page.site.client.canary()["canary"]["held"] is True
    assert "Let it go on" in page.browser.get("/rollout").text
    page.job_after(page.post("/promotion/rollback", reason="worse answers", password=PASSWORD))

    assert page.site.client.canary()["canary"] is None
    assert page.site.client.current()["model_digest"] == descriptor.model_digest
    assert "ended a canary" in page.browser.get("/rollout").text


def test_a_cut_over_is_of_the_canary_that_was_read_and_of_no_other(page: Page) -> None:
    (_, old), (_, new) = (store_version(page.site.config, serial=n, weights=w) for n, w in ((1, b"old"), (2, b"new")))
    page.site.promote(old.model_digest)
    decided = {"reason": "quiet", "password": PASSWORD}
    assert page.browser.get("/rollout/cutover").status_code == 404
    assert page.post("/rollout/cutover", version=new.model_digest, **decided).status_code == 409
    assert page.post("/rollout/cutover", **decided).status_code == 409
    request = page.site.approve(page.site.request(new.model_digest), *signatories()[:2])
    page.site.client.start_canary(request.statement.sha256, percent=20, hours=1, watch_hours=48)

    assert page.post("/rollout/cutover", version=old.model_digest, **decided).status_code == 409
    assert page.post("/rollout/cutover", version=new.model_digest, reason="x", password="guessed").status_code == 400
    early = page.post("/rollout/cutover", version=new.model_digest, **decided)
    assert (early.status_code, "one person cannot cut over yet" in early.text) == (400, True)
    assert page.post("/rollout/keep", **decided).status_code == 400

    page.site.approve(page.site.request(new.model_digest), *signatories()[:2])
    page.job_after(page.post("/rollout/cutover", version=new.model_digest, **decided))
    assert page.site.client.current()["model_digest"] == new.model_digest
    assert "The watch:" in page.browser.get("/rollout").text


def test_one_approval_gives_no_button_and_no_promotion(page: Page) -> None:
    _, descriptor = store_version(page.site.config)
    page.site.validate(descriptor.model_digest)
    page.post(f"/versions/{descriptor.model_digest}/request", meaning="better answers")
    request = page.site.client.pending()[0]
    signature = io.BytesIO(signatories()[0].sign(request.statement.to_bytes()))
    page.post(f"/promotion/{request.statement.sha256}/approve", signature=(signature, "s.sig"))

    assert "Bring it to production" not in page.browser.get("/promotion").text
    assert page.post(f"/promotion/{request.statement.sha256}/promote").status_code == 400
    assert page.runner.asked == []


def test_a_host_change_is_planned_read_requested_and_signed_by_the_page(page: Page) -> None:
    store_version(page.site.config)
    plan = make_plan()
    plans.keep(page.site.config.at, plan)

    page.job_after(page.post("/releases/1/plan"))
    shown = page.browser.get(f"/host/{plan.digest}").text
    assert "tcp dport 443 accept" in shown
    assert "postinst runs as root" in shown
    assert page.post(f"/host/{plan.digest}/request", meaning="the firewall").status_code == 302
    request = page.site.client.pending_hosts()[0]
    statement = page.browser.get(f"/host/{request.statement.sha256}/statement").data
    for person in signatories()[:2]:
        page.post(f"/host/{request.statement.sha256}/approve", signature=(io.BytesIO(person.sign(statement)), "s"))

    found: HostRequest = page.site.client.pending_hosts()[0]
    assert len(found.approvals) == 2
    assert "Install serial 1" in page.browser.get("/host").text
    page.job_after(page.post("/releases/1/install"))
    assert page.runner.asked[-1] == ("start", "sealift-install@1.service")


@pytest.mark.parametrize(
    "path",
    [
        "/versions/DIGEST/validate",
        "/versions/DIGEST/request",
        f"/promotion/{'a' * 64}/promote",
        "/promotion/rollback",
        "/promotion/stop",
        "/rollout/abort",
        "/rollout/review/1",
        "/releases/1/plan",
        "/releases/1/install",
        f"/host/{'a' * 64}/request",
        f"/host/{'a' * 64}/approve",
    ],
)
def test_no_step_is_taken_without_the_forms_own_token(page: Page, path: str) -> None:
    _, descriptor = store_version(page.site.config)

    answer = page.browser.post(path.replace("DIGEST", descriptor.model_digest), data={"reason": "x", "meaning": "x"})

    assert answer.status_code == 403
    assert page.runner.asked == []
