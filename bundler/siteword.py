"""The word of a site: an envelope whose payload the key of the site's ledger vouches for.

Either the envelope's own signature, or the checkpoint of the tree that holds the record of what is said: one must be
there, and what is there must hold (EXP-3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib import dsse

from bundler.ledgerkeys import MOST, SiteKeys
from bundler.ledgernote import Checkpoint, LedgerKey, from_base64, require_included
from media.canonical import array, dumps, exact_keys, integer, loads_canonical, mapping, sha256_hex, text
from media.digest import sha256_hex as digest_of
from media.errors import BadSignatureError, MalformedError

_RECORD_BYTES = 2**20
_NOTE_BYTES = 8 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What vouches for a site's word.

    Args:
        head: Of the ledger at that time; None when its own proof is not there.
        by: signature, ledger, or both.
        keys: The ledger's keys, after those that the word leads to.
    """

    head: Checkpoint | None
    by: tuple[str, ...]
    keys: SiteKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An opened envelope that nobody vouched for yet."""

    what: str
    payload_type: str
    payload: bytes
    signatures: tuple[Any, ...]

    @classmethod
    def opened(cls, untrusted: bytes, *, payload_type: str, what: str, max_bytes: int) -> "Said":
        """Return the payload of an envelope of this type.

        Raises:
            MalformedError: It is no such envelope.
            LimitExceededError: It is too large.
        """
        fields = ("payload", "payloadType", "signatures")
        envelope = exact_keys(loads_canonical(untrusted, max_bytes=2 * max_bytes), fields, (), what)
        if envelope["payloadType"] != payload_type:
            raise MalformedError(
                what=f"this is not {what.lower()}", why="its payload is of another type", fix="name the right file"
            )
        return cls(
            what=what,
            payload_type=payload_type,
            payload=from_base64(text(envelope["payload"], what, most=2 * max_bytes)),
            signatures=tuple(array(envelope["signatures"], what, most=8)),
        )

    def require_vouched(self, value: Mapping[str, Any], keys: SiteKeys, *, kind: str) -> "Vouched":
        """Return what vouched, the ledger's head, if the payload brings one, and the ledger's keys after it.

        Args:
            value: The payload's fields; `ledger` is the proof, or None.
            keys: Of the site's ledger; the proof may lead to later ones.
            kind: What the ledger's record calls it, such as `receipt`.

        Raises:
            MalformedError: A proof is malformed.
            BadSignatureError: Nothing vouches for it, or what does is wrong.
        """
        vouched_by = []
        head = signer = None
        if value["ledger"] is not None:
            keys, head, signer = self._require_recorded(value, keys, kind)
        if self.signatures:
            self._require_signed(keys, signer)
            vouched_by.append("signature")
        if head is not None:
            vouched_by.append("ledger")
        if not vouched_by:
            raise BadSignatureError(
                what=f"nothing vouches for {self.what.lower()}",
                why="it has neither a signature nor a proof of the ledger",
                fix="have the site write it again when its ledger runs",
            )
        return Vouched(head=head, by=tuple(vouched_by), keys=keys)

    def _require_signed(self, keys: SiteKeys, signer: LedgerKey | None) -> None:
        """Pass only for signatures by the key in force, or by the one that signed the proof's tree in its own time."""
        signed = dsse.Envelope(self.payload, self.payload_type, {}).pae()
        key = signer or keys.keys[-1]
        for untrusted in self.signatures:
            value = exact_keys(untrusted, ("keyid", "sig"), (), f"{self.what}'s signature")
            if value["keyid"] != digest_of(key.public):
                raise BadSignatureError(
                    what=f"{self.what.lower()} is signed by another key than the site's",
                    why=f"expected that of the ledger {key.name}",
                    fix="have the site write it again while its ledger runs, which shows how its key was renewed; "
                    "after a restore compare the new key by telephone, then: sealift-bundler register site",
                )
            signature = from_base64(text(value["sig"], f"{self.what}'s signature", most=128))
            key.verify(signature, signed, self.what.lower())

    def _require_recorded(
        self, value: Mapping[str, Any], keys: SiteKeys, kind: str
    ) -> tuple[SiteKeys, Checkpoint, LedgerKey]:
        what = f"{self.what}'s proof"
        fields = ("sequence", "leaf", "size", "root", "hashes", "checkpoint")
        proof = exact_keys(value["ledger"], fields, ("succession",), what)
        notes = array(proof.get("succession", []), what, most=MOST)
        keys = keys.followed(text(each, what, most=_NOTE_BYTES, lines=True) for each in notes)
        head, signer = keys.checkpoint(text(proof["checkpoint"], what, most=_RECORD_BYTES, lines=True))
        leaf = from_base64(text(proof["leaf"], what, most=_RECORD_BYTES))
        path = [bytes.fromhex(sha256_hex(each, what)) for each in array(proof["hashes"], what, most=64)]
        sequence = integer(proof["sequence"], what)
        require_included(leaf, sequence, path, head)
        record = mapping(loads_canonical(leaf, max_bytes=_RECORD_BYTES, allow_floats=True), what)
        body = mapping(record.get("body"), what)
        expected = {"type": kind, "site": value["site"], "sha256": digest_of(dumps({**value, "ledger": None}))}
        is_same = all(body.get(name) == each for name, each in expected.items())
        if not is_same or record.get("sequence") != sequence or record.get("origin") != head.origin:
            raise BadSignatureError(
                what=f"{self.what.lower()} and the ledger's record of it differ",
                why="the record is about something else",
                fix="ask the site for a new one",
            )
        return keys, head, signer
