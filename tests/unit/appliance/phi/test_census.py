"""What a site's list finds in a text, and what it leaves alone."""

import os
import shutil
import threading
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.errors import CiphertextError, KeyMissingError, StoreDamagedError
from appliance.keys.files import FileKeys, create_missing
from appliance.phi import censusfile
from appliance.phi.census import Census
from appliance.phi.censusfile import NAME, WithCensus
from appliance.phi.detect import PatternDetector
from appliance.phi.patterns import PhiClass
from appliance.phi.tokens import mask
from media.clock import FixedClock

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LIST = (
    "Jane Doe",
    "O'Brien, Mary Ann",
    "Müller, Hans",
    "van der Berg, Piet",
    "Anna Lena Schmidt",
    "山田 太郎",
    "김민수",
    "Иванов, Пётр",
    "राम कुमार",
    "Parkinson, Tom",
    "Barré, Luc",
    "Graves, Ida",
    "Will May",
    "Dr. Otto Fischer",
    "Lee Jr",
    "North Ward 7B",
)
CENSUS = Census(LIST)


def found(text: str) -> list[str]:
    return [text[one.start : one.end] for one in CENSUS.find(text)]


@pytest.mark.parametrize(
    "written",
    [
        "Jane Doe", "JANE DOE", "jane doe", "Doe, Jane", "DOE,JANE", "doe jane", "DOE^JANE", "jane_doe", "Jane  Doe",
        "Jane\nDoe", "J\u200bane D\u00adoe", "Jane\u00a0Doe", "Mary Ann O'Brien", "mary-ann o\u2019brien",
        "Mary O'Brien",        "MARY ANN OBRIEN", "Hans Müller", "hans mueller", "HANS MULLER", "Hans Mu\u0308ller",
        "Luc Barre\u0301",
        "Piet van der Berg",
        "Berg, Piet", "anna schmidt", "Schmidt, Anna Lena", "山田太郎", "太郎 山田", "김민수", "ПЁТР ИВАНОВ",
        "петр иванов",        "राम कुमार", "otto fischer", "north ward 7b", "Tom Parkinson", "will may", "lee jr",
    ],
)  # fmt: skip
def test_a_whole_name_is_found_however_it_is_written(written: str) -> None:
    for before, after in (("", ""), ("told ", " today"), ("(", ")."), ("x: ", "'s file")):
        assert found(f"{before}{written}{after}") == [written]


@pytest.mark.parametrize("written", ["Doe", "DOE", "O'Brien", "Mueller", "Müller", "Иванов", "Fischer", "Van der Berg"])
def test_a_family_name_alone_is_found_where_it_is_capitalised(written: str) -> None:
    assert found(f"and {written} said so") == [written]
    assert found(f"and {written.lower()} said so") == []


@pytest.mark.parametrize(
    "text",
    [
        "May I? Will you? In May.", "Jane was here", "JaneDoe", "Doerr and Janet", "Jane saw the Mayor", "north wing",
        "the Ward", "Parkinson's disease", "Parkinson is frequent", "Graves' disease", "Graves\u2019s Disease",
        "Guillain-Barré syndrome", "Barré sign", "van der", "Jr", "Dr",
    ],
)  # fmt: skip
def test_what_is_no_name_of_the_list_is_left(text: str) -> None:
    assert found(text) == []


def test_a_discoverer_is_a_patient_where_no_disease_follows() -> None:
    assert found("Graves was seen; Graves' disease is not what Graves has") == ["Graves", "Graves"]
    assert found("Doe's disease") == ["Doe"]


def test_findings_are_extra_names_and_do_not_overlap() -> None:
    findings = CENSUS.find("Jane Doe Jane Doe, Jane")

    assert {(one.phi_class, one.extra) for one in findings} == {(PhiClass.NAME, True)}
    assert all(one.end <= two.start for one, two in pairwise(findings))


