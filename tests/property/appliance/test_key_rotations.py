"""Random histories of records, rotations and restores: which key may sign which tree, and that both readers agree."""

import json
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.actions.auditing import making
from appliance.audit import succession
from appliance.audit.leaf import Leaf, encode, encode_body
from appliance.audit.succession import Keys
from appliance.audit.verify import verify
from appliance.errors import ProofError
from media.clock import FixedClock
from media.errors import SealiftError
from tests.support import checker
from tests.support.rotation import BEGIN, Rotated

pytestmark = pytest.mark.interop
STEPS = st.lists(st.sampled_from(["grow", "grow", "rotate", "sign", "restore"]), max_size=12)
QUIET = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return checker.loaded()


def played(steps: list[str]) -> Rotated:
    made = Rotated()
    for step in steps:
        getattr(made, step)()
    made.grow()
    return made


def believed(module: ModuleType, made: Rotated, text: str) -> bool:
    """Tell whether the checker takes a checkpoint by the keys that the records name."""
    walk = module.Walk(0, 0, [])
    for leaf in made.ledger.leaves(0, 10_000):
        walk.note_keys(json.loads(leaf.raw))
    try:
        module.signed_head(text, list(walk.keys.values()))
    except module.RefusedError:
        return False
    return True


@QUIET
@given(steps=STEPS)
def test_every_key_signs_the_trees_of_its_range_and_no_other(module: ModuleType, steps: list[str]) -> None:
    made = played(steps)
    keys = succession.of_ledger(made.ledger)
    ranges = [held for origin in dict.fromkeys(origin for origin, _ in made.keys) for held in keys.of(origin)]

    assert [held.key.name for held in ranges] == [origin for origin, _ in made.keys]
    for index, held in enumerate(ranges):
        edges = {held.first, held.first - 1, held.last or 0, (held.last or 0) + 1, made.log.head().size}
        for size in sorted(each for each in edges if 0 < each <= made.log.head().size):
            text = made.signed_by(index, size)
            try:
                keys.checkpoint(text)
                is_taken = True
            except ProofError:
                is_taken = False
            assert is_taken == held.signs(size)
            assert believed(module, made, text) == is_taken
    assert verify(made.ledger, pinned=made.log.vkey, notes=made.printed).findings == ()


@QUIET
@given(steps=STEPS, data=st.data())
def test_an_export_is_taken_with_any_key_of_the_epoch_and_with_every_print(
    module: ModuleType, steps: list[str], data: st.DataObject
) -> None:
    made = played(steps)
    own = [held.key.to_text() for held in succession.of_ledger(made.ledger).of(made.log.origin)]
    key = data.draw(st.sampled_from(own))
    # What a restore's epoch says of the time before is the whole prefix; a range needs no more than one second of it.
    since = data.draw(st.sampled_from(["", "2026-11-20T08:00:01Z", "2026-11-20T08:00:02Z"]))
    with tempfile.TemporaryDirectory() as place:
        folder, prints = Path(place) / "out", list[str | Path]()
        for number, text in enumerate(made.printed):
            printed = Path(place) / f"{number}.txt"
            printed.write_text(text)
            prints += ["--printed", printed]
        wanted = making.Wanted(site="demo", key=made.log.vkey, since=since, printed=made.printed)
        try:
            making.make(made.ledger, folder, wanted, clock=FixedClock(BEGIN))
        except SealiftError:
            assert since  # no record is of that time
            return
        about = json.loads((folder / "export.json").read_bytes())

        assert about["format"] == (3 if "rotate" in steps else 2)
        assert checker.ending(module, "ledger", "--key", key, *prints, folder) == 0
        stranger = Rotated().log.vkey.to_text()
        assert checker.ending(module, "ledger", "--key", stranger, folder) == 21
        for index in range(len(made.keys) - 1):
            forged = Path(place) / "forged.txt"
            forged.write_text(made.signed_by(index, about["size"]))
            assert checker.ending(module, "ledger", "--key", key, "--printed", forged, folder) in {21, 91}


@QUIET
@given(steps=STEPS, data=st.data())
def test_every_change_of_a_rotation_is_refused_by_both(
    module: ModuleType, steps: list[str], data: st.DataObject
) -> None:
    made = played([*steps, "rotate"])
    leaves = made.ledger.leaves(0, 10_000, kinds=succession.NAMING)
    place = data.draw(st.sampled_from([index for index, leaf in enumerate(leaves) if leaf.kind == succession.ROTATED]))
    leaf = leaves[place]
    body = dict(leaf.body)
    name = data.draw(st.sampled_from(["vkey", "previous", "note"]))
    text = str(body[name])
    at = data.draw(st.integers(0, len(text) - 1))
    body[name] = text[:at] + data.draw(st.sampled_from("A\n+ 7")) + text[at + 1 :]
    if body[name] == text:
        return
    raw = encode(
        origin=leaf.origin,
        sequence=leaf.sequence,
        time=leaf.time,
        kind=leaf.kind,
        via=leaf.via,
        body=encode_body(leaf.kind, body),
    )
    walk = module.Walk(0, 0, [])

    with pytest.raises(SealiftError):
        Keys([*leaves[:place], Leaf.from_bytes(raw)])
    for one in leaves[:place]:
        walk.note_keys(json.loads(one.raw))
    with pytest.raises((module.RefusedError, ValueError)):
        walk.note_keys(json.loads(raw))
