"""Earlier releases that a delta set builds on, read from folders of any kind."""

from pathlib import Path

import pytest

from bundler.dispatch import media_of, record_sent, record_written
from bundler.holdings import EarlierRelease, holdings_of_register
from bundler.readback import ReadBack
from bundler.register import Register
from bundler.volumefiles import volume_index
from bundler.write import WrittenVolume
from media import layout
from media.bagit import BagInfo, render_bag_info
from media.clock import FixedClock
from media.errors import MissingFileError, UsageError
from tests.support.medium import MADE_AT, make_medium


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


def test_what_a_site_refused_is_no_base_until_it_was_sent_again(tmp_path: Path) -> None:
    """It said so by its ledger's key, and the set was made all the same: "that it took it in is assumed"."""
    medium, register, clock = make_medium(tmp_path / "m"), Register(folder=tmp_path / "r"), FixedClock(at=MADE_AT)
    earlier, index = EarlierRelease.open(medium.work.root), volume_index(medium.work)
    proof = ReadBack(files=1, bytes=1, past_cache=True)
    for volume in index.volumes:
        facts = WrittenVolume(number=volume.number, id=volume.id, files=1, bytes=1, read_back=proof)
        record_written(register, medium.work, facts, clock=clock, to="Carl Courier")
    site = media_of(register.entries())[0].sites[0]

    def assumed() -> str:
        return holdings_of_register(register.entries(), site, [earlier], at=MADE_AT).assumed[0]

    def told(outcome: str, sha256: str, *, by: str = site) -> None:
        facts = {"sha256": sha256 * 64, "site": by, "outcome": outcome, "error": "damaged", "release": ""}
        facts |= {"received_at": "2026-11-22T09:00:00Z"}
        more = {"serial": 0, "ids": [index.volumes[1].id], "vouched_by": ["signature"], "checkpoint": None}
        register.append("evidence", {**facts, **more}, clock=clock)

    told("refused", "1", by="another")
    assert "is assumed" in assumed()
    told("refused", "2")
    with pytest.raises(UsageError, match="did not take") as refused:
        assumed()
    assert refused.value.why == "volume 2 was refused at 2026-11-22T09:00:00Z"
    told("received", "3")
    assert "is assumed" in assumed()
    told("rejected", "4")
    with pytest.raises(UsageError):
        assumed()
    facts = WrittenVolume(number=2, id=index.volumes[1].id, files=1, bytes=1, read_back=proof)
    again = record_written(register, medium.work, facts, clock=clock, again=True)
    record_sent(register, again, to="Carl Courier", by="alice", clock=clock)
    assert "is assumed" in assumed()
