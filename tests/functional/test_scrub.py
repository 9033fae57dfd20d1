"""Scrubbing a box's store: whatever the disk lost is found and named, nothing is changed, receiving again mends it."""

import json
import random
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from appliance.actions import scrub as action
from appliance.actions.scrub import Aside, Options, ScrubFacts
from appliance.cli.main import main
from appliance.cli.scrub import _rate
from appliance.errors import StoreBusyError, StoreDamagedError, UnknownReleaseError
from appliance.store.content import ContentStore
from appliance.store.kept_small import broken_files
from appliance.store.reread import Pace
from appliance.store.scrub import Scrub, Wanted
from appliance.store.scrubbed import ScrubState
from appliance.store.spoilt import Problem, Use
from media import canonical, layout
from media.digest import sha256_hex
from media.errors import UsageError
from tests.support.medium import make_medium
from tests.support.payload import gguf
from tests.support.receiving import Site


def scrub(site: Site, **options: Any) -> ScrubFacts:
    return action.scrub(site.config, clock=site.clock, progress=lambda *_: None, options=Options(**options))


def place_of(site: Site, path: str) -> Path:
    return site.store.releases()[-1].path_of(path)


def wheel_of(site: Site) -> str:
    return next(path for path in site.store.releases()[-1].files if path.endswith(".whl"))


def flip(place: Path, *, at: int = -1) -> None:
    data = bytearray(place.read_bytes())
    data[at] ^= 1
    place.chmod(0o644)
    place.write_bytes(data)


def test_a_sound_store_is_proven_recorded_and_dated(site: Site) -> None:
    facts = scrub(site)

    objects = [path for path in site.store.objects.rglob("*") if path.is_file()]
    assert (facts.whole, facts.serials, facts.figures.bad) == (True, (1,), 0)
    assert facts.figures.objects == len(objects)
    assert facts.figures.bytes == sum(path.stat().st_size for path in objects)
    record = site.facts()[-1]
    assert record["kind"] == "store.scrubbed"
    assert record["body"]["objects"] == len(objects)
    assert action.standing(site.config, clock=site.clock).is_good is True
    site.clock.advance(timedelta(days=36).total_seconds())
    assert action.standing(site.config, clock=site.clock).is_good is False


def test_a_changed_object_is_named_by_release_file_and_bytes_and_receiving_again_mends_it(
    site: Site, with_one_release: Path
) -> None:
    wheel = wheel_of(site)
    place = place_of(site, wheel)
    flip(place)

    facts = scrub(site)

    (finding,) = facts.figures.findings
    assert finding["problem"] == "changed"
    assert finding["files"] == [{"serial": 1, "path": wheel}]
    assert finding["ranges"] == [{"first_byte": 0, "last_byte": place.stat().st_size - 1, "tensors": []}]
    assert site.facts()[-1]["body"]["findings"] == [finding]
    assert action.standing(site.config, clock=site.clock).is_good is False
    assert place.exists()
    site.receive([path for path in sorted((with_one_release.parent / "m").iterdir()) if (path / "release").is_dir()])
    assert scrub(site).figures.bad == 0


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda place: place.unlink(), "missing"),
        (lambda place: (place.chmod(0o644), place.write_bytes(place.read_bytes() + b"x")), "length"),
        (lambda place: (place.unlink(), place.symlink_to("/etc/hostname")), "unreadable"),
        (lambda place: (place.unlink(), place.mkdir()), "unreadable"),
    ],
)
def test_what_is_gone_longer_or_no_file_is_told_apart(
    site: Site, spoil: Callable[[Path], object], problem: str
) -> None:
    spoil(place_of(site, wheel_of(site)))

    (finding,) = scrub(site).figures.findings

    assert finding["problem"] == problem


def test_every_bit_of_a_releases_own_files_is_vouched_for(site: Site) -> None:
    folder = site.store.release_folder(1)
    dice, own = random.Random(4), sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(own) > 10
    for path in own:
        genuine = path.read_bytes()
        if not genuine:
            continue
        flip(path, at=dice.randrange(len(genuine)))

        named = path.relative_to(folder).as_posix().removesuffix(".sha256")  # a sum and its record: one of the two
        assert named in set(broken_files(site.store, 1)), path
        path.write_bytes(genuine)
    assert scrub(site).figures.bad == 0
    (folder / "release.json.sha256").unlink()
    assert "release.json.sha256" in set(broken_files(site.store, 1))


