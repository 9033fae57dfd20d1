"""Media on the page: what people see of a stick, and what they may ask for."""

from dataclasses import replace

from appliance.install import arrivals
from media import canonical
from media.digest import sha256_hex
from tests.support.adminpage import Page
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
