"""Volumes in any order and one at a time: what was proven is kept, and the last one makes the release whole."""

import itertools
import random
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.verify.freshness import Decisions, StaleAcceptance
from media import layout
from media.clock import to_text
from media.errors import CustodyError, DigestMismatchError, MissingVolumeError, StaleError
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import NOW, Site, make_site

pytestmark = pytest.mark.slow  # whole receipts again and again, a second each


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    """Weights of two blocks, one on each volume."""
    weights = random.Random(5).randbytes(4096) * (layout.BLOCK_BYTES // 4096) + b"tail"
    return make_medium(tmp_path_factory.mktemp("cut") / "m", files=tiny_payload(weights=weights), cut=True)


def site_for(folder: Path, medium: SimulatedMedium) -> Site:
    return make_site(folder / "box", medium.root_json)


def require_received(site: Site, medium: SimulatedMedium) -> None:
    (release,) = site.store.releases()
    assert release.code == medium.code
    for target in release.files:
        release.verify(target)
    assert list(site.store.incoming.iterdir()) == []
    assert {path.name for path in (release.folder / "volumes").iterdir()} == {"1", "2"}
    assert all(list((release.folder / "custody" / str(number)).iterdir()) for number in (1, 2))


@pytest.mark.parametrize("order", list(itertools.permutations((0, 1))))
def test_volumes_come_one_at_a_time_in_any_order(tmp_path: Path, cut: SimulatedMedium, order: tuple[int, ...]) -> None:
    site = site_for(tmp_path, cut)
    first, last = (cut.volumes[number] for number in order)

    with pytest.raises(MissingVolumeError, match=f"volume {order[1] + 1} of 2 is still missing") as refusal:
        site.receive([first])

    assert f"volume {order[0] + 1} was proven" in refusal.value.why
    (fact,) = site.facts("release.")
    assert fact["kind"] == "release.partly-received"
    details = fact["body"]["details"]
    on_first = [path.stat().st_size for path in (first / "release/data").rglob("*") if path.is_file()]
    assert (details["volumes"], details["kept"], details["missing"]) == (2, [order[0] + 1], [order[1] + 1])
    assert details["read_bytes"] == sum(on_first)
    assert site.store.releases() == ()
    assert site.record.serial == 0

    assert site.receive([last]).outcome == "received"
    require_received(site, cut)


def test_people_who_accept_a_stale_release_are_asked_for_the_volume_that_has_its_code(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", stale_after=to_text(NOW - timedelta(days=1)))
    site = site_for(tmp_path, medium)
    accepted = StaleAcceptance(code=medium.code, reason="no newer one", names=("Ann Old", "Ben Young"))

    with pytest.raises(StaleError) as refusal:
        site.receive([medium.volumes[1]], decisions=Decisions(stale=accepted))

    assert "volume 1, which is not here" in refusal.value.why
    with pytest.raises(MissingVolumeError):
        site.receive([medium.volumes[0]], decisions=Decisions(stale=accepted))
    assert site.receive([medium.volumes[1]], decisions=Decisions(stale=accepted)).outcome == "received"


def test_the_last_volume_alone_reads_nothing_of_the_others_again(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    site = site_for(tmp_path, medium)
    with pytest.raises(MissingVolumeError):
        site.receive([medium.volumes[0]])

    facts = site.receive([medium.volumes[1]])

    on_last = [path.stat().st_size for path in (medium.volumes[1] / "release/data").rglob("*") if path.is_file()]
    assert facts.moved["written_bytes"] == sum(on_last)


def test_volumes_given_in_the_other_order_are_the_same_release(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)

    assert site.receive(cut.volumes[::-1]).outcome == "received"
    require_received(site, cut)


def test_what_a_receive_read_is_what_lay_on_the_volumes_that_were_there(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)
    read = []
    for volume in cut.volumes[:1]:
        with pytest.raises(MissingVolumeError) as refusal:
            site.receive([volume])
        assert refusal.value.details is not None
        read.append(refusal.value.details["read_bytes"])
    read.append(site.receive([cut.volumes[1]]).moved["read_bytes"])

    assert sum(read) == sum(map(len, cut.payload.values()))


def test_full_wants_all_volumes_again(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)
    with pytest.raises(MissingVolumeError):
        site.receive([cut.volumes[0]])

    with pytest.raises(MissingVolumeError):
        site.receive([cut.volumes[1]], full=True)

    assert site.receive(cut.volumes, full=True).outcome == "received"
    require_received(site, cut)


def test_a_bad_volume_spoils_only_itself(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    good = medium.copy_to(tmp_path / "good")
    site = site_for(tmp_path, medium)
    medium.flip_bit("data/models/tiny/tiny.gguf")
    with pytest.raises(MissingVolumeError):
        site.receive([medium.volumes[0]])
    with pytest.raises(DigestMismatchError):
        site.receive([medium.volumes[1]])
    fact = site.facts("release.")[-1]
    assert fact["kind"] == "release.refused"
    assert fact["body"]["details"]["bad_blocks"] == 1
    assert fact["body"]["details"]["blocks"][0]["file"] == "data/models/tiny/tiny.gguf"

    assert site.receive([good.volumes[1]]).outcome == "received"
    require_received(site, good)


def test_what_a_stopped_receive_of_all_volumes_left_serves_those_that_come_one_at_a_time(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    good = medium.copy_to(tmp_path / "good")
    site = site_for(tmp_path, medium)
    medium.flip_bit("data/models/tiny/tiny.gguf")
    with pytest.raises(DigestMismatchError):
        site.receive(medium.volumes)  # its code is known here, and is not while volume 1 or 2 is missing

    with pytest.raises(MissingVolumeError) as refusal:
        site.receive([good.volumes[0]])
    assert refusal.value.details is not None
    assert refusal.value.details["written_bytes"] == 0
    assert site.receive([good.volumes[1]]).outcome == "received"

    require_received(site, good)
    assert list(site.store.quarantine.iterdir()) == []


def test_a_new_signing_goes_on_where_a_stopped_receive_of_the_older_one_ended(tmp_path: Path) -> None:
    medium, again = make_medium(tmp_path / "m"), make_medium(tmp_path / "again", issue=1)
    site = site_for(tmp_path, medium)
    medium.flip_bit("data/models/tiny/tiny.gguf")
    with pytest.raises(DigestMismatchError):
        site.receive(medium.volumes)

    facts = site.receive(again.volumes)

    assert facts.moved["resumed_files"] > 0
    require_received(site, again)
    assert list(site.store.quarantine.iterdir()) == []


def test_a_kept_volume_that_was_tampered_with_is_wanted_again(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)
    with pytest.raises(MissingVolumeError):
        site.receive([cut.volumes[0]])
    (manifest,) = site.store.incoming.glob(f"*/kept/*/release/{layout.TAG_MANIFEST}")
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes() + b"\n")

    with pytest.raises(MissingVolumeError, match="volume 1 of 2 is still missing"):
        site.receive([cut.volumes[1]])

    assert site.receive([cut.volumes[0]]).outcome == "received"
    require_received(site, cut)


def test_a_journal_that_an_older_program_left_counts_for_nothing(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)
    with pytest.raises(MissingVolumeError):
        site.receive([cut.volumes[0]])
    (journal,) = site.store.incoming.glob("*/journal")
    journal.write_bytes(journal.read_bytes().replace(b'{"format":2,', b'{"format":1,', 1))

    with pytest.raises(MissingVolumeError, match="volume 1 of 2 is still missing"):
        site.receive([cut.volumes[1]])

    assert site.receive([cut.volumes[0]]).outcome == "received"
    require_received(site, cut)


def test_what_the_disk_lost_of_a_kept_volume_is_wanted_again(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)
    with pytest.raises(MissingVolumeError):
        site.receive([cut.volumes[0]])
    (part,) = site.store.incoming.glob("*/objects/*.part")
    with part.open("r+b") as stream:
        stream.write(b"\0" * 4096)

    with pytest.raises(MissingVolumeError, match="volume 1 of 2 is still missing"):
        site.receive([cut.volumes[1]])

    assert site.receive([cut.volumes[0]]).outcome == "received"
    require_received(site, cut)


def test_a_custody_question_is_asked_with_all_volumes_there(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    site = site_for(tmp_path, medium)
    for path in (medium.volumes[0] / "custody").iterdir():
        path.unlink()

    with pytest.raises(CustodyError) as refusal:
        site.receive([medium.volumes[0]])

    assert "all volumes" in refusal.value.fix


def test_a_dry_run_of_one_volume_proves_it_and_keeps_nothing(tmp_path: Path, cut: SimulatedMedium) -> None:
    site = site_for(tmp_path, cut)

    with pytest.raises(MissingVolumeError, match="volume 2 of 2 is still missing"):
        site.receive([cut.volumes[0]], dry_run=True)

    assert not site.store.incoming.exists()