def test_a_record_whose_words_the_disk_changed_is_found_and_stops_neither_scrub_nor_status(site: Site) -> None:
    path = site.store.release_folder(1) / "release.json"
    genuine = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(genuine.replace(b'"received_at":"2026', b'"received_at":"20\x7f6'))

    assert action.standing(site.config, clock=site.clock).text == "nothing is stored"
    found = scrub(site, since=site.clock.now() + timedelta(days=1)).figures.findings

    assert [(each["problem"], each["files"][0]["path"]) for each in found] == [("record", "release.json")]


@pytest.mark.parametrize("name", ["release.json", "attest/sbom.dsse.json", "volumes/2/bag-info.txt"])
def test_a_releases_own_file_that_the_disk_changed_is_mended_by_receiving_again(site: Site, name: str) -> None:
    place = site.store.release_folder(1) / name
    genuine = place.read_bytes()
    place.chmod(0o644)
    place.write_bytes(genuine.replace(b"demo", b"dema", 1) if name == "release.json" else genuine[:-1])
    assert scrub(site).figures.bad == 1

    medium = make_medium(site.config.at.root / "again")
    assert site.receive(medium).outcome == "reissued"

    assert scrub(site).figures.bad == 0
    assert site.receive(medium).outcome == "reverified"


def test_a_record_of_an_older_program_is_held_against_what_was_signed_alone(site: Site) -> None:
    folder = site.store.release_folder(1)
    (folder / "release.json.sha256").unlink()
    facts = json.loads((folder / "release.json").read_bytes())
    del facts["summed"]
    (folder / "release.json").chmod(0o644)
    (folder / "release.json").write_bytes(canonical.dumps(facts))

    assert scrub(site).figures.bad == 0


def test_a_folder_of_objects_that_the_disk_does_not_give_is_said_so(site: Site) -> None:
    shard = next(site.store.objects.iterdir())
    shard.rename(site.store.root / "kept")
    shard.write_text("no folder")

    with pytest.raises(StoreDamagedError, match="list of objects"):
        scrub(site)


def test_a_record_that_names_other_files_than_were_signed_is_found(site: Site) -> None:
    path = site.store.release_folder(1) / "release.json"
    facts = json.loads(path.read_bytes())
    facts["files"].pop(wheel_of(site))
    path.chmod(0o644)
    path.write_text(json.dumps(facts))

    found = scrub(site).figures.findings

    assert [(each["problem"], each["files"]) for each in found] == [("record", [{"serial": 1, "path": "release.json"}])]


def test_a_bad_block_of_a_model_is_told_by_its_tensors(tmp_path: Path) -> None:
    store, path = ContentStore(tmp_path), "data/models/m/m.gguf"
    shapes = {"token_embd.weight": (1024, 16 * 1024), "output.weight": (256, 4)}
    genuine = gguf(metadata={}, tensors=shapes)
    assert layout.BLOCK_BYTES < len(genuine) < 2 * layout.BLOCK_BYTES
    halves = (genuine[: layout.BLOCK_BYTES], genuine[layout.BLOCK_BYTES :])
    name = sha256_hex(genuine)
    place = store.object_path(name)
    place.parent.mkdir(parents=True)
    place.write_bytes(genuine[:-1] + bytes([genuine[-1] ^ 1]))
    wanted = Wanted(
        length=len(genuine), uses=[Use(serial=4, path=path)], blocks=tuple(sha256_hex(half) for half in halves)
    )

    found = Scrub(store, {name: wanted}, Pace()).prove(name)

    assert found is not None
    assert found.problem is Problem.CHANGED
    (bad,) = found.ranges
    assert (bad.first, bad.last) == (layout.BLOCK_BYTES, len(genuine) - 1)
    assert "output.weight" in bad.tensors
    assert "output.weight" in found.text

    lying = Wanted(length=len(genuine), uses=wanted.uses, blocks=(wanted.blocks[0], sha256_hex(b"")))
    place.write_bytes(genuine)
    assert Scrub(store, {name: lying}, Pace()).prove(name) is None


