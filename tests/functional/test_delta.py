"""Delta sets through the product's own signing, writing and receiving, with blocks of a few kilobytes."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.store.content import ContentStore
from bundler.contents import Contents
from bundler.delta import PROOF_FILE
from bundler.difference import compare
from bundler.errors import SigningError
from bundler.holdings import EarlierRelease
from bundler.inspect import inspect_work
from bundler.measure import Measured, measure_tree
from bundler.mediumcheck import check
from bundler.plan import ReleasePlan
from bundler.remake import remake
from bundler.volumechoice import rooms_for
from media import canonical, layout
from media.digest import sha256_hex
from media.errors import SealiftError, SupersededError, WrongSiteError
from media.volume import VolumeIndex
from tests.support.delta import BLOCK, DeltaMedium, delta_medium, holdings_of, small_blocks
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import copy_here

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

_GGUF = "data/models/tiny/tiny.gguf"
_OLD = random.Random(7).randbytes(10 * BLOCK + 100)


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        yield


def changed(weights: bytes, *blocks: int) -> bytes:
    spoilt = bytearray(weights)
    for block in blocks:
        spoilt[block * BLOCK + 1] ^= 0xFF
    return bytes(spoilt)


def release(folder: Path, serial: int, weights: bytes) -> SimulatedMedium:
    return make_medium(folder, serial=serial, files=tiny_payload(serial=serial, weights=weights))


@pytest.fixture(scope="module")
def made(
    _small: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SimulatedMedium, SimulatedMedium, DeltaMedium]:
    """An old release, a new one, and the delta set between them; nobody spoils these."""
    folder = tmp_path_factory.mktemp("made")
    old, new = release(folder / "old", 1, _OLD), release(folder / "new", 2, changed(_OLD, 3, 9))
    return old, new, delta_medium(folder / "d", new, holdings_of(old), earlier=[old])


@pytest.fixture
def old(made: tuple[SimulatedMedium, SimulatedMedium, DeltaMedium]) -> SimulatedMedium:
    return made[0]


@pytest.fixture
def new(made: tuple[SimulatedMedium, SimulatedMedium, DeltaMedium]) -> SimulatedMedium:
    return made[1]


@pytest.fixture
def delta(made: tuple[SimulatedMedium, SimulatedMedium, DeltaMedium], tmp_path: Path) -> DeltaMedium:
    """The delta set, free to be spoilt."""
    volume = tmp_path / "delta-1"
    shutil.copytree(made[2].volumes[0], volume)
    return replace(made[2], volumes=[volume])


def received(medium: SimulatedMedium, store: Path, delta: DeltaMedium | None = None, **changes: Any) -> dict[str, Any]:
    """Run the copier here and return its last line."""
    mounted = medium if delta is None else replace(medium, volumes=delta.volumes)
    return copy_here(mounted, store, **changes)[1][-1]


def stored(store: Path, medium: SimulatedMedium) -> dict[str, bytes]:
    """Return what the store has for each file of a release."""
    places = {name: ContentStore(store).object_path(sha256_hex(data)) for name, data in medium.payload.items()}
    return {name: place.read_bytes() for name, place in places.items() if place.exists()}


def test_a_delta_set_gives_the_same_files_as_the_full_set(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:
    received(old, tmp_path / "store")

    lines = copy_here(replace(new, volumes=delta.volumes), tmp_path / "store")[1]
    done = lines[-1]

    assert done["event"] == "done"
    assert done["read_bytes"] == delta.index.volumes[0].payload_bytes
    assert done["reused_files"] == len(set(new.payload.values())) - 3
    told = [line for line in lines if line["event"] == "progress"][-1]
    assert told["done"] == told["total"] == sum(map(len, new.payload.values()))
    assert stored(tmp_path / "store", new) == new.payload
    carried = {part.path for part in delta.index.volumes[0].parts}
    assert {f"{_GGUF}.000003-000003", f"{_GGUF}.000009-000009", "data/release.json"} <= carried
    assert "data/debs/tiny_1.0_all.deb" not in carried
    proof = canonical.loads((delta.work.root / PROOF_FILE).read_bytes())["proof"]
    assert proof["by_digest"] == 0
    assert proof["payload_digest"] == delta.index.payload_digest


def test_the_sender_s_own_check_and_a_remake_hold_for_a_delta_set(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:

    report = check(delta.volumes, ceremony=new.ceremony, code=delta.code)
    again = remake(delta.work, 1, tmp_path / "again", ceremony=new.ceremony)

    assert report.code == delta.code == again.code
    assert report.base == (1,)
    sheet = delta.work.sheet.read_text()
    assert "serial 1 has not" in sheet
    assert "First installation" not in sheet
    assert "First installation" in new.sheet
    assert again.signers == report.signers
    before, after = delta.volumes[0] / layout.RELEASE, tmp_path / "again" / layout.RELEASE
    names = {path.relative_to(before) for path in before.rglob("*") if path.is_file()}
    assert names == {path.relative_to(after) for path in after.rglob("*") if path.is_file()}
    assert all((before / name).read_bytes() == (after / name).read_bytes() for name in names)


def test_a_delta_set_has_ids_seals_and_a_code_of_its_own(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:
    other = delta_medium(tmp_path / "other", new, replace(holdings_of(old), at=holdings_of(old).at.replace(year=2025)))
    full = VolumeIndex.from_bytes((new.work.metadata / "volumes.json").read_bytes())

    assert len({index.volumes[0].id for index in (delta.index, other.index, full)}) == 3
    assert len({delta.code, other.code, new.code}) == 3
    for name in (layout.targets_name(2), layout.snapshot_name(2), layout.TIMESTAMP):
        assert (delta.work.root / name).read_bytes() == (new.work.root / name).read_bytes()


def test_without_its_base_nothing_is_copied_and_what_is_missing_is_named(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:
    received(old, tmp_path / "store")
    objects = ContentStore(tmp_path / "store")
    (lost,) = [each for each in objects.objects.rglob("*") if each.is_file() and each.read_bytes() == _OLD]
    lost.unlink()
    before = sorted(path for path in (tmp_path / "store").rglob("*"))

    refused = received(new, tmp_path / "store", delta)["error"]

    assert refused["code"] == "base-missing"
    assert f"{_GGUF} blocks 0 to 2 ({3 * BLOCK} bytes)" in refused["why"]
    assert f"{_GGUF} blocks 10 to 10 (100 bytes)" in refused["why"]
    assert "blocks 3 to 3" not in refused["why"]
    assert sorted(path for path in (tmp_path / "store").rglob("*")) == before


def test_an_empty_box_is_told_what_the_set_takes_for_granted(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:

    refused = received(new, tmp_path / "store", delta)["error"]

    assert refused["code"] == "base-missing"
    assert "demo-clinic holding serial 1" in refused["why"]
    assert "full set" in refused["fix"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_base_that_the_disk_lost_is_found_and_named(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path, *, whole: bool
) -> None:
    received(old, tmp_path / "store")
    wanted = b"!<arch>\n" if whole else _OLD
    (rotten,) = [
        p for p in ContentStore(tmp_path / "store").objects.rglob("*") if p.is_file() and p.read_bytes() == wanted
    ]
    rotten.chmod(0o644)
    rotten.write_bytes(changed(wanted, 4) if not whole else b"!<arch>\t")

    refused = received(new, tmp_path / "store", delta)["error"]

    assert refused["code"] == "store-damaged"
    first, last = 4 * BLOCK, 5 * BLOCK - 1
    named = "bytes 0 to 7 of data/debs/tiny_1.0_all.deb" if whole else f"bytes {first} to {last} of {_GGUF}"
    assert named in refused["what"]
    full = received(new, tmp_path / "store")
    assert full["event"] == "done"
    assert stored(tmp_path / "store", new) == new.payload


def test_a_delta_of_a_delta_and_one_for_a_site_that_skipped_a_release(
    old: SimulatedMedium, new: SimulatedMedium, tmp_path: Path
) -> None:
    third = release(tmp_path / "third", 3, changed(changed(_OLD, 3, 9), 0, 3))
    second = delta_medium(tmp_path / "d2", new, holdings_of(old))
    after = delta_medium(tmp_path / "d3", third, holdings_of(old, new), earlier=[old, new])
    skipping = delta_medium(tmp_path / "skip", third, holdings_of(old))
    for name, sets in (
        ("kept-up", ((old, None), (new, second), (third, after))),
        ("skipped", ((old, None), (third, skipping))),
    ):
        for medium, delta in sets:
            assert received(medium, tmp_path / name, delta)["event"] == "done"
        assert stored(tmp_path / name, third) == third.payload
    assert after.index.base is not None
    assert after.index.base.serials == (1, 2)
    paths = {part.path for part in after.index.volumes[0].parts}
    assert f"{_GGUF}.000009-000009" not in paths
    assert f"{_GGUF}.000009-000009" in {part.path for part in skipping.index.volumes[0].parts}


def test_a_delta_set_is_proven_again_when_the_box_has_it_already(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:
    received(old, tmp_path / "store")
    received(new, tmp_path / "store", delta)
    for path in ContentStore(tmp_path / "store").objects.rglob("*"):
        if path.is_file() and path.read_bytes() == _OLD:
            path.unlink()  # the base was retired

    assert received(new, tmp_path / "store", delta)["event"] == "done"
    part = delta.volumes[0] / layout.RELEASE / f"{_GGUF}.000003-000003"
    part.write_bytes(bytes(BLOCK))
    refused = received(new, tmp_path / "store", delta, full=True)["error"]
    assert refused["code"] == "digest-mismatch"
    assert f"{_GGUF}.000003-000003" in refused["what"]


def test_a_dry_run_proves_what_is_carried(new: SimulatedMedium, delta: DeltaMedium) -> None:
    mounted = replace(new, volumes=delta.volumes)

    code, lines = copy_here(mounted, None)

    assert code == 0
    assert lines[-1]["read_bytes"] == delta.index.volumes[0].payload_bytes


def test_a_delta_set_is_looked_at_and_compared_like_a_full_one(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium
) -> None:
    with pytest.raises(SigningError, match="delta set's work folder"):
        inspect_work(delta.work)
    for place in (delta.work.root, delta.volumes[0]):
        here = Contents.open(place)

        assert here.files == Contents.open(new.work.root).files
        assert here.whole(_GGUF) is None
        assert here.whole("data/release.json") is not None
        assert _GGUF in str(compare(Contents.open(old.work.root), here).to_json())


def test_a_set_for_another_site_or_an_older_serial_is_not_made(
    old: SimulatedMedium, new: SimulatedMedium, tmp_path: Path
) -> None:
    with pytest.raises(WrongSiteError):
        delta_medium(tmp_path / "a", new, holdings_of(old, site="elsewhere"))
    with pytest.raises(SupersededError):
        delta_medium(tmp_path / "b", old, holdings_of(new))
    assert not (tmp_path / "a" / "delta-work").exists()


@pytest.mark.parametrize("field", ["block", "object", "site", "set", "last"])
def test_an_index_that_was_changed_after_sealing_is_refused(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path, field: str
) -> None:
    received(old, tmp_path / "store")
    file = delta.volumes[0] / layout.RELEASE / layout.VOLUMES
    value = canonical.loads(file.read_bytes())
    run = value["base"]["runs"][0]
    if field in run:
        run[field] = "ab" * 32 if field == "object" else run[field] + 1
    else:
        value["base"][field] = "elsewhere" if field == "site" else "cd" * 32
    file.write_bytes(canonical.dumps(value))

    assert received(new, tmp_path / "store", delta)["error"]["code"] == "digest-mismatch"


def test_a_signed_index_that_points_to_other_bytes_gives_no_release(
    old: SimulatedMedium, new: SimulatedMedium, delta: DeltaMedium, tmp_path: Path
) -> None:
    """Scenario: the people who seal are fooled or err; runs point into the right object at the wrong blocks.

    The digests that round one signed decide, so the result is refused and nothing is published.
    """
    received(old, tmp_path / "store")
    base = delta.index.base
    assert base is not None
    wrong = replace(base, runs=tuple(replace(run, block=(run.block + 1) % 8) for run in base.runs))
    index = replace(delta.index, base=wrong).with_ids()
    spoilt = replace(new, volumes=delta.volumes, work=delta.work)
    release_folder = delta.volumes[0] / layout.RELEASE
    (release_folder / layout.VOLUMES).write_bytes(index.to_bytes())
    info = (release_folder / layout.BAG_INFO).read_text()
    (release_folder / layout.BAG_INFO).write_text(info.replace(delta.index.volumes[0].id, index.volumes[0].id))
    spoilt.reseal()

    refused = received(new, tmp_path / "store", delta)["error"]

    assert refused["code"] in {"store-damaged", "custody"}


def test_the_bundler_s_copy_of_the_base_is_compared_byte_for_byte(
    old: SimulatedMedium, new: SimulatedMedium, tmp_path: Path
) -> None:
    spoilt = old.copy_to(tmp_path / "spoilt")
    (spoilt.work.candidate / _GGUF).write_bytes(changed(_OLD, 5))

    with pytest.raises(SealiftError, match=f"block 5 of {_GGUF}"):
        delta_medium(tmp_path / "d", new, holdings_of(old), earlier=[spoilt])
    assert EarlierRelease.open(spoilt.work.root).whole_files()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_delta_set_on_two_media_comes_in_together_or_one_after_the_other(
    old: SimulatedMedium, new: SimulatedMedium, tmp_path: Path, order: tuple[int, int]
) -> None:
    plan = ReleasePlan.load(new.work.plan)
    (room,) = rooms_for([10**9], release=plan, payload=measured(new), attest_bytes=attested(new))
    lists = 10**9 - room
    delta = delta_medium(tmp_path / "d", new, holdings_of(old), capacities=(lists + 3 * BLOCK, lists + BLOCK))
    names = [[part.path for part in volume.parts] for volume in delta.index.volumes]
    assert names == [
        ["data/models/tiny/descriptor.json", f"{_GGUF}.000003-000003", "data/release.json"],
        [f"{_GGUF}.000009-000009"],
    ]
    for store in ("together", "apart"):
        received(old, tmp_path / store)
    first, second = (replace(delta, volumes=[delta.volumes[number]]) for number in order)

    together = received(new, tmp_path / "together", delta)
    waiting = received(new, tmp_path / "apart", first)
    apart = received(new, tmp_path / "apart", second)

    assert together["event"] == apart["event"] == "done"
    assert waiting["error"]["code"] == "missing-volume"
    assert stored(tmp_path / "together", new) == stored(tmp_path / "apart", new) == new.payload


def measured(medium: SimulatedMedium) -> dict[str, Measured]:
    return measure_tree(medium.work.data, prefix=layout.DATA)


def attested(medium: SimulatedMedium) -> int:
    return sum(path.stat().st_size for path in medium.work.attest.glob(f"*{layout.ENVELOPE_SUFFIX}"))
