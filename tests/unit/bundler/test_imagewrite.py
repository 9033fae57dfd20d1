"""Volumes as images by the commands: planned, refused with both numbers, written, handed over, remade."""

import json
import subprocess
from pathlib import Path

import pytest

from bundler.cli.main import main
from bundler.errors import CapacityError, NotEmptyError
from bundler.images.kinds import KINDS
from bundler.images.make import require_absent
from bundler.images.udfread import UdfImage
from bundler.imagewrite import ImageJob, plan_images, write_images
from bundler.mediasizes import DISCS, room_of, rooms_of, size_of
from bundler.register import Register
from bundler.room import Room, require_room, room
from bundler.volumefiles import PlannedFile, planned_files, volume_index
from media import layout
from media.errors import ThresholdError, UsageError
from tests.support.images import missing_for
from tests.support.medium import SimulatedMedium, make_medium

UDF = ImageJob(kind=KINDS["udf"])


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("m") / "m")


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["--json", *map(str, arguments)])
    return int(ended.value.code or 0)


def names_of(image: Path) -> set[str]:
    with UdfImage(image) as opened:
        return set(opened.files())


def test_every_volume_becomes_an_image_with_its_release_and_nothing_is_left_behind(
    medium: SimulatedMedium, tmp_path: Path
) -> None:
    if why := missing_for("udf"):
        pytest.skip(why)
    places = {1: tmp_path / "1.udf", 2: tmp_path / "2.udf"}
    before = sorted(path.name for path in medium.work.root.iterdir())

    written = write_images(medium.work, places, job=UDF, ceremony=medium.ceremony)

    for volume, each in zip(volume_index(medium.work).volumes, written, strict=True):
        wanted = {f"{layout.RELEASE}/{file.name}" for file in planned_files(medium.work, volume)}
        assert names_of(places[volume.number]) == wanted
        assert (each.id, each.files) == (volume.id, len(wanted))
        assert "UDF image, SHA-256 " in each.carrier
    assert sorted(path.name for path in medium.work.root.iterdir()) == before


def test_no_image_is_made_when_one_of_them_cannot_be(medium: SimulatedMedium, tmp_path: Path) -> None:
    (tmp_path / "2.udf").touch()

    with pytest.raises(NotEmptyError, match=r"2\.udf exists"):
        write_images(medium.work, {1: tmp_path / "1.udf", 2: tmp_path / "2.udf"}, job=UDF, ceremony=medium.ceremony)

    assert not (tmp_path / "1.udf").exists()


def test_an_image_that_is_too_large_for_its_disc_is_refused_with_both_numbers(
    medium: SimulatedMedium, tmp_path: Path
) -> None:
    job = ImageJob(kind=KINDS["vfat"], most=20_000_000)

    with pytest.raises(CapacityError) as refused:
        plan_images(medium.work, {1: tmp_path / "i"}, job=job, ceremony=medium.ceremony)

    assert "20,000,000" in refused.value.why
    assert "35,651,584" in refused.value.why


def test_one_place_for_two_volumes_is_refused(medium: SimulatedMedium, tmp_path: Path) -> None:
    places = {1: tmp_path / "i", 2: tmp_path / "." / "i"}

    with pytest.raises(UsageError, match="given twice"):
        plan_images(medium.work, places, job=UDF, ceremony=medium.ceremony)


