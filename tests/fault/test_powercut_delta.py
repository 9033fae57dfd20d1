"""The power goes while a box puts a big file together from a delta medium and its own store, at any write.

The weights have two blocks of the real size. The first is taken from the store, the second from the medium, so the new
file is as long as the old one and only its last megabyte travels.

SEALIFT_POWERCUTS sets at how many points the power goes (200; SEALIFT_DEEP=1 makes them 1,000). What is there is hashed
each time; receiving goes on at every twentieth point.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from media import layout
from tests.fault.test_powercut_receive import CUTS, Step, logged, require_completed, require_whole, site_at
from tests.support.delta import delta_medium, holdings_of
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.powercut import mounted
from tests.support.receiving import make_site

pytestmark = pytest.mark.fault

COMPLETED = 20
_GGUF = "data/models/tiny/tiny.gguf"


def releases(folder: Path) -> tuple[SimulatedMedium, SimulatedMedium, SimulatedMedium]:
    """Return the old release, the new one, and the new one as it lies on its delta medium."""
    source = random.Random(11)
    shared = source.randbytes(layout.BLOCK_BYTES)
    weights = [shared + source.randbytes(2**20) for _ in range(2)]
    old, new = (
        make_medium(folder / f"full-{serial}", serial=serial, files=tiny_payload(serial=serial, weights=own))
        for serial, own in enumerate(weights, start=1)
    )
    delta = delta_medium(folder / "delta", new, holdings_of(old), earlier=[old])
    assert [part.path for part in delta.index.volumes[0].parts if part.target == _GGUF] == [f"{_GGUF}.000001-000001"]
    return old, new, replace(new, volumes=delta.volumes, code=delta.code, work=delta.work)


@pytest.mark.timeout(240 + 5 * CUTS)
def test_whenever_the_power_goes_a_delta_medium_completes_the_release(tmp_path: Path) -> None:
    old, _, carried = releases(tmp_path)
    steps = [
        Step(medium=old, serial=1, timestamp=1000, releases={1: old.code}),
        Step(medium=carried, serial=2, timestamp=2000, releases={1: old.code, 2: carried.code}),
    ]
    disk, acknowledged = logged(tmp_path / "disk", steps)

    for number, (cut, torn) in enumerate(disk.log.cuts(CUTS, begin=acknowledged[0])):
        disk.log.replay(cut, tmp_path / "disk" / "image", torn=torn)
        with mounted(tmp_path / "disk" / "image", disk.place):
            site = site_at(disk.place)
            done = sum(1 for each in acknowledged if each <= cut)
            require_whole(site, steps, done)
            if number % COMPLETED == 0:
                require_completed(site, steps[min(done, len(steps) - 1)])


def test_real_blocks_join_and_a_medium_that_lies_is_refused(tmp_path: Path) -> None:
    old, new, carried = releases(tmp_path)
    site = make_site(tmp_path / "box", old.root_json)
    site.receive(old)
    part = carried.path(f"{_GGUF}.000001-000001")
    genuine = part.read_bytes()
    part.write_bytes(genuine[:-1] + bytes([genuine[-1] ^ 1]))
    with pytest.raises(Exception, match="damaged"):
        site.receive(carried)
    part.write_bytes(genuine)

    facts = site.receive(carried)

    stored = site.store.releases()[-1]
    assert stored.verify(_GGUF).read_bytes() == new.payload[_GGUF]
    assert facts.moved["read_bytes"] < 2**20 + 100_000
    # The block from the store was put in place by the first try, and is not written again.
    assert 2**20 <= facts.moved["written_bytes"] < layout.BLOCK_BYTES
