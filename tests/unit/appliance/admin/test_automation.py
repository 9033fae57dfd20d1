"""The web service of automation keys, with the real promoter and job desk behind it: what decides is refused."""

import re
from itertools import combinations
from typing import Any

import pytest
from flask import Flask

from appliance.admin.automation import DEEDS as ADDRESSES
from appliance.errors import AutomationRefusedError
from appliance.install.jobs import BY_MACHINES, Job, Kind
from appliance.promote.automation import USED
from appliance.promote.automation_key import DEEDS
from media.errors import SealiftError
from tests.support.automation import ACTOR, ALL, Service, bearer
from tests.support.promotion import PASSWORD, digest
from tests.support.signatories import signatories
from tests.support.versions import store_version

pytestmark = pytest.mark.slow

ANA, BEN, *_ = signatories()


def filled(rule: str) -> str:
    plain = rule.replace("<digest>", digest("A")).replace("<path:rest>", "approve").replace("<path:filename>", "x")
    return re.sub(r"<(?:int:)?[a-z]+>", "1", plain)


def routes(app: Flask) -> list[tuple[str, str, str]]:
    return [
        (rule.endpoint, method, filled(rule.rule))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.endpoint not in {"static", "health"}
    ]


def test_every_page_and_form_for_people_refuses_a_key_of_all_scopes_and_records_it(service: Service) -> None:
    key = service.key(*ALL)
    size = service.site.ledger.head().size
    pages = [one for one in routes(service.app) if not one[0].startswith("automation.")]
    assert len(pages) > 50

    for endpoint, method, path in pages:
        service.site.clock.advance(5)
        answer: Any = service.client.open(path, method=method, headers=bearer(key), data={"csrf": "x"})
        assert answer.status_code == 403, path
        assert answer.json["error"]["code"] == "automation-refused", path
        assert "AUTO-3" in answer.json["error"]["why"], path
        assert service.refusals()[-1] == ("AUTO-3", f"page {endpoint}"), path
        assert "Set-Cookie" not in answer.headers
    # Nothing but the refusals was recorded.
    assert service.site.ledger.head().size - size == len(pages)


@pytest.mark.parametrize("scope", ALL)
def test_each_address_takes_its_own_scope_and_every_other_is_refused(service: Service, scope: str) -> None:
    key = service.key(scope)
    mine = [one for one in routes(service.app) if one[0].startswith("automation.")]
    assert {endpoint for endpoint, *_ in mine} == {*ADDRESSES, "automation.never"}

    for endpoint, method, path in mine:
        service.site.clock.advance(400)
        needed = DEEDS.get(ADDRESSES.get(endpoint, ""))
        body = {"validate": {}, "request": {"meaning": "x"}, "hold": {"reason": "x"}}.get(ADDRESSES.get(endpoint, ""))
        answer: Any = service.client.open(path, method=method, headers=bearer(key), json=body)
        if needed == scope:
            assert answer.status_code in {200, 202, 404, 409}, (path, answer.json)
            continue
        assert answer.status_code == 403, (path, answer.json)
        assert answer.json["error"]["why"].startswith("AUTO-2" if needed else "AUTO-3"), path


NEVER = [
    *("approve", "promotion/1/approve", "enrol", "people/reset", "invite", "policy", "promote", "rollout/cutover"),
    *("rollback", "stop", "emergency", "samples/draw", "answers", "keys", "automation", "status", "rollout"),
    *("requests/1/approve", "../promotion/rollback", "versions"),
]


@pytest.mark.parametrize("path", NEVER)
def test_an_address_that_would_decide_is_refused_by_name_whatever_the_method(service: Service, path: str) -> None:
    key = service.key(*ALL)

    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer: Any = service.client.open(
            f"/api/v1/{path}", method=method, headers=bearer(key), json={"person": ANA.id}
        )
        assert answer.status_code == 403, (method, answer.text)
        assert service.refusals()[-1][0] == "AUTO-3"


def test_without_a_key_or_with_a_wrong_one_nothing_is_told(service: Service) -> None:
    service.key(*ALL)
    wrong = "sl-auto-aaaaaaaaaa-" + "A" * 43

    for _, method, path in routes(service.app):
        if not path.startswith("/api/"):
            continue
        service.site.clock.advance(61)
        for headers in ({}, bearer(wrong), {"Authorization": "Basic QTpC"}, {"X-Api-Key": wrong}, bearer("")):
            answer: Any = service.client.open(path, method=method, headers=headers, json={"meaning": "x", "reason": "x"}
                if path.endswith(("request", "hold")) else None)  # fmt: skip
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert "Set-Cookie" not in answer.headers


def test_a_person_s_session_is_no_key(service: Service) -> None:
    browser = service.app.test_client()
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/login").text)
    assert found is not None
    browser.post("/login", data={"csrf": found[1], "person": ANA.id, "password": PASSWORD})
    assert browser.get("/promotion").status_code == 200

    assert browser.get("/api/v1/status").status_code == 401
    assert browser.post("/api/v1/rollout/hold", json={"reason": "x"}).status_code == 401
    # Nor does a person's session help a key to a page.
    answer = browser.post("/promotion/stop", headers=bearer(service.key(*ALL)), data={"csrf": found[1]})
    assert answer.status_code == 403
    assert browser.get("/promotion").status_code == 200


