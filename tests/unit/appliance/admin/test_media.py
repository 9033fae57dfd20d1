"""Media on the page: what people see of a stick, and what they may ask for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.actions import export_evidence
from appliance.config import Config
from appliance.install import arrivals
from appliance.state.database import open_state
from media import canonical
from media.digest import sha256_hex
from tests.support.adminpage import Page, Runner, logged_in, page_of
from tests.support.promotion import PASSWORD, open_site
from tests.support.signatories import signatories
from tests.unit.appliance.actions.test_arriving import STICK


def plug(page: Page, *, state: str = "mounted", why: str = "") -> None:
    places = page.site.config.at
    (places.root / arrivals.BLOCK / "sdb1").mkdir(parents=True)
    arrivals.keep(places, replace(STICK, state=state, why=why))


def test_a_volume_is_shown_as_not_verified_and_received_by_a_job(page: Page) -> None:
    plug(page)
    claims = {"untrusted_release": "demo-1", "untrusted_sites": ["demo", "<b>x</b>"], "problems": []}
    arrivals.keep_inspected(page.site.config.at, STICK, claims=claims, problem="")

    shown = page.browser.get("/media").text
    assert "not verified" in shown
    assert "demo-1" in shown
    assert "<b>x</b>" not in shown
    text = page.job_after(page.post("/media/sdb1/receive"))

    assert "<code>sdb1</code>" in text
    assert page.runner.asked == [("start", "sealift-receive@sdb1.service")]
    asked = page.site.ledger.find(kind="job.asked")[0].body
    assert (asked["kind"], asked["medium"], asked["door"]) == ("receive", "sdb1", "jobs-admin")


def test_another_stick_can_only_be_taken_out(page: Page) -> None:
    plug(page)
    arrivals.keep_inspected(page.site.config.at, STICK, claims=None, problem="it is no Sealift volume")

    shown = page.browser.get("/media").text
    assert "it is no Sealift volume" in shown
    assert "/media/sdb1/receive" not in shown
    assert page.post("/media/sdb1/eject").status_code == 302
    assert page.site.ledger.find(kind="job.done")[0].body["kind"] == "eject"


def test_a_refused_medium_says_why_and_gives_no_job(page: Page) -> None:
    plug(page, state="refused", why="its file system is ntfs")

    assert "refused: its file system is ntfs" in page.browser.get("/media").text
    assert "not in use" in page.post("/media/sdb1/receive").text
    assert page.runner.asked == []


def test_a_name_that_is_none_never_becomes_a_job(page: Page) -> None:
    assert "Nothing is plugged in." in page.browser.get("/media").text
    assert page.post("/media/sdb1;id/receive").status_code == 400
    assert page.post("/media/sdb9/eject").status_code == 400
    assert page.runner.asked == []


def test_an_export_is_read_in_full_before_it_leaves_on_a_marked_medium(page: Page) -> None:
    places, content = page.site.config.at, canonical.dumps({"note": "<i>x</i>"})
    digest = sha256_hex(content)
    places.receipts.mkdir(parents=True)
    (places.receipts / f"probe-demo-{digest[:12]}.json").write_bytes(content)
    page.site.ledger.append("export.written", {"type": "probe", "sha256": digest})
    plug(page)
    arrivals.keep_inspected(places, STICK, claims=None, problem="it is no Sealift volume")

    assert f"/media/exports/{digest}" in page.browser.get("/media").text
    shown = page.browser.get(f"/media/exports/{digest}").text
    assert "&lt;i&gt;x&lt;/i&gt;" in shown
    assert "Let it leave on sdb1" in shown
    text = page.job_after(page.post(f"/media/sdb1/exports/{digest}"))

    assert page.runner.asked == [("start", "sealift-export@sdb1.service")]
    assert digest in text
    asked = page.site.ledger.find(kind="job.asked")[0].body
    assert (asked["kind"], asked["medium"], asked["digest"]) == ("carry-export", "sdb1", digest)


def test_what_was_not_recorded_or_goes_to_a_volume_is_refused(page: Page) -> None:
    places, content = page.site.config.at, canonical.dumps({"note": "x"})
    digest = sha256_hex(content)
    places.receipts.mkdir(parents=True)
    (places.receipts / f"probe-demo-{digest[:12]}.json").write_bytes(content)
    plug(page)
    arrivals.keep_inspected(places, STICK, claims=None, problem="it is no Sealift volume")

    assert "no EXPORT of that digest was made here" in page.post(f"/media/sdb1/exports/{digest}").text
    page.site.ledger.append("export.written", {"type": "probe", "sha256": digest})
    arrivals.keep_inspected(places, STICK, claims={"untrusted_serial": 1}, problem="")
    assert "SEALIFT-OUT" in page.post(f"/media/sdb1/exports/{digest}").text
    assert page.runner.asked == []


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Page]:
    """Chi's browser, who is an admin, at a site where admins let out what was drawn from the audit record."""
    ana, ben, chi, dag = signatories()
    site = open_site(tmp_path, enrolled=0)
    named = {**site.config.model_dump(), "profile": "gpu-server", "media": {"auditors": ["admin"]}}
    site.config = Config.model_validate(named)
    site.restart()
    for code, person in zip(site.client.codes(2, admins=2), (ana, ben, chi, dag), strict=True):
        certificate = b"" if person in {chi, dag} else person.certificate
        site.client.enrol(code=code, name=person.name, certificate=certificate, password=PASSWORD)
    state, runner = open_state(site.config.at), Runner()
    try:
        yield Page(site=site, state=state, browser=logged_in(page_of(site, state, runner=runner), chi), runner=runner)
    finally:
        state.dispose()


