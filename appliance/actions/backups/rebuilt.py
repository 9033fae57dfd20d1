"""A site made again from an opened backup, in a folder of its own: restores move it into place, drills throw it away.

The ledger goes on in a new epoch whose first record states what was restored, by whom, from which backup, up to which
record, what is known to be lost, what was voided and what stays erased.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from appliance.actions.backups import erasures
from appliance.actions.backups.archive import Contents
from appliance.actions.backups.floors import Known
from appliance.audit import pin
from appliance.audit.client import OfflineLedger
from appliance.audit.facts import EVERY
from appliance.audit.log import Log, Signer
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.config import Config, Places
from appliance.errors import BackupDamagedError
from appliance.keys.files import FileKeys
from appliance.keys.opening import KeyStore
from appliance.promote.books import Books
from appliance.promote.folder import PromoterFolder
from appliance.promote.statement import Statement
from appliance.promote.withdrawing import WITHDRAWN
from appliance.registry import evidence
from appliance.stages import FIRST_LINE, line_of
from appliance.state import projection
from appliance.state.database import open_state
from appliance.verify import trust
from appliance.verify.trust import Checkpoint, TrustRecord
from media import durable
from media.clock import Clock
from media.errors import MediaError, NoTrustError, SealiftError

_KEY: Final = "ledger-checkpoint"
_MADE: Final = "promotion.made"
_DROPPED: Final = ("sessions", "enrolment codes", "identifiers held while requests ran", "the lost box's ledger key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The site as it is now.

    Args:
        epoch: Number of the ledger's epoch that began.
        origin: What its checkpoints are called from now on.
        records: Restored ones; the epoch's own first record comes after them.
        covered_until: Time of the last restored record.
        lost: Records that a printed head shows and the backup does not have; None where nobody had a print.
        serial: The last that counts as accepted; nothing below it is taken.
        voided: Requests for a promotion that waited, by the digest of their statement.
        erased: How many keys of the backup stay erased.
        people: Who counts at this site.
        production: The version that production was on, in line 1; empty for none.
        further: What each further line was on, by the number of the line.
    """

    epoch: int
    origin: str
    records: int
    covered_until: str
    lost: int | None
    serial: int
    voided: tuple[str, ...]
    erased: int
    people: tuple[str, ...]
    production: str
    further: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `further` only where there is a further line."""
        told = {**asdict(self), "voided": list(self.voided), "people": list(self.people)}
        if not self.further:
            del told["further"]
        return told


def rebuild(
    target: Config,
    found: Contents,
    *,
    known: Known,
    serial: int,
    erased: frozenset[str],
    facts: Mapping[str, Any],
    clock: Clock,
    token: KeyStore | None = None,
) -> Rebuilt:
    """Make the site below the target's root, whose ledger lies there already as `archive.read` left it.

    Args:
        target: The site file, with a root of its own.
        found: What the backup holds.
        known: What people know besides.
        serial: The highest serial that counts as accepted.
        erased: Digests of keys that must not come back.
        facts: For the epoch's first record.
        clock: What time it is.
        token: Holds the site's keys instead of files; key files of the backup are left out then.

    Raises:
        BackupDamagedError: The files inside contradict each other.
        NoTrustError: Receipts or a serial were shown, and nothing could hold them.
        OSError: Something could not be written.
    """
    places = target.at
    ledger = OfflineLedger(places, clock=clock)
    recorded = erasures.recorded(ledger)
    withheld = _write_files(places, found, erased | recorded, with_keys=token is None)
    keys = FileKeys(places.key_files) if token is None else token
    keys.create_missing()
    record = _record(found, known, serial=serial)
    last = ledger.leaf(found.signed.size - 1)
    voided = _waiting(ledger)
    lost = None if known.printed is None else max(known.printed.size - found.signed.size, 0)
    body = {
        **facts,
        "printed": None if known.printed is None else asdict(known.printed),
        "lost": lost,
        "covered_until": last.time,
        "serial": record.serial if record is not None else serial,
        "voided": list(voided),
        "dropped": [*_DROPPED, *(() if token is None else ("key files, since this box keeps its keys on a token",))],
        "erased": withheld,
        # What the restored records do not say: it stays erased in all that is restored or backed up after this, too.
        **({"digests": sorted(newer)} if (newer := erased - recorded) else {}),
    }
    epoch, head = _begin(target, keys, body, clock)
    if record is not None:
        ended = datetime.fromisoformat(last.time).astimezone(UTC).replace(microsecond=0)
        places.trust.mkdir(parents=True, exist_ok=True)
        trust.save(places.trust, replace(record, checkpoint=head, floor=max(record.floor, ended)))
    state = open_state(places)
    try:
        projection.rebuild(state, ledger)
    finally:
        state.dispose()
    people, production = Books(PromoterFolder(places.promoter), ledger).catch_up()
    return Rebuilt(
        epoch=epoch,
        origin=head.origin,
        records=found.signed.size,
        covered_until=last.time,
        lost=lost,
        serial=body["serial"],
        voided=voided,
        erased=withheld,
        people=tuple(person.id for person in people.active),
        production=production.current or "",
        further={str(line.number): str(line.current) for line in production.serving if line is not production.first},
    )


def _begin(target: Config, keys: KeyStore, body: Mapping[str, Any], clock: Clock) -> tuple[int, Checkpoint]:
    signer = Signer(public=keys.public(_KEY), sign=lambda data: keys.sign(_KEY, data))
    backend = open_writer(target.at.ledger / FILE_NAME)
    try:
        log = Log.begin_epoch(backend, clock=clock, site=target.site, signer=signer, facts=body)
        head = log.head()
        pin.pin(target.at, log.vkey)
        number = int(log.leaf(head.size - 1).body["epoch"])
    finally:
        backend.close()
    return number, Checkpoint(origin=head.origin, size=head.size, root=head.root)


def _write_files(places: Places, found: Contents, erased: frozenset[str], *, with_keys: bool) -> int:
    """Write the small files where they belong below the target; return how many keys were withheld."""
    folders = {
        "trust": places.trust,
        "pinned": places.pinned_trust,
        "receipts": places.receipts,
        "evidence": evidence.folder(places),
        "promoter": places.promoter,
        "spool": places.spool,
        "keys": places.key_files,
        "site": places.etc,
    }
    withheld = 0
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    places.key_files.chmod(0o700)
    for path, content in found.files.items():
        prefix, _, name = path.partition("/")
        if prefix == "keys" and not with_keys:
            continue
        if prefix == "keys" and erasures.digest(content) in erased:
            withheld += 1
            continue
        secret = prefix in {"keys", "promoter"}
        place = folders[prefix] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        durable.write_new(place, content, mode=0o400 if prefix == "keys" else 0o600 if secret else 0o644)
        if prefix == "spool":
            place.chmod(0o660)
    (places.trust / trust.RECORD).unlink(missing_ok=True)  # written anew below, with the floors
    return withheld


def _record(found: Contents, known: Known, *, serial: int) -> TrustRecord | None:
    """Return the trust record that no longer falls below anything that is known; None where there never was one.

    Raises:
        BackupDamagedError: It does not read, or believes other roots than this box.
        NoTrustError: There never was one, and people show what was accepted: nothing could hold it.
    """
    untrusted = found.files.get(f"trust/{trust.RECORD}")
    try:
        backed_up = None if untrusted is None else TrustRecord.from_bytes(untrusted)
    except MediaError as error:
        raise BackupDamagedError(
            what="the trust record in the backup does not read", why=error.why, fix="use another backup"
        ) from error
    record = _newer(backed_up, known.here)
    if record is None:
        if known.shown or serial:
            raise NoTrustError(
                what="receipts and serials cannot be kept",
                why="neither the backup nor this box believes any release, so nothing would hold them",
                fix="receive the release's media first, then restore again; or restore without receipts and --serial",
            )
        return None
    for shown in known.shown:
        floor = max(record.floor, shown.at)
        if (shown.serial, shown.timestamp_version) > (record.serial, record.timestamp_version):
            record = replace(
                record,
                serial=shown.serial,
                timestamp_version=shown.timestamp_version,
                snapshot_version=shown.serial,
                targets_version=shown.serial,
                payload_digest=shown.payload_digest,
            )
        record = replace(record, floor=floor)
    below = serial - 1
    if below > record.serial:
        # Nobody can show which payload the serial had, only that nothing below it may come any more.
        record = replace(record, serial=below, snapshot_version=below, targets_version=below, payload_digest="0" * 64)
    return record


def _newer(backed_up: TrustRecord | None, here: TrustRecord | None) -> TrustRecord | None:
    """Return of two records of one box the later, with the longer chain of roots and all notes of both."""
    if backed_up is None or here is None:
        return backed_up or here
    shorter, longer = sorted((backed_up.root_chain, here.root_chain), key=len)
    if longer[: len(shorter)] != shorter:
        raise BackupDamagedError(
            what="the backup believes other roots than this box",
            why="neither chain of roots continues the other",
            fix="install the box anew, with the sheet of the same sender",
        )
    first, second = sorted((backed_up, here), key=lambda each: (each.serial, each.timestamp_version))
    return replace(
        second,
        root_chain=longer,
        notes=tuple(dict.fromkeys((*backed_up.notes, *here.notes))),
        former=max(backed_up.former, here.former, key=len),
        floor=max(first.floor, second.floor),
    )


def _waiting(ledger: OfflineLedger) -> tuple[str, ...]:
    """Return the requests for a promotion that nothing became of yet; the restored box does not know them.

    A promotion voids what waited for its own line, and no other's.
    """
    kinds = ("promotion.requested", _MADE, "promotion.canary-started", WITHDRAWN)
    found = [leaf for kind in kinds for leaf in ledger.find(kind=kind, limit=EVERY)]
    waiting: dict[str, int] = {}
    lines: dict[str, int] = {}
    for leaf in sorted(found, key=lambda one: one.sequence):
        body, signed = leaf.body, str(leaf.body.get("statement_sha256", ""))
        if leaf.kind == "promotion.requested":
            waiting[signed] = _line_of(str(body.get("statement", "")), lines)
            continue
        if leaf.kind == WITHDRAWN:
            waiting.pop(signed, None)
            continue
        line, terms = line_of(body), body.get("terms")
        lines[str(terms.get("version") if isinstance(terms, Mapping) else body.get("model_digest"))] = line
        if leaf.kind == _MADE:
            waiting = {one: other for one, other in waiting.items() if one != signed and other != line}
    return tuple(sorted(waiting.keys() - {""}))


def _line_of(statement: str, lines: Mapping[str, int]) -> int:
    """Return for which line a statement is, by the lines of versions; 0 where it opens one."""
    try:
        signed = Statement.from_bytes(statement.encode())
    except SealiftError:
        return FIRST_LINE
    return lines.get(signed.replaces or "", 0) if signed.is_of_a_further_line else FIRST_LINE
