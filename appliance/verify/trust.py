"""The trust record: what this box believes, in one file, changed by receiving alone.

Rules:
 * The pinned first root is written once, by people who typed its release's code, and never again.
 * The record begins with that very root; a record that does not, or does not read, is damaged, and receiving stops.
 * A record is replaced as a whole: written beside, synced, renamed, the folder synced.
 * Every root that it believes, and every emergency note, lies beside it as a file of its own before it does, so that no
   rotation and no revocation is lost with it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from appliance.verify.kept import NOTE_CHARS, PINNED_ROOT, ROOT_CHARS, ROOTS, keep, kept_root, pinned_root
from media import canonical, durable
from media.clock import to_text
from media.errors import LimitExceededError, MalformedError, NoTrustError

__all__ = [
    "PINNED_ROOT",
    "RECORD",
    "ROOTS",
    "Checkpoint",
    "TrustRecord",
    "kept_root",
    "load",
    "pinned_root",
    "require_root",
    "save",
]

FORMAT: Final = 1
RECORD: Final = "state.json"
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = (
    "checkpoint",
    "floor",
    "format",
    "payload_digest",
    "root_chain",
    "serial",
    "snapshot_version",
    "targets_version",
    "timestamp_version",
)
_MOST_NOTES: Final = 1000
_RECORD_BYTES: Final = 64 * 2**20
_RECOVER: Final = (
    "two people recover it: `sealift trust recover`, typing the running release's code and the last printed checkpoint"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Size and root hash of this box's own ledger when the last release was accepted."""

    origin: str
    size: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRecord:
    """What this box believes.

    Args:
        root_chain: The roots as they were signed, from the pinned one to the trusted one.
        serial: Of the last accepted release; 0 before the first.
        timestamp_version: Of its timestamp.
        snapshot_version: Of its snapshot; equal to the serial.
        targets_version: Of its targets; equal to the serial.
        payload_digest: Of its payload, so that one serial is never two releases; empty before the first.
        floor: No time before this is believed.
        checkpoint: Of the box's own ledger; None before there was one.
        notes: The emergency notes that were accepted, as they were signed, in the order of their acceptance.
        former: Chains that began with a first root which two people replaced; for what was received under them.
    """

    root_chain: tuple[str, ...]
    serial: int = 0
    timestamp_version: int = 0
    snapshot_version: int = 0
    targets_version: int = 0
    payload_digest: str = ""
    floor: datetime = _BEGINNING
    checkpoint: Checkpoint | None = None
    notes: tuple[str, ...] = ()
    former: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read a record that strict JSON held.

        Raises:
            MalformedError: A field is wrong.
        """
        what = "The trust record"
        value = canonical.exact_keys(untrusted, _FIELDS, ("former", "notes"), what)
        canonical.integer(value["format"], what, minimum=FORMAT, maximum=FORMAT)
        chain = _chain(value["root_chain"], what)
        digest = canonical.text(value["payload_digest"], what, may_be_empty=True)
        return cls(
            root_chain=chain,
            serial=canonical.integer(value["serial"], what),
            timestamp_version=canonical.integer(value["timestamp_version"], what),
            snapshot_version=canonical.integer(value["snapshot_version"], what),
            targets_version=canonical.integer(value["targets_version"], what),
            payload_digest=canonical.sha256_hex(digest, what) if digest else "",
            floor=canonical.moment(value["floor"], what),
            checkpoint=_checkpoint(value["checkpoint"], what),
            notes=tuple(
                canonical.text(each, what, most=NOTE_CHARS)
                for each in canonical.array(value.get("notes", []), what, most=_MOST_NOTES)
            ),
            former=tuple(_chain(each, what) for each in canonical.array(value.get("former", []), what, most=1024)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        point = self.checkpoint
        return {
            "format": FORMAT,
            "root_chain": list(self.root_chain),
            "serial": self.serial,
            "timestamp_version": self.timestamp_version,
            "snapshot_version": self.snapshot_version,
            "targets_version": self.targets_version,
            "payload_digest": self.payload_digest,
            "floor": to_text(self.floor),
            "checkpoint": None if point is None else {"origin": point.origin, "size": point.size, "root": point.root},
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"former": [list(chain) for chain in self.former]} if self.former else {}),
        }

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a record's file.

        Raises:
            LimitExceededError: It is too large.
            MalformedError: It does not read.
        """
        return cls.from_json(canonical.loads_canonical(untrusted, max_bytes=_RECORD_BYTES))

    def to_bytes(self) -> bytes:
        """Return the bytes of the record's file."""
        return canonical.dumps(self.to_json())

    def require_storable(self) -> bytes:
        """Return the bytes of the record's file, once they are seen to read as this very record.

        Raises:
            LimitExceededError, MalformedError: They would not, so that writing them would be the end of receiving.
        """
        written = self.to_bytes()
        if type(self).from_bytes(written) != self:
            raise MalformedError(
                what="a trust record would not read as it was written", why="", fix="report it: a fault of ours"
            )
        return written


