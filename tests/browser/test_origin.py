"""A person has the origin of an answer verified afresh in a real browser, on a site of real processes, and saves it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.admin.application import create_admin_app
from appliance.admin.facts import Facts
from appliance.audit.rights import ADMIN
from appliance.audit.socket_ledger import SocketLedger
from appliance.state import projection
from appliance.state.database import open_state
from appliance.wire import Line
from media.clock import SystemClock
from tests.support.browser import chromium, served
from tests.support.checker import check
from tests.support.jobs import job_service
from tests.support.ports import held_port
from tests.support.promoting import PEOPLE, bring, enrol_all, homes, record_answer, serve, site
from tests.support.running_site import RunningSite, runner

__all__ = ["homes", "site"]
pytestmark = pytest.mark.browser
LINKS = {
    *("request", "answer", "version", "weights", "release", "trust", "metadata", "media", "custody", "rehearsal"),
    *("promotion", "approvals", "gates", "ledger"),
}


@dataclass(slots=True)
class Opened:
    """A site with one answer, and a tab in which Eva is logged in."""

    site: RunningSite
    tab: Any
    base: str

    def verify(self) -> dict[str, tuple[str, str]]:
        """Press the button, follow the job, and return what the page says of each link and when it was looked at."""
        self.tab.goto(f"{self.base}/origin?request=chatcmpl-one")
        self.tab.get_by_role("button", name="Verify every link now").click()
        self.tab.get_by_role("link", name="See what was found of each link").click()
        found = {}
        for row in self.tab.locator("#afresh tbody tr").all():
            name, holds, _, at, _ = row.locator("td").all_inner_texts()
            found[name] = (holds, at)
        return found


@pytest.fixture
def opened(
    site: RunningSite, homes: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Opened]:
    run = runner(site, capsys)
    enrol_all(site, run, homes)
    digest = bring(site, 1)
    serve(run, digest, homes)
    record_answer(site, digest, 1, "req_one")
    port = held_port()
    base, at = f"http://127.0.0.1:{port}", site.config.at
    ledger, state = SocketLedger(at.socket(ADMIN)), open_state(at)
    projection.catch_up(state, ledger)
    lines = {door: Line(at.socket(door)) for door in ("promoter-admin", "jobs-admin")}
    with job_service(site.config, site.supervisor), chromium(tmp_path / "profile") as context:
        app = create_admin_app(
            site.config,
            facts=Facts(state, authority_file=at.etc / "tls/trust.crt"),
            ledger=ledger,
            promoter=lines["promoter-admin"],
            jobs=lines["jobs-admin"],
            clock=SystemClock(),
        )
        with served(app, port):
            tab = context.new_page()
            tab.goto(f"{base}/login")
            tab.fill("#person", next(iter(PEOPLE)))
            tab.fill("#password", (site.root / "password").read_text().strip())
            tab.get_by_role("button", name="Log in").click()
            tab.wait_for_url(f"{base}/")
            yield Opened(site=site, tab=tab, base=base)
    for line in lines.values():
        line.close()
    state.dispose()
    ledger.close()


def test_every_link_is_verified_saved_for_elsewhere_and_broken_by_one_flipped_byte(
    opened: Opened, tmp_path: Path
) -> None:
    sound = opened.verify()
    assert set(sound) == LINKS
    assert {holds for holds, _ in sound.values()} == {"yes"}
    assert all(at.endswith("Z") for _, at in sound.values())
    assert "every link holds" in opened.tab.get_by_role("status").first.inner_text()

    with opened.tab.expect_download() as saving:
        opened.tab.get_by_role("link", name="Save the proof as one file").click()
    saved = tmp_path / "proof.json"
    saving.value.save_as(saved)
    assert json.loads(saved.read_bytes())["request"] == "req_one"
    key = (opened.site.config.at.etc / "ledger.pub").read_text().strip()
    assert check("proof", "--key", key, saved).returncode == 0

    weights = max(
        opened.site.config.at.store.glob("objects/sha256/*/*"), key=lambda path: path.read_bytes()[:4] == b"GGUF"
    )
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(bytes(content))

    broken = opened.verify()
    assert [name for name, (holds, _) in broken.items() if holds == "NO"] == ["weights"]
    assert "broken at weights" in opened.tab.get_by_role("alert").inner_text()
    assert opened.tab.get_by_role("link", name="Save the proof as one file").count() == 0
    assert opened.tab.locator("#records").get_by_text("Every record holds.").count() == 1
