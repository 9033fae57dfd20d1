"""A signature that is listed and does not hold counts for nobody, at the sender's own checks too."""

from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # re-exported without __all__

from bundler.errors import CeremonyError
from bundler.signatory import Ceremony, require_all_hold
from media.canonical import dumps, loads
from media.errors import BadSignatureError
from tests.support.hybrid import chosen, halves, hybrid_root, signed_file
from tests.support.sender import Sender


def bent(raw: bytes, *keyids: str) -> bytes:
    """Return the file with one digit of some signatures changed."""
    value: Any = loads(raw)
    for each in value["signatures"]:
        if each["keyid"] in keyids:
            each["sig"] = f"{each['sig'][:-1]}{int(each['sig'][-1], 16) ^ 1:x}"
    return dumps(value)


def mldsa(*people: str, use: str = "root") -> list[str]:
    return [halves()[person, use, "mldsa"].public_key.keyid for person in people]


def test_a_hybrid_root_with_broken_second_halves_is_no_chain(sender: Sender) -> None:
    good = signed_file(hybrid_root(sender), chosen("root", ["alice", "bob"]))

    assert Ceremony.from_chain(Path(), (good,)).people.policy == "hybrid"
    for broken in (mldsa("alice", "bob"), mldsa("alice")):
        with pytest.raises(CeremonyError) as refused:
            Ceremony.from_chain(Path(), (bent(good, *broken),))
        assert "does not hold" in refused.value.what


def test_the_policy_is_not_lowered_by_broken_halves(sender: Sender) -> None:
    first = signed_file(hybrid_root(sender), chosen("root", ["alice", "bob"]))
    second = signed_file(hybrid_root(sender, version=2, policy=None), chosen("root", ["alice", "bob"]))

    assert Ceremony.from_chain(Path(), (first, second)).people.policy == "single"
    with pytest.raises(CeremonyError):
        Ceremony.from_chain(Path(), (first, bent(second, *mldsa("alice", "bob"))))
    classic = signed_file(hybrid_root(sender, version=2, policy=None), chosen("root", ["alice/classic", "bob/classic"]))
    with pytest.raises(CeremonyError, match="Too few people"):
        Ceremony.from_chain(Path(), (first, classic))


def test_every_signature_of_metadata_must_hold(sender: Sender) -> None:
    raw = signed_file(hybrid_root(sender), chosen("root", ["alice", "bob"]))
    root = Ceremony.from_chain(Path(), (raw,)).root
    signatures = {each.public_key.keyid: each.sign(b"data") for each in chosen("release", ["alice", "bob"])}

    assert require_all_hold(root, "targets", b"data", signatures) == set(signatures)
    one = mldsa("bob", use="release")[0]
    spoilt = {**signatures, one: replace_signature(signatures[one])}
    stranger = {**signatures, "ab" * 32: signatures[one]}
    for listed in (spoilt, stranger):
        with pytest.raises(BadSignatureError):
            require_all_hold(root, "targets", b"data", listed)


def replace_signature(signature: Signature) -> Signature:
    return Signature(signature.keyid, "00" * (len(signature.signature) // 2))
