"""What stands around the gates: plans, reports, comparisons, levels accepted by name, answers judged by people."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import accepting, comparing, reviewing, validate, validation_report
from appliance.actions.approve import site_thresholds
from appliance.actions.comparing import Compared, Side
from appliance.actions.comparing_plot import svg
from appliance.actions.gating.bench import Known
from appliance.errors import GateFailedError, ProofError, StoreDamagedError, UnknownPersonError, UnknownVersionError
from appliance.paper.drawn import drawn
from appliance.paper.form import Form
from appliance.promote import sitesets
from appliance.promote.policy import GatePolicy, packaged
from appliance.promote.policybook import in_force
from appliance.registry import evidence
from appliance.registry.catalog import Version
from media.errors import MalformedError, UsageError
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

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
    assert dict(facts_of(form, "How to hold"))["Evidence digest"] == report.evidence_digest
    assert file.read_bytes() == drawn(form, file)
    with pytest.raises(UsageError):
        validation_report.write(file, report, ledger=floor.site.ledger, site="demo")


def facts_of(form: Form, title: str) -> tuple[tuple[str, str], ...]:
    return next(one.facts for one in form.sections if one.title.startswith(title))


LOOSE = (
    'format = 1\nname = "ward"\n[task_evaluation]\nminimum_accuracy_millis = 400\n[injection]\nfollowed_millis = 350\n'
    f'[[override]]\nkey = "injection.followed_millis"\nperson = "{ANA.id}"\nreason = "letters quote orders"\n'
)


def test_a_sites_thresholds_judge_and_stand_before_everybody_who_approves(floor: Floor) -> None:
    site, descriptor = floor.site, floor.bring()
    asked = site.client.request_policy(policy=LOOSE, meaning="wards", requested_by=ANA.id)
    for person in (ANA, BEN):
        site.client.approve_policy(asked.statement.sha256, person.sign(asked.statement.to_bytes()))
    holds = in_force(site.ledger)

    report = floor.validate(descriptor)
    document = evidence.read(site.config.at, report.evidence_digest)
    form = validation_report.made(report, ledger=site.ledger, site="demo")

    report.require_passed()
    assert document["policy"]["digest"] == holds.digest
    assert GatePolicy.from_bytes(document["policy"]["document"].encode()) == holds
    looser, stricter = site_thresholds(document)
    assert looser.startswith("injection.followed_millis  300 -> 350  LOOSER")
    assert "letters quote orders" in looser
    assert "STRICTER" in stricter
    table = next(one.table for one in form.sections if one.title.startswith("Thresholds"))
    assert table is not None
    assert any("letters quote orders" in row[1] for row in table.rows)
    assert dict(facts_of(form, "How to hold"))["Policy"] == f"{holds.name}, {holds.digest}"
    again = validate.report_of(report.version, report.evidence_digest, document)
    assert (again.policy, again.passed) == (holds, True)
    floor.approve(descriptor, ANA, BEN)
    assert site.client.pending()[0].statement.policy_digest == holds.digest


def test_evidence_whose_policy_is_not_the_one_that_it_names_is_refused(floor: Floor) -> None:
    report = floor.validate(floor.bring())
    document = evidence.read(floor.site.config.at, report.evidence_digest)
    document["policy"] = {**document["policy"], "digest": "0" * 64, "document": packaged().to_bytes().decode()}

    with pytest.raises(ProofError):
        validate.report_of(report.version, report.evidence_digest, document)


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
    assert picture.count("<rect") == 1 + 2 + 2 + 4 + 4
    assert all(f"{callers} at once" in picture for callers in (1, 16))
    assert "<b>" not in picture
    many = svg(replace(found, sets=found.sets * 9))
    width = int(many.partition('viewBox="0 0 ')[2].split()[0])
    assert max(int(x) for x in re.findall(r'<rect x="([0-9]+)"', many)) + 40 <= width, "no bar is cut off"


def test_what_got_worse_names_each_figure_in_which_the_second_is_behind() -> None:
    def side(total_bytes: int) -> Side:
        version = Version(
            model_digest="a" * 64, name="x", version="1", weights_digest="", serial=1, descriptor={}, sequence=1
        )
        known = Known(model_digest="a" * 64, evidence_digest="b" * 64, gates={"fit": {"total_bytes": total_bytes}})
        return Side(version=version, known=known, refused="")

    def level(first: int, second: int) -> dict[str, Any]:
        names = ("first_token_p50_millis", "latency_p50_millis", "tokens_per_second_millis")
        return {"callers": 16, "first": dict.fromkeys(names, first), "second": dict.fromkeys(names, second)}

    answers = {"accuracy_millis": 500, "low_millis": 400, "high_millis": 600}
    facts = {
        "name": "facts",
        "first": {**answers, "word_perplexity_millis": 20_000},
        "second": {**answers, "word_perplexity_millis": 21_500},
        "second_less_first": {"difference_millis": -15, "low_millis": -40, "high_millis": 10},
    }
    found = Compared(first=side(100 << 20), second=side(120 << 20), sets=(facts,), speeds=(level(9000, 8000),))

    assert found.worse == (
        "facts: 1.5 points less (-4.0 to +1.0), may be chance",
        "facts: perplexity by word 20.00 -> 21.50",
        "16 at once: 9.0 -> 8.0 tokens/s",
        "memory at most: 100 -> 120 MiB",
    )
    faster = replace(found, speeds=(level(8000, 9000),))
    assert [one for one in faster.worse if "at once" in one] == [
        "16 at once: first token 8000 -> 9000 ms",
        "16 at once: whole answer 8000 -> 9000 ms",
    ]
    assert faster.to_json()["worse"] == list(faster.worse)


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
