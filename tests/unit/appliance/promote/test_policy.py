"""The policy is a file with a digest."""

import json
from hashlib import sha256
from importlib.resources import files

import pytest

from appliance.promote.policy import GATES, GatePolicy, packaged
from media.errors import MalformedError


def test_the_packaged_policy_is_named_by_the_digest_of_its_bytes() -> None:
    raw = (files("appliance.promote") / "policy_v2.json").read_bytes()

    assert packaged().digest == sha256(raw).hexdigest()
    assert packaged().gates == GATES


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("", "gates", ["unheard-of"]),
        ("", "format", 3),
        ("smoke", "max_tokens", 0),
        ("task_evaluation", "minimum_accuracy_millis", 1001),
        ("task_evaluation", "resamples", "many"),
    ],
)
def test_a_policy_of_another_shape_is_refused(section: str, field: str, value: object) -> None:
    policy = json.loads((files("appliance.promote") / "policy_v2.json").read_bytes())
    (policy[section] if section else policy)[field] = value

    with pytest.raises(MalformedError):
        GatePolicy.from_bytes(json.dumps(policy, sort_keys=True, separators=(",", ":")).encode())
