"""A site's receipt, believed only when the key of its ledger vouches for it.

The envelope's own signature, or the checkpoint of the tree that holds the record of the receive: one must be there, and
what is there must hold. The record in the ledger must be about the same release as the receipt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib import dsse

from bundler.ledgernote import Checkpoint, LedgerKey, checkpoint, from_base64, require_included
from media.canonical import (
    array,
    boolean,
    exact_keys,
    integer,
    loads_canonical,
    mapping,
    moment,
    sha256_hex,
    text,
)
from media.digest import sha256_hex as digest_of
from media.errors import BadSignatureError, MalformedError, UnsupportedFormatError

PAYLOAD_TYPE: Final = "application/vnd.sealift.receipt+json"
MAX_BYTES: Final = 2**20
_REQUIRED: Final = (
    *("format", "type", "site", "outcome", "at", "release", "serial", "code", "payload_digest", "targets_sha256"),
    *("root_version", "timestamp_version", "signers", "volumes", "files", "bytes", "rehearsal_level", "custody"),
    "ledger",
)
_SHARED: Final = ("release", "serial", "code", "payload_digest", "site")
"""What the record in the ledger and the receipt both say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedVolume:
    """One volume as the site saw it."""

    number: int
    id: str
    tag_manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a site says that it took in."""

    sha256: str
    site: str
    outcome: str
    at: str
    release: str
    serial: int
    code: str
    volumes: tuple[ReceivedVolume, ...]
    custody_complete: bool
    findings: int
    checkpoint: Checkpoint | None
    vouched_by: tuple[str, ...]


def site_of(untrusted: bytes) -> str:
    """Return the site that a receipt names, to look up the key that must have signed it.

    Raises:
        MalformedError: It is no receipt.
    """
    return text(_payload(untrusted)[1]["site"], "The receipt", most=64)


def read_receipt(untrusted: bytes, key: LedgerKey) -> Receipt:
    """Return what a receipt says, once the site's ledger key vouches for it.

    Raises:
        MalformedError: It is no receipt.
        UnsupportedFormatError: A later version of the format.
        BadSignatureError: Nothing vouches for it, or what does is wrong.
    """
    what = "The receipt"
    payload, value, signatures = _payload(untrusted)
    vouched_by = []
    if signatures:
        _require_signed(payload, signatures, key)
        vouched_by.append("signature")
    head = None
    if value["ledger"] is not None:
        head = _require_recorded(value, key)
        vouched_by.append("ledger")
    if not vouched_by:
        raise BadSignatureError(
            what="nothing vouches for the receipt",
            why="it has neither a signature nor a proof of the ledger",
            fix="have the site write it again when its ledger runs: sealift custody receipt",
        )
    custody = exact_keys(value["custody"], ("complete", "findings", "entries"), (), what)
    return Receipt(
        sha256=digest_of(untrusted),
        site=text(value["site"], what, most=64),
        outcome=text(value["outcome"], what, most=32),
        at=_moment_text(value["at"]),
        release=text(value["release"], what, most=64),
        serial=integer(value["serial"], what, minimum=1),
        code=sha256_hex(value["code"], what),
        volumes=tuple(_volume(each) for each in array(value["volumes"], what, most=999)),
        custody_complete=boolean(custody["complete"], what),
        findings=integer(custody["findings"], what),
        checkpoint=head,
        vouched_by=tuple(vouched_by),
    )


def _payload(untrusted: bytes) -> tuple[bytes, dict[str, Any], list[Any]]:
    what = "The receipt"
    envelope = exact_keys(
        loads_canonical(untrusted, max_bytes=MAX_BYTES), ("payload", "payloadType", "signatures"), (), what
    )
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise MalformedError(what="this is no receipt", why="its payload is of another type", fix="name a receipt file")
    payload = from_base64(text(envelope["payload"], what, most=MAX_BYTES))
    value = mapping(loads_canonical(payload, max_bytes=MAX_BYTES), what)
    if integer(value.get("format"), what, minimum=1) != 1:
        raise UnsupportedFormatError(
            what="the receipt has a later format", why="this program reads format 1", fix="use a newer bundler"
        )
    exact_keys(value, _REQUIRED, (), what)
    if value["type"] != "sealift/receipt":
        raise MalformedError(what="this is no receipt", why="it says that it is something else")
    return payload, value, array(envelope["signatures"], what, most=8)


def _require_signed(payload: bytes, signatures: list[Any], key: LedgerKey) -> None:
    signed = dsse.Envelope(payload, PAYLOAD_TYPE, {}).pae()
    for untrusted in signatures:
        value = exact_keys(untrusted, ("keyid", "sig"), (), "The receipt's signature")
        if value["keyid"] != digest_of(key.public):
            raise BadSignatureError(
                what="the receipt is signed by another key than the site's",
                why=f"expected that of the ledger {key.name}",
                fix="compare the site's ledger key by telephone, then: sealift-bundler register site",
            )
        key.verify(from_base64(text(value["sig"], "The receipt's signature", most=128)), signed, "the receipt")


def _require_recorded(value: Mapping[str, Any], key: LedgerKey) -> Checkpoint:
    what = "The receipt's proof"
    proof = exact_keys(value["ledger"], ("sequence", "leaf", "size", "root", "hashes", "checkpoint"), (), what)
    head = checkpoint(text(proof["checkpoint"], what, most=MAX_BYTES, lines=True), key)
    leaf = from_base64(text(proof["leaf"], what, most=MAX_BYTES))
    path = [bytes.fromhex(sha256_hex(each, what)) for each in array(proof["hashes"], what, most=64)]
    sequence = integer(proof["sequence"], what)
    require_included(leaf, sequence, path, head)
    record = mapping(loads_canonical(leaf, max_bytes=MAX_BYTES, allow_floats=True), what)
    body = mapping(record.get("body"), what)
    is_same = all(body.get(name) == value[name] for name in _SHARED)
    if not is_same or record.get("sequence") != sequence or record.get("origin") != head.origin:
        raise BadSignatureError(
            what="the receipt and the ledger's record of it differ",
            why="the record is about something else",
            fix="ask the site for a new receipt",
        )
    return head


def _volume(untrusted: Any) -> ReceivedVolume:
    what = "A volume of the receipt"
    value = exact_keys(untrusted, ("number", "id", "tagmanifest_sha256"), (), what)
    return ReceivedVolume(
        number=integer(value["number"], what, minimum=1),
        id=text(value["id"], what, most=16),
        tag_manifest_sha256=sha256_hex(value["tagmanifest_sha256"], what),
    )


def _moment_text(untrusted: Any) -> str:
    moment(untrusted, "The receipt's time")
    return str(untrusted)
