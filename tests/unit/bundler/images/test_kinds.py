"""Every kind of image: made, read back, and refused when something else comes out."""

import hashlib
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import CapacityError, NotEmptyError, ReadBackError
from bundler.images import partition, programs, udf
from bundler.images.facts import ImageFacts
from bundler.images.kinds import KINDS, Kind, kind_of
from bundler.images.make import make_image, unfinished
from bundler.images.stage import Tree, copied_bytes, lay_out, tree_of
from bundler.images.udfread import UdfImage
from bundler.measure import no_progress
from bundler.volumefiles import PlannedFile
from media.errors import UnreadableError, UsageError
from tests.support.images import missing_for

FACTS = ImageFacts(serial=12, number=3, volume_id="0123456789abcdef", at=1_790_000_000)
LONG = f"release/data/{'w' * 116}.whl"
WITHOUT_ROOT = ["vfat", "ext4", "iso9660", "udf"]
SIZES = {"release/bagit.txt": 55, "release/empty": 0, "release/data/a/b/c/d/deep": 70_000, "custody/001": 3}


def tree(folder: Path, sizes: dict[str, int] | None = None) -> Tree:
    sizes = dict(sorted((sizes or SIZES).items()))
    sha256 = {}
    for number, (name, length) in enumerate(sizes.items()):
        data = bytes([number + 1]) * length
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        sha256[name] = hashlib.sha256(data).hexdigest()
    return Tree(folder=folder, sizes=sizes, sha256=sha256)


@pytest.fixture(params=WITHOUT_ROOT)
def kind(request: pytest.FixtureRequest) -> Kind:
    if why := missing_for(request.param):
        pytest.skip(why)
    return KINDS[request.param]


def test_all_of_an_image_comes_back_and_it_fits_what_was_planned(kind: Kind, tmp_path: Path) -> None:
    laid_out, seen = tree(tmp_path / "t"), list[tuple[int, int]]()

    made = make_image(
        laid_out,
        tmp_path / "i",
        kind=kind,
        facts=FACTS,
        progress=lambda done, total, _label: seen.append((done, total)),
    )

    assert (made.read_back.files, made.read_back.bytes) == (4, laid_out.bytes)
    assert made.bytes == (tmp_path / "i").stat().st_size <= kind.size(laid_out)
    assert seen[-1] == (laid_out.bytes, laid_out.bytes)
    assert not unfinished(tmp_path / "i").exists()


def test_a_file_that_changed_after_it_was_sealed_leaves_no_image(kind: Kind, tmp_path: Path) -> None:
    laid_out = tree(tmp_path / "t")
    (laid_out.folder / "release/data/a/b/c/d/deep").write_bytes(bytes(70_000))

    with pytest.raises(ReadBackError, match="deep came back different"):
        make_image(laid_out, tmp_path / "i", kind=kind, facts=FACTS, progress=no_progress)

    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_file_too_many_leaves_no_image(kind: Kind, tmp_path: Path) -> None:
    laid_out = tree(tmp_path / "t")
    short = replace(laid_out, sizes={name: size for name, size in laid_out.sizes.items() if name != "release/empty"})
    if kind.name == "vfat":  # takes what it is told, file by file
        short = replace(laid_out, sizes={**laid_out.sizes, "release/other": 0}, folder=laid_out.folder)
        (laid_out.folder / "release/other").mkdir()

    with pytest.raises((ReadBackError, UnreadableError)):
        make_image(short, tmp_path / "i", kind=kind, facts=FACTS, progress=no_progress)

    assert not (tmp_path / "i").exists()


def test_a_name_is_kept_or_refused_but_never_cut(kind: Kind, tmp_path: Path) -> None:
    laid_out = tree(tmp_path / "t", {LONG: 9})

    if kind.name == "iso9660":
        with pytest.raises(UsageError, match="too long for ISO 9660") as refused:
            make_image(laid_out, tmp_path / "i", kind=kind, facts=FACTS, progress=no_progress)
        assert "103" in refused.value.why
    else:
        make_image(laid_out, tmp_path / "i", kind=kind, facts=FACTS, progress=no_progress)
        assert kind.names(tmp_path / "i") == {LONG}


@pytest.mark.parametrize("name", ["i", "i.unfinished"])
def test_an_image_is_never_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("nowhere")

    with pytest.raises(NotEmptyError):
        make_image(tree(tmp_path / "t"), tmp_path / "i", kind=KINDS["vfat"], facts=FACTS, progress=no_progress)


def test_an_image_needs_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        make_image(tree(tmp_path / "t"), tmp_path / "n" / "i", kind=KINDS["udf"], facts=FACTS, progress=no_progress)


