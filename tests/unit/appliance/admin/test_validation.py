"""The page of a validation: what the gates found, from the evidence, for whoever logged in."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from appliance.registry import evidence
from tests.support.adminpage import logged_in, page_of
from tests.support.floor import Floor, open_floor


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def browser_of(floor: Floor) -> FlaskClient:
    return logged_in(page_of(floor.site, floor.state))


def test_the_report_is_shown_and_printed_from_the_evidence(floor: Floor) -> None:
    descriptor = floor.bring()
    report = floor.validate(descriptor)
    browser, path = browser_of(floor), f"/versions/{descriptor.model_digest}/validation"

    page, printed = browser.get(path), browser.get(f"{path}.pdf")

    assert page.status_code == 200
    assert report.evidence_digest in page.text
    assert all(f"<td>{one.gate}</td>" in page.text for one in report.verdicts)
    assert page.text.count("<svg") == 2
    assert "16 at once" in page.text
    assert "NOBODY looked at its answers" in page.text
    assert printed.data.startswith(b"%PDF")
    assert path in browser.get(f"/versions/{descriptor.model_digest}").text


def test_evidence_that_was_changed_is_not_shown_and_strangers_see_nothing(floor: Floor) -> None:
    descriptor = floor.bring()
    path = f"/versions/{descriptor.model_digest}/validation"
    browser = browser_of(floor)
    assert browser.get(path).status_code == 404
    report = floor.validate(descriptor)
    file = evidence.folder(floor.site.config.at) / f"{report.evidence_digest}.json"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b'"passed":true', b'"passed":null'))

    answer = browser.get(path)

    assert answer.status_code >= 400
    assert report.evidence_digest not in answer.text
    browser.delete_cookie("sealift")
    assert create_stranger(floor).get(path).status_code in {302, 401, 403}


def create_stranger(floor: Floor) -> FlaskClient:
    return browser_of(floor).application.test_client()
