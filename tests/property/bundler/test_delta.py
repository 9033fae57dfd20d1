"""Any old release, any new one: what a delta set carries and what its base holds give the new one, byte for byte."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.deltaplan import gaps, plan_delta
from bundler.deltaproof import prove
from bundler.holdings import Holdings
from media.deltabase import Knowledge
from media.digest import sha256_hex
from media.errors import BaseMissingError, DigestMismatchError, LimitExceededError
from media.inventory import HeldFile
from media.release import Target
from media.volume import Part, VolumeIndex
from media.volumeplan import plan
from tests.support.delta import small_blocks

_BLOCK = 8
_NAMES = [f"data/f{number}" for number in range(5)]
# Few different blocks, so that files share some; a tail of any length.
_CONTENT = st.builds(
    lambda blocks, tail: b"".join(bytes([each]) * _BLOCK for each in blocks) + tail,
    st.lists(st.integers(0, 5), max_size=7),
    st.binary(max_size=_BLOCK - 1),
)
_RELEASE = st.dictionaries(st.sampled_from(_NAMES), _CONTENT, max_size=5)


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, _BLOCK)
        yield


def blocks(data: bytes) -> tuple[str, ...]:
    return tuple(sha256_hex(data[start : start + _BLOCK]) for start in range(0, len(data), _BLOCK))


def targets(files: Mapping[str, bytes]) -> dict[str, Target]:
    return {
        path: Target(
            path=path,
            length=len(data),
            sha256=sha256_hex(data),
            kind="weights" if path < "data/f3" else "model",
            blocks=blocks(data),
        )
        for path, data in files.items()
    }


def holdings(files: Mapping[str, bytes]) -> Holdings:
    held = [HeldFile(sha256=sha256_hex(data), length=len(data), blocks=blocks(data)) for data in files.values()]
    return Holdings(
        site="a",
        source=Knowledge.INVENTORY,
        at=datetime(2026, 11, 20, tzinfo=UTC),
        serials=(1,),
        files={each.sha256: each for each in held},
    )


def planned(old: Mapping[str, bytes], new: Mapping[str, bytes], rooms: list[int]) -> VolumeIndex:
    delta = plan_delta(targets(new), holdings(old))
    index = plan(targets(new).values(), rooms, release="r", serial=2, allocation=1, delta=delta)
    cut = {
        part.path: sha256_hex(new[part.target][part.first * _BLOCK : (part.last + 1) * _BLOCK])
        for volume in index.volumes
        for part in volume.parts
    }
    return index.with_part_digests(cut)


def applied(index: VolumeIndex, old: Mapping[str, bytes], carried: Mapping[str, bytes]) -> dict[str, bytes]:
    """Put a release together from bytes alone, the way the format says."""
    objects = {sha256_hex(data): data for data in old.values()}
    found = {}
    for path, pieces in index.pieces().items():
        found[path] = b"".join(
            carried[piece.path]
            if isinstance(piece, Part)
            else objects[piece.object][piece.block * _BLOCK :][: (piece.last - piece.first + 1) * _BLOCK]
            for piece in pieces
        )
    return found


@given(old=_RELEASE, new=_RELEASE, rooms=st.lists(st.integers(0, 200), min_size=1, max_size=4))
def test_old_and_delta_give_the_new_release_byte_for_byte(
    old: dict[str, bytes], new: dict[str, bytes], rooms: list[int]
) -> None:
    try:
        index = planned(old, new, rooms)
    except LimitExceededError:
        return
    parts = [part for volume in index.volumes for part in volume.parts]
    carried = {part.path: new[part.target][part.first * _BLOCK : (part.last + 1) * _BLOCK] for part in parts}

    found = applied(index, old, carried)

    assert VolumeIndex.from_bytes(index.to_bytes()) == index
    index.require_covers(targets(new))
    held = {target.path for target in index.held_whole(targets(new))}
    assert found.keys() | held == new.keys()
    assert found == {path: data for path, data in new.items() if path not in held}
    assert {new[path] for path in held} <= set(old.values())
    # Nothing is carried that the base has.
    known = {digest for data in old.values() for digest in blocks(data)}
    assert all(not known & set(blocks(data)) for data in carried.values())
    for volume, room in zip(index.volumes, rooms, strict=False):
        assert volume.payload_bytes <= room


@given(old=_RELEASE, new=_RELEASE, lost=st.sampled_from(_NAMES))
def test_what_a_site_lost_is_named_exactly(old: dict[str, bytes], new: dict[str, bytes], lost: str) -> None:
    index = planned(old, new, [1000])
    left = {path: data for path, data in old.items() if path != lost}

    found = gaps(index, targets(new), holdings(left))

    assert gaps(index, targets(new), holdings(old)) == ()
    kept = {sha256_hex(data) for data in left.values()}
    wanted = {
        (run.target, number)
        for run in (index.base.runs if index.base else ())
        if run.object not in kept
        for number in range(run.first, run.last + 1)
    }
    whole = {target.path for target in index.held_whole(targets(new)) if target.sha256 not in kept}
    assert {
        (gap.target, n) for gap in found if gap.target not in whole for n in range(gap.first, gap.last + 1)
    } == wanted
    assert {gap.target for gap in found if gap.target in whole} == whole
    assert sum(gap.length for gap in found) == sum(len(new[path]) for path in whole) + sum(
        len(new[path][number * _BLOCK : (number + 1) * _BLOCK]) for path, number in wanted
    )


@settings(max_examples=max(settings().max_examples // 4, 1))
@given(old=_RELEASE, new=_RELEASE, spoilt=st.sampled_from(_NAMES), at=st.integers(0, 40))
def test_the_proof_reads_every_byte_that_it_says_it_read(
    old: dict[str, bytes], new: dict[str, bytes], spoilt: str, at: int
) -> None:
    index = planned(old, new, [1000])
    with TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        for top, files in (("old", old), ("new", new)):
            for path, data in files.items():
                (folder / top / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / top / path).write_bytes(data)
        copies = {sha256_hex(data): folder / "old" / path for path, data in old.items()}
        held = holdings(old)

        proof = prove(index, targets(new), held, carried=folder / "new", copies=copies)
        assert (proof.by_bytes, proof.by_digest, proof.bytes) == (len(new), 0, sum(map(len, new.values())))
        assert prove(index, targets(new), held, carried=folder / "new", copies={}).by_digest <= len(new)
        used = {piece.target for volume in index.volumes for piece in volume.parts}
        if spoilt in used and at < len(new[spoilt]):
            runs = [run for run in index.base.runs if run.target == spoilt] if index.base else []
            if not any(run.first <= at // _BLOCK <= run.last for run in runs):
                other = bytearray(new[spoilt])
                other[at] ^= 1
                (folder / "new" / spoilt).write_bytes(bytes(other))
                with pytest.raises(DigestMismatchError):
                    prove(index, targets(new), held, carried=folder / "new", copies=copies)


def test_a_site_that_lost_something_is_told_before_the_trip() -> None:
    old, new = {"data/f0": b"12345678ABCDEFGH"}, {"data/f0": b"12345678XXXXXXXX", "data/f4": b"12345678ABCDEFGH"}
    index = planned(old, new, [1000])

    with pytest.raises(BaseMissingError) as refused:
        prove(index, targets(new), holdings({}), carried=Path("/nonexistent"), copies={})

    assert "24 bytes are missing there" in refused.value.what
    assert refused.value.why == "data/f0 blocks 0 to 0 (8 bytes); data/f4 blocks 0 to 1 (16 bytes)"
    assert "full medium" in refused.value.fix
