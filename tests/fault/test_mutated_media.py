"""Sign, change one thing, and it must fail: thousands of faults in every class of file of one genuine medium.

A box that accepted release 1 is given release 2, which also brings a rotation of the root. Each time one thing of one
file is wrong: a bit, bytes too many, too few, doubled, the file empty or gone, in another's place, from another genuine
release, or a JSON value that says something else in the very form that is signed. The copier that reads it runs in this
process; every fiftieth fault goes through the whole receive with a copier of its own. Nothing is ever believed.

SEALIFT_MUTATIONS sets how many faults there are (2,000; SEALIFT_DEEP=1 makes them 10,000).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.verify.inspect import inspect
from appliance.verify.medium import Medium
from media.errors import MediaError, SealiftError
from tests.support.medium import SimulatedMedium, make_medium, throwaway_ceremony, tiny_payload
from tests.support.receiving import NOW, Site, copy_here, make_site, rotated, terms_for
from tests.support.spoiling import CLASSES, DECIDED_BY_TUF, Fault, files_by_class, spoilt

FAULTS = int(os.environ.get("SEALIFT_MUTATIONS", "10000" if os.environ.get("SEALIFT_DEEP") == "1" else "2000"))
RESEALED = FAULTS // 10
WHOLE = 50
VERIFIER = Path(__file__).resolve().parents[2] / "bundler/check/verify.py"

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240 + FAULTS // 3)]


@dataclass(slots=True, kw_only=True)
class Scene:
    """A box that accepted `first`, and the media that come next."""

    site: Site
    first: SimulatedMedium
    medium: SimulatedMedium
    other: SimulatedMedium

    def forget(self) -> None:
        """Let nothing be left of an earlier try: what it proved is not asked of the medium again, spoilt or not."""
        for place in (self.site.store.incoming, self.site.store.quarantine):
            shutil.rmtree(place, ignore_errors=True)

    def judge(self) -> int:
        """Return the exit code of the copier in this process, which begins anew each time."""
        self.forget()
        return copy_here(self.medium, self.site.store.root, trust=self.site.record)[0]


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder without a disk below it: what is asked here is what is believed, not what survives a power cut."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("scene")
        return
    with tempfile.TemporaryDirectory(prefix="sealift-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def scene(in_memory: Path) -> Scene:
    folder = in_memory
    once = rotated(throwaway_ceremony("demo"))
    first = make_medium(folder / "first", serial=1, keys=once)
    medium = make_medium(folder / "medium", serial=2, keys=rotated(once))
    other = make_medium(folder / "other", serial=3, keys=rotated(once), files=tiny_payload(serial=3, weights=b"w" * 99))
    site = make_site(folder / "box", throwaway_ceremony("demo").chain[0])
    site.receive(first)
    assert terms_for(first).now == NOW
    return Scene(site=site, first=first, medium=medium, other=other)


def is_refusal(code: int) -> bool:
    return 10 <= code <= 29 or code == 100


def is_the_same_signature(fault: Fault, medium: SimulatedMedium) -> bool:
    """The one change that changes nothing: an OpenPGP packet's header in its other format (TRUST-10)."""
    path = medium.folder / fault.path
    return fault.kind == "signature" and path.read_bytes()[:1] == b"\xc2"


def look_before_any_trust(medium: SimulatedMedium) -> None:
    """Inspect each volume: it says what it finds, or ends in one of our errors."""
    for number, folder in enumerate(medium.volumes, start=1):
        with Medium.open(folder, label=f"volume {number}") as volume, suppress(MediaError):
            assert inspect(volume)["untrusted_files"] > 0


def second_opinion(medium: SimulatedMedium) -> int:
    """Return how the verifier ends that lies on every medium and shares no code with us."""
    command = [sys.executable, "-I", str(VERIFIER), *map(str, medium.volumes)]
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    return subprocess.run(command, env=bare, capture_output=True, check=False).returncode


def test_every_class_of_file_on_a_medium_is_known(scene: Scene) -> None:
    assert set(files_by_class(scene.medium)) == set(CLASSES.values())
    assert scene.judge() == 0
    shutil.rmtree(scene.site.store.incoming)


