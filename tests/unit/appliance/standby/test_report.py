"""Production takes a test appliance's report as the gates of a version, and refuses every other paper."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.standby import reporting
from appliance.actions.standby.reporting import Accepted
from appliance.errors import (
    ConflictError,
    GateFailedError,
    LedgerUnavailableError,
    PairingRefusedError,
    UnknownVersionError,
)
from appliance.promote.policy import packaged
from appliance.promote.validated import require_validated
from appliance.registry import evidence
from appliance.standby import vouched
from appliance.standby.pairing import Relation
from appliance.standby.report import MOST_DAYS, PAYLOAD_TYPE, Report
from media.dsse import Envelope
from media.errors import SealiftError
from tests.support import boxes
from tests.support.promotion import Site, digest
from tests.support.signatories import signatories

VERSION = digest("version")


@pytest.fixture
def production(tmp_path: Path) -> Site:
    return boxes.open_box(tmp_path / "one")


@pytest.fixture
def tester(production: Site, tmp_path: Path) -> Site:
    tester = boxes.open_box(tmp_path / "two")
    boxes.pair(production, tester, Relation.TEST)
    production.enrol(*signatories()[:2])
    register(production)
    return tester


def register(box: Site, weights: str = digest("weights" + VERSION)) -> None:
    body = {"model_digest": VERSION, "name": "tiny", "version": "1", "weights_digest": weights, "serial": 1}
    box.ledger.append("model.registered", {**body, "descriptor": {}})


def validate(box: Site, *, run: str = "1", failed: str = "", policy: str = "") -> None:
    """Run the gates as validation records them, with an evidence document on the disk."""
    found = evidence.store(box.config.at, {"model_digest": VERSION, "run": run})
    for gate in packaged().gates:
        box.ledger.append(
            "gate.result",
            {
                "model_digest": VERSION,
                "gate": gate,
                "passed": gate != failed,
                "evidence_digest": found,
                "figures": {"policy_digest": policy or packaged().digest},
            },
        )


def export(box: Site) -> bytes:
    return reporting.make(box.config, "one", VERSION, ledger=box.ledger, keys=boxes.keys_of(box), clock=box.clock)


def accept(box: Site, report: bytes, *, dry_run: bool = False) -> Accepted:
    return reporting.accept(box.config, "two", report, ledger=box.ledger, clock=box.clock, dry_run=dry_run)


def report_of(tester: Site) -> bytes:
    register(tester)
    validate(tester)
    return export(tester)


def test_a_version_is_promoted_on_the_test_appliances_evidence(production: Site, tester: Site) -> None:
    report = report_of(tester)
    assert accept(production, report, dry_run=True).sequence == -1
    assert production.ledger.find(kind="gate.result") == []

    done = accept(production, report)

    ana, ben, *_ = signatories()
    validated = require_validated(production.ledger, VERSION, packaged())
    request = production.client.request(validated, meaning="serve it", requested_by=ana.id)
    production.approve(request, ana, ben)
    promotion = production.client.promote(request.statement.sha256)
    assert promotion.model_digest == VERSION
    assert request.statement.evidence_digest == done.evidence_digest
    assert evidence.read(production.config.at, done.evidence_digest)["run"] == "1"
    leaf = production.ledger.find(kind="gate.result")[0]
    assert leaf.body["carried"]["origin"] == tester.ledger.head().origin
    with pytest.raises(ConflictError, match="before"):
        accept(production, report)


def test_a_report_on_a_version_that_failed_cannot_be_made(tester: Site) -> None:
    register(tester)
    validate(tester, failed="smoke")

    with pytest.raises(GateFailedError):
        export(tester)


def signed(tester: Site, change: Callable[[Report], Report], report: bytes) -> bytes:
    """Return a report that the test box itself signed, with other content."""
    altered = change(Report.from_payload(Envelope.from_bytes(report).payload))
    return vouched.vouch(PAYLOAD_TYPE, altered.to_payload(), boxes.signer(tester))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda report: replace(report, model_digest=digest("other")), GateFailedError),
        (lambda report: replace(report, policy_digest=digest("other")), GateFailedError),
        (lambda report: replace(report, gates=report.gates[1:]), GateFailedError),
        (lambda report: replace(report, gates=(*report.gates, report.gates[0])), GateFailedError),
        (lambda report: replace(report, evidence=b"{}"), PairingRefusedError),
        (lambda report: replace(report, receiver="sealift/demo/00000000"), PairingRefusedError),
        (lambda report: replace(report, site="elsewhere"), PairingRefusedError),
        (lambda report: replace(report, weights_digest=digest("other")), UnknownVersionError),
    ],
)
def test_a_report_that_says_what_its_ledger_does_not_is_refused(
    production: Site, tester: Site, change: Callable[[Report], Report], error: type[SealiftError]
) -> None:
    report = report_of(tester)

    with pytest.raises(error):
        accept(production, signed(tester, change, report))

    assert production.ledger.find(kind="gate.result") == []


def test_a_report_of_another_box_or_with_a_changed_byte_is_refused(
    production: Site, tester: Site, tmp_path: Path
) -> None:
    report = report_of(tester)
    payload = Envelope.from_bytes(report).payload
    stranger = boxes.open_box(tmp_path / "three")

    with pytest.raises(PairingRefusedError):
        accept(production, vouched.vouch(PAYLOAD_TYPE, payload, boxes.signer(stranger)))
    for place in range(0, len(report), len(report) // 40):
        with pytest.raises(SealiftError):
            accept(production, report[:place] + bytes([report[place] ^ 1]) + report[place + 1 :])

    assert production.ledger.find(kind="gate.result") == []


def test_gates_under_another_policy_or_that_failed_are_refused_though_the_box_signed(
    production: Site, tester: Site
) -> None:
    report = report_of(tester)
    validate(tester, run="2", failed="load")
    failing = tester.ledger.find(kind="gate.result", field="passed", value=False, limit=1)[0]

    def with_the_failure(found: Report) -> Report:
        return replace(found, gates=(boxes.proven(tester, failing.sequence), *found.gates[1:]))

    with pytest.raises(GateFailedError):
        accept(production, signed(tester, with_the_failure, report))


def test_a_stale_report_is_refused_and_one_from_the_future_too(production: Site, tester: Site) -> None:
    report = report_of(tester)

    for days in (MOST_DAYS + 1, -1):
        before = production.clock.at
        production.clock.at = before + timedelta(days=days)
        with pytest.raises(GateFailedError, match="refused"):
            accept(production, report)
        production.clock.at = before

    assert accept(production, report).gates


def test_a_gate_that_failed_on_production_since_then_contradicts_it(production: Site, tester: Site) -> None:
    report = report_of(tester)
    production.clock.at += timedelta(minutes=1)
    validate(production, run="here", failed="smoke")

    with pytest.raises(ConflictError, match="since then"):
        accept(production, report)


def test_a_production_box_reports_to_nobody_and_a_test_box_accepts_nothing(production: Site, tester: Site) -> None:
    report = report_of(tester)

    with pytest.raises(PairingRefusedError):
        reporting.make(
            production.config,
            "two",
            VERSION,
            ledger=production.ledger,
            keys=boxes.keys_of(production),
            clock=production.clock,
        )
    with pytest.raises(PairingRefusedError):
        reporting.accept(tester.config, "one", report, ledger=tester.ledger, clock=tester.clock, dry_run=False)


def test_a_report_whose_taking_was_cut_off_is_taken_to_its_end(
    production: Site, tester: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, append = report_of(tester), production.ledger.append
    left = iter(range(3))  # its own record, and the results of two gates

    def fails(kind: str, body: dict[str, Any]) -> object:
        if next(left, None) is None:
            raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")
        return append(kind, body)

    with monkeypatch.context() as cut:
        cut.setattr(production.ledger, "append", fails)
        with pytest.raises(LedgerUnavailableError):
            accept(production, report)
    with pytest.raises(SealiftError):
        require_validated(production.ledger, VERSION, packaged())

    done = accept(production, report)

    assert require_validated(production.ledger, VERSION, packaged()).evidence_digest == done.evidence_digest
    results = production.ledger.find(kind="gate.result", limit=100)
    assert sorted(str(one.body["gate"]) for one in results) == sorted(packaged().gates)
    with pytest.raises(ConflictError, match="before"):
        accept(production, report)
