"""Whatever bytes come in, out comes a value or one of our errors."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media import bagit, canonical, custody, dsse, keys, layout, openpgp, packets
from media.custody import HandOver
from media.errors import BadSignatureError, MediaError, TrustError
from media.inventory import HeldFile, HeldRelease, Inventory
from media.people import People
from media.release import ReleaseTerms, StaleAfter, targets_from
from media.volume import VolumeIndex
from tests.support.mutation import bent_bytes, bent_json, json_values
from tests.support.readers import CORPUS
from tests.support.sender import Sender
from tests.support.terms import large_target, small_target, targets_signed

pytestmark = pytest.mark.slow

_VOLUME = "0123456789abcdef"
_HAND_OVER = (
    b'{"at":"2026-11-20T08:00:00Z","condition":"","entered_by":"alice","entry":1,"format":1,"from":"A","kind":'
    b'"received","method":"signed","place":"P","previous":"' + b"ab" * 32 + b'","release":"r","seals":["1"],"to":"B",'
    b'"volume":"0123456789abcdef"}'
)
_MANIFEST = b"ab" * 32 + b"  data/a\n" + b"cd" * 32 + b"  data/b/c\n"
_BAG_INFO = bagit.render_bag_info(
    bagit.BagInfo(release="r", number=1, count=2, payload_bytes=3, payload_files=4, serial=5, volume_id=_VOLUME)
)
_INDEX = (
    b'{"format":1,"payload_digest":"' + b"ab" * 32 + b'","release":"r","serial":1,"volumes":[{"id":"e6c3f97776adcc50",'
    b'"number":1,"parts":[{"first":0,"last":0,"length":1,"path":"data/a","sha256":"' + b"cd" * 32 + b'","target":'
    b'"data/a"}]}]}'
)
_TARGETS = targets_signed([small_target("data/a", b"a"), large_target("data/w", 2**27 + 1)])
_INVENTORY = Inventory(
    site="clinic-a",
    at=datetime(2026, 11, 20, 8, tzinfo=UTC),
    serial=5,
    hashed=True,
    releases=(HeldRelease(serial=5, code="ab" * 32, payload_digest="cd" * 32),),
    files=(HeldFile(sha256="ef" * 32, length=2**27, blocks=("12" * 32, "34" * 32)),),
).to_payload(ledger=None)
_TIMESTAMP = {"_type": "timestamp", "version": 1, "x-sealift-stale-after": "2027-01-01T00:00:00Z"}

_PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "json": (canonical.loads, _HAND_OVER),
    "canonical json": (canonical.loads_canonical, _INDEX),
    "manifest": (bagit.parse_manifest, _MANIFEST),
    "bag info": (bagit.parse_bag_info, _BAG_INFO),
    "volume index": (VolumeIndex.from_bytes, _INDEX),
    "delta index": (VolumeIndex.from_bytes, (CORPUS / "valid/delta-files/volumes.json").read_bytes()),
    "inventory": (Inventory.from_payload, _INVENTORY),
    "hand-over": (HandOver.from_payload, _HAND_OVER),
    "envelope": (
        dsse.Envelope.from_bytes,
        b'{"payload":"e30=","payloadType":"a/b","signatures":[{"keyid":"' + b"ab" * 32 + b'","sig":"AAAA"}]}',
    ),
    "covered part": (
        packets.require_covered_part,
        b"\x04\x00\x16\x08\x00\x1d\x16\x21\x04" + b"\xab" * 20 + b"\x05\x02\x00\x00\x00\x01",
    ),
}


def _outcome(call: Callable[[Any], Any], value: Any) -> None:
    error = _error(call, value)

    assert error is None or (error.what and error.why and error.fix)


def _error(call: Callable[[Any], Any], value: Any) -> MediaError | None:
    try:
        call(value)
    except MediaError as error:
        return error
    return None


@pytest.mark.parametrize("name", _PARSERS)
@given(data=st.data())
def test_any_bytes_are_a_value_or_a_media_error(name: str, data: st.DataObject) -> None:
    parser, valid = _PARSERS[name]
    untrusted = data.draw(st.binary(max_size=300) | bent_bytes(valid) | json_values.map(_as_json))

    _outcome(parser, untrusted)


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_what_the_bent_bytes_start_from_is_valid() -> None:
    for parser, valid in _PARSERS.values():
        parser(valid)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_signature_or_certificate_is_a_value_or_a_media_error(sender: Sender, data: st.DataObject) -> None:
    certificate = sender.certificates["alice"]
    signature = _detached(sender)

    _outcome(packets.require_signature_packet, data.draw(st.binary(max_size=200) | bent_bytes(signature)))
    _outcome(openpgp.certificate_fingerprint, data.draw(st.binary(max_size=200) | bent_bytes(certificate)))


_MADE: dict[str, bytes] = {}


def _detached(sender: Sender) -> bytes:
    if "detached" not in _MADE:
        _MADE["detached"] = sender.detached("alice", b"data")
    return _MADE["detached"]


@given(data=st.data())
def test_no_bent_signature_file_verifies(sender: Sender, data: st.DataObject) -> None:
    valid = _detached(sender)
    untrusted = data.draw(bent_bytes(valid))

    try:
        openpgp.verify_detached(untrusted, b"data", sender.people.certificates())
    except (MediaError, BadSignatureError):
        return
    # The one other spelling that is the same signature: a header in the new format.
    assert untrusted in {valid, b"\xc2" + valid[1:]}


@given(data=st.data())
def test_no_bent_envelope_verifies(sender: Sender, data: st.DataObject) -> None:
    if "envelope" not in _MADE:
        _MADE["envelope"] = dsse.sign(dsse.CUSTODY, _HAND_OVER, sender.signers["alice", "release"])
    valid = _MADE["envelope"]
    untrusted = data.draw(bent_bytes(valid) | bent_json(json.loads(valid)).map(_as_compact_json))

    try:
        custody.read_chain([untrusted], sender.people, "ab" * 32, _VOLUME)
    except (MediaError, BadSignatureError):
        return
    assert untrusted == valid


def _as_compact_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


@given(data=st.data())
def test_any_root_is_people_or_a_media_error(sender: Sender, data: st.DataObject) -> None:
    root = data.draw(bent_json(dict(sender.root)) | st.dictionaries(st.text(max_size=20), json_values))

    _outcome(People.from_root, root)


@pytest.mark.parametrize(
    ("reader", "valid"),
    [(ReleaseTerms.from_targets, _TARGETS), (targets_from, _TARGETS), (StaleAfter.from_timestamp, _TIMESTAMP)],
    ids=["terms", "targets", "timestamp"],
)
@given(data=st.data())
def test_any_metadata_is_a_value_or_one_of_our_errors(reader: Any, valid: Any, data: st.DataObject) -> None:
    reader(valid)

    _outcome(reader, data.draw(bent_json(valid)))


@given(value=json_values)
def test_any_value_is_a_signature_or_key_or_malformed(value: Any) -> None:
    _outcome(lambda each: keys.require_signature(each, "x"), value)
    _outcome(lambda each: keys.require_signatures(each, "x"), value)
    _outcome(lambda each: keys.load_key("ab" * 32, each), value)


@given(name=st.text(max_size=300))
def test_any_text_is_a_safe_path_or_an_unsafe_one(name: str) -> None:
    try:
        path = layout.safe_path(name)
    except MediaError:
        return
    assert str(path) == name
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert name.isascii()
    assert name.isprintable()


@given(
    status=st.binary(max_size=400)
    | st.lists(
        st.sampled_from(
            [
                b"[GNUPG:] NEWSIG\n",
                b"[GNUPG:] GOODSIG ABABABABABABABAB x\n",
                b"[GNUPG:] VALIDSIG " + b"AB" * 20 + b"\n",
                b"[GNUPG:] BADSIG x\n",
                b"\n",
                b"[GNUPG:] ",
            ]
        ),
        max_size=8,
    ).map(b"".join)
)
def test_no_status_but_the_expected_one_passes(status: bytes) -> None:
    packet = packets.require_covered_part(_PARSERS["covered part"][1])

    with pytest.raises(TrustError):
        openpgp.require_good_status(status, packet=packet, primary="AB" * 20)
