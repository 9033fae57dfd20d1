"""A receipt that a box really wrote goes back to the sender, who believes it without the box."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.verify import trust
from bundler.dispatch import media_of, record_receipt, record_site, record_written
from bundler.knownledgers import remember_ledgers
from bundler.ledgernote import LedgerKey
from bundler.plan import ReleasePlan
from bundler.register import Register
from bundler.write import write
from media.clock import FixedClock
from media.errors import BadSignatureError
from tests.support.candidate import new_candidate
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.medium import make_medium
from tests.support.receiving import Site


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        yield made


def test_a_receipt_goes_home_into_the_register(box: LedgerSite, tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    clock, register = FixedClock(datetime(2026, 11, 20, 12, tzinfo=UTC)), Register(folder=tmp_path / "r")
    places = [tmp_path / "one", tmp_path / "two"]
    for each in write(medium.work, places, ceremony=medium.ceremony):
        record_written(register, medium.work, each, clock=clock, to="demo-clinic")
    box.places.pinned_trust.mkdir(parents=True)
    (box.places.pinned_trust / trust.PINNED_ROOT).write_bytes(medium.root_json)
    site = Site(config=box.config.model_copy(update={"environment": "demo", "profile": "cpu"}))
    with box.running(site.clock):
        facts = site.receive(medium)
        key = LedgerKey.from_text((box.places.etc / "ledger.pub").read_text())
    came_back = (box.places.receipts / facts.receipt).read_bytes()

    record_site(register, "demo-clinic", key, replaces=False, clock=clock)
    found, is_new = record_receipt(register, came_back, clock=clock)

    assert is_new
    assert found.vouched_by == ("signature", "ledger")
    assert all(each.received for each in media_of(register.entries()))
    following = new_candidate(tmp_path / "w")
    known = remember_ledgers(following, register)
    assert [point["size"] for point in known.values()] == [(facts.sequence or 0) + 2]  # the receive, and its receipt
    assert ReleasePlan.load(following.plan).checkpoints == known
    with pytest.raises(BadSignatureError):
        record_receipt(register, came_back.replace(b'"sig":"', b'"sig":"AAAA')[: len(came_back) + 4], clock=clock)
