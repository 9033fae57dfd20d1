"""The go-live report over a site with a version in production: held, not held, left to people; no more than that."""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from appliance.actions import capacity, clock, disk_encryption, doctor_machine, doctor_services, keys, readiness
from appliance.actions.backups import drill, making
from appliance.actions.doctor import doctor
from appliance.actions.findings import Finding
from appliance.actions.keys import Validity
from appliance.actions.promote import promote
from appliance.actions.readiness import Readiness, Surroundings, Verdict
from appliance.audit import epochs
from appliance.config import Config
from appliance.install.supervisor import engine_unit
from appliance.keys.files import FileKeys, create_missing
from appliance.promote.destination import Said
from appliance.registry.descriptor import ModelDescriptor
from appliance.state import projection
from media.clock import FixedClock
from media.errors import UsageError
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # whole sites, a second and more each

HELD, NOT_HELD = Verdict.HELD, Verdict.NOT_HELD


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def report(floor: Floor) -> Readiness:
    here = floor.here
    return readiness.readiness(
        Surroundings(
            config=here.config, ledger=here.ledger, state=here.state, clock=here.clock, supervisor=here.supervisor
        )
    )


def verdicts(found: Readiness) -> dict[str, Verdict]:
    return {item.id: item.verdict for item in found.items}


def serve(floor: Floor) -> str:
    descriptor = floor.bring()
    floor.serve(descriptor)
    return descriptor.model_digest


def beside(floor: Floor, descriptor: ModelDescriptor) -> None:
    """Take a version to production beside all that is there."""
    floor.validate(descriptor).require_passed()
    asked = promote(floor.here, descriptor.model_digest, person=signatories()[0].id, said=Said(beside=True)).request
    assert asked is not None
    floor.site.approve(asked, *signatories()[:2])
    promote(floor.here, descriptor.model_digest, person="")


def test_an_empty_site_is_not_ready_and_each_item_says_why(floor: Floor) -> None:
    found = report(floor)

    assert not found.is_ready
    assert verdicts(found)["M22.2"] is NOT_HELD
    assert verdicts(found)["M23.1"] is NOT_HELD
    assert all(item.found for item in found.items if item.verdict is not Verdict.TO_SIGN)


def test_there_are_eight_and_five_items_and_those_for_people(floor: Floor) -> None:
    looked = [item.id for item in report(floor).items if item.verdict is not Verdict.TO_SIGN]

    assert looked == [*(f"M22.{number}" for number in range(1, 9)), *(f"M23.{number}" for number in range(1, 6))]


def test_what_was_promoted_and_validated_is_seen(floor: Floor) -> None:
    digest = serve(floor)

    found = {item.id: item for item in report(floor).items}

    assert [found[name].verdict for name in ("M22.2", "M23.1", "M23.2", "M23.3")] == [HELD] * 4
    assert digest[:12] in found["M22.2"].found
    assert "13 of 13 gates passed" in found["M23.2"].found
    assert "n_seq_max 1" in found["M23.3"].found


def test_a_capacity_that_was_measured_on_another_machine_does_not_count(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "doctor", lambda *_, **__: ([], None))
    monkeypatch.setattr(capacity, "machine", lambda: (8, 16_000))
    body = {"format": 1, "model_digest": "a" * 64, "model": "tiny 1", "stage": "test"}
    figures = {"notes_per_hour": 120}
    floor.here.ledger.append(capacity.MEASURED, {**body, "cores": 32, "memory_mib": 65_536, "figures": figures})

    [other] = [item for item in report(floor).items if item.id == "M22.1"]
    floor.here.ledger.append(capacity.MEASURED, {**body, "cores": 8, "memory_mib": 16_100, "figures": figures})
    [own] = [item for item in report(floor).items if item.id == "M22.1"]

    assert other.verdict is NOT_HELD
    assert "not measured on this machine: the newest figure is of one with 32 cores and 64 GiB" in other.found
    assert "`sealift capacity`" in other.found
    assert (own.verdict, "about 120 notes per hour" in own.found) == (HELD, True)


