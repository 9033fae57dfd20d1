"""Two people bring a model beside another by the page, one with a security key, and one of them stops its line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.promote.classes import OPENPGP, WEBAUTHN
from appliance.promote.statement import LINE_FORMAT
from appliance.state import projection
from appliance.state.database import open_state
from tests.support.adminpage import page_of
from tests.support.browser import chromium, faults_of, security_key, served
from tests.support.ports import held_port
from tests.support.promotion import PASSWORD, open_site
from tests.support.servedpage import ServedPage
from tests.support.signatories import signatories
from tests.support.versions import store_version

pytestmark = pytest.mark.browser
ANA, BEN, *_ = signatories()
EVA = "eva-rossi"


@dataclass(slots=True, kw_only=True)
class Opened(ServedPage):
    """A site with a chat model in production and a validated one for classes, and a tab with a security key."""

    chat: str
    classes: str

    def enrol(self, person: str, name: str) -> None:
        """Enrol somebody with the security key, in the name of Ana and Ben."""
        fields = {"code": self.site.client.invite([(ANA.id, PASSWORD), (BEN.id, PASSWORD)])}
        self.go("/enrol")
        self.tab.get_by_role("button", name="Register a security key").click()
        self.tab.get_by_text("The security key is registered").wait_for()
        for field, value in {**fields, "person": person, "name": name, "password": PASSWORD, "again": PASSWORD}.items():
            self.tab.fill(f"#{field}", value)
        self.tab.get_by_role("button", name="Enrol", exact=True).click()
        self.tab.get_by_role("heading", name="You are enrolled").wait_for()

    def standing(self) -> dict[str, str | None]:
        return {one["name"]: one["model_digest"] for one in self.site.client.current()["lines"]}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    port = held_port()
    site, base = open_site(tmp_path / "s", classes=[OPENPGP, WEBAUTHN]), f"http://localhost:{port}"
    site.config = Config.model_validate(
        {**site.config.model_dump(), "webauthn": {"rp_id": "localhost", "origin": base}}
    )
    site.restart()
    for place in (site.config.at.promoter, site.config.at.registry):
        place.mkdir(parents=True, exist_ok=True)
    chat, classes = (
        store_version(site.config, serial=serial, weights=name.encode(), name=name)[1].model_digest
        for serial, name in ((1, "chat"), (2, "classes"))
    )
    site.promote(chat, name="chat")
    site.validate(classes, name="classes")
    state = open_state(site.config.at)
    with served(page_of(site, state), port), chromium(tmp_path / "profile") as context:
        tab = context.new_page()
        faults = faults_of(tab)
        security_key(context, tab)
        yield Opened(site=site, tab=tab, base=base, state=state, chat=chat, classes=classes)
        assert faults == []
    state.dispose()


def test_a_model_comes_beside_another_by_two_people_and_its_line_stops_alone(opened: Opened) -> None:
    site, tab = opened.site, opened.tab
    opened.enrol(EVA, "Eva Rossi")
    opened.log_in(EVA)
    opened.go(f"/versions/{opened.classes}")
    tab.get_by_label("Why it is to serve production").fill("to sort letters")
    beside = tab.get_by_label("beside what is in production")
    assert not beside.is_checked()
    assert not tab.get_by_label("in place of chat (line 1)").is_checked()
    # The browser itself sends nothing before one is chosen.
    tab.get_by_role("button", name="Ask for approvals").click()
    assert tab.url == f"{opened.base}/versions/{opened.classes}"
    beside.check()
    tab.get_by_role("button", name="Ask for approvals").click()
    tab.wait_for_url("**/promotion")

    projection.catch_up(opened.state, site.ledger)
    tab.get_by_role("link", name="Read what changes, and approve").click()
    tab.get_by_text(
        "classes 1 comes beside what is in production: chat 1 stays, nothing goes away; from then on"
    ).wait_for()
    tab.get_by_role("button", name="Approve with the security key").click()
    tab.wait_for_url("**/promotion")
    [asked] = site.client.pending()
    assert (asked.statement.format, asked.statement.replaces) == (LINE_FORMAT, None)
    assert [(one.person, one.approves_by) for one in asked.approvals] == [(EVA, WEBAUTHN)]

    opened.log_in(ANA.id)
    opened.go(f"/promotion/{asked.statement.sha256}/approval")
    signature = ANA.sign(asked.statement.to_bytes())
    upload = {"name": "s.sig", "mimeType": "application/octet-stream", "buffer": signature}
    tab.get_by_label("Signature file").set_input_files(upload)
    tab.get_by_role("button", name="Hand in the signature").click()
    tab.wait_for_url("**/promotion")
    tab.get_by_role("button", name="Bring it to production").click()
    tab.wait_for_url("**/jobs/*")
    assert opened.standing() == {"chat": opened.chat, "classes": opened.classes}

    opened.go("/promotion")
    stop = tab.locator("form").filter(has=tab.get_by_role("button", name="Take it out of service"))
    stop.get_by_label("Reason").fill("it sorts them wrongly")
    stop.get_by_label("Your password").fill(PASSWORD)
    stop.get_by_role("button").click()
    assert tab.url == f"{opened.base}/promotion"
    stop.get_by_label("classes, line").check()
    stop.get_by_role("button").click()
    tab.wait_for_url("**/jobs/*")
    assert opened.standing() == {"chat": opened.chat, "classes": None}
    opened.go("/promotion")
    assert stop.get_by_label("classes, line").count() == 0
    assert stop.get_by_label("chat, line 1").count() == 1
