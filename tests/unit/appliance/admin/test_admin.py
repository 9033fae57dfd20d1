"""The page: a default of no, forms of its own only, no scripts, nothing executed from texts."""

import base64
import dataclasses
import io
import re
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from appliance.actions import alerts
from appliance.actions.alerts import Alert, Told
from appliance.admin.application import OPEN, WITH_KEYS, create_admin_app
from appliance.admin.facts import Facts
from appliance.admin.sessions import QUIET, Attempts, Sessions
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, PlacesSection
from appliance.install.trial import Returned, Trials
from appliance.standby import permit
from appliance.standby.voters import Hearing
from appliance.state.database import open_state
from appliance.state.tables import ApiKey, Base, GateResult, ModelVersion, Promotion, Release
from appliance.wire import RemoteError
from media import canonical
from media.clock import FixedClock
from media.digest import sha256_hex
from tests.support.hostplans import make_plan
from tests.support.ledger import ledger_site
from tests.support.told_alerts import keep

DIGEST = "ab" * 32
OWN_SCRIPT = '<script src="/static/securitykey.js" defer></script>'
EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
PLAN = make_plan(difference=EVIL)
START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
EXPORT = canonical.dumps({"note": EVIL})


CANARY = {
    "version": "ef" * 32,
    "production": DIGEST,
    "percent": 20,
    "hours": 48,
    "started": "2026-11-20T08:00:00Z",
    "held": True,
    "left_seconds": 7200,
    "missing": EVIL,
    "verdict": {
        "state": "going",
        "why": EVIL,
        "streams": [
            {
                "stream": "errors",
                "evidence_millis": 900,
                "limit_millis": 3912,
                "worse": False,
                "canary": {"requests": 10, "faults": 3},
                "production": {"requests": 40, "faults": 0},
            }
        ],
    },
}


class FakePromoter:
    """Knows one person and one pending statement; records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((do, fields))
        if do == "login":
            if (fields["person"], fields["password"]) != ("iris", "correct horse battery"):
                raise RemoteError(what="unknown person", why="", fix="", code="unknown-person", exit_code=45)
            return {"person": "iris", "name": "Iris Mora", "roles": ["approver"]}
        if do == "pending":
            statement = (
                '{"evidence_digest":"'
                + "cd" * 32
                + '","expires":"2026-11-23T08:00:00Z","meaning":"'
                + "serve <b>it</b>"
                + '",'
                '"model_digest":"'
                + DIGEST
                + '","policy_digest":"'
                + "ef" * 32
                + '","requested_at":"2026-11-20T08:00:00Z",'
                '"requested_by":"omar"}'
            )
            return {
                "requests": [{"statement": statement, "statement_sha256": "12" * 32, "approvals": [{"name": EVIL}]}]
            }
        if do == "canary-standing":
            return {"canary": CANARY, "beside": None, "model_digest": DIGEST}
        if do == "reviews":
            deed = {"sequence": 1, "at": "2026-11-20T08:00:00Z", "what": "went back", "person": "omar", "reason": EVIL}
            return {"open": [deed]}
        return {"requests": []} if do in {"host-pending", "policy-pending"} else {}


class FakeJobs:
    """Knows one job that runs and one plan."""

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        outcome = {"what": EVIL, "why": "", "fix": "", "digest": "", "started": [], "stopped": []}
        job = {
            "job": 0, "kind": "validate", "digest": DIGEST, "person": EVIL, "account": "sealift-admin",
            "state": "running", "at": "2026-11-20T08:00:00Z", "step": "integrity", "done": 1, "total": 2,
            "outcome": outcome,
        }  # fmt: skip
        answers: dict[str, dict[str, Any]] = {
            "jobs": {"jobs": [{**job, "state": "failed"}]},
            "show": job,
            "plan": {"text": PLAN.to_bytes().decode()},
            "export": {"text": EXPORT.decode()},
        }
        return answers[do]


class FakeSamples:
    """A review store with one sample, in which somebody wrote markup."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((do, fields))
        content = {"at": "2026-11-20T08:00:00Z", "department": EVIL, "model_digest": DIGEST}
        content["texts"] = [{"role": "answer", "text": EVIL}]  # type: ignore[assignment]
        listed = {"request_id": "req_1", "made": "2026-11-20T08:00:00Z", "expires": "2026-12-20T08:00:00Z"}
        answers: dict[str, dict[str, Any]] = {
            "standing": {"count": 1, "most": 1000, "days": 30, "rated": 0},
            "list": {"samples": [{**listed, "rating": ""}]},
            "draw": {"request_id": "req_1", "content": content},
            "rate": {"request_id": "req_1", "rating": "good"},
        }
        return answers[do]