def test_the_figure_of_the_model_before_does_not_hold_for_the_present_one(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "doctor", lambda *_, **__: ([], None))
    monkeypatch.setattr(capacity, "machine", lambda: (8, 16_000))
    body = {"format": 1, "stage": "test", "cores": 8, "memory_mib": 16_000, "figures": {"notes_per_hour": 120}}
    digest = serve(floor)

    floor.here.ledger.append(capacity.MEASURED, {**body, "model": "old 1", "model_digest": "a" * 64})
    [before] = [item for item in report(floor).items if item.id == "M22.1"]
    floor.here.ledger.append(capacity.MEASURED, {**body, "model": "tiny 1", "model_digest": digest})
    floor.here.ledger.append(capacity.MEASURED, {**body, "model": "next 1", "model_digest": "b" * 64})
    [present] = [item for item in report(floor).items if item.id == "M22.1"]

    assert before.verdict is NOT_HELD
    assert "not measured with the model in production: this machine's newest figure is of old 1" in before.found
    assert (present.verdict, "notes per hour with tiny 1" in present.found) == (HELD, True)


def test_backups_hold_when_one_of_this_epoch_was_opened_with_its_key_not_long_ago(floor: Floor) -> None:
    ledger = floor.here.ledger
    backup = floor.here.config.backup.model_copy(update={"folder": "/media/sealift-backup"})
    named = replace(floor.here, config=floor.here.config.model_copy(update={"backup": backup}))

    def verdict(*, later: float = 0) -> tuple[Verdict, str]:
        clock = FixedClock(at=datetime.fromisoformat(ledger.append("gate.looked", {}).time) + timedelta(seconds=later))
        found = readiness.readiness(
            Surroundings(
                config=named.config, ledger=ledger, state=named.state, clock=clock, supervisor=named.supervisor
            )
        )
        [item] = [item for item in found.items if item.id == "M22.8"]
        return item.verdict, item.found

    def made(digest: str) -> None:
        at = ledger.append("gate.looked", {}).time
        ledger.append(making.MADE, {"made_at": at, "sha256": digest})

    def drilled(level: str, digest: str) -> None:
        ledger.append(drill.DRILLED, {"level": level, "by": [], "backup": {"sha256": digest}})

    made("1" * 64)
    drilled(drill.STREAM, "1" * 64)
    streamed = verdict()
    drilled(drill.FULL, "1" * 64)
    opened = verdict()
    old = verdict(later=27 * 3600)
    ledger.append(epochs.RESTORED, {})
    made("2" * 64)
    restored = verdict()
    drilled(drill.FULL, "2" * 64)
    anew = verdict()

    assert [each for each, _ in (streamed, opened, old, restored, anew)] == [NOT_HELD, HELD, NOT_HELD, NOT_HELD, HELD]
    assert "none was opened with its key" in streamed[1]
    assert "`sealift drill --by NAME --by NAME --home FOLDER`" in restored[1]
    assert "the newest backup is" in old[1]


@pytest.mark.parametrize("is_good", [True, None])
def test_it_says_before_the_battery_dies_that_nobody_could_put_the_clock_right(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, *, is_good: bool | None
) -> None:
    few = Finding(name="clock people", is_good=is_good, text="0 who could", fix="`sealift people reset`")
    monkeypatch.setattr(clock, "correctors", lambda _: few)

    [access] = [item for item in report(floor).items if item.id == "M22.4"]

    assert ("the clock: 0 who could; `sealift people reset`" in access.found) is (is_good is None)


@pytest.mark.parametrize("is_good", [True, None])
def test_disks_on_which_no_encryption_is_seen_wait_for_a_signature(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, *, is_good: bool | None
) -> None:
    def seen(_: Config) -> Iterator[Finding]:
        yield Finding(name="disk encryption", is_good=is_good, text="no dm-crypt below keys")

    monkeypatch.setattr(disk_encryption, "encryption", seen)

    found = report(floor)
    items = {item.id: item for item in found.items}

    assert "disk encryption: no dm-crypt below keys" in items["M22.1"].found
    assert ("M22.S4" in items) is (is_good is None)
    if is_good is None:
        assert (items["M22.S4"].verdict, items["M22.S4"].found) == (Verdict.TO_SIGN, "no dm-crypt below keys")
        people = next(section for section in found.form().sections if section.title == "Confirmed by people")
        assert any(note.startswith("M22.S4: The disks encrypt themselves") for note in people.notes)


