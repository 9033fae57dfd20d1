"""What a receive believes before it begins, and how it comes to believe more: record first, then the trust record.

A pair of writes (ledger, trust record) can be cut in half by a power cut. So what is about to be written is laid down
first (`pending.json`); whoever comes next finishes it, which is safe to repeat.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from appliance.actions.recorded import RECEIVED, ledger_may_exist, waiting
from appliance.audit.client import SocketLedger
from appliance.audit.epochs import continued, epochs
from appliance.audit.facts import Appended, Ledger, TreeHead
from appliance.audit.leaf import MAX_LEAF_BYTES, encode_body
from appliance.audit.offline import SPOOLED
from appliance.config import Config, Places
from appliance.errors import LedgerDamagedError, LedgerRefusedError, LedgerUnavailableError
from appliance.state.shapes import require_shape
from appliance.store.content import ContentStore
from appliance.store.incoming import publish
from appliance.store.writing import writing
from appliance.timekeeping.record import ClockRecord, Verdict, published
from appliance.verify import trust
from appliance.verify.freshness import BUILT
from appliance.verify.trust import Checkpoint, TrustRecord
from media import canonical, durable
from media.errors import (
    LimitExceededError,
    MalformedError,
    MediaError,
    NoTrustError,
    UsageError,
    WrongEnvironmentError,
)

FORMAT: Final = 1
PENDING: Final = "pending.json"
SET_ASIDE: Final = "pending.refused.json"
KEY_FIELD: Final = "receive"
_MAX_BYTES: Final = 96 * 2**20
_MOST_BODY_BYTES: Final = MAX_LEAF_BYTES - 64 * 2**10  # room for what a leaf has besides its body, and the spool adds
_RECOVER: Final = "two people find out why before this box receives again: `sealift audit verify`"
_MEND: Final = "two people find out why, then `sealift trust recover`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What is about to be recorded and believed.

    Args:
        kind: Of the record.
        body: Of the record.
        key: Makes the record one, however often it is tried.
        code: Of the release that is published with it.
        believed: The trust record that follows.
    """

    kind: str
    body: Mapping[str, Any]
    key: str
    code: str
    believed: TrustRecord

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        fields = {"kind": self.kind, "body": self.body, "key": self.key, "code": self.code}
        return canonical.dumps({"format": FORMAT, **fields, "believed": self.believed.to_json()})

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> "Pending":
        """Read the file.

        Raises:
            MediaError: It does not read.
        """
        what = "What a receive left half done"
        value = canonical.mapping(canonical.loads(untrusted, max_bytes=_MAX_BYTES), what)
        canonical.exact_keys(value, ("believed", "body", "code", "format", "key", "kind"), (), what)
        return cls(
            kind=canonical.text(value["kind"], what),
            body=canonical.mapping(value["body"], what),
            key=canonical.text(value["key"], what),
            code=canonical.sha256_hex(value["code"], what),
            believed=TrustRecord.from_json(value["believed"]),
        )


def finish(places: Places, ledger: Ledger, pending: Pending) -> Appended:
    """Record, publish, believe, in this order; each step may have been done before.

    Raises:
        LedgerRefusedError: The ledger will never take it; it is set aside, and nothing else was done.
        LedgerUnavailableError: It could not be recorded; nothing else was done.
        StoreWriteError, NoSpaceError: The release or the trust record could not be put in place; the next receive
            tries again.
    """
    try:
        appended = _record(places, ledger, pending)
    except LedgerRefusedError:
        with writing("the trust record"):
            set_pending_aside(places)
        raise
    store = ContentStore(places.store)
    publish(store, code=pending.code, serial=pending.believed.serial)
    checkpoint = own_checkpoint(ledger) or pending.believed.checkpoint
    with writing("the trust record"):
        trust.save(places.trust, replace(pending.believed, checkpoint=checkpoint))
        (places.trust / PENDING).unlink(missing_ok=True)
        durable.sync_folder(places.trust)
    return appended


def commit(places: Places, ledger: Ledger, pending: Pending) -> Appended:
    """Lay down what is about to happen, then make it happen; see `finish`.

    Raises:
        LedgerRefusedError, LimitExceededError, MalformedError: It could never be finished; nothing was done.
        LedgerUnavailableError, StoreWriteError, NoSpaceError: As `finish`; the next receive tries again.
    """
    _require_finishable(pending)
    with writing("the trust record"):
        places.trust.mkdir(parents=True, exist_ok=True, mode=0o755)
        durable.replace(places.trust / PENDING, pending.to_bytes(), mode=0o644)
    return finish(places, ledger, pending)


