"""The promoter's counter for deleting versions and holding them; doors and passwords are the desk's.

model-needs{model_digest} -> {needs:[TEXT]}               why it may not be deleted now
model-delete | model-hold | model-lift{model_digest,person,reason,password?} -> {sequence,at}
"""

from collections.abc import Callable, Mapping
from typing import Any

from appliance.audit.facts import Appended
from appliance.promote.deletions import Deletions
from appliance.wire import Peer
from media import canonical

Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]
ClassOf = Callable[[Peer, Fields], str]


def answers(deletions: Deletions, class_of: ClassOf) -> dict[str, Answer]:
    """Return what answers each message.

    Args:
        deletions: What decides.
        class_of: Proves who decides, by the door or by a password; raises where it cannot.
    """

    def decide(change: Callable[..., Appended]) -> Answer:
        def answer(peer: Peer, untrusted: Fields) -> dict[str, Any]:
            person, known = canonical.text(untrusted.get("person"), "person"), class_of(peer, untrusted)
            reason = canonical.text(untrusted.get("reason"), "reason")
            done = change(_digest(untrusted), person=person, person_class=known, reason=reason)
            return {"sequence": done.sequence, "at": done.time}

        return answer

    def needs(_: Peer, untrusted: Fields) -> dict[str, Any]:
        return {"needs": list(deletions.needs(_digest(untrusted)))}

    return {
        "model-needs": needs,
        "model-delete": decide(deletions.delete),
        "model-hold": decide(deletions.hold),
        "model-lift": decide(deletions.lift),
    }


def _digest(untrusted: Fields) -> str:
    return canonical.sha256_hex(untrusted.get("model_digest"), "model_digest")
