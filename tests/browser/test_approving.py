"""A person enrols a security key and approves with it, in a real browser with a virtual authenticator."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from appliance.config import Config
from appliance.promote.standing import require_promoted
from appliance.state import projection
from appliance.state.database import open_state
from appliance.timekeeping.onetime import STEP_SECONDS, code_at
from tests.support.adminpage import page_of
from tests.support.browser import chromium, faults_of, security_key, served
from tests.support.ports import held_port
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

pytestmark = pytest.mark.browser
ANA, BEN, *_ = signatories()
OLD, NEW = digest("old"), digest("new")


@dataclass(slots=True)
class Page:
    """A site whose page is served, and a tab of a browser with a security key plugged in."""

    site: Site
    app: Flask
    context: Any
    tab: Any
    session: Any
    key: str
    base: str

    def go(self, path: str) -> None:
        self.tab.goto(f"{self.base}{path}")

    def log_in(self, person: str) -> None:
        self.go("/login")
        self.tab.fill("#person", person)
        self.tab.fill("#password", PASSWORD)
        self.tab.get_by_role("button", name="Log in").click()
        self.tab.wait_for_url(f"{self.base}/")

    def enrol(self, code: str, person: str, name: str, *, totp: bool = False) -> None:
        self.go("/enrol")
        self.tab.get_by_role("button", name="Register a security key").click()
        self.tab.get_by_text("The security key is registered").wait_for()
        for field, value in {"code": code, "person": person, "name": name}.items():
            self.tab.fill(f"#{field}", value)
        for field in ("password", "again"):
            self.tab.fill(f"#{field}", PASSWORD)
        if totp:
            self.tab.get_by_label(re.compile("Also by password")).check()
        self.tab.get_by_role("button", name="Enrol", exact=True).click()
        self.tab.get_by_role("heading", name="You are enrolled").wait_for()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    port = held_port()
    site = open_site(tmp_path / "s", enrolled=0, classes=["openpgp", "webauthn", "password-totp"])
    base = f"http://localhost:{port}"
    values = {**site.config.model_dump(), "webauthn": {"rp_id": "localhost", "origin": base}}
    site.config = Config.model_validate(values)
    site.restart()
    site.config.at.registry.mkdir(parents=True, exist_ok=True)
    state = open_state(site.config.at)
    app = page_of(site, state)
    app.extensions["catch-up"] = lambda: projection.catch_up(state, site.ledger)
    with served(app, port), chromium(tmp_path / "profile") as context:
        tab = context.new_page()
        faults = faults_of(tab)
        session, key = security_key(context, tab)
        yield Page(site=site, app=app, context=context, tab=tab, session=session, key=key, base=base)
        assert faults == []
    state.dispose()


@pytest.fixture
def asked(page: Page) -> str:
    """Eva is enrolled with a security key on the page and Ana with OpenPGP; a version waits for both."""
    codes = page.site.client.codes(2)
    page.enrol(codes[0], "eva-rossi", "Eva Rossi", totp=True)
    page.site.client.enrol(code=codes[1], name=ANA.name, certificate=ANA.certificate, password=PASSWORD)
    request = page.site.request(NEW, by=ANA, meaning="better summaries")
    page.app.extensions["catch-up"]()
    return request.statement.sha256


def test_a_person_reads_one_page_and_approves_with_a_security_key(page: Page, asked: str) -> None:
    page.log_in("eva-rossi")
    page.go("/promotion")
    page.tab.get_by_role("link", name="Read what changes, and approve").click()
    for number, heading in enumerate(("What changes", "For whom", "What got worse", "How to undo it", "What you sign")):
        page.tab.get_by_role("heading", name=f"{number + 1}. {heading}").wait_for()
    page.tab.get_by_role("button", name="Approve with the security key").click()
    page.tab.wait_for_url(f"{page.base}/promotion")
    assert "Eva Rossi (lower class: is an admin too)" in page.tab.locator("dl").inner_text()

    waiting = page.site.client.pending()[0]
    assert [(one.person, one.approves_by) for one in waiting.approvals] == [("eva-rossi", "webauthn")]
    page.site.client.approve(asked, ANA.sign(waiting.statement.to_bytes()))
    page.site.client.promote(asked)
    assert require_promoted(page.site.config.at, NEW).people == ("Eva Rossi", "Ana Petrova")


def test_without_a_pin_or_a_finger_the_key_does_not_approve(page: Page, asked: str) -> None:
    page.log_in("eva-rossi")
    page.session.send("WebAuthn.setUserVerified", {"authenticatorId": page.key, "isUserVerified": False})
    page.go(f"/promotion/{asked}/approval")
    page.tab.get_by_role("button", name="Approve with the security key").click()
    page.tab.get_by_text("The security key did not answer").wait_for()

    assert page.site.client.pending()[0].approvals == ()


def test_by_password_and_code_the_page_says_that_it_is_of_a_lower_class(page: Page, asked: str) -> None:
    codes = page.site.client.invite([("eva-rossi", PASSWORD), (ANA.id, PASSWORD)])
    gus = page.site.client.enrol(code=codes, name="Gus Haas", password=PASSWORD, totp=True)
    secret = base64.b32decode(parse_qs(urlsplit(gus["totp_address"]).query)["secret"][0])
    page.log_in("gus-haas")
    page.go(f"/promotion/{asked}/approval")
    page.tab.get_by_text("You have no security key here").wait_for()
    page.tab.get_by_label("Your password").fill(PASSWORD)
    step = int(page.site.clock.now().timestamp()) // STEP_SECONDS
    page.tab.get_by_label("One-time code that your app shows").fill(code_at(secret, step))
    page.tab.get_by_role("button", name="Approve by password").click()
    page.tab.wait_for_url(f"{page.base}/promotion")

    assert "Gus Haas (lower class: password and one-time code" in page.tab.locator("dl").inner_text()


def test_every_field_has_a_label_and_every_page_one_heading_that_names_it(page: Page, asked: str) -> None:
    page.log_in("eva-rossi")
    for path in (f"/promotion/{asked}/approval", "/promotion", "/enrol", "/host"):
        page.go(path)
        assert page.tab.locator("h1").count() == 1, path
        unnamed = page.tab.evaluate(
            "() => [...document.querySelectorAll('input:not([type=hidden]), select, button')]"
            ".filter((one) => !(one.labels && one.labels.length) && !one.textContent.trim())"
            ".map((one) => one.outerHTML)"
        )
        assert unnamed == [], path
        levels = page.tab.evaluate(
            "() => [...document.querySelectorAll('h1,h2,h3')].map((one) => Number(one.tagName[1]))"
        )
        assert all(after <= before + 1 for before, after in pairwise(levels)), (path, levels)
