"""What is written is read back as it was, and a plan keeps its promises for all sizes."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from media import bagit, canonical, digest, limits, volumeplan
from media.custody import HandOver, HandOverKind, Method
from media.errors import LimitExceededError, MalformedError, UnsafePathError
from media.layout import BLOCK_BYTES, PART_BYTES, require_distinct
from media.release import Kind, Target, targets_from
from media.volume import VolumeIndex
from tests.support.mutation import canonical_values
from tests.support.terms import large_target, targets_signed

_DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
_NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+~@-]{0,20}[A-Za-z0-9_]", fullmatch=True)
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map(lambda parts: "/".join(["data", *parts]))
_LINES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40)


@given(value=canonical_values)
def test_canonical_json_comes_back_and_is_the_only_form(value: Any) -> None:
    written = canonical.dumps(value)

    assert canonical.loads(written) == value
    assert canonical.loads_canonical(written) == value
    assert canonical.dumps(json.loads(written)) == written
    assert canonical.dumps(canonical.loads(json.dumps(value, indent=1).encode())) == written


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_where_allowed_come_back(value: float) -> None:
    try:
        written = canonical.dumps(value, allow_floats=True)
    except MalformedError:
        assert 2**53 <= abs(value) < 1e21
        return
    assert canonical.loads(written, allow_floats=True) == value


@given(entries=st.dictionaries(_PATHS, _DIGESTS, max_size=20))
def test_manifests_come_back(entries: dict[str, str]) -> None:
    try:
        written = bagit.render_manifest(entries)
    except UnsafePathError:
        return
    assert bagit.parse_manifest(written) == entries
    assert bagit.render_manifest(bagit.parse_manifest(written)) == written


@given(
    number=st.integers(1, 99),
    more=st.integers(0, 98),
    sizes=st.tuples(st.integers(0, limits.INTEGER_MAX), st.integers(0, 10**5)),
    serial=st.integers(0, 10**9),
)
def test_bag_info_comes_back(number: int, more: int, sizes: tuple[int, int], serial: int) -> None:
    info = bagit.BagInfo(
        release="2026.11",
        number=number,
        count=min(number + more, 99),
        payload_bytes=sizes[0],
        payload_files=sizes[1],
        serial=serial,
        volume_id="0123456789abcdef",
    )

    assert bagit.parse_bag_info(bagit.render_bag_info(info)) == info


@given(
    entry=st.integers(1, 256),
    texts=st.tuples(_LINES, _LINES, _LINES),
    seals=st.lists(_LINES, max_size=8),
    seconds=st.integers(0, 4_000_000_000),
    kind=st.sampled_from([each for each in HandOverKind if each is not HandOverKind.SEALED]),
    method=st.sampled_from(Method),
)
def test_hand_overs_come_back(
    entry: int, texts: tuple[str, str, str], seals: list[str], seconds: int, kind: HandOverKind, method: Method
) -> None:
    hand_over = HandOver(
        entry=entry,
        previous="ab" * 32,
        release="r",
        volume="0123456789abcdef",
        kind=kind,
        from_=texts[0],
        to=texts[1],
        at=datetime.fromtimestamp(seconds, tz=UTC),
        place=texts[2],
        seals=tuple(seals),
        condition="",
        method=method,
        entered_by="alice",
    )

    assert HandOver.from_payload(hand_over.to_payload()) == hand_over


@st.composite
def _targets(draw: st.DrawFn) -> list[Target]:
    lengths = st.integers(0, 4 * BLOCK_BYTES) | st.integers(0, 130).map(lambda blocks: blocks * BLOCK_BYTES + 1)
    kinds = st.sampled_from([str(kind) for kind in Kind if kind is not Kind.ATTESTATION])
    count = draw(st.integers(0, 6))
    return [large_target(f"data/f{number}", draw(lengths), draw(kinds)) for number in range(count)]


@given(targets=_targets(), capacities=st.lists(st.integers(0, 150 * BLOCK_BYTES), max_size=5))
def test_a_plan_carries_everything_once_within_the_room_or_says_no(
    targets: list[Target], capacities: list[int]
) -> None:
    try:
        index = volumeplan.plan(targets, capacities, release="r", serial=1)
    except LimitExceededError:
        return

    parts = [part for each in index.volumes for part in each.parts]
    index = index.with_part_digests({part.path: digest.sha256_hex(part.path.encode()) for part in parts})
    assert volumeplan.plan(targets[::-1], capacities, release="r", serial=1).volumes[0].id == index.volumes[0].id
    index.require_covers({each.path: each for each in targets})
    assert VolumeIndex.from_bytes(index.to_bytes()) == index
    assert all(part.length <= PART_BYTES for part in parts)
    require_distinct(part.path for part in parts)
    for each, capacity in zip(index.volumes, capacities, strict=False):
        assert sum(-(-part.length // 4096) * 4096 for part in each.parts) <= capacity
    weights = [part for part in parts if not part.is_whole and large_target(part.target, 1).kind == "weights"]
    assert all(part.first * BLOCK_BYTES + part.length <= 131 * BLOCK_BYTES for part in weights)


@given(targets=_targets(), room=st.integers(0, 300 * BLOCK_BYTES))
def test_a_release_that_fits_one_volume_is_not_split(targets: list[Target], room: int) -> None:
    needed = sum(-(-each.length // 4096) * 4096 for each in targets)

    index = volumeplan.plan(targets, [needed + 4096, room], release="r", serial=1)

    assert len(index.volumes) == 1


@given(targets=_targets())
def test_targets_come_back(targets: list[Target]) -> None:
    read = targets_from(canonical.loads(canonical.dumps(targets_signed(targets))))

    assert sorted(read.values(), key=lambda each: each.path) == sorted(targets, key=lambda each: each.path)
