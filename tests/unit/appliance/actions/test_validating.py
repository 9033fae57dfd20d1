"""What stands around the gates: plans, reports, comparisons, levels accepted by name, answers judged by people."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import accepting, comparing, reviewing, validate, validation_report
from appliance.actions.comparing_plot import svg
from appliance.errors import GateFailedError, StoreDamagedError, UnknownPersonError, UnknownVersionError
from appliance.paper.drawn import drawn
from appliance.promote import sitesets
from media.errors import MalformedError, UsageError
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def rubric(floor: Floor) -> None:
    lines = [
        {"format": 2, "name": "letters", "floor": "0"},
        {"id": "a", "kind": "rubric", "prompt": "Q 1?", "criteria": ["polite", "short"]},
    ]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sitesets.add(floor.site.config.at, floor.site.ledger, content, person=ANA.id)


def opened(floor: Floor, digest: str) -> reviewing.OpenSheet:
    return reviewing.open_sheet(floor.site.config.at, floor.state, digest)


def filled(sheet: reviewing.OpenSheet, *, prefer: str) -> bytes:
    """Fill a form in: `own` or `other` of each pair, good for what stands alone, a point for the first criterion."""
    form = sheet.form()
    for entry, shown in zip(sheet.sheet.entries, form["entries"], strict=True):
        if entry.other is None:
            shown["choice"] = "good"
        else:
            wanted = entry.answer.text if prefer == "own" else entry.other
            shown["choice"] = "first" if shown["first"] == wanted else "second"
        if "criteria" in shown:
            shown["points"] = [1, 0]
    return json.dumps(form).encode()


def test_a_plan_says_what_would_be_done_and_does_nothing(floor: Floor) -> None:
    rubric(floor)
    descriptor = floor.bring()
    before = floor.site.ledger.head().size

    planned = validate.plan(floor.bench, descriptor.model_digest).to_json()

    assert [(one["name"], one["origin"], one["items"]) for one in planned["sets"]] == [
        ("facts", "release", 12),
        ("letters", "site", 1),
    ]
    assert (planned["compared_with_production"], planned["demands_review"]) == (None, False)
    assert floor.site.ledger.head().size == before
    assert floor.supervisor.asked == []


@pytest.mark.parametrize("suffix", ["pdf", "html"])
def test_the_report_names_each_gate_and_the_digests_that_people_sign(floor: Floor, tmp_path: Path, suffix: str) -> None:
    report = floor.validate(floor.bring())
    form = validation_report.made(report, ledger=floor.site.ledger, site="demo")
    file = tmp_path / f"report.{suffix}"

    validation_report.write(file, report, ledger=floor.site.ledger, site="demo")

    assert form.result.startswith("PASSED")
    assert form.sections[1].table is not None
    assert [row[0] for row in form.sections[1].table.rows] == [one.gate for one in report.verdicts]
    assert dict(form.sections[2].facts)["Evidence digest"] == report.evidence_digest
    assert file.read_bytes() == drawn(form, file)
    with pytest.raises(UsageError):
        validation_report.write(file, report, ledger=floor.site.ledger, site="demo")


def test_two_versions_are_compared_in_quality_and_speed_and_drawn(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second", quantization="Q2_K <b>")
    floor.validate(first)
    with pytest.raises(GateFailedError):
        comparing.compare(floor.site.config, floor.state, floor.site.ledger, first.model_digest, second.model_digest)
    accept(floor, second.model_digest)
    floor.validate(second).require_passed()

    found = comparing.compare(
        floor.site.config, floor.state, floor.site.ledger, first.model_digest, second.model_digest
    )

    assert [one["name"] for one in found.sets] == ["facts"]
    assert found.sets[0]["second_less_first"]["difference_millis"] == 0
    assert [one["callers"] for one in found.speeds] == [1, 16]
    picture = svg(found)
    assert picture.count("<rect") == 1 + 2 + 2 + 4
    assert "<b>" not in picture


def accept(floor: Floor, digest: str, **changes: Any) -> accepting.AcceptedLevel:
    named = {"person": ANA.id, "reason": "the only one that fits", **changes}
    return accepting.accept_level(floor.site.config.at, floor.state, floor.site.ledger, digest, **named)


def test_a_level_is_accepted_by_an_enrolled_person_with_a_reason_or_not_at_all(floor: Floor) -> None:
    bad, good = floor.bring("bad", quantization="Q3_K_S").model_digest, floor.bring("good").model_digest
    before = floor.site.ledger.head().size

    for digest, changes, error in (
        (bad, {"person": "nobody"}, UnknownPersonError),
        (bad, {"reason": " "}, UsageError),
        (good, {}, UsageError),
    ):
        with pytest.raises(error):
            accept(floor, digest, **changes)
    assert accept(floor, bad, dry_run=True).sequence == -1
    assert floor.site.ledger.head().size == before
    assert accept(floor, bad).level == "Q3_K_S"


def test_people_judge_pairs_without_knowing_whose_they_are(floor: Floor) -> None:
    rubric(floor)
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.validate(second)
    sheet = opened(floor, second.model_digest)

    form = sheet.form()
    kept = json.dumps(form)
    assert first.model_digest not in kept
    assert second.model_digest not in kept
    assert {"own", "other"} & set(form["entries"][1]) == set()
    assert (len(form["entries"]), sheet.sheet.other) == (4, first.model_digest)
    told = reviewing.take(floor.site.config.at, floor.site.ledger, sheet, filled(sheet, prefer="own"), person=ANA.id)

    assert (told.good, told.points, told.of_points) == (1, 1, 2)
    report = floor.validate(second)
    figures = report.figures_of("human-review")
    assert figures["made"] is True
    assert figures["reviewers"] == [ANA.id]
    assert "1 of 2 points" in report.verdicts[-1].why


def test_a_version_that_people_like_less_fails(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second", wrong=False)
    floor.serve(first)
    chat = floor.supervisor.versions[f"sealift-engine-test@{second.model_digest[:12]}.service"]["/v1/chat/completions"]
    assert callable(chat)

    def wordy(body: Any) -> Any:
        reply = chat(body)
        if reply.pieces is None and reply.status == 200:
            reply.body["choices"][0]["message"]["content"] += " Certainly, of course."
        return reply

    floor.supervisor.know(second, replies={"/v1/chat/completions": wordy})
    floor.validate(second).require_passed()
    sheet = opened(floor, second.model_digest)

    reviewing.take(floor.site.config.at, floor.site.ledger, sheet, filled(sheet, prefer="other"), person=BEN.id)

    why = floor.validate(second).verdicts[-1].why
    assert "preferred the other side 3 times, this one 0" in why


def test_a_form_of_another_sheet_or_half_filled_in_is_refused(floor: Floor) -> None:
    descriptor = floor.bring()
    with pytest.raises(UnknownVersionError):
        opened(floor, descriptor.model_digest)
    floor.validate(descriptor)
    sheet = opened(floor, descriptor.model_digest)
    empty, other = json.dumps(sheet.form()).encode(), json.loads(filled(sheet, prefer="own"))
    other["sheet"] = "0" * 64

    for untrusted in (b"{", empty, json.dumps(other).encode()):
        with pytest.raises(MalformedError):
            reviewing.take(floor.site.config.at, floor.site.ledger, sheet, untrusted, person=ANA.id)
    form = filled(sheet, prefer="own")
    with pytest.raises(UnknownPersonError):
        reviewing.take(floor.site.config.at, floor.site.ledger, sheet, form, person="nobody")
    place = next((floor.site.config.at.registry / "reviews").glob("sheet-*.json"))
    place.write_text(place.read_text().replace("It is", "It was"))
    with pytest.raises(StoreDamagedError):
        opened(floor, descriptor.model_digest)
