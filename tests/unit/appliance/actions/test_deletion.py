"""Deleting a version end to end: refused while loaded, then its bytes go, and old answers are still traced."""

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.actions.deletion import delete
from appliance.actions.prove import prove
from appliance.actions.validate import validate
from appliance.audit import pin
from appliance.audit.note import VerifierKey
from appliance.errors import ConflictError, UnknownVersionError
from appliance.install.supervisor import engine_unit
from appliance.store.content import ContentStore
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories

ANA, *_ = signatories()


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        opened.site.config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(opened.site.config.at, VerifierKey.from_text(opened.site.ledger.vkey))
        yield opened


def gone(floor: Floor, which: str, **changes: Any) -> Any:
    return delete(floor.here, which, person=ANA.id, reason="superseded", **changes)


def test_a_version_whose_engine_is_loaded_is_not_deleted(floor: Floor) -> None:
    version = floor.bring()
    floor.supervisor.start(engine_unit("test", version.model_digest))

    with pytest.raises(ConflictError) as refused:
        gone(floor, version.model_digest)
    assert "loaded in test (warm)" in refused.value.why
    assert floor.site.ledger.find(kind="model.deleted") == []

    floor.supervisor.stop(engine_unit("test", version.model_digest))
    assert gone(floor, version.model_digest).collected.bytes == version.weights[0].length


def test_what_is_in_production_is_refused_for_that_and_nobody_is_told_to_wait_for_its_engine(floor: Floor) -> None:
    version = floor.bring()
    floor.serve(version)

    with pytest.raises(ConflictError) as refused:
        gone(floor, version.model_digest)
    assert refused.value.why == "it is in production; its engine is loaded in production (warm)"
    assert "unload" not in refused.value.fix


def test_a_dry_run_says_what_needs_it_and_changes_nothing(floor: Floor) -> None:
    version = floor.bring()
    floor.serve(version)

    facts = gone(floor, "production", dry_run=True)

    assert facts.needs == ("it is in production", "its engine is loaded in production (warm)")
    assert (facts.bytes, facts.sequence) == (version.weights[0].length, None)
    assert floor.in_production() == version.model_digest


def test_bytes_go_names_are_unknown_and_what_it_answered_is_still_traced(floor: Floor) -> None:
    old, middle, new = (floor.bring(weights) for weights in ("first", "second", "third"))
    for version in (old, middle, new):
        floor.serve(version)
        if version is old:
            intent = floor.site.ledger.append("request.intent", {"request_id": "r", "model_digest": old.model_digest})
            body = {"request_id": "r", "intent_sequence": intent.sequence, "outcome": "ok"}
            floor.site.ledger.append("request.outcome", body)

    facts = gone(floor, old.model_digest)

    assert [one.sha256 for one in facts.collected.found] == [old.weights_digest]
    store = ContentStore(floor.site.config.at.store)
    assert not store.object_path(old.weights_digest).exists()
    assert store.object_path(new.weights_digest).exists()
    with pytest.raises(UnknownVersionError):
        validate(floor.bench, old.model_digest)
    steps = {step.name: step for step in prove(floor.site.config, floor.site.ledger, "r").steps}
    assert steps["version"].ok
    assert steps["approvals"].ok
    assert not steps["weights"].ok
    assert f"by {ANA.id}" in str(steps["weights"])