@pytest.fixture
def samples() -> FakeSamples:
    return FakeSamples()


@pytest.fixture
def promoter() -> FakePromoter:
    return FakePromoter()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=START)


@pytest.fixture
def state() -> Iterator[Engine]:
    engine = create_engine("sqlite+pysqlite:///:memory:", poolclass=None)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Release(serial=7, name=EVIL, code="aa" * 32, received_at="2026-11-20T08:00:00Z", installed_at=None))
        session.add(
            ModelVersion(
                model_digest=DIGEST, name=EVIL, version="1", weights_digest="bb" * 32, serial=7,
                descriptor={"engine": "llama.cpp", "quantization": "Q4_1", "license": "MIT", "context_tokens": 2048},
                registered_sequence=3,
            )
        )  # fmt: skip
        session.add(
            GateResult(
                model_digest=DIGEST,
                gate="smoke",
                passed=True,
                evidence_digest="cc" * 32,
                figures={"x": EVIL},
                sequence=4,
            )
        )
        session.add(
            Promotion(
                sequence=5, kind="made", model_digest=DIGEST, previous=None, at="2026-11-20T08:00:00Z",
                people=[{"name": EVIL}], reason=EVIL,
            )
        )  # fmt: skip
        at, made = "2026-11-20T08:00:00Z", {"department": EVIL, "owner": EVIL, "phi_mode": "pass", "tier": "basic"}
        for key_id, stage, ended in (("productkey", None, None), ("testingkey", "test", None), ("endedkey", None, at)):
            session.add(
                ApiKey(
                    key_id=key_id, secret_hmac="dd" * 32, key_version=1, created_at=at, revoked_at=ended, stage=stage,
                    expires_at="2026-12-20T08:00:00Z" if stage else None, **made,
                )
            )  # fmt: skip
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def app(promoter: FakePromoter, clock: FixedClock, state: Engine, tmp_path: Path, samples: FakeSamples) -> Flask:
    sent = {"source": EVIL, "created_by": EVIL, "changes": [EVIL], "download_date": EVIL}
    known = {"model_digest": DIGEST, "name": EVIL, "version": "1", "weights_digest": "bb" * 32, "serial": 7}
    ledger = MemoryLedger(door="ledger-admin")
    ledger.append("admin.note", {"text": EVIL})
    ledger.append("model.registered", {**known, "descriptor": {}, "provenance": sent})
    config = Config(site="demo-clinic", environment="demo", places=PlacesSection(root=str(tmp_path), run="/run/s"))
    facts = Facts(state, authority_file=tmp_path / "ca.crt")
    return create_admin_app(
        config, facts=facts, ledger=ledger, promoter=promoter, jobs=FakeJobs(), clock=clock, samples=samples
    )


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def csrf(browser: FlaskClient, path: str = "/login") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get(path).text)
    assert found is not None
    return found[1]


def log_in(browser: FlaskClient, password: str = "correct horse battery") -> Any:
    return browser.post("/login", data={"csrf": csrf(browser), "person": "iris", "password": password})


def paths_of(app: Flask) -> list[tuple[str, str]]:
    return [
        (
            rule.endpoint,
            rule.rule.replace("/host/<digest>", f"/host/{PLAN.digest}")
            .replace("/exports/<digest>", f"/exports/{sha256_hex(EXPORT)}")
            .replace("<digest>", DIGEST)
            .replace("<int:sequence>", "0")
            .replace("<int:number>", "0")
            .replace("<int:record>", "0")
            .replace("<int:serial>", "7")
            .replace("<int:place>", "1"),
        )
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static" and not rule.rule.startswith("/api/")
    ]


def test_every_page_but_the_open_ones_sends_strangers_to_the_login(app: Flask, browser: FlaskClient) -> None:
    for endpoint, path in paths_of(app):
        rule = next(one for one in app.url_map.iter_rules() if one.endpoint == endpoint)
        if endpoint in OPEN or "GET" not in (rule.methods or set()):
            continue
        answer = browser.get(path)
        assert (answer.status_code, answer.headers.get("Location")) == (302, "/login"), path


