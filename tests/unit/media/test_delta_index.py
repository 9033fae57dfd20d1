"""The signed index of a delta set, and every way in which it can lie about what it takes for granted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from media import canonical, limits, volumeplan
from media.deltabase import Base, Knowledge, Run
from media.errors import MalformedError, SealiftError
from media.layout import BLOCK_BYTES
from media.volume import VolumeIndex
from media.volumeplan import Delta
from tests.support.terms import large_target, small_target

_WEIGHTS = large_target("data/models/m/w.gguf", 9 * BLOCK_BYTES + 5)
_FACTS = small_target("data/release.json", b"{}", "release")
_HELD = small_target("data/models/m/LICENSE", b"free")
_EMPTY = small_target("data/models/m/empty", b"")
_TARGETS = {each.path: each for each in (_WEIGHTS, _FACTS, _HELD, _EMPTY)}
_RUNS = (
    Run(target=_WEIGHTS.path, first=0, last=2, object="ab" * 32, block=4),
    Run(target=_WEIGHTS.path, first=5, last=9, object="cd" * 32, block=0),
)


def _base(**changes: Any) -> Base:
    at = datetime(2026, 11, 20, 8, tzinfo=UTC)
    usual = Base(site="demo-clinic", source=Knowledge.INVENTORY, at=at, serials=(3, 5), runs=_RUNS)
    return replace(usual, **changes)


def _index(base: Base | None = None, *, rooms: tuple[int, ...] = (10 * BLOCK_BYTES,)) -> VolumeIndex:
    delta = Delta(base=base or _base(), carried={_WEIGHTS.path: [(3, 4)], _FACTS.path: [(0, 0)]})
    index = volumeplan.plan(_TARGETS.values(), rooms, release="2026.12", serial=7, delta=delta)
    return index.with_part_digests({part.path: "12" * 32 for volume in index.volumes for part in volume.parts})


def _json(index: VolumeIndex) -> dict[str, Any]:
    value: dict[str, Any] = canonical.loads(index.to_bytes())
    return value


def test_a_delta_index_comes_back_and_covers_the_release() -> None:
    index = _index()

    assert VolumeIndex.from_bytes(index.to_bytes()) == index
    index.require_covers(_TARGETS)
    assert [part.path for part in index.volumes[0].parts] == [f"{_WEIGHTS.path}.000003-000004", _FACTS.path]
    assert {target.path for target in index.held_whole(_TARGETS)} == {_HELD.path, _EMPTY.path}
    assert [type(piece).__name__ for piece in index.pieces()[_WEIGHTS.path]] == ["Run", "Part", "Run"]
    assert index.sealed_entry(1) == "metadata/custody-sealed-1.dsse.json"


def test_a_range_that_does_not_fit_one_volume_is_cut() -> None:
    index = _index(rooms=(BLOCK_BYTES + 8192, BLOCK_BYTES))

    assert [[part.path for part in each.parts] for each in index.volumes] == [
        [f"{_WEIGHTS.path}.000003-000003", _FACTS.path],
        [f"{_WEIGHTS.path}.000004-000004"],
    ]


def test_what_is_not_carried_needs_no_room() -> None:
    with pytest.raises(SealiftError, match="hold"):
        _index(rooms=(2 * BLOCK_BYTES + 4095,))
    assert _index(rooms=(2 * BLOCK_BYTES + 4096,)).volumes[0].payload_bytes == 2 * BLOCK_BYTES + 2


def test_ids_differ_from_the_full_set_s_and_from_those_of_any_other_base() -> None:
    full = volumeplan.plan(_TARGETS.values(), (20 * BLOCK_BYTES,), release="2026.12", serial=7)
    others = [_base(serials=(3,)), _base(site="other"), _base(source=Knowledge.REGISTER), _base(runs=_RUNS[:1])]
    ids = {each.volumes[0].id for each in (full, _index(), *(_index(other) for other in others))}

    assert len(ids) == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda base: base["runs"].pop(0),
        lambda base: base["runs"].reverse(),
        lambda base: base["runs"].append(base["runs"][-1]),
        lambda base: base["runs"][0].update(last=3),
        lambda base: base["runs"][0].update(last=1),
        lambda base: base["runs"][0].update(first=1),
        lambda base: base["runs"][1].update(first=9, last=5),
        lambda base: base["runs"][0].update(object="AB" * 32),
        lambda base: base["runs"][0].update(block=-1),
        lambda base: base["runs"][0].update(block=limits.BLOCKS_PER_FILE),
        lambda base: base["runs"][0].update(target="attest/x"),
        lambda base: base["runs"][0].update(target="../x"),
        lambda base: base["runs"][0].update(more=1),
        lambda base: base.update(runs=[{**base["runs"][0], "target": _FACTS.path, "last": 0}, *base["runs"]]),
        lambda base: base.update(serials=[]),
        lambda base: base.update(serials=[5, 3]),
        lambda base: base.update(serials=[3, 3]),
        lambda base: base.update(serials=list(range(1, limits.BASE_SERIALS + 2))),
        lambda base: base.update(site="Demo Clinic"),
        lambda base: base.update(source="rumour"),
        lambda base: base.update(at="yesterday"),
        lambda base: base.update(set="00" * 32),
        lambda base: base.update(more=1),
        lambda base: base.pop("set"),
    ],
)
def test_a_base_that_does_not_hold_together_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    value = _json(_index())
    change(value["base"])
    known = VolumeIndex.from_bytes(_index().to_bytes())

    with pytest.raises(SealiftError):
        VolumeIndex.from_bytes(canonical.dumps(_resigned(value, known)))


def _resigned(value: dict[str, Any], known: VolumeIndex) -> dict[str, Any]:
    """Put the digest of the set right where that is possible, so that it is not what refuses the index."""
    try:
        base, stated = Base.from_json(value["base"])
    except SealiftError:
        return value
    if stated == known.set_digest:
        index = replace(known, base=base).with_ids()
        value["base"]["set"] = index.set_digest
        value["volumes"][0]["id"] = index.volumes[0].id
    return value


def test_a_base_cannot_be_taken_away_or_put_in() -> None:
    value = _json(_index())
    base = value.pop("base")
    with pytest.raises(MalformedError):
        VolumeIndex.from_bytes(canonical.dumps(value))

    full = volumeplan.plan(_TARGETS.values(), (20 * BLOCK_BYTES,), release="2026.12", serial=7)
    with pytest.raises(MalformedError):
        VolumeIndex.from_bytes(canonical.dumps({**_json(full), "base": base}))


@pytest.mark.parametrize(
    "targets",
    [
        {**_TARGETS, _WEIGHTS.path: large_target(_WEIGHTS.path, 9 * BLOCK_BYTES)},
        {**_TARGETS, _WEIGHTS.path: large_target(_WEIGHTS.path, 10 * BLOCK_BYTES + 1)},
        {path: each for path, each in _TARGETS.items() if path != _WEIGHTS.path},
        {path: each for path, each in _TARGETS.items() if path != _FACTS.path},
        {**_TARGETS, _FACTS.path: small_target(_FACTS.path, b"{ }", "release")},
    ],
)
def test_a_delta_index_of_other_targets_is_refused(targets: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        _index().require_covers(targets)


def test_an_empty_file_is_never_put_together_from_a_base() -> None:
    run = Run(target=_EMPTY.path, first=0, last=0, object="ab" * 32, block=0)
    index = _index(_base(runs=(run, *_RUNS)))

    with pytest.raises(MalformedError, match="empty"):
        index.require_covers(_TARGETS)
