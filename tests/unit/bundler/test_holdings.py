"""Earlier releases that a delta set builds on, read from folders of any kind."""

from pathlib import Path

import pytest

from bundler.holdings import EarlierRelease
from media import layout
from media.bagit import BagInfo, render_bag_info
from media.errors import MissingFileError


@pytest.mark.parametrize("has_info", [False, True])
def test_a_volume_of_which_lists_are_missing_is_no_earlier_release(tmp_path: Path, *, has_info: bool) -> None:
    release = tmp_path / "stick" / layout.RELEASE
    (release / layout.METADATA).mkdir(parents=True)
    (release / layout.TAG_MANIFEST).write_text(f"{'0' * 64}  bagit.txt\n")
    info = BagInfo(
        release="clinic-7", number=1, count=1, payload_bytes=1, payload_files=1, serial=7, volume_id="0" * 16
    )
    if has_info:
        (release / layout.BAG_INFO).write_bytes(render_bag_info(info))

    with pytest.raises(MissingFileError, match="earlier release"):
        EarlierRelease.open(tmp_path)