def test_every_page_reads_well_for_a_person_and_executes_nothing(app: Flask, browser: FlaskClient) -> None:
    assert log_in(browser).status_code == 302

    for endpoint, path in paths_of(app):
        rule = next(one for one in app.url_map.iter_rules() if one.endpoint == endpoint)
        if "GET" not in (rule.methods or set()) or path == "/connect/ca.crt":
            continue
        answer = browser.get(path)
        assert answer.status_code in {200, 404}, path
        known = answer.text.replace(OWN_SCRIPT, "") if endpoint in WITH_KEYS else answer.text
        assert "<script" not in known, path
        assert ("script-src" in answer.headers["Content-Security-Policy"]) == (endpoint in WITH_KEYS), path
        assert "<img" not in answer.text, path


def test_no_page_names_another_origin_or_holds_inline_style(app: Flask, browser: FlaskClient) -> None:
    log_in(browser)

    for path in (
        "/",
        "/releases",
        "/versions",
        f"/versions/{DIGEST}",
        "/promotion",
        f"/promotion/{'12' * 32}/approval",
        "/ledger",
        "/ledger/0",
        "/connect",
        "/jobs",
        "/jobs/0",
        "/host",
        f"/host/{PLAN.digest}",
    ):
        text = browser.get(path).text
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), path
        assert "style=" not in text, path


def test_a_versions_page_tells_where_it_is_from_who_stands_for_it_and_what_memory_holds(browser: FlaskClient) -> None:
    log_in(browser)

    answer = browser.get(f"/versions/{DIGEST}")

    assert answer.status_code == 200
    for said in ("Provenance", "Created by", "Approved by", "Legal hold", "What memory holds"):
        assert said in answer.text, said


def test_the_page_to_connect_lists_keys_with_their_stage_and_none_that_was_ended(browser: FlaskClient) -> None:
    log_in(browser)

    text = browser.get("/connect").text

    rows = re.findall(r"<tr><td><code>(\w+)</code></td><td>(\w+)</td>.*?<td>([^<]*)</td></tr>", text)
    assert rows == [("productkey", "production", "by hand"), ("testingkey", "test", "2026-12-20T08:00:00Z")]
    assert "Test stage" in text
    assert EVIL not in text
    assert "dd" * 32 not in text