def test_tools_are_found_for_people_whose_path_has_no_sbin(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    assert make_image(tree(tmp_path / "t"), tmp_path / "i", kind=kind, facts=FACTS, progress=no_progress).bytes


def test_a_tool_that_is_not_there_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, path: path and None)

    with pytest.raises(UsageError) as absent:
        programs.program("mcopy")

    assert (absent.value.what, absent.value.fix) == ("mcopy is not installed", "apt install mtools")


def test_formats_have_the_names_that_people_use() -> None:
    assert [kind_of(name).name for name in ("FAT32", "iso", "exFAT", "ext4", "udf")] == [
        *("vfat", "iso9660", "exfat", "ext4", "udf")
    ]
    with pytest.raises(UsageError, match="no format"):
        kind_of("ntfs")


def test_labels_fit_and_numbers_follow_from_the_volume() -> None:
    assert [FACTS.label(most) for most in (16, 11)] == ["SEALIFT_12_3", "SL12_3"]
    assert replace(FACTS, serial=10**9, number=99).label(11) == "SEALIFT_99"
    assert FACTS.uuid != replace(FACTS, volume_id="1123456789abcdef").uuid
    assert FACTS.uuid.version == 5


def test_one_partition_reaches_from_the_first_mib_to_the_end(tmp_path: Path) -> None:
    image = tmp_path / "i"
    image.write_bytes(bytes(4 * 2**20))

    partition.write_table(image, kind="exfat", size=4 * 2**20, disk_id=0x11223344)

    table = image.read_bytes()[:512]
    assert table[510:] == b"\x55\xaa"
    assert table[440:444] == bytes.fromhex("44332211")
    assert table[450] == 0x07
    assert struct.unpack_from("<II", table, 454) == (2048, 3 * 2048)
    assert table[462:510] == bytes(48)
    with pytest.raises(CapacityError, match="too large"):
        partition.write_table(image, kind="exfat", size=2**42, disk_id=1)


def test_fat32_has_clusters_enough_to_be_fat32_and_room_for_hand_overs(tmp_path: Path) -> None:
    small = KINDS["vfat"].size(tree(tmp_path / "t"))
    large = KINDS["vfat"].size(Tree(folder=tmp_path, sizes={"release/w": 60 * 2**30}, sha256={}))

    assert small >= 66_000 * 512
    assert 60 * 2**30 < large < 61 * 2**30


def test_a_whole_file_is_linked_and_a_part_is_cut_out(tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"0123456789")
    files = [
        PlannedFile(name="data/whole", source=source, offset=0, length=10, sha256="w"),
        PlannedFile(name="data/part", source=source, offset=2, length=3, sha256="p"),
    ]

    lay_out(files, tmp_path / "t", label="laying out", progress=no_progress)

    assert (tmp_path / "t/release/data/whole").stat().st_ino == source.stat().st_ino
    assert (tmp_path / "t/release/data/part").read_bytes() == b"234"
    assert copied_bytes(files, tmp_path) == 3
    assert tree_of(files, tmp_path / "t").folders == {
        "": (),
        "release": (),
        "release/data": ("release/data/part", "release/data/whole"),
    }


def test_a_file_shorter_than_planned_is_found_when_laid_out(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"0123")

    with pytest.raises(UnreadableError, match="shorter than planned"):
        lay_out(
            [PlannedFile(name="p", source=tmp_path / "w", offset=2, length=9, sha256="")],
            tmp_path / "t",
            label="laying out",
            progress=no_progress,
        )


@pytest.fixture(scope="module")
def udf_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := missing_for("udf"):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("udf")
    udf.make(tree(folder / "t"), folder / "i", facts=FACTS, size=0)
    return folder / "i"


def test_no_changed_byte_of_a_udf_descriptor_goes_unseen(udf_image: Path, tmp_path: Path) -> None:
    data = udf_image.read_bytes()
    with UdfImage(udf_image) as opened:
        wanted = {name: opened.digest(entry) for name, entry in opened.files().items()}
    used = [
        number * 2048
        for number in range(256, 330)
        if int.from_bytes(data[number * 2048 :][:2], "little") in {2, 256, 261}
    ]
    assert len(used) > 8

    for offset in used:
        for place in (0, 4, 20, 60, 172, 176, 180, 184):
            changed = bytearray(data)
            changed[offset + place] ^= 0x40
            (tmp_path / "i").write_bytes(changed)
            with UdfImage(tmp_path / "i") as opened:
                try:
                    found = {name: opened.digest(entry) for name, entry in opened.files().items()}
                except ReadBackError:
                    continue
            assert found == wanted, (offset, place)  # a descriptor that nothing refers to


@pytest.mark.parametrize("data", [b"", bytes(2**20), b"\x02\x00" * 2**19])
def test_what_is_no_udf_image_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "i").write_bytes(data)

    with UdfImage(tmp_path / "i") as opened, pytest.raises(ReadBackError):
        opened.files()
