"""Volumes: the plan, the signed index, and every way in which an index can lie."""

from dataclasses import replace
from typing import Any

import pytest

from media import canonical, volumeplan
from media.errors import LimitExceededError, MalformedError, SealiftError, UnsafePathError, UnsupportedFormatError
from media.layout import BLOCK_BYTES, PART_BLOCKS
from media.release import Target
from media.volume import VolumeIndex
from tests.support.terms import large_target, small_target

_ROOM = 10 * BLOCK_BYTES


def _plan(targets: list[Target], *capacities: int) -> VolumeIndex:
    return volumeplan.plan(targets, capacities, release="2026.11", serial=7)


def _hashed(index: VolumeIndex) -> VolumeIndex:
    paths = [part.path for each in index.volumes for part in each.parts]
    return index.with_part_digests({path: f"{number:064x}" for number, path in enumerate(paths)})


def _layout(index: VolumeIndex) -> list[list[str]]:
    return [[part.path for part in each.parts] for each in index.volumes]


_SMALL = [small_target("data/release.json", b"{}", "release"), small_target("data/models/m/LICENSE", b"free")]
_WEIGHTS = large_target("data/models/m/w.gguf", 25 * BLOCK_BYTES + 3)


def test_everything_that_fits_lies_whole_on_one_volume() -> None:
    index = _plan([*_SMALL, _WEIGHTS], 30 * BLOCK_BYTES, _ROOM)

    assert _layout(index) == [["data/models/m/LICENSE", "data/models/m/w.gguf", "data/release.json"]]
    assert index.volumes[0].payload_bytes == 25 * BLOCK_BYTES + 3 + 6
    index.require_covers({each.path: each for each in [*_SMALL, _WEIGHTS]})


def test_small_files_fill_the_first_volume_and_weights_are_cut_on_blocks() -> None:
    index = _plan([_WEIGHTS, *_SMALL], _ROOM, _ROOM, _ROOM, _ROOM)

    assert _layout(index) == [
        ["data/models/m/LICENSE", "data/models/m/w.gguf.000000-000008", "data/release.json"],
        ["data/models/m/w.gguf.000009-000018"],
        ["data/models/m/w.gguf.000019-000025"],
    ]
    assert [part.length for _, part in index.parts_of("data/models/m/w.gguf")] == [
        9 * BLOCK_BYTES,
        10 * BLOCK_BYTES,
        6 * BLOCK_BYTES + 3,
    ]


def test_a_file_above_the_part_limit_is_cut_even_on_one_volume() -> None:
    big = large_target("data/w.gguf", (2 * PART_BLOCKS + 1) * BLOCK_BYTES)
    wheel = large_target("data/wheels/big.whl", (PART_BLOCKS + 1) * BLOCK_BYTES, "wheel")

    index = _plan([big, wheel], 10**12)

    assert _layout(index) == [
        [
            "data/w.gguf.000000-000059",
            "data/w.gguf.000060-000119",
            "data/w.gguf.000120-000120",
            "data/wheels/big.whl.000000-000059",
            "data/wheels/big.whl.000060-000060",
        ]
    ]
    last = index.parts_of("data/w.gguf")[-1][1]
    assert last.sha256 == big.blocks[120]


def test_a_file_of_exactly_the_part_limit_stays_whole() -> None:
    for kind in ("weights", "wheel"):
        index = _plan([large_target("data/w.gguf", PART_BLOCKS * BLOCK_BYTES, kind)], 10**12)

        assert _layout(index) == [["data/w.gguf"]]
        assert VolumeIndex.from_bytes(index.to_bytes()) == index
    with pytest.raises(LimitExceededError):
        _plan([large_target("data/w.whl", PART_BLOCKS * BLOCK_BYTES, "wheel")], 40 * BLOCK_BYTES, 40 * BLOCK_BYTES)


def test_a_file_that_just_fits_is_not_cut() -> None:
    target = large_target("data/w.gguf", BLOCK_BYTES + 5)

    assert _layout(_plan([target], BLOCK_BYTES + 4096, _ROOM)) == [["data/w.gguf"]]


def test_what_is_no_weights_is_not_cut_to_fit() -> None:
    wheel = large_target("data/wheels/a.whl", 6 * BLOCK_BYTES, "wheel")
    other = large_target("data/wheels/b.whl", 6 * BLOCK_BYTES, "wheel")

    assert _layout(_plan([wheel, other], _ROOM, _ROOM)) == [["data/wheels/a.whl"], ["data/wheels/b.whl"]]


