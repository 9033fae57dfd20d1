"""Legal holds over all that a version, a release, a medium, a signer or an approver touched, later too."""

from pathlib import Path

import pytest

from appliance.actions.retention.expiring import HELD
from appliance.actions.tracing.selection import By, Selector
from appliance.errors import LegalHoldError
from media.errors import MalformedError
from tests.support.ledger import bodies, intent
from tests.support.retention import DAY, WHO, Kept, kept

A, B = "a" * 64, "b" * 64


@pytest.fixture
def site(tmp_path: Path) -> Kept:
    found = kept(tmp_path)
    found.ledger.append("model.registered", bodies(A)["model.registered"])
    return found


def answer(site: Kept, request_id: str, digest: str) -> None:
    site.ledger.append("request.intent", intent(request_id, model_digest=digest))
    site.store.add(request_id, subject=f"of {request_id}", content=b"text", days=1)


def left(site: Kept) -> set[str]:
    return {sample.request_id for sample in site.store.samples()}


def test_a_hold_keeps_what_the_selector_covers_and_nothing_else(site: Kept) -> None:
    answer(site, "req_1", A)
    answer(site, "req_2", B)
    held = site.retention.hold(Selector(by=By.VERSION, value=A), **WHO)
    answer(site, "req_3", A)  # later than the hold
    site.clock.advance(2 * DAY)

    assert site.retention.expire() == 1
    assert left(site) == {"req_1", "req_3"}
    with pytest.raises(LegalHoldError):
        site.retention.erase("of req_3", subject_hash="0" * 64, **WHO)
    site.retention.release(held.number, **WHO)
    assert site.retention.expire() == 2
    assert left(site) == set()


def test_a_release_that_is_received_after_the_hold_is_covered(site: Kept) -> None:
    site.retention.hold(Selector(by=By.MEDIUM, value="VOL-1"), **WHO)
    received = {
        **bodies()["release.received"],
        "volumes": [{"number": 1, "id": "VOL-1", "tagmanifest_sha256": "c" * 64}],
    }
    site.ledger.append("release.received", received)
    answer(site, "req_1", A)
    answer(site, "req_2", B)
    site.clock.advance(2 * DAY)

    assert site.retention.expire() == 1
    assert left(site) == {"req_1"}


def test_the_time_of_the_selector_bounds_the_hold(site: Kept) -> None:
    answer(site, "req_1", A)
    site.clock.advance(DAY / 2)
    site.retention.hold(Selector(by=By.VERSION, value=A, since="2026-03-01T12:00:00Z"), **WHO)
    answer(site, "req_2", A)
    site.clock.advance(2 * DAY)

    assert site.retention.expire() == 1
    assert left(site) == {"req_2"}


def test_a_sample_whose_request_no_record_shows_is_kept_by_every_selector(site: Kept) -> None:
    site.store.add("req_unknown", subject="pat", content=b"text", days=1)
    site.retention.hold(Selector(by=By.SIGNER, value="nobody"), **WHO)
    site.clock.advance(2 * DAY)

    assert site.retention.expire() == 0


def test_a_hold_of_a_later_version_that_nobody_can_read_keeps_everything(site: Kept) -> None:
    answer(site, "req_1", B)
    site.ledger.append(HELD, {"about": "moon 4", "selector": {"by": "moon", "value": "4"}, **WHO})
    site.clock.advance(2 * DAY)

    assert site.retention.expire() == 0
    assert [hold.about for hold in site.retention.holds()] == ["all"]


def test_a_hold_is_read_back_as_it_was_made(site: Kept) -> None:
    selector = Selector(by=By.APPROVER, value="ana", since="2026-03-01T12:00:00Z", until="2026-04-01T00:00:00Z")
    made = site.retention.hold(selector, **WHO)

    assert site.retention.holds() == (made,)
    assert made.covered == selector
    assert made.about == "approver ana since 2026-03-01T12:00:00Z until 2026-04-01T00:00:00Z"


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 129, "\u202eana"])
def test_a_selector_that_cannot_be_said_is_refused(value: str) -> None:
    with pytest.raises(MalformedError):
        Selector.from_json({"by": "signer", "value": value, "since": "", "until": ""})