def test_a_key_is_no_login(service: Service) -> None:
    key = service.key(*ALL)
    browser = service.app.test_client()
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/login").text)
    assert found is not None

    for person in (ACTOR, "nightly", ANA.id):
        answer = browser.post("/login", data={"csrf": found[1], "person": person, "password": key})
        assert answer.status_code == 401, person


def test_guessing_keys_ends_after_ten_a_minute_for_that_address_alone(service: Service) -> None:
    wrong = "sl-auto-aaaaaaaaaa-" + "A" * 43
    codes = [service.get("/api/v1/status", wrong).status_code for _ in range(12)]

    assert codes == [401] * 10 + [429] * 2
    assert len(service.refusals()) == 10
    key = service.key()
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert service.get("/api/v1/status", key, environ_overrides=elsewhere).status_code == 200
    service.site.clock.advance(61)
    assert service.get("/api/v1/status", key).status_code == 200


def test_a_script_validates_follows_the_job_and_asks_people_to_approve(service: Service) -> None:
    key = service.key("read", "validate", "request")
    _, descriptor = store_version(service.site.config)
    version = descriptor.model_digest
    assert service.post(f"/api/v1/versions/{version}/validation", key).status_code == 404  # not registered
    service.site.validate(version)
    promote = service.post(f"/api/v1/versions/{version}/request", key, json={"meaning": "the nightly build"})
    assert promote.status_code == 201, promote.text

    waiting = service.get("/api/v1/requests", key).json["requests"]
    assert [(one["requested_by"], one["meaning"], one["approvals"]) for one in waiting] == [
        (ACTOR, "the nightly build", [])
    ]
    assert waiting[0]["statement_sha256"] == promote.json["statement_sha256"]
    status = service.get("/api/v1/status", key).json
    assert (status["production"], status["requests"]) == (None, 1)
    told = service.get("/api/v1/history", key).json["events"]
    assert [(one["what"], one["people"]) for one in told][-1] == ("requested", [ACTOR])
    assert [leaf.body["deed"] for leaf in service.site.ledger.find(kind=USED, newest_first=False)] == [
        "validate", "request", "requests", "status", "history"
    ]  # fmt: skip


def test_people_see_on_the_page_that_a_machine_asked(service: Service) -> None:
    version = digest("A")
    service.site.validate(version)
    service.post(f"/api/v1/versions/{version}/request", service.key("request"), json={"meaning": "x"})
    browser = service.app.test_client()
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/login").text)
    assert found is not None
    browser.post("/login", data={"csrf": found[1], "person": BEN.id, "password": PASSWORD})

    assert f"{ACTOR} (a machine, for which {ANA.id} answers)" in browser.get("/promotion").text


@pytest.mark.parametrize(
    "body", [None, b"", b"[]", b"{", b'{"meaning": 7}', b'{"meaning": "x", "requested_by": "ana"}', b'{"meaning": ""}']
)
def test_a_body_of_another_shape_asks_for_nothing(service: Service, body: bytes | None) -> None:
    version = digest("A")
    service.site.validate(version)
    answer = service.post(
        f"/api/v1/versions/{version}/request", service.key("request"), data=body, content_type="application/json"
    )

    assert answer.status_code == 400, answer.text
    assert service.site.client.pending() == ()


def test_a_form_s_content_type_is_refused(service: Service) -> None:
    answer = service.post("/api/v1/rollout/hold", service.key("hold"), data={"reason": "x"})

    assert answer.status_code == 415


def test_a_held_canary_shows_who_held_it_and_the_engines_follow(service: Service) -> None:
    _, descriptor = store_version(service.site.config)
    service.site.promote(descriptor.model_digest)
    request = service.site.approve(service.site.request(digest("a canary")), ANA, BEN)
    service.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)

    answer = service.post("/api/v1/rollout/hold", service.key("hold", "read"), json={"reason": "errors rise"})

    assert answer.status_code == 200, answer.text
    assert service.site.ledger.find(kind="promotion.canary-held")[0].body["person"] == ACTOR
    asked = service.site.ledger.find(kind="job.asked")[0].body
    assert (asked["kind"], asked["person"]) == ("switch-production", ACTOR)
    assert service.site.client.canary()["canary"]["held"] is True


def test_the_job_service_refuses_every_other_job_that_names_a_key() -> None:
    named: dict[str, Any] = {"digest": digest("A"), "digest12": "a" * 12, "serial": 1, "medium": "sdb1", "record": 1}
    named["quarter"] = "2026Q4"
    refused = set()
    for kind in Kind:
        # What a kind names is one of these or two; with anything else it is no message at all.
        for names in (*combinations(named, 1), *combinations(named, 2)):
            message = {"do": "ask", "kind": str(kind), **{name: named[name] for name in names}, "person": ACTOR}
            for more in ({}, {"reason": "x", "minutes": 60}):
                try:
                    Job.from_message(message | more)
                except AutomationRefusedError:
                    refused.add(kind)
                except SealiftError:
                    continue

    assert refused == set(Kind) - BY_MACHINES
    assert Job.from_message({"do": "ask", "kind": "validate", "digest": digest("A"), "person": ACTOR}).person == ACTOR


def test_errors_and_answers_tell_no_key(service: Service) -> None:
    key = service.key("read")

    for path in ("/api/v1/status", "/api/v1/approve", "/api/v1/versions/zz", "/api/v2/status", "/promotion"):
        assert key not in service.get(path, key).text
    assert not any(key in leaf.raw.decode() for leaf in service.site.ledger.leaves(0, 500))