def test_each_line_of_production_is_named_and_must_have_passed_its_gates(floor: Floor) -> None:
    serve(floor)
    beside(floor, floor.bring("classes", name="classes"))

    found = {item.id: item for item in report(floor).items}

    assert [found[name].verdict for name in ("M22.2", "M23.1", "M23.2", "M23.3")] == [HELD] * 4
    assert [text.split()[0] for text in found["M23.1"].found.split("; ")] == ["tiny", "classes"]
    assert found["M23.2"].found.count("13 of 13 gates passed") == 2
    assert found["M23.5"].found.count("only to stop") == 2

    gate = {**floor.here.ledger.find(kind="gate.result", limit=1)[0].body, "passed": False}
    floor.here.ledger.append("gate.result", gate)
    projection.catch_up(floor.state, floor.here.ledger)
    failed = {item.id: item for item in report(floor).items}["M23.2"]
    assert (failed.verdict, "classes: 12 of 13 gates passed" in failed.found) == (NOT_HELD, True)


def test_doctor_counts_the_weights_of_each_line(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    both = floor.bring("weights"), floor.bring("classes", name="classes")
    floor.serve(both[0])
    beside(floor, both[1])
    asked: list[tuple[int | None, str]] = []

    def noted(weights: int | None, *, context: str) -> Iterator[Finding]:
        asked.append((weights, context))
        return iter(())

    monkeypatch.setattr(doctor_machine, "memory", noted)
    doctor(floor.here.config, clock=floor.here.clock)

    weights = sum(file.length for descriptor in both for file in descriptor.weights)
    assert asked == [(weights, f"tiny {both[0].version} and classes {both[1].version}")]


def test_a_key_that_lets_identifiers_pass_is_named_by_count_and_never_by_text(floor: Floor) -> None:
    here = floor.here
    create_missing(here.config.at.key_files)
    provider = FileKeys(here.config.at.key_files)
    keys.create(here.ledger, here.state, provider, department="radiology", owner="box", phi_mode="tokenise")
    good = {item.id: item for item in report(floor).items}["M22.5"]
    made = keys.create(here.ledger, here.state, provider, department="research", owner="box", phi_mode="pass")
    bad = {item.id: item for item in report(floor).items}["M22.5"]

    assert (good.verdict, bad.verdict) == (HELD, NOT_HELD)
    assert "1 pass" in bad.found
    assert made.text not in str(report(floor).to_json())
    assert "research" not in str(report(floor).to_json())


def test_a_key_at_its_end_and_one_for_test_are_no_callers(floor: Floor) -> None:
    here = floor.here
    create_missing(here.config.at.key_files)
    provider, ended = FileKeys(here.config.at.key_files), Validity(expires=here.clock.now() - timedelta(days=1))
    named: dict[str, Any] = {"department": "radiology", "owner": "box", "phi_mode": "tokenise"}
    keys.create(here.ledger, here.state, provider, **named, validity=ended)
    keys.create(here.ledger, here.state, provider, **named, validity=Validity.of("test", 30, here.clock))
    before = {item.id: item for item in report(floor).items}["M22.4"]
    keys.create(here.ledger, here.state, provider, **named)
    after = {item.id: item for item in report(floor).items}["M22.4"]

    assert ("0 keys in force" in before.found, before.verdict) == (True, NOT_HELD)
    assert "1 keys in force" in after.found


def test_the_report_is_written_as_page_and_as_paper(floor: Floor, tmp_path: Path) -> None:
    serve(floor)
    found = report(floor)
    page, paper = tmp_path / "r.html", tmp_path / "r.pdf"

    readiness.write(found, page)
    readiness.write(found, paper)
    text = "".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(paper.read_bytes())).pages)

    for item in found.items:
        assert item.id in page.read_text()
        assert item.id in text
    assert "<script" not in page.read_text()
    assert "NOT READY" in text
    with pytest.raises(UsageError):
        readiness.write(found, tmp_path / "r.docx")


def test_an_engine_that_is_gone_is_found_with_the_way_back(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    for descriptor in (first, second):
        floor.serve(descriptor)
    floor.supervisor.stop(engine_unit("production", second.model_digest))

    cold = list(doctor_services.units(floor.here.config, floor.supervisor))[-1]
    floor.supervisor.start(engine_unit("production", first.model_digest))
    warm = list(doctor_services.units(floor.here.config, floor.supervisor))[-1]

    assert (cold.name, cold.is_good, warm.is_good) == ("production", False, False)
    assert f"{first.model_digest[:12]} is still in memory" in warm.text
    assert warm.fix.startswith("one person goes back: `sealift rollback")
    assert second.model_digest[:12] in cold.text