def test_no_change_of_any_file_is_ever_believed(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    before, believed = scene.site.untouched(), scene.site.record
    codes: Counter[tuple[str, int]] = Counter()
    ways: Counter[str] = Counter()

    for number in range(FAULTS):
        with spoilt(scene.medium, number, other=scene.other) as fault:
            code = scene.judge()
            assert is_refusal(code) or (code == 0 and is_the_same_signature(fault, scene.medium)), (fault, code)
            look_before_any_trust(scene.medium)
            codes[fault.kind, code] += 1
            ways[fault.how] += 1
        if number % 10 == 0:
            assert scene.site.untouched() == before

    assert scene.site.untouched() == before
    assert scene.site.record == believed
    assert scene.judge() == 0
    per_class = Counter({kind: sum(n for (each, _), n in codes.items() if each == kind) for kind in CLASSES.values()})
    assert min(per_class.values()) >= FAULTS // len(set(CLASSES.values())) - 1
    with capsys.disabled():
        for kind in sorted(per_class):
            ends = ", ".join(f"{code}: {n}" for (each, code), n in sorted(codes.items()) if each == kind)
            print(f"\n  {kind:18} {per_class[kind]:5}   {ends}", end="")
        print("\n  ways: " + ", ".join(f"{way} {n}" for way, n in sorted(ways.items())))


@pytest.fixture
def kept_trust(scene: Scene, tmp_path: Path) -> Iterator[Path]:
    """The trust record as it was, put back afterwards: a rotation that holds is committed even when bytes are not."""
    place = scene.site.config.at.trust
    shutil.copytree(place, tmp_path / "trust")
    yield tmp_path / "trust"
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "trust", place)


def test_the_whole_receive_refuses_them_too_and_only_a_rotation_that_holds_is_kept(
    scene: Scene, kept_trust: Path
) -> None:
    place = scene.site.config.at.trust
    objects = {name: digest for name, digest in scene.site.untouched().items() if "/trust/" not in name}
    believed = scene.site.record

    for number in range(0, FAULTS, WHOLE):
        with spoilt(scene.medium, number, other=scene.other) as fault:
            try:
                scene.site.receive(scene.medium)
                code = 0
            except SealiftError as error:
                code = error.exit_code
            assert is_refusal(code) or (code == 0 and is_the_same_signature(fault, scene.medium)), (fault, code)
            # It does not judge custody after sealing, and says so (VERIFY.txt).
            assert (second_opinion(scene.medium) != 0) == (code not in {0, 26}), (fault, code)
        found = scene.site.record
        assert found.root_chain[: len(believed.root_chain)] == believed.root_chain
        assert (found.serial, found.timestamp_version, found.floor) == (1, 1000, believed.floor)
        scene.forget()
        shutil.rmtree(place)
        shutil.copytree(kept_trust, place)

    assert {name: digest for name, digest in scene.site.untouched().items() if "/trust/" not in name} == objects


def test_what_two_people_sealed_after_the_change_is_refused_by_tuf_alone(scene: Scene, tmp_path: Path) -> None:
    """Scenario: both OpenPGP keys that seal are stolen, not what signs metadata. TUF decides about every byte."""
    before = scene.site.untouched()
    for number in range(RESEALED):
        with spoilt(scene.medium, number, other=scene.other, only=DECIDED_BY_TUF) as fault:
            sealed = scene.medium.copy_to(tmp_path / "sealed")
        sealed.reseal()
        code, lines = copy_here(sealed, scene.site.store.root, trust=scene.site.record, full=True)
        assert is_refusal(code), (fault, lines[-1])
        shutil.rmtree(tmp_path / "sealed")

    assert scene.site.untouched() == before


def test_litter_may_change_and_is_never_read(scene: Scene) -> None:
    before = scene.site.untouched()
    made = scene.medium.add_litter()
    try:
        assert scene.judge() == 0
        for path in made:
            if path.is_file():
                path.write_bytes(b"\xff" * 9000)
        assert scene.judge() == 0
    finally:
        for path in made:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(scene.site.store.incoming)
    assert scene.site.untouched() == before