def made(page: Page, kind: str) -> str:
    """Make a file that stands for an EXPORT, record it, and plug in a medium for it; return its digest."""
    places, content = page.site.config.at, canonical.dumps({"note": kind})
    digest = sha256_hex(content)
    places.receipts.mkdir(parents=True, exist_ok=True)
    (places.receipts / f"{kind}-demo-{digest[:12]}.json").write_bytes(content)
    page.site.ledger.append("export.written", {"type": kind, "sha256": digest})
    return digest


def test_an_admin_lets_figures_leave_and_an_approver_is_told_who_may(audited: Page) -> None:
    plug(audited)
    arrivals.keep_inspected(audited.site.config.at, STICK, claims=None, problem="it is no Sealift volume")
    probe, figures = made(audited, "probe"), made(audited, "figures")
    ana = replace(audited, browser=logged_in(page_of(audited.site, audited.state), signatories()[0]))

    assert "Let it leave on sdb1" in audited.browser.get(f"/media/exports/{figures}").text
    shown = ana.browser.get(f"/media/exports/{figures}").text
    assert "it takes an admin to let that leave" in shown
    assert '<form method="post" action="/media/sdb1' not in shown
    assert "Let it leave on sdb1" in ana.browser.get(f"/media/exports/{probe}").text
    refused = ana.post(f"/media/sdb1/exports/{figures}")

    assert refused.status_code == 400
    assert "it takes an admin to let figures leave" in refused.text
    (record,) = audited.site.ledger.find(kind="job.refused")
    assert (record.body["person"], record.body["needs"]) == (signatories()[0].id, ["admin"])
    assert audited.site.ledger.find(kind="job.asked") == []
    audited.job_after(audited.post(f"/media/sdb1/exports/{figures}"))
    assert audited.runner.asked == [("start", "sealift-export@sdb1.service")]
    assert ana.post(f"/media/sdb1/exports/{probe}").status_code == 302


def test_an_approver_reads_evidence_and_an_admin_has_it_made(audited: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    content = canonical.dumps({"note": "evidence"})
    draft = SimpleNamespace(draft=SimpleNamespace(to_payload=lambda **_: content))
    monkeypatch.setattr(export_evidence, "drafted", lambda *_, **__: (0, draft))
    record = audited.site.ledger.append("release.refused", {"site": "demo"}).sequence
    make = f"/media/evidence/{record}/{sha256_hex(content)}"
    ana = replace(audited, browser=logged_in(page_of(audited.site, audited.state), signatories()[0]))

    assert make in audited.browser.get(f"/media/evidence/{record}").text
    shown = ana.browser.get(f"/media/evidence/{record}").text
    assert "it takes an admin to let that leave" in shown
    assert make not in shown
    assert "it takes an admin to let evidence leave" in ana.post(make).text
    assert audited.site.ledger.find(kind="job.asked") == []
    assert audited.post(make).status_code == 302
