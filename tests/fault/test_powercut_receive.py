"""The power goes while a box receives, at any write: it is as before or as after, and receiving again completes it.

A box on a disk of its own receives release 1; is given a spoilt release 3, of which it keeps the rotation of the root
alone; receives release 2 with one more rotation, and then release 2 signed anew. Every write is logged; the disk is
made again as it was at many flushes, every other one torn. What is there is hashed each time; receiving goes on at
every eighth point.

SEALIFT_POWERCUTS sets at how many points the power goes (200; SEALIFT_DEEP=1 makes them 1,000).
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.config import Config, PlacesSection
from appliance.verify import trust
from appliance.verify.trust import TrustRecord
from bundler.signatory import Ceremony
from media.digest import file_sha256
from media.errors import DigestMismatchError
from tests.support.medium import SimulatedMedium, make_medium, throwaway_ceremony, tiny_payload
from tests.support.powercut import LoggedDisk, logged_disk, mounted
from tests.support.receiving import Site, make_site, rotated

pytestmark = pytest.mark.fault

CUTS = int(os.environ.get("SEALIFT_POWERCUTS", "1000" if os.environ.get("SEALIFT_DEEP") == "1" else "200"))
COMPLETED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A medium that is received, and the box after that: serial, timestamp version, roots, releases with codes."""

    medium: SimulatedMedium
    serial: int
    timestamp: int
    releases: dict[int, str]
    roots: int = 1
    is_refused: bool = False


def steps_of(folder: Path) -> list[Step]:
    later = rotated(throwaway_ceremony("demo"), without="carol")

    def made(serial: int, issue: int = 0, keys: Ceremony | None = None) -> SimulatedMedium:
        weights = random.Random(serial).randbytes(2**20)
        files = tiny_payload(serial=serial, weights=weights)
        place = folder / f"medium-{serial}-{issue}"
        return make_medium(place, serial=serial, issue=issue, files=files, keys=keys)

    last = rotated(later)
    one, spoilt, two, anew = made(1), made(3, keys=later), made(2, keys=last), made(2, issue=1, keys=last)
    spoilt.flip_bit("data/models/tiny/tiny.gguf", offset=-1)
    return [
        Step(medium=one, serial=1, timestamp=1000, releases={1: one.code}),
        Step(medium=spoilt, serial=1, timestamp=1000, releases={1: one.code}, roots=2, is_refused=True),
        Step(medium=two, serial=2, timestamp=2000, releases={1: one.code, 2: two.code}, roots=3),
        Step(medium=anew, serial=2, timestamp=2001, releases={1: one.code, 2: anew.code}, roots=3),
    ]


def take(site: Site, step: Step) -> None:
    if not step.is_refused:
        site.receive(step.medium)
        return
    with pytest.raises(DigestMismatchError):
        site.receive(step.medium)


def site_at(place: Path) -> Site:
    places = PlacesSection(root=str(place / "box"))
    return Site(config=Config(site="demo-clinic", environment="demo", profile="cpu", places=places))


def believed(site: Site, done: Sequence[Step]) -> TrustRecord:
    """What the box believes; only one that never said it had accepted anything may have no record."""
    places = site.config.at
    return trust.load(places.trust, places.pinned_trust, may_begin=not done)


def stored(site: Site) -> dict[int, str]:
    """The releases in the store, each file of them hashed again."""
    releases = site.store.releases()
    for release in releases:
        for target in release.files:
            release.verify(target)
    if site.store.objects.is_dir():
        for path in site.store.objects.rglob("*"):
            assert path.is_dir() or file_sha256(path) == path.name
    return {release.serial: release.code for release in releases}


def received(site: Site, code: str) -> int:
    """How often the box recorded that it received a release."""
    return len([fact for fact in site.facts("release.received") if fact["body"]["code"] == code])


def require_whole(site: Site, steps: Sequence[Step], done: int) -> None:
    """The box came back after `done` steps were acknowledged: it is what they made it, or what the next one would."""
    before, after = steps[max(done - 1, 0)], steps[min(done, len(steps) - 1)]
    found = believed(site, steps[:done])
    allowed = {(before.serial, before.timestamp)} if done else {(0, 0)}
    assert (found.serial, found.timestamp_version) in allowed | {(after.serial, after.timestamp)}
    assert len(found.root_chain) in {before.roots, after.roots}
    releases = stored(site)
    assert releases in [before.releases if done else {}, after.releases]
    if found.timestamp_version != (before.timestamp if done else 0):
        assert releases == after.releases
    for code in releases.values():
        assert received(site, code) == 1


def require_completed(site: Site, step: Step) -> None:
    take(site, step)
    record = site.record
    assert (record.serial, record.timestamp_version) == (step.serial, step.timestamp)
    assert len(record.root_chain) == step.roots
    assert len(site.facts("trust.root-rotated")) == step.roots - 1
    assert stored(site) == step.releases
    for code in step.releases.values():
        assert received(site, code) <= 1
    assert received(site, step.releases[step.serial]) == 1
    assert list(site.store.incoming.iterdir()) == []


def logged(folder: Path, steps: Sequence[Step]) -> tuple[LoggedDisk, list[int]]:
    """Take all steps on a disk; return it, and the number of writes at which each step had said that it was done."""
    root = steps[0].medium.root_json
    acknowledged = []
    with logged_disk(folder, prepare=lambda place: make_site(place / "box", root)) as disk:
        for step in steps:
            take(site_at(disk.place), step)
            acknowledged.append(disk.written())
    return disk, acknowledged


@pytest.mark.timeout(120 + 5 * CUTS)
def test_whenever_the_power_goes_the_box_is_old_or_new_and_receiving_again_completes_it(tmp_path: Path) -> None:
    steps = steps_of(tmp_path)
    disk, acknowledged = logged(tmp_path / "disk", steps)
    cuts = disk.log.cuts(CUTS)
    assert len({cut for cut, _ in cuts}) > min(CUTS, 200) // 2

    for number, (cut, torn) in enumerate(cuts):
        disk.log.replay(cut, tmp_path / "disk" / "image", torn=torn)
        with mounted(tmp_path / "disk" / "image", disk.place):
            site = site_at(disk.place)
            done = sum(1 for each in acknowledged if each <= cut)
            require_whole(site, steps, done)
            if number % COMPLETED == 0 or number == len(cuts) - 1:
                require_completed(site, steps[min(done, len(steps) - 1)])
