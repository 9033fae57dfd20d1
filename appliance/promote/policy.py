"""What a version must show before people are asked: the gates and their thresholds, by digest.

Promises: the policy is a file of the installed release, so the same two people who approve a release approve it; its
digest is in every gate's figures, in the evidence and in the statement, so evidence made under another policy is stale.
Thousandths are whole numbers, because nothing that is signed holds a fraction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, Self

from media import canonical

FORMAT: Final = 1
GATES: Final = ("integrity", "load", "smoke", "task-evaluation")
_FILE: Final = "policy_v1.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """The gates that must pass, in their order, and what they demand.

    Attributes:
        digest: SHA-256 of the policy file.
        minimum_accuracy_millis: The least share of right answers, in thousandths.
        confidence_millis: The width of all intervals, in thousandths.
        resamples: How often the bootstrap draws.
        allowed_drop_millis: A version that is surely worse than production may be so by this much, in thousandths.
    """

    digest: str
    name: str
    gates: tuple[str, ...]
    smoke_prompt: str
    smoke_max_tokens: int
    minimum_accuracy_millis: int
    confidence_millis: int
    resamples: int
    allowed_drop_millis: int

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a policy file.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
        """
        required = ("format", "name", "gates", "smoke", "task_evaluation")
        fields = canonical.exact_keys(canonical.loads_canonical(untrusted), required, what="policy")
        canonical.integer(fields["format"], "policy.format", minimum=FORMAT, maximum=FORMAT)
        smoke = canonical.exact_keys(fields["smoke"], ("prompt", "max_tokens"), what="policy.smoke")
        evaluation = _evaluation(fields["task_evaluation"])
        return cls(
            digest=sha256(untrusted).hexdigest(),
            name=canonical.text(fields["name"], "policy.name"),
            gates=tuple(
                canonical.one_of(gate, GATES, "policy.gates")
                for gate in canonical.array(fields["gates"], "policy.gates", most=len(GATES))
            ),
            smoke_prompt=canonical.text(smoke["prompt"], "policy.smoke.prompt"),
            smoke_max_tokens=canonical.integer(smoke["max_tokens"], "policy.smoke.max_tokens", minimum=1, maximum=256),
            minimum_accuracy_millis=evaluation["minimum_accuracy_millis"],
            confidence_millis=evaluation["confidence_millis"],
            resamples=evaluation["resamples"],
            allowed_drop_millis=evaluation["allowed_drop_millis"],
        )


def _evaluation(untrusted: Any) -> Mapping[str, int]:
    most = {
        "minimum_accuracy_millis": 1000,
        "confidence_millis": 999,
        "resamples": 100_000,
        "allowed_drop_millis": 1000,
    }
    fields = canonical.exact_keys(untrusted, tuple(most), what="policy.task_evaluation")
    return {
        name: canonical.integer(fields[name], f"policy.task_evaluation.{name}", maximum=top)
        for name, top in most.items()
    }


@cache
def packaged() -> GatePolicy:
    """Return the policy of the installed release."""
    return GatePolicy.from_bytes((files("appliance.promote") / _FILE).read_bytes())
