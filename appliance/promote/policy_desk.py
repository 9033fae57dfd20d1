"""The promoter's counter for thresholds of the site's own; doors are the desk's.

policy-request{policy,meaning,requested_by,password?} -> {request}
policy-pending -> {requests:[{statement,statement_sha256,approvals}]}
policy-approve{statement_sha256,...} -> {request,holds}          see `appliance.promote.presented`
"""

from collections.abc import Callable, Mapping
from typing import Any

from appliance.promote.policychange import PolicyChanges
from appliance.promote.presented import Presented
from appliance.promote.sitepolicy import MAX_BYTES
from appliance.wire import Peer
from media import canonical

Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]


def answers(policies: PolicyChanges, class_of_asker: Callable[[Fields], str]) -> dict[str, Answer]:
    """Return what answers each message.

    Args:
        policies: What decides.
        class_of_asker: Returns by what it is known who asks, or raises.
    """

    def request(_: Peer, untrusted: Fields) -> dict[str, Any]:
        made = policies.request(
            policy=canonical.text(untrusted.get("policy"), "policy", most=MAX_BYTES, lines=True),
            meaning=canonical.text(untrusted.get("meaning"), "meaning"),
            requested_by=canonical.text(untrusted.get("requested_by"), "requested_by"),
            asker_class=class_of_asker(untrusted),
        )
        return {"request": made.to_json()}

    def approve(_: Peer, untrusted: Fields) -> dict[str, Any]:
        digest = canonical.sha256_hex(untrusted.get("statement_sha256"), "statement_sha256")
        updated, holds = policies.approve(digest, Presented.from_message(untrusted))
        return {"request": updated.to_json(), "holds": holds}

    return {
        "policy-request": request,
        "policy-pending": lambda *_: {"requests": [one.to_json() for one in policies.pending()]},
        "policy-approve": approve,
    }
