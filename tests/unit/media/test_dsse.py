"""Envelopes: what verifies, and every way to bend one."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from securesystemslib.signer import CryptoSigner, Key, Signature, Signer  # type: ignore[attr-defined]  # no __all__

from media import canonical, dsse, keys, limits
from media.errors import (
    BadSignatureError,
    LimitExceededError,
    MalformedError,
    SamePersonError,
    SealiftError,
    ThresholdError,
)
from media.people import People
from tests.support.sender import Sender

_PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'


@pytest.fixture(scope="module")
def envelope(sender: Sender) -> bytes:
    return dsse.sign(dsse.INTOTO, _PAYLOAD, sender.signers["alice", "release"])


def test_a_signed_payload_comes_back_with_its_signer(sender: Sender, envelope: bytes) -> None:
    statement = dsse.verify(envelope, sender.people, "rehearsal")

    assert (statement.payload_type, statement.payload) == (dsse.INTOTO, _PAYLOAD)
    assert [person.id for person in statement.signers] == ["alice"]


def test_the_signed_bytes_are_those_of_the_standard(envelope: bytes) -> None:
    read = dsse.Envelope.from_bytes(envelope)

    assert read.signed_bytes() == b"DSSEv1 28 application/vnd.in-toto+json 43 " + _PAYLOAD


def test_two_people_may_sign_one_envelope(sender: Sender, envelope: bytes) -> None:
    both = dsse.countersign(envelope, sender.signers["bob", "release"])

    statement = dsse.verify(both, sender.people, "release", 2)

    assert [person.id for person in statement.signers] == ["alice", "bob"]
    with pytest.raises(ThresholdError):
        dsse.verify(both, sender.people, "release", 3)
    with pytest.raises(ThresholdError):
        dsse.verify(envelope, sender.people, "release", 2)


def test_signing_twice_is_refused(sender: Sender, envelope: bytes) -> None:
    with pytest.raises(MalformedError):
        dsse.countersign(envelope, sender.signers["alice", "release"])


def test_the_role_counts_and_not_only_the_name(sender: Sender, envelope: bytes) -> None:
    custody_only = dsse.sign(dsse.CUSTODY, b"{}", sender.signers["dora", "release"])

    assert dsse.verify(custody_only, sender.people, "custody").signers[0].id == "dora"
    with pytest.raises(BadSignatureError):
        dsse.verify(custody_only, sender.people, "release")
    with pytest.raises(BadSignatureError):
        dsse.verify(dsse.countersign(envelope, sender.signers["dora", "release"]), sender.people, "release")


def test_a_root_key_signs_no_statements(sender: Sender) -> None:
    signed = dsse.sign(dsse.INTOTO, _PAYLOAD, sender.signers["alice", "root"])

    with pytest.raises(BadSignatureError):
        dsse.verify(signed, sender.people, "release")


def test_a_stranger_s_signature_spoils_a_good_one(sender: Sender, envelope: bytes) -> None:
    stranger = CryptoSigner(ed25519.Ed25519PrivateKey.generate())

    with pytest.raises(BadSignatureError):
        dsse.verify(dsse.countersign(envelope, stranger), sender.people, "release")


def test_another_payload_type_is_refused_where_one_is_expected(sender: Sender, envelope: bytes) -> None:
    dsse.verify(envelope, sender.people, "release", payload_type=dsse.INTOTO)
    with pytest.raises(MalformedError):
        dsse.verify(envelope, sender.people, "release", payload_type=dsse.CUSTODY)


def _edited(envelope: bytes, **changes: Any) -> bytes:
    value = json.loads(envelope)
    for name, change in changes.items():
        (value["signatures"][0] if name in {"sig", "keyid", "other_headers"} else value)[name] = change
    return canonical.dumps(value, allow_floats=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": base64.b64encode(_PAYLOAD + b" ").decode()},
        {"payload": ""},
        {"payloadType": "application/json"},
        {"sig": base64.b64encode(bytes(64)).decode()},
        {"sig": base64.b64encode(bytes(63)).decode()},
        {"keyid": "00" * 20},
    ],
)
def test_a_changed_envelope_is_refused(sender: Sender, envelope: bytes, changes: dict[str, Any]) -> None:
    with pytest.raises((BadSignatureError, MalformedError)):
        dsse.verify(_edited(envelope, **changes), sender.people, "release")


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": None},
        {"payload": 1},
        {"payload": "e30"},
        {"payload": "e3 0="},
        {"payload": "e30=\n"},
        {"payload": "e31="},
        {"payload": "_-A="},
        {"payload": "é"},
        {"payloadType": ""},
        {"payloadType": "Application/JSON"},
        {"payloadType": "application/json; charset=utf-8"},
        {"payloadType": 1},
        {"payloadType": "a/" + "b" * 200},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [None]},
        {"signatures": [{}]},
        {"note": "x"},
        {"sig": None},
        {"sig": ""},
        {"sig": "!!"},
        {"sig": base64.b64encode(bytes(limits.SIGNATURE_HEX_CHARS)).decode()},
        {"keyid": None},
        {"keyid": "AB" * 20},
        {"keyid": "ab"},
        {"other_headers": None},
        {"other_headers": ""},
        {"other_headers": "zz"},
        {"other_headers": "00"},
        {"other_headers": "abc"},
        {"other_headers": "00" * limits.SIGNATURE_HEX_CHARS},
    ],
)
def test_a_malformed_envelope_is_named_so(sender: Sender, envelope: bytes, changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        dsse.verify(_edited(envelope, **changes), sender.people, "release")


def test_an_envelope_has_one_form(sender: Sender, envelope: bytes) -> None:
    both = json.loads(dsse.countersign(envelope, sender.signers["bob", "release"]))
    both["signatures"].reverse()

    for other in (envelope + b"\n", b" " + envelope, canonical.dumps(both), b"", b"[]", b"\xff"):
        with pytest.raises(MalformedError):
            dsse.verify(other, sender.people, "release")


def test_sizes_are_capped() -> None:
    with pytest.raises(LimitExceededError):
        dsse.Envelope.from_bytes(bytes(limits.ENVELOPE_BYTES + 1))
    with pytest.raises(LimitExceededError):
        dsse.Envelope(payload_type="a/b", payload=bytes(limits.PAYLOAD_BYTES + 1), signatures=()).to_bytes()


def test_the_covered_part_must_be_the_signer_s(sender: Sender, envelope: bytes) -> None:
    """Scenario: securesystemslib hashes whatever `other_headers` holds; here it may only be what GnuPG wrote."""
    headers = json.loads(envelope)["signatures"][0]["other_headers"]
    as_text = "0401" + headers[4:]
    weak = headers[:6] + "02" + headers[8:]
    other = headers.replace(sender.fingerprints["alice", "release"].lower(), "ab" * 20)

    for spoilt in (as_text, weak, other, headers + "00", headers[:-2]):
        with pytest.raises(MalformedError):
            dsse.verify(_edited(envelope, other_headers=spoilt), sender.people, "release")
    missing = json.loads(envelope)
    del missing["signatures"][0]["other_headers"]
    with pytest.raises(BadSignatureError):
        dsse.verify(canonical.dumps(missing), sender.people, "release")


class _Bent(Signer):
    """A signer that returns what it was told to."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature

    @property
    def public_key(self) -> Any:
        raise NotImplementedError

    @classmethod
    def from_priv_key_uri(cls, *_: Any, **__: Any) -> "_Bent":
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        return self._signature


