"""Engines of production go by the step times that their version's validation measured, and measure where those are off.

The test engine and production's are the real one, with the small model, started one after the other as units would be.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from appliance.install import approvedsteps
from appliance.install.supervisor import engine_unit
from appliance.promote.policy import packaged
from appliance.promote.validated import require_validated
from appliance.registry import catalog
from appliance.serve.client import EngineClient
from appliance.serve.curve import Curve
from appliance.serve.machinemark import mark
from media import canonical
from tests.support.real_bench import Bench, open_bench
from tests.support.real_engine import shipped_weights
from tests.support.signatories import signatories

pytestmark = pytest.mark.demo

TRIES = 5
"""On a busy machine a step may take half as long again, and is measured anew."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    with open_bench(shipped_weights()) as opened:
        yield opened


def promoted(bench: Bench) -> str:
    """Bring the one version into production by the evidence of its gate `load`; return its digest."""
    site, digests = bench.floor.site, set[tuple[str, str]]()
    with bench.floor.state.connect() as session:
        for version in catalog.versions(session):
            for one in catalog.judgements(session, version.model_digest):
                digests.add((version.model_digest, one.evidence_digest))
    ((model_digest, evidence_digest),) = digests
    for gate in packaged().gates:
        figures = {"policy_digest": packaged().digest, "why": ""}
        result = {"model_digest": model_digest, "gate": gate, "passed": True, "figures": figures}
        site.ledger.append("gate.result", {**result, "evidence_digest": evidence_digest})
    validated = require_validated(site.ledger, model_digest, packaged())
    ana, ben, *_ = signatories()
    request = site.client.request(validated, meaning="serve it", requested_by=ana.id, password=site.asks_password)
    site.client.promote(site.approve(request, ana, ben).statement.sha256)
    return model_digest


def production_goes_by(bench: Bench, model_digest: str) -> Curve:
    unit = engine_unit("production", model_digest)
    bench.supervisor.start(unit)
    try:
        with EngineClient(bench.floor.site.config.at.engine_socket("production", model_digest)) as engine:
            found = engine.step_curve()
    finally:
        bench.supervisor.stop(unit)
    assert found is not None
    return found


def test_production_goes_by_what_its_validation_measured(bench: Bench) -> None:
    verdict = bench.judge("load", n_seq_max=8)
    measured, places = Curve.from_json(verdict.figures["step_curve"]), bench.floor.site.config.at
    assert (measured.machine, measured.threads) == (mark(), 1)
    model_digest = promoted(bench)
    place = places.kept_steps(model_digest[:12])
    assert production_goes_by(bench, model_digest) != measured  # nothing was laid down

    place.parent.mkdir(parents=True)
    approvedsteps.lay_down(places, model_digest[:12])
    assert any(production_goes_by(bench, model_digest) == measured for _ in range(TRIES))

    assert max(measured.prompts) >= 32, "how prompts are read was measured"
    slower = replace(measured, micros={rows: 9 * micros for rows, micros in measured.micros.items()})
    place.write_bytes(canonical.dumps(slower.to_json()))
    found = production_goes_by(bench, model_digest)
    assert found.micros[1] < slower.micros[1] / 2
    assert (found.machine, found.threads) == (measured.machine, 1)
