"""Proofs that the page shows: every link verified afresh, recorded, and shown only as it was recorded."""

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.actions.tracing import proofs
from appliance.audit import pin
from appliance.audit.note import VerifierKey
from appliance.errors import JobRefusedError, StoreWriteError
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore
from media import canonical
from tests.support.floor import Floor, open_floor

pytestmark = pytest.mark.slow  # a site with engines and gates, seconds each
# What a store made by hand cannot show: it came from no medium.
NO_ORIGIN = {"release", "trust", "metadata", "media", "custody", "rehearsal"}


class Answered:
    """A site in whose production one version answered once."""

    def __init__(self, floor: Floor) -> None:
        self.floor, self.site = floor, floor.site
        self.site.config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(self.site.config.at, VerifierKey.from_text(self.site.ledger.vkey))
        self.descriptor: ModelDescriptor = floor.bring()
        floor.serve(self.descriptor)
        asked = {"request_id": "req_one", "model_digest": self.descriptor.model_digest}
        self.record = self.site.ledger.append("request.intent", asked).sequence
        body = {"request_id": "req_one", "intent_sequence": self.record, "outcome": "ok"}
        self.site.ledger.append("request.outcome", body)

    def keep(self, **more: Any) -> proofs.Kept:
        proofs.keep(self.site.config, self.site.ledger, self.record, clock=self.site.clock, **more)
        return self.kept()

    def kept(self) -> proofs.Kept:
        found = proofs.newest(self.site.config.at.proofs, self.site.ledger, self.record)
        assert found is not None
        return found

    def flip_a_byte_of_the_weights(self) -> None:
        held = ContentStore(self.site.config.at.store).object_path(self.descriptor.files[0].sha256)
        held.chmod(0o644)
        content = bytearray(held.read_bytes())
        content[len(content) // 2] ^= 1
        held.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def answered() -> Iterator[Answered]:
    with open_floor() as opened:
        yield Answered(opened)


def holding(kept: proofs.Kept) -> dict[str, bool]:
    return {str(step["name"]): bool(step["ok"]) for step in kept.steps}


def test_each_link_is_kept_with_its_time_and_what_fails_is_on_record(answered: Answered) -> None:
    told: list[tuple[str, int, int]] = []
    kept = answered.keep(tell=lambda *said: told.append(said))

    assert set(kept.failed) == NO_ORIGIN == {name for name, ok in holding(kept).items() if not ok}
    assert all(step["at"].endswith("Z") for step in kept.steps if not step["detail"].startswith("not checked"))
    total = sum(file.length for file in answered.descriptor.files)
    assert ("weights", total, total) in told
    leaf = answered.site.ledger.leaf(kept.sequence)
    assert (leaf.kind, leaf.body["record"], leaf.body["ok"]) == (proofs.PROVEN, answered.record, False)
    assert not kept.has_file
    assert proofs.file(answered.site.config.at.proofs, answered.site.ledger, answered.record) is None


def test_what_was_changed_after_it_was_recorded_is_not_shown(answered: Answered) -> None:
    answered.keep()
    path = answered.site.config.at.proofs / f"{answered.record}.json"
    told = canonical.loads(path.read_bytes(), allow_floats=True)
    told["steps"] = [{**step, "ok": True} for step in told["steps"]]
    path.write_bytes(canonical.dumps(told, allow_floats=True) + b"\n")
    assert answered.kept().steps == ()
    path.unlink()

    assert (answered.kept().steps, answered.kept().ok) == ((), False)


def test_only_an_answers_record_has_an_origin(answered: Answered) -> None:
    before = answered.site.ledger.head().size
    with pytest.raises(JobRefusedError, match="not about an answer"):
        proofs.keep(answered.site.config, answered.site.ledger, 0, clock=answered.site.clock)

    assert answered.site.ledger.head().size == before
    assert proofs.newest(answered.site.config.at.proofs, answered.site.ledger, 0) is None


def test_the_newest_are_kept_and_a_folder_that_takes_none_says_so(
    answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_MOST_KEPT", 1)
    folder = answered.site.config.at.proofs
    answered.keep()
    (folder / "1.json").write_bytes(b"{}")
    answered.keep()
    assert [one.name for one in folder.iterdir()] == [f"{answered.record}.json"]
    for one in folder.iterdir():
        one.unlink()
    folder.rmdir()
    folder.write_bytes(b"")

    try:
        with pytest.raises(StoreWriteError, match="could not be kept"):
            answered.keep()
    finally:
        folder.unlink()


def test_one_flipped_byte_of_the_weights_breaks_that_link_and_no_other(answered: Answered) -> None:
    before = answered.keep()
    answered.flip_a_byte_of_the_weights()
    after = answered.keep()
    answered.flip_a_byte_of_the_weights()

    assert holding(before)["weights"]
    assert set(after.failed) == NO_ORIGIN | {"weights"}
    assert after.sequence > before.sequence