def test_the_order_in_which_targets_are_given_does_not_matter() -> None:
    assert _plan([*_SMALL, _WEIGHTS], _ROOM, _ROOM, _ROOM) == _plan([_WEIGHTS, *_SMALL[::-1]], _ROOM, _ROOM, _ROOM)


def test_attestations_are_no_payload() -> None:
    attested = small_target("attest/sbom.dsse.json", b"sbom", "attestation")

    assert _plan([*_SMALL, attested], _ROOM) == _plan(_SMALL, _ROOM)


def test_empty_files_travel() -> None:
    targets = [small_target("data/empty", b""), small_target("data/w.gguf", b"", "weights")]
    index = _plan(targets, _ROOM)

    assert _layout(index) == [["data/empty", "data/w.gguf"]]
    read = VolumeIndex.from_bytes(index.to_bytes())
    read.require_covers({each.path: each for each in targets})


@pytest.mark.parametrize("capacities", [(), (0,), (5 * BLOCK_BYTES,), (_ROOM, _ROOM), (100,) * 99])
def test_too_little_room_is_said_with_both_numbers(capacities: tuple[int, ...]) -> None:
    with pytest.raises(LimitExceededError) as caught:
        _plan([*_SMALL, _WEIGHTS], *capacities)

    needed = 26 * BLOCK_BYTES - BLOCK_BYTES + 4096 * 3
    assert str(needed) in caught.value.why
    assert str(sum(capacities)) in caught.value.why


def test_space_is_counted_as_a_file_system_allots_it() -> None:
    two = [small_target("data/a", b"a"), small_target("data/b", b"b")]

    assert len(_plan(two, 8192).volumes) == 1
    assert len(_plan(two, 8191, 4096).volumes) == 2


def test_an_index_is_read_back() -> None:
    index = _hashed(_plan([*_SMALL, _WEIGHTS], _ROOM, _ROOM, _ROOM))

    assert VolumeIndex.from_bytes(index.to_bytes()) == index


def test_a_plan_with_unhashed_parts_cannot_be_written() -> None:
    with pytest.raises(MalformedError):
        _plan([*_SMALL, _WEIGHTS], _ROOM, _ROOM, _ROOM).to_bytes()


def test_digests_that_are_known_are_not_overwritten() -> None:
    index = _plan(_SMALL, _ROOM)

    assert index.with_part_digests({"data/release.json": "ab" * 32}) == index


def _change(**parts: Any) -> Any:
    def change(value: dict[str, Any]) -> None:
        value["volumes"][1]["parts"][0].update(parts)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(format=0),
        lambda value: value.update(release=""),
        lambda value: value.update(serial=0),
        lambda value: value.update(payload_digest="ab" * 32),
        lambda value: value.update(payload_digest="ab"),
        lambda value: value.update(volumes=[]),
        lambda value: value.update(volumes={}),
        lambda value: value.update(note=1),
        lambda value: value.pop("serial"),
        lambda value: value["volumes"].pop(0),
        lambda value: value["volumes"].reverse(),
        lambda value: value["volumes"].append(value["volumes"][0]),
        lambda value: value["volumes"][0].update(number=2),
        lambda value: value["volumes"][0].update(id="0" * 16),
        lambda value: value["volumes"][0].update(parts={}),
        lambda value: value["volumes"][0].update(label="x"),
        lambda value: value["volumes"][0]["parts"].reverse(),
        lambda value: value["volumes"][0]["parts"].append(value["volumes"][0]["parts"][-1]),
        lambda value: value["volumes"][1]["parts"].pop(),
        _change(target="data/other"),
        _change(target="../x"),
        _change(path="data/models/m/w.gguf"),
        _change(path="data/models/m/w.gguf.9-18"),
        _change(path="../../etc/passwd"),
        _change(first=8),
        _change(first=8, path="data/models/m/w.gguf.000008-000018"),
        _change(first=8, path="data/models/m/w.gguf.000008-000018", length=11 * BLOCK_BYTES),
        _change(first=10, path="data/models/m/w.gguf.000010-000018", length=9 * BLOCK_BYTES),
        _change(first=20, last=18),
        _change(last=17),
        _change(last=2**40),
        _change(length=10 * BLOCK_BYTES - 1),
        _change(length=9 * BLOCK_BYTES),
        _change(length=10 * BLOCK_BYTES + 1),
        _change(length=0),
        _change(length=-1),
        _change(sha256=""),
        _change(sha256="AB" * 32),
        _change(note=1),
    ],
)
def test_an_index_that_lies_is_refused(change: Any) -> None:
    value = canonical.loads(_hashed(_plan([*_SMALL, _WEIGHTS], _ROOM, _ROOM, _ROOM)).to_bytes())
    change(value)

    with pytest.raises(SealiftError):
        VolumeIndex.from_bytes(canonical.dumps(value))