def test_what_a_strange_signer_returns_is_not_written() -> None:
    for signature in (Signature("x", "00"), Signature("ab" * 20, ""), Signature("ab" * 20, "00", {"note": "x"})):
        with pytest.raises(MalformedError):
            dsse.sign(dsse.INTOTO, _PAYLOAD, _Bent(signature))
    with pytest.raises(MalformedError):
        dsse.sign("not a type", _PAYLOAD, _Bent(Signature("ab" * 20, "00")))


def _with_second_key(sender: Sender, person: int, signer: Signer) -> People:
    root = sender.changed_root()
    key = signer.public_key
    root["keys"][key.keyid] = key.to_dict()
    root["x-sealift-people"][person]["keys"]["release"].append(key.keyid)
    for role in ("targets", "snapshot", "timestamp"):
        root["roles"][role]["keyids"].append(key.keyid)
    return People.from_root(root)


@pytest.mark.parametrize("private", [ed25519.Ed25519PrivateKey, mldsa.MLDSA87PrivateKey])
def test_two_keys_of_one_person_are_one_person(sender: Sender, envelope: bytes, private: Any) -> None:
    second = CryptoSigner(private.generate())
    people = _with_second_key(sender, 0, second)
    both = dsse.countersign(envelope, second)

    assert [person.id for person in dsse.verify(both, people, "release").signers] == ["alice"]
    with pytest.raises(SamePersonError):
        dsse.verify(both, people, "release", 2)