def load(trust: Path, pinned: Path, *, may_begin: bool) -> TrustRecord:
    """Return what this box believes now.

    Args:
        trust: The folder of the record.
        pinned: The folder of the pinned root.
        may_begin: Nothing was ever accepted here, so that no record may mean the first one.

    Raises:
        NoTrustError: No root is pinned; or the record is lost, damaged or does not begin with the pinned root.
    """
    first = pinned_root(pinned)
    try:
        untrusted = (trust / RECORD).read_bytes()
    except FileNotFoundError as error:
        if may_begin:
            return TrustRecord(root_chain=(first,))
        raise NoTrustError(
            what="the trust record is lost", why="this box has accepted releases before", fix=_RECOVER
        ) from error
    except OSError as error:
        raise NoTrustError(
            what="the trust record cannot be read", why=error.strerror or "", fix="run as the unit's user or as root"
        ) from error
    try:
        record = TrustRecord.from_bytes(untrusted)
    except (MalformedError, LimitExceededError) as error:
        raise NoTrustError(what="the trust record is damaged", why=error.why, fix=_RECOVER) from error
    if record.root_chain[0] != first:
        raise NoTrustError(
            what="the trust record does not begin with the pinned root",
            why="one of the two was changed, or a replacement was cut off",
            fix=f"run `sealift trust replace` again if one was begun here; else {_RECOVER}",
        )
    return record


def save(trust: Path, record: TrustRecord) -> None:
    """Replace the record durably.

    Raises:
        LimitExceededError, MalformedError: `load` would refuse what would be written; the old record stands.
        OSError: The file system refuses; the old record stands.
    """
    written = record.require_storable()
    keep(trust, record.root_chain, record.notes, record.former)
    durable.replace(trust / RECORD, written, mode=0o644)


def require_root(untrusted: bytes) -> str:
    """Return a root's text, once its bytes are the only ones that the signed values have and a record can hold them.

    Signatures cover values, not bytes: whoever carries a medium could add blanks, or what `load` would refuse.

    Raises:
        LimitExceededError: It is larger than a record's root may be.
        MalformedError: It is not in canonical form, or holds what a record may not hold.
    """
    canonical.loads_canonical(untrusted, max_bytes=ROOT_CHARS)
    return _root_text(untrusted.decode(), "The root metadata")


def _chain(untrusted: Any, what: str) -> tuple[str, ...]:
    chain = tuple(_root_text(each, what) for each in canonical.array(untrusted, what, most=1024))
    if not chain:
        raise MalformedError(what=f"{what} is malformed", why="it holds no root", fix=_RECOVER)
    return chain


def _root_text(untrusted: Any, what: str) -> str:
    return canonical.text(untrusted, what, most=ROOT_CHARS, lines=True)


def _checkpoint(untrusted: Any, what: str) -> Checkpoint | None:
    if untrusted is None:
        return None
    value = canonical.exact_keys(untrusted, ("origin", "root", "size"), (), what)
    return Checkpoint(
        origin=canonical.text(value["origin"], what),
        size=canonical.integer(value["size"], what),
        root=canonical.sha256_hex(value["root"], what),
    )