def test_an_interrupted_scrub_goes_on_behind_the_last_object(site: Site) -> None:
    class StoppedError(Exception):
        pass

    seen: list[str] = []

    def stop(done: int, total: int, path: str) -> None:
        site.clock.advance(10)  # past the time between two savings
        seen.append(path)
        if len(seen) == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        action.scrub(site.config, clock=site.clock, progress=stop)
    state = ScrubState.load(site.config.at.scrub)
    assert state.running is not None
    assert state.running.objects == 3

    facts = scrub(site)

    objects = [path for path in site.store.objects.rglob("*") if path.is_file()]
    assert facts.resumed
    assert (facts.figures.objects, facts.figures.bad) == (len(objects), 0)
    assert ScrubState.load(site.config.at.scrub).running is None


def test_a_part_of_the_store_does_not_count_as_a_complete_scrub(site: Site) -> None:
    facts = scrub(site, serial=1)

    assert not facts.whole
    assert site.facts()[-1]["body"]["whole"] is False
    assert ScrubState.load(site.config.at.scrub).last is None
    assert scrub(site, since=site.clock.now() + timedelta(days=1)).figures.objects == 0
    assert scrub(site, since=site.clock.now() - timedelta(days=1)).figures.objects == facts.figures.objects
    with pytest.raises(UnknownReleaseError):
        scrub(site, serial=7)


def test_a_bad_object_is_moved_aside_only_by_a_named_decision_and_never_deleted(site: Site) -> None:
    place = place_of(site, wheel_of(site))
    flip(place)
    spoilt = place.read_bytes()
    with pytest.raises(UsageError):
        scrub(site, aside=Aside(name="", reason="because"))

    facts = scrub(site, aside=Aside(name="dana", reason="the disk is replaced"))

    assert facts.aside == (place.name,)
    assert not place.exists()
    assert (site.store.quarantine / f"object-{place.name}").read_bytes() == spoilt
    record = site.facts()[-1]
    assert (record["kind"], record["body"]["by"], record["body"]["objects"]) == (
        "store.set-aside",
        "dana",
        [place.name],
    )


def test_only_one_scrub_runs_at_a_time(site: Site) -> None:
    def again(done: int, total: int, path: str) -> None:
        scrub(site)

    with pytest.raises(StoreBusyError, match="another scrub"):
        action.scrub(site.config, clock=site.clock, progress=again)


def test_a_state_that_does_not_read_begins_the_scrub_anew(site: Site) -> None:
    scrub(site)
    (site.config.at.scrub / "scrub.json").write_text("{")

    assert scrub(site).resumed is False


def test_the_command_says_what_is_bad_and_what_helps_and_ends_with_31(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sealift.toml"
    path.write_text(
        f'site = "demo-clinic"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{tmp_path / "box"}"\n'
    )
    wheel = wheel_of(site)
    flip(place_of(site, wheel))
    monkeypatch.setattr(sys, "argv", ["sealift", "--config", str(path), "scrub", "--rate", "900MB/s"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 31
    said = capsys.readouterr().out
    assert f"{wheel} of serial 1" in said
    assert "sealift receive" in said


@pytest.mark.parametrize(("words", "rate"), [("50MB/s", 50_000_000), ("1GiB/s", 2**30), ("7/s", 7)])
def test_rates_are_read_with_their_units(words: str, rate: int) -> None:
    assert _rate(words) == rate


@pytest.mark.parametrize("words", ["50", "0MB/s", "-1MB/s", "fast", "5TB/s"])
def test_what_is_no_rate_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        _rate(words)


def test_reading_keeps_to_its_rate() -> None:
    begun = monotonic()
    pace = Pace(10_000_000)
    for _ in range(4):
        pace(500_000)

    assert 0.18 < monotonic() - begun < 30
