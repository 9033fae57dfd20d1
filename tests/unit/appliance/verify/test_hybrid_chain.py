"""Roots under the hybrid policy, as a box takes them: the policy of the root before decides who may change it."""

from typing import Any

import pytest

from appliance.verify.metadata import TrustChain
from media.canonical import dumps, loads
from media.errors import MalformedError, SamePersonError, ThresholdError
from tests.support.hybrid import chosen, hybrid_root, signed_file
from tests.support.sender import Sender

BOTH = ("alice", "bob")


def root(sender: Sender, version: int, policy: str | None, *signed: str) -> bytes:
    return signed_file(hybrid_root(sender, version=version, policy=policy), chosen("root", signed))


def chain(*roots: bytes) -> TrustChain:
    return TrustChain(tuple(raw.decode() for raw in roots), "demo")


def test_a_hybrid_root_is_believed_when_two_whole_people_signed_it(sender: Sender) -> None:
    assert chain(root(sender, 1, "hybrid", *BOTH)).people.policy == "hybrid"


@pytest.mark.parametrize(
    "signed",
    [
        ("alice/classic", "bob/classic"),
        ("alice/classic", "bob/classic", "carol/classic"),
        ("alice/mldsa", "bob/mldsa"),
        ("alice", "bob/classic"),
        ("alice/classic", "bob/mldsa"),
    ],
)
def test_a_hybrid_root_with_halves_is_refused(sender: Sender, signed: tuple[str, ...]) -> None:
    with pytest.raises(ThresholdError):
        chain(root(sender, 1, "hybrid", *signed))


def test_the_policy_is_raised_by_whole_people_under_the_new_one(sender: Sender) -> None:
    first = root(sender, 1, None, "alice/classic", "bob/classic")

    with pytest.raises(ThresholdError):
        chain(first, root(sender, 2, "hybrid", "alice/classic", "bob/classic"))
    assert chain(first, root(sender, 2, "hybrid", *BOTH)).people.policy == "hybrid"


def test_the_policy_is_not_lowered_by_classic_signatures(sender: Sender) -> None:
    first = root(sender, 1, "hybrid", *BOTH)

    for signed in (("alice/classic", "bob/classic", "carol/classic"), ("alice", "bob/classic")):
        with pytest.raises(ThresholdError) as caught:
            chain(first, root(sender, 2, None, *signed))
        assert "lacks the ML-DSA-87 signature" in caught.value.why
    assert chain(first, root(sender, 2, None, *BOTH)).people.policy == "single"


def test_an_unknown_policy_is_refused_and_not_taken_for_none(sender: Sender) -> None:
    with pytest.raises(MalformedError):
        chain(root(sender, 1, "triple", *BOTH))


def test_one_person_with_both_halves_is_one_person(sender: Sender) -> None:
    with pytest.raises((ThresholdError, SamePersonError)):
        chain(root(sender, 1, "hybrid", "alice"))


@pytest.mark.parametrize("number", range(4))
def test_a_changed_half_does_not_count(sender: Sender, number: int) -> None:
    bent: Any = loads(root(sender, 1, "hybrid", *BOTH))
    signature = bent["signatures"][number]["sig"]
    bent["signatures"][number]["sig"] = f"{signature[:-1]}{int(signature[-1], 16) ^ 1:x}"

    with pytest.raises(ThresholdError):
        chain(dumps(bent))
