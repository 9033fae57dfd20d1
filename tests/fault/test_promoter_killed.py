"""The promoter is killed at any moment of a promotion; people's decision is neither lost nor doubled.

Scenario: a real promoter process beside a real ledger; SIGKILL after a random short time while it promotes; it starts
again on the same folder. Afterwards exactly one promotion is in force, in the files and in the ledger alike.
"""

import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from appliance.audit.socket_ledger import SocketLedger
from appliance.errors import ApplianceError
from appliance.promote.client import PromoterClient
from appliance.promote.folder import PromoterFolder
from appliance.promote.policy import packaged
from appliance.promote.standing import require_promoted
from appliance.promote.validated import require_validated
from tests.support.medium import make_medium
from tests.support.promotion import PASSWORD, digest
from tests.support.running_site import RunningSite, running_site
from tests.support.signatories import signatories
from tests.support.versions import short_folder

pytestmark = pytest.mark.fault

ANA, BEN, *_ = signatories()


@pytest.fixture
def site() -> Iterator[RunningSite]:
    with short_folder() as root, running_site(root, make_medium(root / "m")) as running:
        yield running


def record_gates(ledger: SocketLedger, version: str) -> None:
    ledger.append(
        "model.registered",
        {
            "model_digest": version,
            "name": "tiny",
            "version": "1",
            "weights_digest": digest("weights"),
            "serial": 1,
            "descriptor": {},
        },
    )
    for gate in packaged().gates:
        figures = {"policy_digest": packaged().digest}
        body = {"gate": gate, "passed": True, "evidence_digest": digest(f"evidence {version}"), "figures": figures}
        ledger.append("gate.result", {"model_digest": version, **body})


def requested(site: RunningSite, ledger: SocketLedger, version: str) -> str:
    """Request a version and hand in both approvals; return the statement's digest."""
    client = PromoterClient.open(site.config)
    try:
        request = client.request(require_validated(ledger, version, packaged()), meaning="x", requested_by=ANA.id)
        for person in (ANA, BEN):
            client.approve(request.statement.sha256, person.sign(request.statement.to_bytes()))
        return request.statement.sha256
    finally:
        client.close()


def promote(site: RunningSite, statement: str) -> None:
    client = PromoterClient.open(site.config)
    try:
        client.promote(statement)
    except ApplianceError:
        return  # killed in the middle, or done before the kill: what is true is looked at afterwards
    finally:
        client.close()


def test_a_promotion_is_neither_lost_nor_doubled(site: RunningSite) -> None:
    ledger = SocketLedger(site.config.at.socket("ledger-actions"))
    client = PromoterClient.open(site.config)
    for code, person in zip(client.codes(2), (ANA, BEN), strict=True):
        client.enrol(code=code, name=person.name, certificate=person.certificate, password=PASSWORD)
    client.close()
    delays = random.Random(20261120)

    for number in range(8):
        version = digest(f"version {number}")
        record_gates(ledger, version)
        statement = requested(site, ledger, version)
        thread = threading.Thread(target=promote, args=(site, statement))
        thread.start()
        time.sleep(delays.uniform(0.0, 0.03))
        site.end("promoter", signal.SIGKILL)
        thread.join()
        site.start("promoter")
        promote(site, statement)

        recorded = ledger.find(kind="promotion.made", field="model_digest", value=version)
        assert len(recorded) == 1
        assert require_promoted(site.config.at, version).sequence == recorded[0].sequence

    assert PromoterFolder(site.config.at.promoter).production().number == 8
    ledger.close()
