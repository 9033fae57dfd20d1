import shutil
from pathlib import Path

import pytest

from bundler.errors import NotEmptyError, ReadBackError
from bundler.image import write_image
from bundler.volumefiles import planned_files, volume_index
from tests.support.medium import SimulatedMedium, make_medium

pytestmark = pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="e2fsprogs is not installed")


def expected(medium: SimulatedMedium) -> dict[str, str]:
    volume = volume_index(medium.work).volumes[0]
    return {file.name: file.sha256 for file in planned_files(medium.work, volume)}


def test_every_file_comes_back_out_of_an_image(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", volumes=1)
    seen: list[int] = []

    size = write_image(
        medium.volumes[0],
        tmp_path / "v.img",
        number=1,
        expected=expected(medium),
        progress=lambda done, _total, _label: seen.append(done),
    )

    assert size == (tmp_path / "v.img").stat().st_size
    assert (tmp_path / "v.img").read_bytes()[0x438:0x43A] == b"\x53\xef"
    assert seen[-1] == len(expected(medium))


def test_an_image_of_other_files_than_were_sealed_is_refused(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", volumes=1)
    wanted = expected(medium)
    medium.flip_bit("data/models/tiny/tiny.gguf")

    with pytest.raises(ReadBackError, match=r"tiny\.gguf came back different"):
        write_image(medium.volumes[0], tmp_path / "v.img", number=1, expected=wanted)


def test_an_image_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "v.img").touch()

    with pytest.raises(NotEmptyError):
        write_image(tmp_path, tmp_path / "v.img", number=1, expected={})


def test_an_image_is_made_for_people_whose_path_has_no_sbin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    medium = make_medium(tmp_path / "m", volumes=1)

    assert write_image(medium.volumes[0], tmp_path / "v.img", number=1, expected=expected(medium)) > 0