def test_headers_forbid_scripts_frames_and_guessing(browser: FlaskClient) -> None:
    headers = browser.get("/login").headers

    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(browser: FlaskClient) -> None:
    cookie = browser.get("/login").headers["Set-Cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_a_login_changes_the_sessions_name(browser: FlaskClient) -> None:
    browser.get("/login")
    before = browser.get_cookie("sealift")
    log_in(browser)
    after = browser.get_cookie("sealift")

    assert before is not None
    assert after is not None
    assert before.value != after.value


def test_a_wrong_password_is_refused_and_recorded_without_the_name(app: Flask, browser: FlaskClient) -> None:
    assert log_in(browser, "wrong").status_code == 401

    ledger = app.extensions["sealift"].ledger
    assert [leaf.body for leaf in ledger.find(kind="admin.login-refused")] == [{"code": "unknown-person"}]


def test_a_post_without_the_forms_token_is_refused(browser: FlaskClient) -> None:
    browser.get("/login")

    assert browser.post("/login", data={"person": "iris", "password": "correct horse battery"}).status_code == 403


def test_a_post_from_another_origin_is_refused(browser: FlaskClient) -> None:
    token = csrf(browser)

    answer = browser.post("/login", data={"csrf": token}, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403


@pytest.mark.parametrize("origin", ["http://[", "http://[::1]x", "http://a:b:c"])
def test_an_origin_that_is_no_address_is_refused_like_another_sites(browser: FlaskClient, origin: str) -> None:
    answer = browser.post("/login", data={"csrf": csrf(browser)}, headers={"Origin": origin})

    assert answer.status_code == 403
    assert "a page of another address" in answer.text


def test_a_login_that_was_shown_too_long_ago_is_shown_again(browser: FlaskClient, clock: FixedClock) -> None:
    form = {"csrf": csrf(browser), "person": "iris", "password": "correct horse battery"}
    clock.advance(QUIET.total_seconds() + 1)

    answer = browser.post("/login", data=form)

    assert answer.status_code == 403
    assert "This page was open for too long. Log in again." in answer.text
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found is not None
    assert browser.post("/login", data={**form, "csrf": found[1]}).status_code == 302


def test_a_form_of_a_session_that_ended_says_so(browser: FlaskClient, clock: FixedClock, samples: FakeSamples) -> None:
    log_in(browser)
    token = csrf(browser, "/samples")
    clock.advance(QUIET.total_seconds() + 1)

    answer = browser.post("/samples/draw", data={"csrf": token, "reason": "quality"})

    assert answer.status_code == 403
    assert "The form is not of this session" in answer.text
    assert "permission" not in answer.text
    assert "draw" not in dict(samples.asked)


def test_a_login_that_failed_for_another_reason_says_so(
    browser: FlaskClient, promoter: FakePromoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(do: str, **_: Any) -> dict[str, Any]:
        raise RemoteError(
            what=f"{do} failed", why="a fault of ours", fix="see the journal", code="internal", exit_code=1
        )

    monkeypatch.setattr(promoter, "call", fails)

    answer = log_in(browser)

    assert answer.status_code == 400
    assert "login failed" in answer.text
    assert "password is wrong" not in answer.text


def test_guessing_is_slowed_down(browser: FlaskClient) -> None:
    codes = [log_in(browser, "wrong").status_code for _ in range(12)]

    assert codes[:10] == [401] * 10
    assert codes[-1] == 429


def test_a_quiet_session_ends(browser: FlaskClient, clock: FixedClock) -> None:
    log_in(browser)
    clock.advance(QUIET.total_seconds() + 1)

    assert browser.get("/").headers["Location"] == "/login"


def test_a_page_that_shows_itself_again_keeps_no_session_alive(browser: FlaskClient, clock: FixedClock) -> None:
    log_in(browser)
    found = re.search(r'http-equiv="refresh" content="2; url=([^"]+)"', browser.get("/jobs/0").text)
    assert found is not None

    for _ in range(3):
        clock.advance(QUIET.total_seconds() / 3)
        assert browser.get(found[1]).status_code == 200
    clock.advance(1)
    assert browser.get(found[1]).headers.get("Location") == "/login"


def test_who_is_revoked_sees_nothing_more_from_then_on(app: Flask, browser: FlaskClient, samples: FakeSamples) -> None:
    ledger = app.extensions["sealift"].ledger
    ledger.append("person.revoked", {"person": "iris"})  # before this login, so of an earlier enrolment
    log_in(browser)
    token = csrf(browser, "/samples")
    ledger.append("person.revoked", {"person": "omar"})
    assert browser.get("/samples").status_code == 200

    ledger.append("person.revoked", {"person": "iris"})
    drawn = browser.post("/samples/draw", data={"csrf": token, "reason": "curious"})

    assert drawn.headers["Location"] == "/login"
    assert "draw" not in dict(samples.asked)
    assert browser.get("/").headers["Location"] == "/login"


def test_who_is_reset_sees_nothing_more_from_then_on(app: Flask, browser: FlaskClient, samples: FakeSamples) -> None:
    ledger = app.extensions["sealift"].ledger
    ledger.append("person.reset", {"person": "iris"})  # before this login, so with a password that came after it
    log_in(browser)
    token = csrf(browser, "/samples")

    ledger.append("person.reset", {"person": "iris"})
    drawn = browser.post("/samples/draw", data={"csrf": token, "reason": "curious"})

    assert drawn.headers["Location"] == "/login"
    assert "draw" not in dict(samples.asked)
    assert browser.get("/").headers["Location"] == "/login"


def test_who_is_revoked_while_the_password_is_looked_at_sees_nothing(
    app: Flask, browser: FlaskClient, promoter: FakePromoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = promoter.call

    def revoked_meanwhile(do: str, **fields: Any) -> dict[str, Any]:
        found = looked_at(do, **fields)
        app.extensions["sealift"].ledger.append("person.revoked", {"person": "iris"})
        return found

    monkeypatch.setattr(promoter, "call", revoked_meanwhile)

    log_in(browser)

    assert browser.get("/samples").headers.get("Location") == "/login"


def test_logging_out_ends_the_session_where_it_cannot_be_recorded(app: Flask, browser: FlaskClient) -> None:
    log_in(browser)
    left, token = browser.get_cookie("sealift"), csrf(browser, "/samples")
    ledger = app.extensions["sealift"].ledger
    ledger.available = False

    assert browser.post("/logout", data={"csrf": token}).status_code == 503

    ledger.available = True
    assert left is not None
    browser.set_cookie("sealift", left.value)
    assert browser.get("/").headers.get("Location") == "/login"


def test_logging_out_ends_the_session_on_the_server(browser: FlaskClient) -> None:
    log_in(browser)
    stolen = browser.get_cookie("sealift")
    browser.post("/logout", data={"csrf": csrf(browser, "/")})
    assert stolen is not None
    browser.set_cookie("sealift", stolen.value)

    assert browser.get("/").headers["Location"] == "/login"


def test_a_signature_is_relayed_as_it_is_and_the_relay_recorded(
    app: Flask, browser: FlaskClient, promoter: FakePromoter
) -> None:
    log_in(browser)
    token = csrf(browser, "/promotion")

    answer = browser.post(
        f"/promotion/{'12' * 32}/approve",
        data={"csrf": token, "signature": (io.BytesIO(b"\x88sig"), "statement.sig")},
        content_type="multipart/form-data",
    )

    assert answer.status_code == 302
    assert promoter.asked[-1] == (
        "approve",
        {"statement_sha256": "12" * 32, "class": "openpgp", "signature": base64.b64encode(b"\x88sig").decode()},
    )
    assert app.extensions["sealift"].ledger.find(kind="admin.relayed-approval")[0].body["person"] == "iris"


def test_the_statement_downloads_byte_for_byte(browser: FlaskClient, promoter: FakePromoter) -> None:
    log_in(browser)

    answer = browser.get(f"/promotion/{'12' * 32}/statement")

    assert answer.text == promoter.call("pending")["requests"][0]["statement"]


def test_enrolling_relays_code_and_certificate_and_keeps_no_password(
    browser: FlaskClient, promoter: FakePromoter
) -> None:
    token = csrf(browser, "/enrol")
    form = {
        "csrf": token,
        "code": "AAAA-BBBB",
        "person": "omar",
        "name": "Omar Haddad",
        "password": "a long password",
        "again": "a long password",
        "certificate": (io.BytesIO(b"\x98cert"), "omar.gpg"),
    }

    answer = browser.post("/enrol", data=form, content_type="multipart/form-data")

    assert answer.headers["Location"] == "/login"
    assert promoter.asked[-1][1]["code"] == "AAAA-BBBB"
    assert promoter.asked[-1][1]["certificate"] == base64.b64encode(b"\x98cert").decode()


@pytest.mark.parametrize("length", [201, 256, 257])
def test_a_long_password_is_told_whole_or_refused_and_never_without_its_end(
    browser: FlaskClient, promoter: FakePromoter, length: int
) -> None:
    password = "p" * (length - 1) + "!"
    form = {"code": "AAAA-BBBB", "person": "omar", "name": "Omar Haddad", "password": password, "again": password}

    browser.post("/enrol", data={"csrf": csrf(browser, "/enrol"), **form})
    log_in(browser, password)

    assert [fields["password"] for do, fields in promoter.asked if do in {"enrol", "login"}] == [password, password]
    assert not re.search(
        r'name="(password|again)"[^>]* maxlength', browser.get("/enrol").text
    )  # browsers cut in silence
    assert not re.search(r'name="password"[^>]* maxlength', browser.get("/login").text)


def test_the_list_of_jobs_says_what_each_is_of(
    app: Flask, browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"person": "iris", "account": "sealift-admin", "state": "done", "at": "2026-11-20T08:00:00Z"}
    known = [
        {"job": 3, "kind": "receive", "medium": "sdb1", **made},
        {"job": 4, "kind": "report", "quarter": "2026Q3", **made},
        {"job": 5, "kind": "prove-answer", "record": 4711, **made},
    ]
    monkeypatch.setattr(app.extensions["sealift"].jobs, "call", lambda *_, **__: {"jobs": known})
    log_in(browser)

    shown = browser.get("/jobs").text

    assert all(f"<code>{of}</code>" in shown for of in ("sdb1", "2026Q3", "4711"))


def test_sessions_and_attempts_do_not_grow_for_ever(clock: FixedClock) -> None:
    sessions = Sessions(clock)
    attempts = Attempts(clock)
    for number in range(3000):
        sessions.open(f"unknown {number}")
        attempts.allow(f"address {number}")

    assert len(sessions._by_name) <= 2000


def test_a_flood_of_strangers_ends_nobodys_session(clock: FixedClock) -> None:
    sessions = Sessions(clock)
    mine = sessions.login(sessions.open(""), person="iris", display_name="Iris Mora", roles=())

    for _ in range(3000):
        sessions.open("")

    assert sessions.open(mine.name).person == "iris"


def test_strangers_guesses_behind_the_proxy_are_counted_by_their_own_address(browser: FlaskClient) -> None:
    def guess(address: str, person: str) -> int:
        form = {"csrf": csrf(browser), "person": person, "password": "wrong"}
        return browser.post(
            "/login", data=form, environ_base={"REMOTE_ADDR": ""}, headers={"X-Forwarded-For": address}
        ).status_code

    codes = [guess("forged, 10.0.0.1", f"nobody-{number}") for number in range(11)]

    assert codes == [401] * 10 + [429]
    assert guess("10.0.0.2", "nobody") == 401


def test_a_page_that_is_up_before_the_ledger_records_when_the_ledger_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger_site(tmp_path) as site:
        monkeypatch.setenv("SEALIFT_CONFIG", str(site.config_file))
        with site.running():
            open_state(site.places).dispose()
        page = runpy.run_module("appliance.admin.wsgi")["app"].extensions["sealift"]
        with site.running():
            assert page.ledger.append("admin.login", {"person": "iris"}).sequence > 0
            page.ledger.close()


def test_the_overview_shows_what_was_measured_with_the_models_name_as_text(
    app: Flask, browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"notes_per_hour": 120, "best_callers": 4}
    measured = MemoryLedger(door="ledger-actions")
    measured.append(
        "capacity.measured",
        {
            "format": 1,
            "model_digest": "ab" * 32,
            "model": EVIL,
            "stage": "test",
            "cores": 8,
            "memory_mib": 16384,
            "figures": figures,
        },
    )
    log_in(browser)
    monkeypatch.setattr(app.extensions["sealift"].ledger, "find", measured.find)

    page = browser.get("/").get_data(as_text=True)

    assert "about 120 notes per hour" in page
    assert "as large as B23 asks" in page
    assert EVIL not in page


def test_the_overview_sends_to_what_one_person_did_alone(
    browser: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoter = app.extensions["sealift"].promoter
    told = promoter.call
    log_in(browser)
    page = browser.get("/").text

    assert re.search(
        r"For a second person to look at</h2>\s*<p class=\"big\">1</p>.*href=\"/rollout\"", page, re.DOTALL
    )
    monkeypatch.setattr(promoter, "call", lambda do, **more: {"open": []} if do == "reviews" else told(do, **more))
    assert "second person to look at" not in browser.get("/").text

    def silent(do: str, **more: Any) -> dict[str, Any]:
        if do == "reviews":
            raise RemoteError(what="it does not answer", why="", fix="", code="unreachable", exit_code=50)
        return dict(told(do, **more))

    monkeypatch.setattr(promoter, "call", silent)
    assert re.search(r"to look at</h2>\s*<p class=\"big\">unknown", browser.get("/").text)


def test_the_page_says_whether_this_box_of_two_serves_and_which_voter_is_silent(
    browser: FlaskClient, app: Flask, tmp_path: Path
) -> None:
    here = app.extensions["sealift"]
    places = PlacesSection(root=str(tmp_path), run=str(tmp_path / "run"))
    standby = here.config.standby.model_copy(update={"lease": True})
    two = here.config.model_copy(update={"places": places, "standby": standby})
    log_in(browser)
    alone = browser.get("/").text
    app.extensions["sealift"] = dataclasses.replace(here, config=two)

    assert "stands by" not in alone
    assert "This box does not serve now" in browser.get("/").text
    folder, now = permit.folder_of(two.at), permit.boottime()
    folder.mkdir(parents=True)
    hearing = Hearing(["two", "three"], witness="three", started=now - 80, patience=3.5)
    hearing.heard("two", now)
    hearing.tell(folder, now)
    shown = browser.get("/").text
    assert "The witness three does not answer this box" in shown
    assert "The other box two" not in shown


def test_what_fires_is_a_banner_for_people_who_logged_in_until_it_ends(
    browser: FlaskClient, clock: FixedClock, tmp_path: Path
) -> None:
    folder = tmp_path / "var/lib/sealift/alerts"
    folder.mkdir(parents=True)
    fires = Alert(
        name="BackupOld",
        severity="critical",
        summary=EVIL,
        help="sealift backup make",
        instance="",
        until=clock.now() + alerts.KEPT,
    )
    keep(folder, Told(firing=(fires,), ended=frozenset()), clock=clock)

    stranger = browser.get("/login").text
    log_in(browser)
    shown = browser.get("/").text
    keep(folder, Told(firing=(), ended=frozenset({("BackupOld", "")})), clock=clock)
    after = browser.get("/").text

    assert "BackupOld" not in stranger + after
    assert 'class="banner critical" role="alert"' in shown
    assert "<code>sealift backup make</code>" in shown
    assert EVIL not in shown


def test_that_the_box_went_back_is_a_banner_for_people_who_logged_in(browser: FlaskClient, tmp_path: Path) -> None:
    trials = Trials(Config(site="s", places=PlacesSection(root=str(tmp_path))).at)
    (tmp_path / "opt/sealift/releases").mkdir(parents=True, exist_ok=True)
    trials.went_back(Returned(serial=2, release="r2", back_to=1, why=EVIL, at="2026-11-20T08:00:00Z"))

    stranger = browser.get("/login").text
    log_in(browser)
    shown = browser.get("/").text

    assert "went back" not in stranger
    assert "release r2 (serial 2) did not stay" in shown
    assert EVIL not in shown


def test_the_rollouts_page_shows_both_arms_and_hands_in_a_review(browser: FlaskClient, promoter: FakePromoter) -> None:
    log_in(browser)

    page = browser.get("/rollout").get_data(as_text=True)

    assert "3 of 10" in page
    assert "went back" in page
    assert "canary 30.0% (3 of 10)" in page[page.index("<svg") :]
    form = {"csrf": csrf(browser, "/rollout"), "note": "it was right", "password": "correct horse battery"}
    assert browser.post("/rollout/review/1", data=form).status_code == 302
    wanted = {"sequence": 1, "person": "iris", "note": "it was right", "password": "correct horse battery"}
    assert ("review", wanted) in promoter.asked
    assert browser.post("/rollout/review/1", data={**form, "note": " "}).status_code == 400


def test_a_sample_is_drawn_and_rated_in_the_name_of_who_logged_in_and_only_by_a_form(
    browser: FlaskClient, samples: FakeSamples
) -> None:
    log_in(browser)
    assert browser.get("/samples/draw").status_code == 405

    def send(path: str, **fields: str) -> Any:
        return browser.post(path, data={"csrf": csrf(browser, "/samples"), **fields})

    page = send("/samples/draw", reason="quality review", person="omar")
    send("/samples/rate", request_id="req_1", rating="good", person="omar")

    assert EVIL not in page.get_data(as_text=True)
    asked = dict(samples.asked)
    assert asked["draw"] == {"person": "iris", "reason": "quality review"}
    assert asked["rate"] == {"request_id": "req_1", "rating": "good", "person": "iris"}
    assert send("/samples/rate", request_id="req_1", rating=EVIL).status_code == 400


def test_a_question_as_long_as_its_field_takes_comes_through_in_any_script(browser: FlaskClient) -> None:
    log_in(browser)
    shown = browser.get("/ask").text
    kind = re.search(r'<form [^>]*action="/ask"[^>]* enctype="([^"]+)"', shown)
    longest = re.findall(r'<textarea id="[a-z]+" [^>]*maxlength="([0-9]+)"', shown)
    assert kind is not None
    assert longest == ["32000", "32000"]
    text = "\N{GRINNING FACE}" * int(longest[0])
    form = {"csrf": csrf(browser, "/ask"), "question": text, "instruction": text, "key": "k", "model": "production"}
    form |= {"stage": "production", "max_tokens": "256"}

    answer = browser.post("/ask", data=form, content_type=kind[1])

    assert answer.status_code == 503  # no gateway runs here, and it was to be asked
    assert browser.post("/ask", data=form).status_code == 413


def test_emergency_access_is_on_every_page_until_it_ends(app: Flask, browser: FlaskClient, clock: FixedClock) -> None:
    ledger = app.extensions["sealift"].ledger
    body = {"person": "omar", "class": "password", "department": EVIL, "reason": EVIL, "ends": "2026-11-20T12:00:00Z"}
    ledger.append("emergency.begun", body)
    assert "Emergency access" not in browser.get("/login").get_data(as_text=True)
    log_in(browser)

    shown = browser.get("/releases").get_data(as_text=True)

    assert "Emergency access of" in shown
    assert EVIL not in shown