def test_an_index_has_one_form() -> None:
    data = _plan(_SMALL, _ROOM).to_bytes()

    for other in (data + b"\n", b" " + data, data.replace(b":", b": ", 1)):
        with pytest.raises(MalformedError):
            VolumeIndex.from_bytes(other)


def test_a_later_format_is_named_and_not_guessed_at() -> None:
    data = _plan(_SMALL, _ROOM).to_bytes().replace(b'"format":1', b'"format":2')

    with pytest.raises(UnsupportedFormatError):
        VolumeIndex.from_bytes(data)


def _one_part(**changes: Any) -> VolumeIndex:
    index = _plan([large_target("data/w.gguf", 2 * BLOCK_BYTES)], _ROOM)
    part = replace(index.volumes[0].parts[0], **changes)
    return replace(index, volumes=(replace(index.volumes[0], parts=(part,)),))


def _empty_last_part() -> VolumeIndex:
    index = _hashed(_plan([large_target("data/w", 61 * BLOCK_BYTES)], 10**12))
    first, last = index.volumes[0].parts
    return replace(index, volumes=(replace(index.volumes[0], parts=(first, replace(last, length=0))),))


@pytest.mark.parametrize(
    "index",
    [
        _one_part(first=1, length=BLOCK_BYTES),
        _one_part(path="data/w.gguf.000000-000001"),
        _one_part(target="release.json", path="release.json"),
        _one_part(target="data", path="data"),
        _one_part(length=BLOCK_BYTES),
        _one_part(length=2 * BLOCK_BYTES + 1),
        _one_part(target="attest/x", path="attest/x"),
        _one_part(last=PART_BLOCKS, length=(PART_BLOCKS + 1) * BLOCK_BYTES),
        replace(_one_part(), volumes=()),
        replace(_one_part(), volumes=_one_part().volumes * 100),
        _empty_last_part(),
    ],
)
def test_what_would_be_refused_is_not_written(index: VolumeIndex) -> None:
    with pytest.raises(SealiftError):
        index.to_bytes()


def test_two_files_cannot_share_a_name_on_any_file_system() -> None:
    cut = large_target("data/w", 61 * BLOCK_BYTES)
    clash = large_target("data/w.000000-000059", BLOCK_BYTES)
    for targets in ([small_target("data/a", b"a"), small_target("data/A", b"b")], [cut, clash]):
        with pytest.raises(UnsafePathError):
            _hashed(_plan(targets, 10**12)).to_bytes()
    upper = [large_target("data/w", 61 * BLOCK_BYTES), large_target("data/W", 62 * BLOCK_BYTES)]
    with pytest.raises(UnsafePathError):
        _hashed(_plan(upper, 10**12)).to_bytes()


def test_a_whole_file_of_many_blocks_has_the_target_s_digest() -> None:
    target = large_target("data/w.gguf", 2 * BLOCK_BYTES)

    with pytest.raises(MalformedError):
        _one_part(sha256="ab" * 32).require_covers({target.path: target})


def test_an_index_covers_exactly_the_targets() -> None:
    targets = {each.path: each for each in [*_SMALL, _WEIGHTS]}
    index = _hashed(_plan(list(targets.values()), _ROOM, _ROOM, _ROOM))
    index.require_covers({**targets, "attest/x": small_target("attest/x", b"x", "attestation")})

    longer = large_target(_WEIGHTS.path, _WEIGHTS.length + BLOCK_BYTES)
    for others in (
        {path: each for path, each in targets.items() if each is not _WEIGHTS},
        {**targets, "data/more": small_target("data/more", b"more")},
        {**targets, _WEIGHTS.path: longer},
        {**targets, _WEIGHTS.path: replace(_WEIGHTS, length=_WEIGHTS.length - 1)},
        {**targets, "data/release.json": small_target("data/release.json", b"[]", "release")},
    ):
        with pytest.raises(MalformedError):
            index.require_covers(others)
    with pytest.raises(MalformedError):
        replace(index, volumes=index.volumes[:-1]).require_covers(targets)


def test_a_part_of_one_block_has_the_block_s_digest() -> None:
    target = large_target("data/w.gguf", 3 * BLOCK_BYTES)
    index = _hashed(_plan([target], BLOCK_BYTES, 2 * BLOCK_BYTES))
    index.require_covers({target.path: target})

    other = replace(target, blocks=("ab" * 32, *target.blocks[1:]))
    with pytest.raises(MalformedError, match="000000-000000"):
        index.require_covers({target.path: other})
