"""What a courier, one person or a power cut may do to a medium or a box, and the box still receives afterwards."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import believing, replacing
from appliance.actions import trust as trust_action
from appliance.actions.believing import Pending
from appliance.actions.trust import TrustFacts
from appliance.errors import ConflictError
from appliance.store.content import StoredRelease
from appliance.verify import trust
from appliance.verify.freshness import CustodyAcceptance, Decisions
from appliance.verify.trust import RECORD, ROOTS
from bundler.metadata import signed_file
from media import canonical, layout
from media.digest import sha256_hex
from media.errors import CustodyError, NoTrustError, SealiftError, StaleError, SupersededError
from tests.support.handovers import hand_over, put_custody, sign_hand_over
from tests.support.medium import MADE_AT, SimulatedMedium, make_medium, throwaway_ceremony
from tests.support.receiving import Shelf, Site, make_site, rotated

pytestmark = pytest.mark.slow  # whole commands and processes, seconds each

ROOT_2 = "metadata/2.root.json"
REPOSITORY = Path(__file__).parents[2]


def with_rotation(genuine: Shelf, *, serial: int = 2) -> SimulatedMedium:
    """Return a medium that brings a second root, in which carol is gone."""
    return genuine(serial=serial, keys=rotated(throwaway_ceremony("demo"), without="carol"))


def edit(medium: SimulatedMedium, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a small file on every volume."""
    for number in range(1, len(medium.volumes) + 1):
        medium.replace(name, change(medium.path(name, volume=number).read_bytes()), volume=number)


def exit_code_of(site: Site, medium: SimulatedMedium) -> int:
    with pytest.raises(SealiftError) as refusal:
        site.receive(medium)
    return refusal.value.exit_code


@pytest.mark.parametrize(
    ("change", "exit_code"),
    [
        pytest.param(lambda raw: raw.replace(b"{", b"{\r", 1), 10, id="carriage return"),
        pytest.param(lambda raw: raw + b"\n", 10, id="line feed"),
        pytest.param(lambda raw: b" " * (5 * 2**20) + raw, 16, id="5 MiB of blanks"),
    ],
)
def test_a_root_whose_bytes_a_courier_changed_is_refused_and_never_kept(
    site: Site, genuine: Shelf, change: Callable[[bytes], bytes], exit_code: int
) -> None:
    carried = with_rotation(genuine)
    edit(carried, ROOT_2, change)
    before = site.untouched()

    assert exit_code_of(site, carried) == exit_code

    assert site.untouched() == before
    assert site.receive(with_rotation(genuine)).outcome == "received"


def test_a_root_that_names_people_beyond_ascii_has_one_form_only() -> None:
    root = rotated(throwaway_ceremony("demo")).root
    root.unrecognized_fields["x-sealift-people"][0]["name"] = "Zoë Ångström"

    written = signed_file(root, ())

    assert "Zoë".encode() in written
    assert canonical.loads_canonical(written) == json.loads(written)


def damage_record(site: Site) -> None:
    (site.config.at.trust / RECORD).write_bytes(b"damage")


def recover(site: Site, code: str, **more: Any) -> TrustFacts:
    return trust_action.recover(site.config, [code] * 2, ["Ann", "Bo"], checkpoint="", clock=site.clock, **more)


def refused_rotation(site: Site, genuine: Shelf) -> SimulatedMedium:
    """Have a rotation accepted from a medium whose release is then refused."""
    medium = with_rotation(genuine)
    medium.flip_bit("data/release.json")
    assert exit_code_of(site, medium) == 15
    assert len(site.record.root_chain) == 2
    return medium


def test_recovery_keeps_a_rotation_whose_release_was_refused(site: Site, genuine: Shelf) -> None:
    refused_rotation(site, genuine)
    damage_record(site)

    assert recover(site, genuine().code).root_version == 2

    by_the_revoked = genuine(serial=2)
    by_the_revoked.reseal("alice", "carol")
    assert exit_code_of(site, by_the_revoked) == 20


def test_recovery_refuses_to_fall_behind_a_rotation_and_takes_the_lost_root_from_its_medium(
    site: Site, genuine: Shelf
) -> None:
    medium = refused_rotation(site, genuine)
    damage_record(site)
    shutil.rmtree(site.config.at.trust / ROOTS)

    with pytest.raises(NoTrustError, match="root 2 was accepted") as refusal:
        recover(site, genuine().code)

    assert "metadata/2.root.json" in refusal.value.fix
    assert recover(site, genuine().code, roots=[medium.path(ROOT_2, volume=1)]).root_version == 2