def test_write_makes_images_and_enters_hand_over_and_carrier(
    medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if why := missing_for("udf"):
        pytest.skip(why)
    write = ["write", medium.work.root, tmp_path / "1.udf", tmp_path / "2.udf", "--ceremony", medium.ceremony.folder]
    write += ["--format", "udf", "--disc", "bd", "--register", tmp_path / "r"]
    write += ["--person", "alice", "--to", "Carl Courier"]

    assert command(*write, "--dry-run") == 0
    planned = json.loads(capsys.readouterr().out)["destinations"]
    assert [(each["number"], each["destination"]) for each in planned] == [(1, "1.udf"), (2, "2.udf")]
    assert sorted(path.name for path in tmp_path.iterdir()) == []

    assert command(*write) == 0
    told = json.loads(capsys.readouterr().out)["volumes"]
    kept = [entry.facts for entry in Register(folder=tmp_path / "r").entries() if entry.kind == "written"]
    assert [each["carrier"] for each in kept] == [each["carrier"] for each in told]
    assert {each["by"] for each in kept} == {"alice"}
    assert any(name.startswith("custody/001-") for name in names_of(tmp_path / "2.udf"))


def test_remake_makes_an_image_whose_signatures_hold(
    medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if why := missing_for("vfat"):
        pytest.skip(why)
    remake = ["remake", medium.work.root, tmp_path / "again.img", "--volume", 2, "--ceremony", medium.ceremony.folder]
    remake += ["--format", "fat32", "--register", tmp_path / "r"]

    assert command(*remake, "--dry-run") == 0
    assert not (tmp_path / "again.img").exists()
    capsys.readouterr()
    assert command(*remake) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["number"], told["medium"]) == (2, f"{medium.release}/2/1")
    assert len(told["signatures_hold"]) == 2
    place = ["-i", f"{tmp_path / 'again.img'}@@1M"]
    subprocess.run(["mcopy", "-s", *place, "::/release", tmp_path], check=True, capture_output=True)
    for path in (medium.volumes[1] / layout.RELEASE).rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(medium.volumes[1])).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("more", [["--erase", "/dev/sdx"], ["--disc", "bd"], ["--scratch", "/tmp"]])
def test_options_for_images_need_a_format(medium: SimulatedMedium, tmp_path: Path, more: list[str]) -> None:
    assert (
        command("write", medium.work.root, "1=" + str(tmp_path / "v"), "--ceremony", medium.ceremony.folder, *more) == 2
    )


def test_a_dry_run_onto_folders_tells_both_numbers_and_writes_nothing(
    medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = ["write", medium.work.root, "--ceremony", medium.ceremony.folder, "--dry-run"]

    assert command(*write, tmp_path / "1", tmp_path / "2") == 0
    rows = json.loads(capsys.readouterr().out)["destinations"]
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "photo.jpg").touch()

    assert all(0 < row["needs_bytes"] < row["free_bytes"] for row in rows)
    assert command(*write, tmp_path / "1", tmp_path / "2") == 113
    assert not (tmp_path / "2").exists()


def test_a_mounted_medium_is_measured_by_its_own_clusters_and_inodes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    one = PlannedFile(name="data/a/f", source=tmp_path / "f", offset=0, length=1, sha256="")
    huge = PlannedFile(name="data/w", source=tmp_path / "f", offset=0, length=2**60, sha256="")

    found = room(tmp_path / "not" / "there", [one])

    assert found.needed >= 5 * 4096  # the file, and release/ with two folders in it, and the root
    assert found.files == 5
    with pytest.raises(CapacityError, match="volume 3") as refused:
        require_room(tmp_path, [huge], number=3)
    assert f"{2**60:,}"[:6] in refused.value.why


def test_a_medium_without_inodes_left_is_refused_and_one_without_inodes_is_not() -> None:
    Room(needed=1, free=1, files=9, inodes=None).require_enough(1)
    with pytest.raises(CapacityError) as refused:
        Room(needed=1, free=1, files=1001, inodes=1000).require_enough(1)

    assert "1,001 files and folders, there is room for 1,000" in refused.value.why


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("58GiB", 58 * 2**30),
        ("64GB", 64 * 10**9),
        ("dvd", 4_700_372_992),
        ("BD", 25_025_314_816),
        ("usb-64", 57_600_000_000),
    ],
)
def test_a_size_is_a_number_or_the_name_of_a_medium(text: str, size: int) -> None:
    assert size_of(text) == size
    assert rooms_of(f"3*{text}") == [room_of(text)] * 3
    assert room_of(text) == size - (2**25 if text.lower() in DISCS else 0)


@pytest.mark.parametrize("text", ["", "big", "usb-0", "-5GB", "0*dvd", "999*dvd", "5GBB", "9" * 400])
def test_what_is_no_size_is_refused_with_the_names_there_are(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        rooms_of(text)

    assert all(name in refused.value.fix for name in DISCS)


@pytest.mark.parametrize("place", ["", "."])
def test_an_image_without_a_name_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="names no image"):
        require_absent(Path(place))


