"""Reports on the page: made by a job, listed, and saved as the ledger recorded them."""

from appliance.actions.reports import making, shelf
from appliance.actions.reports.period import Period, this_quarter
from appliance.audit.note import VerifierKey
from tests.support.adminpage import Page


def keep(page: Page) -> str:
    site = page.site
    key = VerifierKey.from_text(site.ledger.vkey)

    def count(period: Period) -> dict[str, object]:
        return making.counted(site.ledger, period, site="demo", key=key, clock=site.clock)

    name = this_quarter(site.clock.now()).name
    assert shelf.keep(site.config.at.reports, site.ledger, name, count, clock=site.clock)
    return name


def test_a_report_is_asked_for_by_a_job(page: Page) -> None:
    name = this_quarter(page.site.clock.now()).name
    assert "None was made yet." in page.browser.get("/reports").text
    page.job_after(page.post("/reports", quarter=name))

    assert page.runner.asked == [("start", f"sealift-report@{name.lower()}.service")]
    asked = page.site.ledger.find(kind="job.asked")[0].body
    assert (asked["kind"], asked["quarter"], asked["door"]) == ("make-report", name, "jobs-admin")


def test_a_made_report_is_listed_and_saved(page: Page) -> None:
    name = keep(page)

    shown = page.browser.get("/reports").text
    assert f"/reports/{name}.pdf" in shown
    answer = page.browser.get(f"/reports/{name}.pdf")
    assert answer.data.startswith(b"%PDF")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="report-{name}.pdf"'
    assert page.browser.get(f"/reports/{name}.html").headers["Content-Disposition"].startswith("attachment")


def test_a_changed_report_is_neither_listed_nor_saved(page: Page) -> None:
    name = keep(page)
    (page.site.config.at.reports / f"{name}.html").write_text("<p>all is well</p>")

    assert f"/reports/{name}.html" not in page.browser.get("/reports").text
    assert page.browser.get(f"/reports/{name}.html").status_code == 404


def test_what_is_no_quarter_makes_no_job_and_reaches_no_file(page: Page) -> None:
    assert page.post("/reports", quarter="2026Q4;id").status_code == 400
    assert page.browser.get("/reports/..%2f..%2fetc.html").status_code in {400, 404}
    assert page.browser.get("/reports/2026Q4.lock").status_code == 404
    assert page.runner.asked == []