def test_a_rotation_is_recorded_although_the_power_went_between_record_and_belief(
    site: Site, genuine: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = with_rotation(genuine)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(trust, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            site.receive(medium)

    assert len(site.record.root_chain) == 1
    site.receive(medium)
    (rotated_once,) = site.facts("trust.root-rotated")
    assert (rotated_once["body"]["from_version"], rotated_once["body"]["to_version"]) == (1, 2)


def half_done(site: Site, medium: SimulatedMedium, monkeypatch: pytest.MonkeyPatch, *, damaged: bool = True) -> None:
    """Cut a receive after its record and before anything else."""

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(believing, "publish", cut)
        with pytest.raises(KeyboardInterrupt):
            site.receive(medium)
    if damaged:
        damage_record(site)


def test_recovery_finishes_what_was_half_done(site: Site, genuine: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    half_done(site, genuine(serial=2), monkeypatch)

    assert recover(site, genuine().code).serial == 2

    assert site.record.serial == 2
    assert site.store.serials() == (1, 2)
    assert not (site.config.at.trust / believing.PENDING).exists()


def replace_root(site: Site, folder: Path) -> TrustFacts:
    """Begin anew with a stranger's root, by the digest of its file."""
    root = folder / "1.root.json"
    root.write_bytes(throwaway_ceremony("demo", "heirs").chain[0])
    codes = [sha256_hex(root.read_bytes())] * 2
    return replacing.replace_root(site.config, root, codes, ["Ann", "Bo"], reason="tokens burnt", clock=site.clock)


def test_a_replaced_root_does_not_fall_behind_what_was_half_done(
    tmp_path: Path, site: Site, genuine: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(site, genuine(serial=2), monkeypatch, damaged=False)

    assert replace_root(site, tmp_path).serial == 2

    assert site.record.serial == 2
    with pytest.raises(SupersededError, match="superseded"):
        site.receive(genuine(serial=1, keys=throwaway_ceremony("demo", "heirs")))


def test_a_root_that_is_pinned_again_is_shown_with_what_was_accepted_since(
    tmp_path: Path, site: Site, genuine: Shelf
) -> None:
    root = genuine().path("metadata/1.root.json", volume=1)
    codes = [sha256_hex(root.read_bytes())] * 2

    assert trust_action.pin(site.config, root, codes, clock=site.clock).serial == 1

    replace_root(site, tmp_path)
    with pytest.raises(ConflictError, match="was replaced"):
        trust_action.pin(site.config, root, codes, clock=site.clock)


def test_what_waits_for_the_first_ledger_was_accepted_all_the_same(site: Site, genuine: Shelf) -> None:
    (site.config.at.trust / RECORD).unlink()
    shutil.rmtree(site.store.root)

    with pytest.raises(NoTrustError, match="lost"):
        site.receive(genuine(serial=1))


def test_a_damaged_record_is_recovered_before_its_root_is_replaced(tmp_path: Path, site: Site) -> None:
    damage_record(site)

    with pytest.raises(NoTrustError, match="damaged") as refusal:
        replace_root(site, tmp_path)

    assert "sealift trust recover" in refusal.value.fix


def test_recovery_never_falls_behind_a_serial_that_was_recorded(
    site: Site, genuine: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = genuine(serial=2)
    half_done(site, second, monkeypatch)
    (site.config.at.trust / believing.PENDING).write_bytes(b"{")

    with pytest.raises(NoTrustError, match="demo-2"):
        recover(site, genuine().code)
    assert (site.config.at.trust / believing.PENDING).read_bytes() == b"{"

    assert recover(site, second.code).serial == 2
    assert (site.config.at.trust / believing.SET_ASIDE).read_bytes() == b"{"
    assert site.receive(second).serial == 2
    assert site.store.serials() == (1, 2)


def damage_stored(site: Site, serial: int) -> Path:
    file = site.store.release_folder(serial) / "release.json"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-5])
    return file


def test_one_damaged_record_in_the_store_stops_nothing_and_is_mended_by_receiving(site: Site, genuine: Shelf) -> None:
    damage_stored(site, 1)

    assert trust_action.show(site.config).serial == 1
    without_custody = genuine()
    shutil.rmtree(without_custody.volumes[0] / layout.CUSTODY)
    assert exit_code_of(site, without_custody) == 26
    assert site.receive(genuine()).outcome == "reissued"
    assert [release.serial for release in site.store.releases()] == [1]

    damage_stored(site, 1).unlink()
    assert site.receive(genuine(serial=2)).outcome == "received"
    damage_record(site)
    facts = recover(site, genuine(serial=2).code)
    assert (facts.serial, facts.damaged) == (2, (1,))
    assert site.record.serial == 2


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"seals": ("FORGED-99",)}, "a seal that was not reserved"),
        ({"at": MADE_AT - timedelta(days=400)}, "time runs backwards"),
    ],
)
def test_a_first_hand_over_is_held_against_what_was_sealed(
    site: Site, genuine: Shelf, changes: dict[str, Any], finding: str
) -> None:
    medium = genuine(serial=2)
    put_custody(medium, [sign_hand_over(medium, hand_over(medium))])
    assert site.receive(medium, dry_run=True).facts["custody"]["complete"]

    put_custody(medium, [sign_hand_over(medium, hand_over(medium, **changes))])

    with pytest.raises(CustodyError, match=finding):
        site.receive(medium)


