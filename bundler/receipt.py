"""A site's receipt, believed only when the key of its ledger vouches for it.

The envelope's own signature, or the checkpoint of the tree that holds the record of the receive: one must be there, and
what is there must hold. The record in the ledger must name this very receipt (EXP-3).
"""

from dataclasses import dataclass
from typing import Any, Final

from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import Checkpoint
from bundler.siteword import Said
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
from media.errors import MalformedError, UnsupportedFormatError

PAYLOAD_TYPE: Final = "application/vnd.sealift.receipt+json"
MAX_BYTES: Final = 2**20
_REQUIRED: Final = (
    *("format", "type", "site", "outcome", "at", "release", "serial", "code", "payload_digest", "targets_sha256"),
    *("root_version", "timestamp_version", "signers", "volumes", "files", "bytes", "rehearsal_level", "custody"),
    "ledger",
)


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
    keys: SiteKeys


def site_of(untrusted: bytes) -> str:
    """Return the site that a receipt names, to look up the key that must have signed it.

    Raises:
        MalformedError: It is no receipt.
    """
    return text(_opened(untrusted)[1]["site"], "The receipt", most=64)


def read_receipt(untrusted: bytes, keys: SiteKeys) -> Receipt:
    """Return what a receipt says, once the site's ledger key vouches for it.

    Raises:
        MalformedError: It is no receipt.
        UnsupportedFormatError: A later version of the format.
        BadSignatureError: Nothing vouches for it, or what does is wrong.
    """
    what = "The receipt"
    said, value = _opened(untrusted)
    vouched = said.require_vouched(value, keys, kind="receipt")
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
        checkpoint=vouched.head,
        vouched_by=vouched.by,
        keys=vouched.keys,
    )


def _opened(untrusted: bytes) -> tuple[Said, dict[str, Any]]:
    what = "The receipt"
    said = Said.opened(untrusted, payload_type=PAYLOAD_TYPE, what=what, max_bytes=MAX_BYTES)
    value = mapping(loads_canonical(said.payload, max_bytes=MAX_BYTES), what)
    if integer(value.get("format"), what, minimum=1) != 1:
        raise UnsupportedFormatError(
            what="the receipt has a later format", why="this program reads format 1", fix="use a newer bundler"
        )
    exact_keys(value, _REQUIRED, (), what)
    if value["type"] != "sealift/receipt":
        raise MalformedError(what="this is no receipt", why="it says that it is something else")
    return said, value


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
