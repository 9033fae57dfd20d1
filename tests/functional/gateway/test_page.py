"""Asking a version on the page: the page and a gateway on its door, with an engine that says what it is told to."""

import html
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.admin.ask import DOORS, MOST_AT_ONCE
from appliance.config import TlsSection
from appliance.gateway.identity import user_hash
from appliance.phi.policy import PhiMode
from appliance.stages import Stage
from tests.support.adminpage import Page, logged_in, open_page, page_of
from tests.support.browser import served
from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL, Rig, gateway, key_text
from tests.support.signatories import signatories
from tests.support.versions import short_folder

pytestmark = pytest.mark.slow

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
SECRET = "kestrel-prompt"
FORM = {"question": "hello", "instruction": "", "stage": "production", "model": "production", "max_tokens": "256"}


@dataclass(frozen=True, slots=True)
class Console:
    """Ana's browser, and the gateway that the page reaches."""

    page: Page
    rig: Rig

    def ask(self, question: str = "hello", **form: str) -> Any:
        """Send the form; with the rig's key where none is given."""
        return self.page.post("/ask", **{**FORM, "key": self.rig.key, "question": question, **form})


@contextmanager
def on_door(page: Page, rig: Rig, stage: Stage = Stage.PRODUCTION) -> Iterator[None]:
    """Serve the gateway where the page looks for that of a stage."""
    path = page.site.config.at.socket(DOORS[stage])
    path.parent.mkdir(parents=True, exist_ok=True)
    with served(rig.app, 0, host=f"unix://{path}"):
        yield


@contextmanager
def opened(folder: Path, **changes: Any) -> Iterator[Console]:
    """Yield the page of a site whose gateway is a rig."""
    with gateway(folder / "g", **changes) as rig, open_page(folder / "s") as page, on_door(page, rig):
        yield Console(page, rig)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as found:
        yield found


@pytest.fixture
def console(folder: Path) -> Iterator[Console]:
    with opened(folder) as found:
        yield found


