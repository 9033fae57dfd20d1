"""Builders for ledger tests: one right body for each kind that the projection reads, and a whole site's history."""

from collections.abc import Mapping
from typing import Any

from appliance.audit.client import Ledger

DIGEST_A = "a" * 64
DIGEST_B = "b" * 64


def approval(person: str) -> dict[str, str]:
    return {
        "person": person,
        "name": person.title(),
        "fingerprint": "F" * 40,
        "class": "openpgp",
        "signature": "c2ln",
    }


def bodies(digest: str = DIGEST_A) -> dict[str, dict[str, Any]]:
    """Return a right body for every projected kind."""
    return {
        "release.received": {"serial": 7, "release": "2026.11", "code": "c" * 64, "site": "demo", "files": 3},
        "install.done": {"serial": 7, "release": "2026.11", "environments": {"server": DIGEST_A}},
        "model.registered": {
            "model_digest": digest,
            "name": "smol",
            "version": "1",
            "weights_digest": DIGEST_B,
            "serial": 7,
            "descriptor": {"format": 1, "runtime": {"defaults": {"temperature": 0.2}}},
        },
        "gate.result": {
            "model_digest": digest,
            "gate": "smoke",
            "passed": True,
            "evidence_digest": "e" * 64,
            "figures": {"accuracy": 0.75, "count": 40},
        },
        "promotion.made": {
            "model_digest": digest,
            "previous": None,
            "statement": "{}",
            "approvals": [approval("ada"), approval("bo")],
            "requested_by": "cy",
        },
        "promotion.rolled-back": {"model_digest": digest, "previous": DIGEST_B, "person": "ada", "reason": "worse"},
        "promotion.stopped": {"previous": digest, "person": "bo", "reason": "fire"},
        "key.created": {
            "key_id": "abcdefghij",
            "secret_hmac": "d" * 64,
            "key_version": 1,
            "department": "radiology",
            "phi_mode": "tokenise",
            "tier": "basic",
            "owner": "ada",
        },
        "key.revoked": {"key_id": "abcdefghij", "reason": "left"},
    }


def intent(request_id: str, **more: Any) -> Mapping[str, Any]:
    return {"request_id": request_id, "endpoint": "chat.completions", "model_digest": DIGEST_A, **more}


def write_history(ledger: Ledger) -> None:
    """Append one leaf of each projected kind in a sensible order, with requests between them."""
    for number, (kind, body) in enumerate(bodies().items()):
        ledger.append("request.intent", intent(f"req_{number}"))
        ledger.append(kind, body)
        ledger.append("request.outcome", {"request_id": f"req_{number}", "outcome": "ok"})
    ledger.append("promotion.made", bodies(DIGEST_B)["promotion.made"])