def test_who_may_not_enter_custody_is_told_before_anything_is_written(
    medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = ["write", medium.work.root, tmp_path / "1", tmp_path / "2", "--ceremony", medium.ceremony.folder]

    assert command(*write, "--person", "zoe") == 111
    assert "names no person" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "typed", [["--to", "x" * 501], ["--to", "Carl\nCourier"], ["--person", "alice", "--to", "x" * 201]]
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_could_not_be_entered_is_told_before_anything_is_written(
    medium: SimulatedMedium, tmp_path: Path, typed: list[str], more: list[str]
) -> None:
    """The medium was written, and then nobody entered it."""
    write = ["write", medium.work.root, tmp_path / "1", tmp_path / "2", "--ceremony", medium.ceremony.folder]

    assert command(*write, *typed, *more) == 2
    remake = ["remake", medium.work.root, tmp_path / "1", "--volume", 1, "--ceremony", medium.ceremony.folder]
    assert command(*remake, *typed, *more) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_release_with_a_volume_that_too_few_sealed_is_refused_whole(
    medium: SimulatedMedium, tmp_path: Path, more: list[str]
) -> None:
    """A dry run onto folders said that all could be written, and a run wrote the volumes before it."""
    seal = medium.work.seal_of(2) / layout.signature_name(medium.fingerprint("bob"))
    kept = seal.read_bytes()
    seal.unlink()
    write = ["write", medium.work.root, "--ceremony", medium.ceremony.folder, *more]
    try:
        refused = command(*write, tmp_path / "1", tmp_path / "2")
        alone = command(*write, f"1={tmp_path / '1'}")
        again = command("remake", medium.work.root, tmp_path / "2", "--volume", 2, *write[2:])
    finally:
        seal.write_bytes(kept)

    assert {refused, alone, again} == {ThresholdError.exit_code}
    assert list(tmp_path.iterdir()) == []


def test_places_are_named_for_all_volumes_or_for_none(
    medium: SimulatedMedium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a folder called 1= appeared here, with the volume in it."""
    monkeypatch.chdir(tmp_path)
    write = ["write", medium.work.root, "--ceremony", medium.ceremony.folder]

    assert command(*write, "1=stick", "other") == 2
    assert command(*write, "l=stick", "2=other") == 2
    assert list(tmp_path.iterdir()) == []
    assert command(*write, "./1=stick", "a/2=other", "--dry-run") == 0


def test_each_volume_needs_a_place_or_is_named(medium: SimulatedMedium, tmp_path: Path) -> None:
    write = ["write", medium.work.root, "--ceremony", medium.ceremony.folder, "--dry-run"]

    assert command(*write, tmp_path / "1") == 2
    assert command(*write, f"2={tmp_path / '2'}", f"2={tmp_path / '3'}") == 2
    assert command(*write, f"2={tmp_path / '2'}") == 0


def test_a_shell_completes_commands_and_formats(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_SEALIFT_BUNDLER_COMPLETE", "complete_bash")
    for words, expected in (("sealift-bundler rem", "remake"), ("sealift-bundler write --format ex", "exfat")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))

        with pytest.raises(SystemExit):
            main([])

        assert expected in capsys.readouterr().out.split()


def test_a_medium_that_was_written_is_in_the_register_when_a_later_one_fails(
    medium: SimulatedMedium, tmp_path: Path
) -> None:
    spoilt = medium.copy_to(tmp_path / "m")
    weights = spoilt.work.candidate / "data/models/tiny/tiny.gguf"
    weights.write_bytes(bytes(weights.stat().st_size))
    write = ["write", spoilt.work.root, tmp_path / "1", tmp_path / "2", "--ceremony", spoilt.ceremony.folder]

    assert command(*write, "--register", tmp_path / "r") == 112

    (kept,) = Register(folder=tmp_path / "r").entries()
    assert (kept.kind, kept.facts["volume"]) == ("written", 1)
    assert not (tmp_path / "2" / layout.RELEASE).exists()
