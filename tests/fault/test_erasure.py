"""Erasure seen from below: the raw image of a file system, and any order of deeds that hypothesis can think of."""

import os
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.errors import LegalHoldError
from media.clock import to_text
from media.errors import UsageError
from tests.support.retention import DAY, WHO, kept

pytestmark = pytest.mark.fault


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_no_key_of_an_erased_person_is_left_anywhere_on_the_disk(tmp_path: Path) -> None:
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as stream:
        stream.truncate(16 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        site = kept(mount)
        for number in range(40):
            subject = "pat" if number % 4 == 0 else f"s{number}"
            site.store.add(f"req_{number}", subject=subject, content=b"chest pain %d" % number, days=30)
        texts = ciphertexts(mount, site.store.of_subject("pat")[0].subject)
        assert len(texts) == 10
        doomed = [*slots_of(mount, site.store.of_subject("pat")[0].subject), b"chest pain", *texts]
        others = slots_of(mount, site.store.of_subject("s1")[0].subject)
        os.sync()
        assert doomed[0] in image_after_sync(image)

        assert site.retention.erase("pat", subject_hash="f" * 64, **WHO) == 10
        site.clock.advance(30 * DAY)
        expiring = [content for content in slot_contents(mount) if content not in others]
    finally:
        subprocess.run(["umount", str(mount)], check=True)

    content = image.read_bytes()
    assert [key for key in doomed if key in content] == []
    assert all(key in content for key in others)
    assert len(expiring) > len(others)


def ciphertexts(mount: Path, subject: bytes) -> list[bytes]:
    with closing(sqlite3.connect(mount / "review/review.db")) as database:
        return [row[0] for row in database.execute("SELECT sealed FROM sample WHERE subject = ?", (subject,))]


def slot_contents(mount: Path) -> list[bytes]:
    content = (mount / "review/review.keys").read_bytes()
    found = []
    for at in range(0, len(content), 512):
        length = int.from_bytes(content[at + 33 : at + 35], "big")
        if content[at] == 1:
            found.append(content[at + 35 : at + 35 + length])
    return found


def slots_of(mount: Path, name: bytes) -> list[bytes]:
    content = (mount / "review/review.keys").read_bytes()
    at = content.index(name) - 1
    return [content[at + 35 : at + 35 + int.from_bytes(content[at + 33 : at + 35], "big")]]


def image_after_sync(image: Path) -> bytes:
    descriptor = os.open(image, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return image.read_bytes()


class Deeds(RuleBasedStateMachine):
    """Samples, holds, time and erasure in any order, against a list of what must still open."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.site = kept(Path(self.folder.name))
        self.opens: dict[str, tuple[str, str]] = {}
        self.holds: dict[int, str] = {}
        self.count = 0

    @rule(subject=st.sampled_from(["pat", "sam"]), days=st.integers(1, 400))
    def add(self, subject: str, days: int) -> None:
        self.count += 1
        name = f"req_{self.count}"
        sample = self.site.store.add(name, subject=subject, content=name.encode(), days=days)
        self.opens[name] = (subject, sample.expires)

    @rule(days=st.integers(1, 300))
    def wait(self, days: int) -> None:
        self.site.clock.advance(days * DAY)

    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        about = data.draw(st.sampled_from(["all", *self.opens]))
        self.holds[self.site.retention.hold(about, **WHO).number] = about

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.holds:
            number = data.draw(st.sampled_from(sorted(self.holds)))
            self.site.retention.release(number, **WHO)
            del self.holds[number]

    @rule()
    def expire(self) -> None:
        now = to_text(self.site.clock.now())
        over = [name for name, (_, ends) in self.opens.items() if ends <= now and not self.is_held(name)]
        assert self.site.retention.expire() == len(over)
        for name in over:
            del self.opens[name]

    @rule(subject=st.sampled_from(["pat", "sam"]))
    def erase(self, subject: str) -> None:
        mine = [name for name, (whose, _) in self.opens.items() if whose == subject]
        if "all" in self.holds.values() or any(self.is_held(name) for name in mine):
            with pytest.raises(LegalHoldError):
                self.site.retention.erase(subject, subject_hash="f" * 64, **WHO)
            return
        assert self.site.retention.erase(subject, subject_hash="f" * 64, **WHO) == len(mine)
        for name in mine:
            del self.opens[name]

    @rule(year=st.integers(2026, 2028))
    def end_year_too_early(self, year: int) -> None:
        if self.site.clock.now().year - year < 7:
            with pytest.raises(UsageError):
                self.site.retention.end_year(year, years=6)

    def is_held(self, name: str) -> bool:
        return bool({"all", name} & set(self.holds.values()))

    @invariant()
    def what_should_open_opens_and_nothing_else_is_there(self) -> None:
        if not hasattr(self, "site"):
            return
        samples = {sample.request_id: sample for sample in self.site.store.samples()}
        assert set(samples) == set(self.opens)
        for name, sample in samples.items():
            assert self.site.store.content(sample) == name.encode()
        assert {hold.number: hold.about for hold in self.site.retention.holds()} == self.holds

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestDeeds = Deeds.TestCase
TestDeeds.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