def is_begun(places: Places) -> bool:
    """Tell whether a receive has laid down what is about to happen, and not come to its end."""
    return (places.trust / PENDING).exists()


def finish_what_was_begun(places: Places, ledger: Ledger) -> Appended | None:
    """Finish the receive that a power cut left between its two writes, if there is one.

    Raises:
        NoTrustError: What it left does not read.
        LedgerUnavailableError, StoreWriteError, NoSpaceError: As `finish`.
    """
    try:
        untrusted = (places.trust / PENDING).read_bytes()
    except OSError:
        return None
    try:
        pending = Pending.from_bytes(untrusted)
    except MediaError as error:
        raise NoTrustError(
            what="a receive was cut off and what it left cannot be read", why=error.why, fix=_MEND
        ) from error
    try:
        return finish(places, ledger, pending)
    except LedgerRefusedError:  # set aside: whoever receives that medium again is told why
        return None


def set_pending_aside(places: Places) -> None:
    """Take what a receive left half done out of charge without destroying it.

    Raises:
        OSError: The file system refuses.
    """
    with contextlib.suppress(FileNotFoundError):
        (places.trust / PENDING).replace(places.trust / SET_ASIDE)
        durable.sync_folder(places.trust)


def _require_finishable(pending: Pending) -> None:
    """Refuse what the ledger would refuse for ever, or what would not read again."""
    body = _body(pending)
    found = len(encode_body(pending.kind, body))
    if found > _MOST_BODY_BYTES:
        raise LimitExceededError(
            what="what is to be recorded of this release is too large for the ledger",
            why=f"{found} bytes, at most {_MOST_BODY_BYTES} fit",
            fix="do not use this medium; ask the sender for one whose lists of people and sites are shorter",
        )
    require_shape(pending.kind, body)
    if Pending.from_bytes(pending.to_bytes()) != pending:
        raise MalformedError(
            what="what is to be recorded of this release would not read again", why="", fix="report it: a fault of ours"
        )


def _body(pending: Pending) -> dict[str, Any]:
    return {**pending.body, KEY_FIELD: pending.key}


def believed(config: Config, ledger: Ledger, trust_root: Path | None) -> TrustRecord:
    """Return what this box believes before it looks at a medium.

    Args:
        config: The site file.
        ledger: To see whether anything was ever accepted, and that the ledger is still as long as it was.
        trust_root: A throwaway root, for rehearsals only.

    Raises:
        NoTrustError: No root is pinned, or the record is lost or damaged.
        WrongEnvironmentError: A throwaway root was given on a box that is no rehearsal, or none on one that is.
        UsageError: A throwaway root was given where something was received or pinned before.
        LedgerDamagedError: The ledger is not the one this record was written beside.
    """
    places = config.at
    may_begin = not has_accepted(places, ledger)
    if trust_root is not None:
        return _throwaway(config, trust_root, may_begin=may_begin)
    if config.environment == "rehearsal":
        raise WrongEnvironmentError(
            what="a rehearsal believes a throwaway root only",
            why="nothing is pinned for a rehearsal",
            fix="give --trust-root, in a fresh folder",
        )
    record = trust.load(places.trust, places.pinned_trust, may_begin=may_begin)
    if record.checkpoint is not None:
        _require_same_ledger(ledger, record.checkpoint)
        require_history(ledger, {record.checkpoint.origin: record.checkpoint})
    return record


def require_history(ledger: Ledger, points: Mapping[str, Checkpoint]) -> None:
    """Refuse when this box's ledger is not a continuation of what a receipt or the trust record said it was.

    Raises:
        LedgerDamagedError: It is shorter, or another.
    """
    try:
        head = ledger.head()
    except LedgerUnavailableError:
        return
    _require_history_of_ended(ledger, head, points)
    point = points.get(head.origin)
    if point is None or not point.size:
        return
    if head.size < point.size:
        raise LedgerDamagedError(
            what="this box's ledger is shorter than it was",
            why=f"it has {head.size} records, {point.size} were attested",
            fix=_RECOVER,
        )
    if ledger.consistency(point.size, head.size).old_root != point.root:
        raise LedgerDamagedError(
            what="this box's ledger is not the one that was attested",
            why=f"its first {point.size} records hash to something else",
            fix=_RECOVER,
        )


