"""ClamAV with signatures that the tests make; the test file of the industry is put together at run time."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from bundler.artifact import Artifact
from bundler.errors import ScanError
from bundler.recipe import AllowedFinding
from bundler.scan import Antivirus, scan
from bundler.scanning import antivirus
from media.clock import FixedClock, SystemClock
from tests.support.payload import artifact, wheel
from tests.support.workshop import NOON

pytestmark = pytest.mark.skipif(shutil.which("clamscan") is None, reason="ClamAV is not installed")

# In two halves and in another order, so that no scanner takes this file for the real one.
EICAR = b"".join(reversed((b"ANTIVIRUS-TEST-FILE!$H+H*", b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-")))


@pytest.fixture
def signatures(tmp_path: Path) -> Path:
    folder = tmp_path / "signatures"
    folder.mkdir()
    (folder / "test.ndb").write_text(f"Test.File:0:*:{EICAR.hex()}\n")
    return folder


def made(content: bytes, name: str = "a.txt") -> Artifact:
    return Artifact.of_bytes(content, target=f"data/evals/{name}", kind="eval")


def test_a_known_file_is_found_wherever_it_lies(tmp_path: Path, signatures: Path) -> None:
    inside = artifact(wheel(tmp_path, "a", files={"a/x.txt": EICAR}, is_compressed=True))

    found = antivirus.run(
        [made(b"clean"), made(EICAR, "b.txt"), inside], max_age_days=7, clock=SystemClock(), database=signatures
    )

    assert [(each.path, each.rule) for each in found.findings] == [
        ("data/evals/b.txt", "malware"),
        (inside.target, "malware"),
    ]
    assert "Test.File" in found.findings[0].detail
    assert (found.files, found.too_large, found.age_days) == (3, 0, 0)


def test_a_clean_payload_says_what_it_was_scanned_with(signatures: Path) -> None:
    clamav = Antivirus(max_age_days=7, clock=SystemClock(), database=signatures)

    said = scan([made(b"clean")], clamav=clamav).predicate()

    assert said["antivirus"]["program"].startswith("ClamAV ")
    assert said["antivirus"]["database_files"] == 1
    assert len(said["antivirus"]["database_sha256"]) == 64
    assert {"check": "antivirus", "version": 1, "files": 1} in said["checks"]


def test_what_clamav_knows_may_not_travel_unless_two_people_say_why(signatures: Path) -> None:
    clamav = Antivirus(max_age_days=7, clock=SystemClock(), database=signatures)
    allowed = AllowedFinding(path="data/evals/*", rule="malware", reason="the industry's test file")

    with pytest.raises(ScanError, match=r"a\.txt may not travel: malware"):
        scan([made(EICAR)], clamav=clamav)
    assert scan([made(EICAR)], clamav=clamav, allowed=[allowed]).findings[0].reason == allowed.reason


def test_old_signatures_are_a_finding(signatures: Path) -> None:
    """The header of an official database says when it was made; of another file its own time counts."""
    os.utime(signatures / "test.ndb", (NOON.timestamp(), NOON.timestamp()))

    def age(days: int) -> list[str]:
        clock = FixedClock(NOON + timedelta(days=days))
        return [each.rule for each in antivirus.run([], max_age_days=7, clock=clock, database=signatures).findings]

    assert age(7) == []
    assert age(8) == ["antivirus-stale"]


def test_the_time_of_an_official_database_is_its_headers_word(tmp_path: Path) -> None:
    path = tmp_path / "daily.cvd"
    path.write_bytes(b":".join([b"ClamAV-VDB", b"x", b"1", b"2", b"3", b"m", b"s", b"b", b"1700000000"]).ljust(512))

    assert antivirus._database(path).newest.timestamp() == 1_700_000_000


def test_without_signatures_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(antivirus.DATABASE_VARIABLE, str(tmp_path))

    with pytest.raises(ScanError, match="has no signatures"):
        antivirus.run([made(b"x")], max_age_days=7, clock=SystemClock())


def test_a_broken_database_is_an_error_and_no_clean_result(tmp_path: Path) -> None:
    (tmp_path / "test.ndb").write_text("not a signature\n")

    with pytest.raises(ScanError, match="could not scan") as caught:
        antivirus.run([made(b"x")], max_age_days=7, clock=SystemClock(), database=tmp_path)
    assert "/tmp/sl-" not in caught.value.why


def test_a_recipe_that_asks_for_it_is_refused_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, signatures: Path
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(ScanError, match="not installed here"):
        antivirus.run([made(b"x")], max_age_days=7, clock=SystemClock(), database=signatures)