def test_one_person_who_writes_endless_hand_overs_does_not_stop_a_box(site: Site, genuine: Shelf) -> None:
    wide = "\U0001f600"
    medium = genuine(serial=2)
    files: list[bytes] = []
    for number in range(1, 90):
        previous = sha256_hex(files[-1]) if files else hand_over(medium).previous
        names = {
            "from_": wide * 200,
            "to": wide * 200,
            "place": wide * 200,
            "seals": tuple(f"{n:02d}{wide * 62}" for n in range(32)),
        }
        at = MADE_AT + timedelta(minutes=number)
        files.append(sign_hand_over(medium, hand_over(medium, entry=number, previous=previous, at=at, **names)))
    put_custody(medium, files)
    decisions = Decisions(custody=CustodyAcceptance(name="Dana", reason="seals intact"))

    facts = site.receive(medium, decisions=decisions)

    said = facts.facts["custody"]
    assert (len(said["entries"]), said["entries_in_all"]) == (64, 90)
    assert len(canonical.dumps(said)) < 300_000
    assert len(list((site.store.release_folder(2) / "custody/1").iterdir())) == 89
    assert site.receive(medium).outcome == "reverified"


def test_what_the_ledger_would_never_take_is_refused_before_anything_is_laid_down(
    site: Site, genuine: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.untouched()
    monkeypatch.setattr(believing, "_MOST_BODY_BYTES", 100)

    assert exit_code_of(site, genuine(serial=2)) == 16
    monkeypatch.undo()

    assert not (site.config.at.trust / believing.PENDING).exists()
    assert {name: before[name] for name in before} == {name: site.untouched()[name] for name in before}
    assert site.receive(genuine(serial=2)).outcome == "received"


def test_a_half_done_receive_that_the_ledger_refuses_is_set_aside(site: Site, genuine: Shelf) -> None:
    pending = Pending(
        kind="release.received", body={"text": "x" * 2**21}, key="receive-1", code="0" * 64, believed=site.record
    )
    (site.config.at.trust / believing.PENDING).write_bytes(pending.to_bytes())

    assert site.receive(genuine(serial=2)).outcome == "received"

    assert (site.config.at.trust / believing.SET_ASIDE).exists()


def test_a_half_done_receive_is_not_taken_for_the_one_that_waits_with_a_longer_key(site: Site, genuine: Shelf) -> None:
    [waiting] = site.facts("release.received")
    begun = waiting["body"][believing.KEY_FIELD][:-1]
    pending = Pending(kind="release.received", body={}, key=begun, code="0" * 64, believed=site.record)
    (site.config.at.trust / believing.PENDING).write_bytes(pending.to_bytes())

    assert site.receive(genuine(serial=2)).outcome == "received"

    assert (site.config.at.trust / believing.SET_ASIDE).exists()


RECEIVE_WITHOUT_OVERRIDE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.config import Config, PlacesSection
from tests.support.receiving import Site
places = PlacesSection(root=sys.argv[2])
site = Site(config=Config(site="demo-clinic", environment="demo", profile="cpu", places=places))
print(site.receive([Path(volume) for volume in sys.argv[3:]]).outcome)
"""


def receive_as_a_unit(site: Site, medium: SimulatedMedium) -> str:
    """Receive in a process that file modes bind, as they bind the unit's user; return what it said."""
    command = [sys.executable, "-c", RECEIVE_WITHOUT_OVERRIDE, str(REPOSITORY), str(site.config.at.root)]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("file modes do not bind root, and there is no setpriv")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run([*command, *map(str, medium.volumes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_a_power_cut_before_an_objects_last_rename_does_not_stop_the_units_user(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    begun = site.store.incoming / medium.code[:12] / "objects"
    begun.mkdir(parents=True)
    for content in medium.payload.values():
        left = begun / f"{sha256_hex(content)}.part"
        left.write_bytes(content)
        left.chmod(0o444)

    assert receive_as_a_unit(site, medium) == "received"

    assert StoredRelease.load(site.store, 2).verify("data/release.json").stat().st_mode & 0o777 == 0o444


def test_a_ledger_that_is_hidden_from_the_unit_may_exist_and_does_not_stop_it(site: Site, genuine: Shelf) -> None:
    ledger = site.config.at.ledger
    ledger.mkdir(parents=True)
    ledger.chmod(0)

    try:
        assert receive_as_a_unit(site, genuine(serial=2)) == "received"
    finally:
        ledger.chmod(0o755)


def test_no_time_before_the_program_was_made_is_believed(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", stale_after="2026-10-31T00:00:00Z")
    box = make_site(tmp_path / "box", medium.root_json)
    box.clock.at = datetime(1970, 1, 2, tzinfo=UTC)

    with pytest.raises(StaleError, match="2026-11-01"):
        box.receive(medium)