def _require_history_of_ended(ledger: Ledger, head: TreeHead, points: Mapping[str, Checkpoint]) -> None:
    """Refuse when the records that a restore brought back are not those that were attested of them.

    What was attested beyond them is what the restore lost, and stated; it does not stop a box for ever.
    """
    if not set(points) - {head.origin}:
        return
    for epoch in epochs(ledger):
        origin, size, _ = continued(epoch.facts)
        point = points.get(origin)
        if point is None or not 0 < point.size <= size:
            continue
        if ledger.consistency(point.size, head.size).old_root != point.root:
            raise LedgerDamagedError(
                what="this box was restored from another ledger than the one that was attested",
                why=f"the first {point.size} records of {origin} hash to something else",
                fix=_RECOVER,
            )


def _require_same_ledger(ledger: Ledger, point: Checkpoint) -> None:
    own = own_checkpoint(ledger)
    if own is None or own.origin == point.origin:
        return
    # A restore on another node of the site begins an epoch, too; what it continues is held against the point next.
    if point.origin not in {continued(epoch.facts)[0] for epoch in epochs(ledger)}:
        raise LedgerDamagedError(
            what="this box's ledger was begun anew",
            why=f"it calls itself {own.origin}, the trust record knows {point.origin}",
            fix=_RECOVER,
        )


def floor(ledger: Ledger, record: TrustRecord, clock_record: ClockRecord | None = None) -> datetime:
    """Return the latest time known to have been: the program's making, the floors, the ledger's last record.

    What was recorded by a clock that is not believed says nothing of the time.
    """
    known = max(record.floor, BUILT)
    if clock_record is not None:
        known = max(known, clock_record.floor)
        if not clock_record.verdict.is_certain:
            return known
    with contextlib.suppress(LedgerUnavailableError, UsageError, ValueError):
        head = ledger.head()
        last = datetime.fromisoformat(ledger.leaf(head.size - 1).time)
        return max(known, last.astimezone(UTC).replace(microsecond=0))
    return known


def floor_of(places: Places, created: datetime, now: datetime) -> datetime:
    """Return the floor that a release gives: when it was made, but no time that a good clock has not shown yet.

    Whoever makes a release types that time, and a year too high would make the clock of every site wrong until then.

    Args:
        places: The site's.
        created: What was signed.
        now: The time that is believed; it counts where somebody answered for this boot's clock.
    """
    known = published(places)
    if known is None or known.verdict is not Verdict.GOOD:
        return created
    return min(created, now.replace(microsecond=0))


def own_checkpoint(ledger: Ledger) -> Checkpoint | None:
    """Return size and root of the ledger now; None before there is one."""
    try:
        head: TreeHead = ledger.head()
    except LedgerUnavailableError:
        return None
    return Checkpoint(origin=head.origin, size=head.size, root=head.root)


def _record(places: Places, ledger: Ledger, pending: Pending) -> Appended:
    """Append the fact unless it is there already, in the ledger or waiting for it."""
    with contextlib.suppress(LedgerUnavailableError):
        for leaf in ledger.find(kind=pending.kind, field=KEY_FIELD, value=pending.key, limit=1):
            return Appended(sequence=leaf.sequence, leaf_hash=leaf.hash, time=leaf.time)
    if any(body.get(KEY_FIELD) == pending.key for body in waiting(places, pending.kind)):
        return Appended(sequence=SPOOLED, leaf_hash="", time="")
    body = _body(pending)
    if isinstance(ledger, SocketLedger):
        return ledger.append(pending.kind, body, key=pending.key)
    return ledger.append(pending.kind, body)


def has_accepted(places: Places, ledger: Ledger) -> bool:
    """Tell whether a release was ever accepted here, by the store, the ledger or what waits for it.

    A ledger that is out of reach may say so, too.

    Raises:
        LedgerUnavailableError: The spool cannot be read.
    """
    if ContentStore(places.store).serials() or waiting(places, RECEIVED):
        return True
    try:
        return bool(ledger.find(kind=RECEIVED, limit=1))
    except LedgerUnavailableError:
        return ledger_may_exist(places)


def _throwaway(config: Config, root: Path, *, may_begin: bool) -> TrustRecord:
    places = config.at
    if config.environment != "rehearsal":
        raise WrongEnvironmentError(
            what="--trust-root is for rehearsals",
            why=f"this site is {config.environment}",
            fix="pin the root by its release's code: `sealift trust pin`",
        )
    if not may_begin or (places.trust / trust.RECORD).exists() or (places.pinned_trust / trust.PINNED_ROOT).exists():
        raise UsageError(
            what="--trust-root needs a fresh state folder",
            why="something was received or pinned here before",
            fix="rehearse in an empty folder",
        )
    try:
        return TrustRecord(root_chain=(root.read_text(encoding="utf-8"),))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            what="the root given with --trust-root cannot be read",
            why=type(error).__name__,
            fix="give the file N.root.json of the throwaway ceremony",
        ) from error