def answer_in(text: str) -> str:
    found = re.search(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    assert found is not None, text
    return html.unescape(found[1])


def test_a_person_asks_and_sees_the_answer_with_its_record_version_tokens_and_time(console: Console) -> None:
    shown = console.ask("how are\r\nyou", instruction="be brief", max_tokens="512")

    assert shown.status_code == 200
    assert answer_in(shown.text) == "You said: how are\nyou"
    recorded = console.rig.bodies("request.intent")
    assert len(recorded) == 1
    assert recorded[0]["user_hash"] == user_hash(signatories()[0].id, console.rig.keys)
    assert recorded[0]["key_id"] == console.rig.key.split("-")[1]
    link = f"/origin?request={recorded[0]['request_id']}"
    assert f'href="{link}"' in shown.text
    assert console.page.browser.get(link).status_code == 200
    assert MODEL_DIGEST[:12] in shown.text
    usage = console.rig.bodies("request.outcome")[0]
    assert f"{usage['prompt_tokens']} read, {usage['completion_tokens']} written" in shown.text
    assert re.search(r"<dd>\d+ ms</dd>", shown.text)
    asked = console.rig.engine.last
    assert asked["max_tokens"] == 512
    assert [one["content"] for one in asked["messages"]] == ["be brief", "how are\nyou"]


def test_what_a_model_says_is_shown_and_never_run(console: Console) -> None:
    console.rig.engine.script = Script(text=EVIL)

    shown = console.ask(EVIL, instruction=EVIL)

    assert answer_in(shown.text) == EVIL
    assert "<script" not in shown.text
    assert "<img" not in shown.text
    assert "script-src" not in shown.headers["Content-Security-Policy"]


def test_identifiers_are_replaced_for_the_engine_and_given_back_to_the_person_alone(console: Console) -> None:
    shown = console.ask("Summarise MRN: 12345678")

    assert "12345678" not in str(console.rig.engine.last)
    assert "12345678" in answer_in(shown.text)
    assert console.rig.bodies("request.intent")[0]["classification"] == "PHI"


def test_nothing_of_key_question_and_answer_is_kept_by_the_page(
    console: Console, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    here = console.page.browser.application.extensions["sealift"]
    before = here.ledger.head().size

    shown = console.ask(SECRET)

    assert SECRET in answer_in(shown.text)
    assert shown.headers["Cache-Control"] == "no-store"
    assert console.rig.key not in shown.text
    again = console.page.browser.get("/ask").text
    assert SECRET not in again
    assert 'type="password" autocomplete="off"' in again
    assert here.ledger.head().size == before
    sessions = repr(here.sessions._by_name)
    for kept in (sessions, caplog.text, "".join(capfd.readouterr()), shown.headers.get("Set-Cookie", "")):
        assert SECRET not in kept
        assert console.rig.key not in kept


def test_a_wrong_key_is_refused_by_the_gateway_which_records_it(console: Console) -> None:
    for key in (key_text("zzzzzzzz23"), "no key", "", "a\r\nx-sealift-client: 1 CN=x", "sl-ü"):
        shown = console.ask(SECRET, key=key)

        assert shown.status_code == 401
        assert "HTTP 401, invalid_api_key" in shown.text
        assert "sealift keys create" in shown.text
        assert SECRET in shown.text, "what was asked can be asked again"
    assert [one["code"] for one in console.rig.bodies("request.refused")] == ["invalid_api_key"] * 5
    assert not console.rig.engine.asked


@pytest.mark.parametrize(
    ("form", "status", "code", "fix"),
    [
        ({"model": "other"}, 404, "model_not_found", "choose a name that is served here"),
        ({"key": f"sl-test-abcdefgh23-{'k' * 43}"}, 403, "wrong_stage", "choose the other stage"),
        ({"question": "x" * 33_000}, 400, "string_above_max_length", "docs/api.md"),
    ],
)
def test_what_the_gateway_refuses_is_told_as_what_why_and_fix(
    console: Console, form: dict[str, str], status: int, code: str, fix: str
) -> None:
    shown = console.ask(**form)

    assert shown.status_code == status
    problem = shown.text.partition('role="alert"')[2].partition("</section>")[0]
    assert "the service refused the request" in problem
    assert f"HTTP {status}, {code}" in problem
    assert fix in problem
    assert console.rig.bodies("request.refused")[0]["request_id"] in problem


def test_a_key_that_blocks_identifiers_blocks_them_here(folder: Path) -> None:
    with opened(folder, mode=PhiMode.BLOCK) as console:
        shown = console.ask("Summarise MRN: 12345678")

        assert shown.status_code == 400
        assert "take the identifiers out" in shown.text
        assert not console.rig.engine.asked


def test_a_key_is_limited_as_anywhere(folder: Path) -> None:
    with opened(folder, limits="requests_per_minute = 1") as console:
        statuses = [console.ask().status_code for _ in range(3)]

        assert statuses[-1] == 429
        assert console.rig.bodies("request.refused")[-1]["code"] == "rate_limit_exceeded"


def test_each_stage_has_its_own_door_and_one_that_is_shut_is_an_error(folder: Path) -> None:
    with gateway(folder / "g") as rig, open_page(folder / "s") as page, on_door(page, rig, Stage.TEST):
        console = Console(page, rig)

        assert console.ask(stage="test").status_code == 200
        shut = console.ask(SECRET, stage="production")

    assert shut.status_code == 503
    assert "sealift status" in shut.text
    assert str(page.site.root) not in shut.text


def test_the_page_waits_for_a_few_answers_only_so_that_it_stays_there_for_others(console: Console) -> None:
    console.rig.engine.script = Script(hold=(hold := threading.Event()))
    token, app = console.page.token(), console.page.browser.application
    cookie = console.page.browser.get_cookie("sealift")
    assert cookie is not None
    found: list[int] = []

    def ask() -> None:
        other = app.test_client()
        other.set_cookie("sealift", cookie.value)
        found.append(other.post("/ask", data={**FORM, "csrf": token, "key": console.rig.key}).status_code)

    with ExitStack() as ending:
        waiting = [threading.Thread(target=ask) for _ in range(MOST_AT_ONCE)]
        for one in waiting:
            one.start()
            ending.callback(one.join)
        ending.callback(hold.set)
        ends = time.monotonic() + 30
        while len(console.rig.bodies("request.intent")) < MOST_AT_ONCE:
            assert time.monotonic() < ends
            time.sleep(0.01)

        refused = console.ask(SECRET)

        assert refused.status_code == 429
        assert "for others already" in refused.text
        assert console.page.browser.get("/promotion").status_code == 200
    assert found == [200] * MOST_AT_ONCE
    assert console.ask().status_code == 200


def test_where_callers_need_a_certificate_the_page_is_no_way_around(console: Console) -> None:
    site = console.page.site
    site.config = site.config.model_copy(update={"tls": TlsSection(clients="required")})
    browser = logged_in(page_of(site, console.page.state))

    assert browser.get("/ask").status_code == 403
    token = Page(site=site, state=console.page.state, browser=browser).token()
    refused = browser.post("/ask", data={**FORM, "csrf": token, "key": console.rig.key})

    assert refused.status_code == 403
    assert "tls.clients" in refused.text
    assert not console.rig.engine.asked


@pytest.mark.parametrize(("clients", "status"), [("required", 403), ("optional", 200)])
def test_nor_does_the_gateway_let_in_what_comes_over_the_pages_socket_then(
    folder: Path, clients: str, status: int
) -> None:
    """Scenario: whoever took over the page's process has a key, and no certificate."""
    with gateway(folder / "g", more=f'[tls]\nclients = "{clients}"\n') as rig, socket.socket(socket.AF_UNIX) as own:
        own.bind(str(folder / "gateway-admin.sock"))
        asked = rig.app.test_client().get(
            "/v1/models",
            headers={"authorization": f"Bearer {rig.key}", "x-sealift-client": "01 CN=ward"},
            environ_overrides={"REMOTE_ADDR": "", "gunicorn.socket": own},
        )

        assert asked.status_code == status
        assert [one["code"] for one in rig.bodies("request.refused")] == ["certificate_refused"] * (status == 403)


@pytest.mark.parametrize(
    "form",
    [
        {"question": "  "},
        {"model": ""},
        {"model": "x" * 201},
        {"stage": "elsewhere"},
        {"max_tokens": "100000"},
        {"max_tokens": "many"},
    ],
)
def test_what_the_form_does_not_offer_is_refused_and_not_sent_on(console: Console, form: dict[str, str]) -> None:
    assert console.ask(**form).status_code == 400
    assert not console.rig.bodies("request.intent")
    assert not console.rig.bodies("request.refused")


def test_a_question_that_is_far_too_large_ends_at_the_page(console: Console) -> None:
    assert console.ask("x" * 300_000).status_code == 413


def test_nobody_asks_without_a_login_or_from_another_sites_form(console: Console) -> None:
    stranger = console.page.browser.application.test_client()
    form = {**FORM, "key": console.rig.key}

    assert stranger.post("/ask", data=form).status_code == 403
    assert console.page.browser.post("/ask", data=form).status_code == 403
    token = console.page.token("/ask")
    foreign = {"Origin": "https://evil.example"}
    assert console.page.browser.post("/ask", data={**form, "csrf": token}, headers=foreign).status_code == 403
    assert not console.rig.engine.asked


def test_the_form_offers_production_and_the_names_that_the_box_knows(console: Console) -> None:
    text = console.page.browser.get("/ask").text

    assert '<option value="production">' in text
    assert MODEL not in text, "nothing is registered in this site"
    assert 'aria-current="page">Ask</a>' in text