def test_a_signature_of_the_wrong_kind_for_its_key_is_refused(sender: Sender, envelope: bytes) -> None:
    second = CryptoSigner(ed25519.Ed25519PrivateKey.generate())
    people = _with_second_key(sender, 0, second)
    signed = json.loads(dsse.sign(dsse.INTOTO, _PAYLOAD, second))
    for size in (0, 1, 63, 65, 4627):
        signed["signatures"][0]["sig"] = base64.b64encode(bytes(size)).decode()
        with pytest.raises((BadSignatureError, MalformedError)):
            dsse.verify(canonical.dumps(signed), people, "release")


class _Choking(Key):
    """A key whose library chokes on what it is given."""

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> "_Choking":
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        raise IndexError(len(data))


def test_a_library_that_chokes_on_a_signature_has_not_accepted_it() -> None:
    with pytest.raises(BadSignatureError) as caught:
        keys.verify(_Choking("ab" * 32, "x", "x", {}), Signature("ab" * 32, "00"), b"data", "an envelope")

    assert caught.value.why == "it cannot be read"


def test_a_signature_in_the_shape_of_another_kind_of_key_is_not_even_tried(sender: Sender) -> None:
    plain = CryptoSigner(ed25519.Ed25519PrivateKey.generate())
    signed = plain.sign(b"data")
    alice = sender.signers["alice", "release"]
    by_alice = alice.sign(b"data")
    covered = by_alice.unrecognized_fields

    keys.verify(plain.public_key, signed, b"data", "a file")
    keys.verify(alice.public_key, by_alice, b"data", "a file")
    for key, signature in (
        (plain.public_key, Signature(signed.keyid, signed.signature, covered)),
        (plain.public_key, Signature("ab" * 32, signed.signature)),
        (alice.public_key, Signature(by_alice.keyid, by_alice.signature)),
    ):
        with pytest.raises(BadSignatureError) as caught:
            keys.verify(key, signature, b"data", "a file")
        assert caught.value.why == "its shape is that of another kind of key"


def test_junk_in_signature_objects_of_tuf_metadata_is_malformed() -> None:
    good = {"keyid": "ab" * 32, "sig": "00"}
    assert list(keys.require_signatures([good], "targets.json")) == ["ab" * 32]
    keys.require_signatures([{**good, "sig": "0" * limits.SIGNATURE_HEX_CHARS}], "targets.json")
    spoilt: list[Any] = [
        None,
        {},
        [],
        [None],
        [[]],
        [good, good],
        [{**good, "sig": None}],
        [{**good, "sig": ["00"]}],
        [{**good, "other_headers": 4}],
        [{**good, "keyid": None}],
        [{**good, "sig": "0"}],
        [{**good, "sig": "0G"}],
        [{**good, "sig": "00" * limits.SIGNATURE_HEX_CHARS}],
        [{**good, "method": "x"}],
        [{"keyid": "ab" * 32}],
        [{"sig": "00"}],
        [good] * (limits.SIGNATURES + 1),
    ]

    for each in spoilt:
        with pytest.raises(SealiftError):
            keys.require_signatures(each, "targets.json")
