"""First trust and its recovery, and custody by hand, through the command line as people use it."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from appliance.actions import trust as action
from appliance.cli import custody, inspect, receive, trust
from appliance.cli.context import Context
from appliance.errors import ConflictError, LedgerUnavailableError, UnknownReleaseError
from appliance.verify.trust import PINNED_ROOT, RECORD
from media.clock import to_text
from media.digest import sha256_hex
from media.errors import (
    DigestMismatchError,
    MissingFileError,
    NoTrustError,
    UnsafePathError,
    UsageError,
    WrongEnvironmentError,
)
from tests.support.medium import SimulatedMedium, make_medium, throwaway_ceremony
from tests.support.receiving import Site, make_site, rotated

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


@pytest.fixture
def site(tmp_path: Path, medium: SimulatedMedium) -> Site:
    return make_site(tmp_path / "box", medium.root_json)


@pytest.fixture
def bare(site: Site) -> Site:
    """A box on which nothing is pinned."""
    (site.config.at.pinned_trust / PINNED_ROOT).unlink()
    return site


def run(site: Site, *arguments: object, as_json: bool = False, typed: str | None = None) -> Result:
    app = typer.Typer()
    for command in (trust, receive, custody, inspect):
        command.register(app)
    own = Context(config_path=Path("unused"), as_json=as_json, clock=site.clock)
    own._config = site.config
    return CliRunner().invoke(app, [str(each) for each in arguments], obj=own, input=typed)


def root_of(medium: SimulatedMedium) -> Path:
    return medium.path("metadata/1.root.json", volume=1)


def test_two_people_pin_the_root_by_the_code_of_its_release(bare: Site, medium: SimulatedMedium) -> None:
    done = run(bare, "trust", "pin", "--root", root_of(medium), typed=f"{medium.code}\n{medium.code}\n")

    assert done.exit_code == 0, done.output
    assert medium.code not in done.output
    assert (bare.config.at.pinned_trust / PINNED_ROOT).read_bytes() == medium.root_json
    assert (bare.config.at.pinned_trust / PINNED_ROOT).stat().st_mode & 0o222 == 0
    assert bare.facts()[-1]["kind"] == "trust.pinned"
    assert bare.receive(medium).outcome == "received"


def test_a_root_that_the_ceremony_gave_is_pinned_by_its_own_digest(
    tmp_path: Path, bare: Site, medium: SimulatedMedium
) -> None:
    alone = tmp_path / "1.root.json"
    alone.write_bytes(medium.root_json)

    facts = action.pin(bare.config, alone, [sha256_hex(medium.root_json)] * 2, clock=bare.clock)

    assert facts.thresholds == {"root": 2, "release": 2}
    assert [person["person"] for person in facts.people] == ["alice", "bob", "carol"]


def test_codes_may_be_typed_in_groups_and_capitals(bare: Site, medium: SimulatedMedium) -> None:
    spaced = " ".join(medium.code[at : at + 8] for at in range(0, 64, 8)).upper()

    action.pin(bare.config, root_of(medium), [spaced, medium.code], clock=bare.clock)


@pytest.mark.parametrize("wrong", ["", "0" * 64, "12"])
def test_one_wrong_code_pins_nothing_and_tells_nothing(bare: Site, medium: SimulatedMedium, wrong: str) -> None:
    with pytest.raises(DigestMismatchError) as refusal:
        action.pin(bare.config, root_of(medium), [medium.code, wrong], clock=bare.clock)

    assert medium.code[:8] not in str(refusal.value.to_json())
    assert not (bare.config.at.pinned_trust / PINNED_ROOT).exists()


def test_one_person_alone_pins_nothing(bare: Site, medium: SimulatedMedium) -> None:
    with pytest.raises(UsageError):
        action.pin(bare.config, root_of(medium), [medium.code], clock=bare.clock)


def test_the_code_of_a_release_that_does_not_cover_the_root_does_not_pin_it(
    bare: Site, medium: SimulatedMedium
) -> None:
    stranger = throwaway_ceremony("demo", "stranger")
    root_of(medium).write_bytes(stranger.chain[0])

    with pytest.raises(DigestMismatchError):
        action.pin(bare.config, root_of(medium), [medium.code] * 2, clock=bare.clock)


def test_a_pinned_root_is_never_written_again(site: Site, medium: SimulatedMedium, tmp_path: Path) -> None:
    other = tmp_path / "other.root.json"
    other.write_bytes(throwaway_ceremony("demo", "stranger").chain[0])
    codes = [sha256_hex(other.read_bytes())] * 2

    with pytest.raises(ConflictError):
        action.pin(site.config, other, codes, clock=site.clock)

    assert (site.config.at.pinned_trust / PINNED_ROOT).read_bytes() == medium.root_json
    assert action.pin(site.config, root_of(medium), [medium.code] * 2, clock=site.clock).root_version == 1
    assert len(list(site.config.at.pinned_trust.iterdir())) == 1


def test_a_pin_that_could_not_be_recorded_is_recorded_by_the_next_one(bare: Site, medium: SimulatedMedium) -> None:
    spool = bare.config.at.spool
    spool.parent.mkdir(parents=True, exist_ok=True)
    spool.write_bytes(b"in the way")

    with pytest.raises(LedgerUnavailableError):
        action.pin(bare.config, root_of(medium), [medium.code] * 2, clock=bare.clock)
    assert not (bare.config.at.pinned_trust / PINNED_ROOT).exists()
    spool.unlink()
    for _ in range(2):
        action.pin(bare.config, root_of(medium), [medium.code] * 2, clock=bare.clock)

    (fact,) = bare.facts("trust.pinned")
    assert fact["body"]["root_sha256"] == sha256_hex(medium.root_json)


def test_a_pin_from_before_its_record_is_recorded_when_it_is_repeated(site: Site, medium: SimulatedMedium) -> None:
    action.pin(site.config, root_of(medium), [medium.code] * 2, clock=site.clock)

    assert [fact["kind"] for fact in site.facts()] == ["trust.pinned"]


@pytest.mark.parametrize("plant", [os.mkfifo, Path.mkdir, lambda place: place.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", ["metadata/1.root.json", "tagmanifest-sha256.txt"])
def test_pinning_reads_plain_files_only_and_never_waits(
    tmp_path: Path, bare: Site, medium: SimulatedMedium, name: str, plant: Callable[[Path], object]
) -> None:
    root = tmp_path / "evil/metadata/1.root.json"
    root.parent.mkdir(parents=True)
    root.write_bytes(medium.root_json)
    (tmp_path / "evil" / name).unlink(missing_ok=True)
    plant(tmp_path / "evil" / name)

    with pytest.raises((UnsafePathError, MissingFileError)):
        action.pin(bare.config, root, [medium.code] * 2, clock=bare.clock)


def test_a_root_for_another_environment_is_not_pinned(bare: Site, tmp_path: Path) -> None:
    root = tmp_path / "1.root.json"
    root.write_bytes(throwaway_ceremony("rehearsal").chain[0])

    with pytest.raises(WrongEnvironmentError):
        action.pin(bare.config, root, [sha256_hex(root.read_bytes())] * 2, clock=bare.clock)
    with pytest.raises(WrongEnvironmentError, match="nothing is pinned"):
        action.pin(bare.config.model_copy(update={"environment": "rehearsal"}), root, ["0" * 64] * 2, clock=bare.clock)
    with pytest.raises(MissingFileError):
        action.pin(bare.config, tmp_path / "none", ["0" * 64] * 2, clock=bare.clock)


def test_what_is_believed_is_shown(site: Site, medium: SimulatedMedium) -> None:
    site.receive(medium)

    shown = json.loads(run(site, "trust", "show", as_json=True).output)

    assert (shown["serial"], shown["root_version"], shown["environment"]) == (1, 1, "demo")
    assert "Alice Archer" in run(site, "trust", "show").output


def test_two_people_mend_a_lost_record_and_receiving_goes_on(tmp_path: Path, site: Site) -> None:
    later = make_medium(tmp_path / "later", serial=2, keys=rotated(throwaway_ceremony("demo"), without="carol"))
    site.receive(later)
    before = site.record
    (site.config.at.trust / RECORD).write_bytes(b"damage")
    with pytest.raises(NoTrustError):
        site.receive(later)

    done = run(site, "trust", "recover", "--by", "Ann", "--by", "Bo", "--code", later.code, "--code", later.code)

    assert done.exit_code == 0, done.output
    assert site.record == before
    assert site.facts()[-1]["body"]["names"] == ["Ann", "Bo"]
    assert site.receive(later).outcome == "reverified"


def test_recovery_needs_a_loss_two_people_and_the_running_releases_code(site: Site, medium: SimulatedMedium) -> None:
    def recover(*, codes: list[str], names: list[str]) -> Any:
        return action.recover(site.config, codes, names, checkpoint="", clock=site.clock)

    with pytest.raises(UnknownReleaseError):
        recover(codes=[medium.code] * 2, names=["Ann", "Bo"])
    site.receive(medium)
    with pytest.raises(ConflictError):
        recover(codes=[medium.code] * 2, names=["Ann", "Bo"])
    (site.config.at.trust / RECORD).unlink()
    with pytest.raises(UsageError):
        recover(codes=[medium.code] * 2, names=["Ann", " ann "])
    with pytest.raises(DigestMismatchError):
        recover(codes=[medium.code, "0" * 64], names=["Ann", "Bo"])
    assert not (site.config.at.trust / RECORD).exists()


def test_the_command_tells_what_was_received(site: Site, medium: SimulatedMedium) -> None:
    said = run(site, "receive", *medium.volumes)
    again = json.loads(run(site, "receive", *medium.volumes, as_json=True).stdout)

    assert said.exit_code == 0
    assert "release demo-1 (serial 1): received" in said.stdout
    assert "waits for the ledger" in said.stdout
    assert (again["outcome"], again["code"]) == ("reverified", medium.code)


def test_an_acceptance_without_a_reason_is_no_acceptance(site: Site, medium: SimulatedMedium) -> None:
    for arguments in (("--accept-custody", "Dana"), ("--accept-stale", medium.code, "--by", "A", "--by", "B")):
        assert isinstance(run(site, "receive", *arguments, *medium.volumes).exception, UsageError)
    assert isinstance(run(site, "receive", "--by", "A", "--reason", "x", *medium.volumes).exception, UsageError)


def test_a_stale_release_is_accepted_by_its_code_as_sheets_print_it(tmp_path: Path, site: Site) -> None:
    medium = make_medium(tmp_path / "old", stale_after=to_text(site.clock.now() - timedelta(days=1)))
    printed = " ".join(medium.code[at : at + 8].upper() for at in range(0, 64, 8))
    people = ("--by", "Ann Old", "--by", "Ben Young", "--reason", "no newer one")

    assert run(site, "receive", *medium.volumes, "--accept-stale", printed, *people).exit_code == 0
    none = run(site, "receive", *medium.volumes, "--accept-stale", "x" * 2000, *people).exception
    assert isinstance(none, UsageError)


def test_a_volume_is_inspected_before_any_trust_and_said_to_be_unverified(bare: Site, medium: SimulatedMedium) -> None:
    said = run(bare, "inspect", *medium.volumes)

    assert said.stdout.startswith("NOT VERIFIED")
    assert "claims release: demo-1" in said.stdout
    assert json.loads(run(bare, "inspect", medium.volumes[0], as_json=True).stdout)["verified"] is False


def test_custody_is_shown_entered_from_paper_and_rejected_by_name(site: Site, medium: SimulatedMedium) -> None:
    shown = json.loads(run(site, "custody", "show", *medium.volumes, as_json=True).stdout)
    assert [volume["complete"] for volume in shown["volumes"]] == [True, True]
    volume = shown["volumes"][0]["id"]
    form = ("--from", "Courier", "--to", "Dana", "--at", "2026-11-21 09:00", "--place", "Gate 3", "--by", "Dana")

    entered = run(site, "custody", "enter", "--volume", volume, *form, "--seal", "S-0001-1")
    rejected = run(site, "custody", "reject", "--volume", volume, "--by", "Dana", "--reason", "seal broken")

    assert (entered.exit_code, rejected.exit_code) == (0, 0)
    kinds = {fact["kind"]: fact["body"] for fact in site.facts("custody.")}
    assert kinds["custody.entered"]["seals"] == ["S-0001-1"]
    assert kinds["custody.rejected"]["reason"] == "seal broken"
    assert isinstance(
        run(site, "custody", "reject", "--volume", volume, "--by", " ", "--reason", "x").exception, UsageError
    )


def test_a_receipt_is_written_again_on_demand(site: Site, medium: SimulatedMedium) -> None:
    site.receive(medium)
    (receipt,) = site.config.at.receipts.iterdir()
    receipt.unlink()

    done = run(site, "custody", "receipt", 1)

    assert done.output.strip() == receipt.name
    assert receipt.exists()
