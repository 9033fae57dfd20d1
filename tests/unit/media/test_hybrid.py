"""The hybrid policy: a person counts with a classic and an ML-DSA-87 signature, and not otherwise (TRUST-45 to 48)."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # re-exported without __all__

from media import dsse
from media.errors import MalformedError, SamePersonError, ThresholdError
from media.people import People, SignaturePolicy
from tests.support.hybrid import chosen, halves, hybrid_root, keyids
from tests.support.sender import Sender


def with_key(root: dict[str, Any], person: str, use: str, key: SSlibKey, *, keyid: str = "") -> dict[str, Any]:
    name = keyid or key.keyid
    root["keys"][name] = key.to_dict()
    next(each for each in root["x-sealift-people"] if each["id"] == person)["keys"][use].append(name)
    for role in ("root",) if use == "root" else ("targets", "snapshot", "timestamp"):
        root["roles"][role]["keyids"].append(name)
    return root


def test_both_halves_of_two_people_meet_a_threshold_of_two(sender: Sender) -> None:
    people = People.from_root(hybrid_root(sender))

    assert people.policy is SignaturePolicy.HYBRID
    found = people.require_key_signers(keyids("release", "alice", "carol"), "release", 2)
    assert [person.id for person in found] == ["alice", "carol"]


@pytest.mark.parametrize(
    ("signed", "said"),
    [
        (("alice", "bob/classic"), "found 1: alice; bob lacks the ML-DSA-87 signature"),
        (("alice", "bob/mldsa"), "found 1: alice; bob lacks the classic signature"),
        (("alice/classic", "bob/classic", "carol/classic"), "found 0: nobody; alice lacks the ML-DSA-87"),
        (("alice/mldsa", "bob/mldsa"), "found 0: nobody; alice lacks the classic signature, bob lacks the classic"),
        (("alice/classic", "bob/mldsa"), "found 0: nobody; alice lacks the ML-DSA-87 signature, bob lacks the classic"),
    ],
)
def test_halves_of_people_are_nobody(sender: Sender, signed: tuple[str, ...], said: str) -> None:
    people = People.from_root(hybrid_root(sender))

    with pytest.raises(ThresholdError) as caught:
        people.require_key_signers(keyids("release", *signed), "release", 2)
    assert said in caught.value.why


def test_two_classic_keys_are_not_two_halves(sender: Sender) -> None:
    second = CryptoSigner(ed25519.Ed25519PrivateKey.generate()).public_key
    people = People.from_root(with_key(hybrid_root(sender), "alice", "release", second))

    with pytest.raises(ThresholdError, match="Too few"):
        people.require_key_signers([*keyids("release", "alice/classic", "bob"), second.keyid], "release", 2)


def test_two_whole_pairs_of_one_person_are_one_person(sender: Sender) -> None:
    root = hybrid_root(sender)
    spare = [
        CryptoSigner(maker.generate()).public_key for maker in (ed25519.Ed25519PrivateKey, mldsa.MLDSA87PrivateKey)
    ]
    for key in spare:
        with_key(root, "alice", "release", key)

    with pytest.raises(SamePersonError):
        People.from_root(root).require_key_signers(
            [*keyids("release", "alice"), *(key.keyid for key in spare)], "release", 2
        )


def test_a_smaller_ml_dsa_is_no_half(sender: Sender) -> None:
    root = hybrid_root(sender)
    smaller = CryptoSigner(mldsa.MLDSA65PrivateKey.generate()).public_key
    with_key(root, "alice", "release", smaller)
    gone = halves()["alice", "release", "mldsa"].public_key.keyid
    del root["keys"][gone]
    next(each for each in root["x-sealift-people"] if each["id"] == "alice")["keys"]["release"].remove(gone)
    for role in ("targets", "snapshot", "timestamp"):
        root["roles"][role]["keyids"].remove(gone)

    with pytest.raises(MalformedError, match="alice"):
        People.from_root(root)


@pytest.mark.parametrize("use", ["root", "release"])
@pytest.mark.parametrize("kind", ["classic", "mldsa"])
def test_a_root_whose_people_lack_a_half_is_malformed(sender: Sender, use: str, kind: str) -> None:
    root = hybrid_root(sender)
    gone = halves()["bob", use, kind].public_key.keyid
    del root["keys"][gone]
    root["x-sealift-people"][1]["keys"][use].remove(gone)
    for role in root["roles"].values():
        role["keyids"] = [each for each in role["keyids"] if each != gone]

    with pytest.raises(MalformedError) as caught:
        People.from_root(root)
    assert caught.value.why == f"the policy is hybrid, and a half of the {use} keys misses"


@pytest.mark.parametrize("policy", ["single", "HYBRID", "", "any", None, 1, {"signatures": "hybrid"}])
def test_a_policy_is_hybrid_or_is_not_there(sender: Sender, policy: Any) -> None:
    with pytest.raises(MalformedError):
        People.from_root(hybrid_root(sender) | {"x-sealift-policy": policy})


def test_without_the_policy_one_signature_makes_a_person_count(sender: Sender) -> None:
    people = People.from_root(hybrid_root(sender, policy=None))

    found = people.require_key_signers(keyids("release", "alice/mldsa", "bob/classic"), "release", 2)

    assert people.policy is SignaturePolicy.SINGLE
    assert [person.id for person in found] == ["alice", "bob"]


def test_one_ml_dsa_key_under_two_ids_or_with_two_people_is_refused(sender: Sender) -> None:
    key = halves()["alice", "release", "mldsa"].public_key
    spelled = SSlibKey("ab" * 32, key.keytype, key.scheme, {"public": key.keyval["public"] + "\n"})
    for person, use in (("alice", "release"), ("alice", "root"), ("bob", "release")):
        with pytest.raises(MalformedError):
            People.from_root(with_key(hybrid_root(sender), person, use, spelled))


def test_a_statement_needs_both_halves_of_who_makes_it(sender: Sender) -> None:
    people = People.from_root(hybrid_root(sender))
    classic, post_quantum = chosen("release", ["alice"])
    half = dsse.sign(dsse.INTOTO, b"{}", classic)

    with pytest.raises(ThresholdError, match="Too few"):
        dsse.verify(half, people, "release")
    whole = dsse.countersign(half, post_quantum)
    assert [person.id for person in dsse.verify(whole, people, "release").signers] == ["alice"]
