"""What changes nothing on this box waits for nothing; what was cut off is gone on with, whether or not more comes."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from appliance.actions.standby import keeping, sending, status
from appliance.cli import standby
from appliance.errors import WireError
from appliance.promote.client import PromoterClient
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.commands import Run, typed
from tests.support.promotion import Site, digest
from tests.support.signatories import signatories
from tests.unit.appliance.standby.test_keeping import receive

__all__ = ["first", "second"]  # fixtures

VERSION = digest("version")


def waiting(box: Site) -> int:
    (found,) = status.read(box.config, ledger=box.ledger, clock=box.clock)
    return found.waiting


def test_what_both_boxes_decided_alike_is_gone_past(first: Site, second: Site) -> None:
    second.enrol(*signatories()[:2])  # with the very keys

    taken = boxes.carry(first, second, name="two", peer="one")

    assert (taken.people, taken.waits, waiting(second)) == (0, "", 0)
    records = second.ledger.head().size
    again = boxes.take(second, "one")
    assert (again.next, second.ledger.head().size) == (taken.next, records)
    first.promote(VERSION)
    receive(second, VERSION)
    assert boxes.carry(first, second, name="two", peer="one").promotions == 1


def test_a_release_that_was_installed_since_is_not_missed(first: Site, second: Site) -> None:
    for serial in (7, 8):
        first.ledger.append("install.done", {"serial": serial, "release": "2026.11"})
    boxes.carry(first, second, name="two", peer="one")
    assert missing(second) == (7, 8)

    second.ledger.append("install.done", {"serial": 7, "release": "2026.11"})

    assert missing(second) == (8,)


def missing(box: Site) -> tuple[int, ...]:
    (found,) = status.read(box.config, ledger=box.ledger, clock=box.clock)
    return found.missing


@pytest.fixture
def sealift(second: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The commands at the second box; what goes to the first one is not sent."""
    monkeypatch.setattr(standby, "ledger_of", lambda _: nullcontext(second.ledger))
    monkeypatch.setattr(standby, "promoter_of", lambda _: nullcontext(second.client))
    monkeypatch.setattr(sending, "send", lambda *_, **__: sending.Sent(start=1, size=1))
    site = tmp_path / "sealift.toml"
    site.write_text(
        f'site = "{second.config.site}"\nenvironment = "demo"\n[places]\nroot = "{second.config.at.root}"\n'
    )
    return typed(site, [standby], capsys)


def test_what_was_brought_and_not_taken_over_is_taken_in_the_next_turn(
    first: Site, second: Site, sealift: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = sending.inbox_of(second.config)
    inbox.mkdir(parents=True)
    keeping.write(inbox / "one.ready", boxes.bundle(first, "two"))

    def starts(*_: object) -> bool:
        raise WireError(what="sealift-promoter does not answer", why="it starts", fix="")

    with monkeypatch.context() as starting:
        starting.setattr(PromoterClient, "carry", starts)
        assert sealift("standby", "sync", "one").code == WireError.exit_code
    assert waiting(second) == 2

    done = sealift("standby", "sync", "one")

    assert (done.code, waiting(second)) == (0, 0)
    assert "took over 2 changes of people" in done.out
    assert "took over" not in sealift("standby", "sync", "one").out