def test_time_grows_with_the_text_and_not_with_the_list() -> None:
    class Counted(dict[str, bool]):
        asked = 0

        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            self.asked += 1
            return super().get(key, default)

    small, large = Census(["Ab Cd"]), Census([f"Ab q{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(500)])
    text, counts = "Ab xx " * 200, []
    for census in (small, large):
        census._known = Counted(census._known)
        census.find(text)
        counts.append(census._known.asked)

    assert counts[0] == counts[1] == 200


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    create_missing(tmp_path / "keys")
    return FileKeys(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "census").mkdir()
    return tmp_path / "census"


def put(folder: Path, keys: FileKeys, *names: str) -> None:
    beside = folder / "new"
    beside.write_bytes(censusfile.sealed(censusfile.plain_of(names), keys))
    beside.replace(folder / NAME)


def test_another_list_holds_within_a_second_and_none_finds_nobody(folder: Path, keys: FileKeys) -> None:
    clock = FixedClock(at=NOW)
    detector = WithCensus(PatternDetector(), folder=folder, keys=keys, clock=clock)
    text = "Jane Doe, Max Roe, 123-45-6789"

    assert mask([text], detector).texts == ("Jane Doe, Max Roe, [SSN_1]",)
    put(folder, keys, "Jane Doe")
    clock.advance(1.1)
    assert mask([text], detector).texts == ("[NAME_1], Max Roe, [SSN_1]",)
    put(folder, keys, "Max Roe")
    clock.advance(1.1)
    assert mask([text], detector).texts == ("Jane Doe, [NAME_1], [SSN_1]",)
    (folder / NAME).unlink()
    clock.advance(1.1)
    assert mask([text], detector).texts == ("Jane Doe, Max Roe, [SSN_1]",)


def damage_bytes(file: Path, _keys: FileKeys) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def cut(file: Path, _keys: FileKeys) -> None:
    file.write_bytes(file.read_bytes()[:20])


def empty(file: Path, _keys: FileKeys) -> None:
    file.write_bytes(b"")


def link(file: Path, _keys: FileKeys) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def dangle(file: Path, _keys: FileKeys) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def become_a_folder(file: Path, _keys: FileKeys) -> None:
    file.unlink()
    file.mkdir()


def become_a_pipe(file: Path, _keys: FileKeys) -> None:
    file.unlink()
    os.mkfifo(file)


def seal_something_else(file: Path, keys: FileKeys) -> None:
    file.write_bytes(keys.wrap("phi-map", b"sealift-census 1\nX Y", b"something else"))


def another_format(file: Path, keys: FileKeys) -> None:
    file.write_bytes(censusfile.sealed(b"sealift-census 2\nJane Doe", keys))


def no_text(file: Path, keys: FileKeys) -> None:
    file.write_bytes(censusfile.sealed(b"sealift-census 1\n\xff\xfe", keys))


def lose_the_key(_file: Path, keys: FileKeys) -> None:
    keys.destroy("phi-map")


@pytest.mark.parametrize(
    "harm",
    [damage_bytes, cut, empty, link, dangle, become_a_folder, become_a_pipe, seal_something_else, another_format,
     no_text, lose_the_key],
)  # fmt: skip
@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_list_that_cannot_be_used_fails_the_search_each_time_until_it_can(
    folder: Path, keys: FileKeys, harm: object, *, is_loaded: bool
) -> None:
    assert callable(harm)
    clock = FixedClock(at=NOW)
    detector = WithCensus(PatternDetector(), folder=folder, keys=keys, clock=clock)
    put(folder, keys, "Jane Doe")
    if is_loaded:
        assert detector.find("Jane Doe")
    harm(folder / NAME, keys)
    if harm is lose_the_key and is_loaded:
        put_again = (folder / NAME).read_bytes()
        (folder / NAME).unlink()
        (folder / NAME).write_bytes(put_again)
    clock.advance(1.1)

    for _ in range(3):
        with pytest.raises((StoreDamagedError, CiphertextError, KeyMissingError)) as caught:
            detector.find("nothing at all")
        assert "Doe" not in str(caught.value)
    if harm is not lose_the_key:
        file = folder / NAME
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        put(folder, keys, "Jane Doe")
        assert detector.find("Jane Doe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_list_that_may_not_be_read_fails_the_search(folder: Path, keys: FileKeys) -> None:
    put(folder, keys, "Jane Doe")
    folder.chmod(0)
    try:
        with pytest.raises(StoreDamagedError):
            WithCensus(PatternDetector(), folder=folder, keys=keys, clock=FixedClock(at=NOW)).find("x")
    finally:
        folder.chmod(0o700)


def test_what_a_person_reads_of_the_file_holds_no_name(folder: Path, keys: FileKeys) -> None:
    put(folder, keys, "Jane Doe")

    assert b"Doe" not in (folder / NAME).read_bytes()


def test_threads_share_one_list(folder: Path, keys: FileKeys) -> None:
    put(folder, keys, *(f"Jane Doe{'abcdefghij'[at]}" for at in range(10)))
    detector = WithCensus(PatternDetector(), folder=folder, keys=keys, clock=FixedClock(at=NOW))
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(len(detector.find("Jane Doea")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [1] * 8
