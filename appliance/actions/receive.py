"""Receiving: verify while copying, record, publish, believe, and give a receipt.

    lock -> finish what a power cut left -> copier (verify, copy) -> record -> publish -> trust record -> receipt

A refusal leaves the running service, the trust record and earlier releases as they were; it is recorded, and what was
stored of the release waits in quarantine. A release that is there already is read and proven again, byte for byte.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance.actions import believing, doubting, evidence, receipt, site_custody
from appliance.actions.believing import Pending
from appliance.actions.checks import Checklist, verifier
from appliance.actions.copying import Copied, Refused, copy
from appliance.actions.recorded import PARTLY_RECEIVED, RECEIVED, REFUSED, REVERIFIED, ROTATED, is_recorded
from appliance.actions.site_custody import LookedAt
from appliance.audit.client import open_ledger
from appliance.audit.facts import Appended, Ledger
from appliance.audit.offline import SPOOLED
from appliance.config import Config
from appliance.errors import (
    LedgerUnavailableError,
    NoSpaceError,
    StoreBusyError,
    StoreDamagedError,
    StoreWriteError,
    UnknownReleaseError,
)
from appliance.store.content import ContentStore, StoredRelease
from appliance.store.copier import Job
from appliance.store.incoming import discard
from appliance.store.kept_small import broken_files
from appliance.store.writing import writing
from appliance.timekeeping.believed import BelievedClock
from appliance.timekeeping.record import latest
from appliance.verify import trust
from appliance.verify.fit import Machine
from appliance.verify.freshness import Decisions
from appliance.verify.steps import Check
from appliance.verify.trust import Checkpoint, TrustRecord
from appliance.verify.verifier import Terms
from media import canonical
from media.clock import Clock, from_text, to_text
from media.digest import sha256_hex
from media.errors import CustodyError, MediaError, MissingVolumeError, SealiftError, UsageError

DOOR: Final = "ledger-actions"
_MOST_SAID: Final = 300

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to receive; the defaults are the ordinary way.

    Args:
        decisions: What people of the site decided about this receive.
        trust_root: A throwaway root, for rehearsals.
        full: Ignore the journal of an interrupted receive and prove everything again.
        dry_run: Verify every byte, store and record nothing.
        looked_at: Seals that people saw, and heads that holders named.
        evidence: Write the form that people sign to this file, .pdf or .html, also when the release is refused.
    """

    decisions: Decisions = field(default_factory=Decisions)
    trust_root: Path | None = None
    full: bool = False
    dry_run: bool = False
    looked_at: LookedAt = field(default_factory=LookedAt)
    evidence: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveFacts:
    """What came of a receive.

    Args:
        outcome: received, reissued (the same payload, signed anew), reverified, or checked (a dry run).
        facts: The release as it was verified.
        moved: Bytes read and written, files reused and resumed.
        sequence: Of the record; -1 while it waits for the ledger, None for a dry run.
        receipt: The receipt's file name; empty for a dry run.
    """

    outcome: str
    facts: Mapping[str, Any]
    moved: Mapping[str, int]
    sequence: int | None
    receipt: str

    @property
    def release(self) -> str:
        """The release's name."""
        return str(self.facts["release"])

    @property
    def serial(self) -> int:
        """The release's serial."""
        return int(self.facts["serial"])

    @property
    def code(self) -> str:
        """The release code."""
        return str(self.facts["code"])

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "outcome": self.outcome,
            **self.facts,
            "moved": dict(self.moved),
            "sequence": self.sequence,
            "receipt": self.receipt,
        }


def receive(
    config: Config,
    volumes: Sequence[Path],
    *,
    clock: Clock,
    progress: Progress,
    options: Options | None = None,
) -> ReceiveFacts:
    """Bring the release on these volumes into the store.

    Raises:
        UsageError: A name or a reason cannot be printed, or the form not be written; nothing was read.
        MediaError, TrustError: The release is refused; nothing that was there before has changed.
        NoSpaceError, StoreWriteError, StoreBusyError, CopierError: It could not be stored; receiving again resumes.
        LedgerUnavailableError: It could not be recorded, so it is not believed; receiving again completes it.
    """
    own = options or Options()
    _require_printable(own.decisions)
    if own.evidence is not None:
        evidence.require_writable(own.evidence)
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        return _Receive(config, ledger, clock, own).run(volumes, progress)
    finally:
        ledger.close()


class _Receive:
    """One receive; it is judged by one reading of the believed clock, and each check is noted by its own."""

    def __init__(self, config: Config, ledger: Ledger, clock: Clock, options: Options) -> None:
        self._config = config
        self._places = config.at
        self._ledger = ledger
        # What has ended since it was signed is judged by the time that is believed, and not by a clock that jumped.
        self._now: datetime = BelievedClock(config.at, clock).now()
        self._checks = Checklist(clock)
        self._options = options
        self._store = ContentStore(config.at.store)
        self._is_accepted = False

    def run(self, volumes: Sequence[Path], progress: Progress) -> ReceiveFacts:
        try:
            if self._options.dry_run:
                return self._check(volumes, progress)
            with self._store.locked() as lock:
                believing.finish_what_was_begun(self._places, self._ledger)
                record, copied = self._copy(volumes, progress, lock=lock)
                return self._conclude(record, copied)
        except Refused as refusal:
            self._record_refusal(refusal.error, refusal.facts)
            raise refusal.error from None
        except (StoreBusyError, LedgerUnavailableError):
            raise
        except SealiftError as error:
            if not self._is_accepted:  # else it is recorded as received, and what failed is ours to do again
                self._record_refusal(error, {})
            raise

    def _check(self, volumes: Sequence[Path], progress: Progress) -> ReceiveFacts:
        _, copied = self._copy(volumes, progress, lock=None)
        self._checks.end()
        self._write_evidence(evidence.CHECKED, self._body(copied), None)
        return ReceiveFacts(outcome="checked", facts=copied.facts, moved=copied.moved, sequence=None, receipt="")

    def _copy(self, volumes: Sequence[Path], progress: Progress, *, lock: int | None) -> tuple[TrustRecord, Copied]:
        """Run the copier against what this box believes; return that belief, rotated, and what was copied."""
        config, options = self._config, self._options
        record = believing.believed(config, self._ledger, options.trust_root)
        terms = Terms(
            trust=record,
            site=config.site,
            environment=config.environment,
            machine=Machine.probe(config.profile),
            level=None if config.environment == "rehearsal" else config.policy.rehearsal_level,
            serial_jump=config.policy.serial_jump,
            now=self._now.replace(microsecond=0),
            floor=believing.floor(self._ledger, record, latest(config.at)),
            decisions=options.decisions,
            custody=site_custody.known(self._places, self._ledger, options.looked_at),
        )
        job = Job(
            volumes=tuple(str(volume.absolute()) for volume in volumes),
            store="" if options.dry_run else str(self._store.root.absolute()),
            terms=terms,
            full=options.full,
            lock=lock,
        )
        copied = copy(
            job,
            on_root=lambda chain: self._rotate(record, chain),
            on_verified=self._compare,
            on_step=self._checks.begin,
            progress=progress,
        )
        return replace(record, root_chain=copied.root_chain), copied

    def _rotate(self, record: TrustRecord, chain: tuple[str, ...]) -> None:
        """Believe a verified rotation at once, whatever comes of the release that brought it."""
        if self._options.dry_run or self._options.trust_root is not None:
            return
        root = sha256_hex(chain[-1].encode())
        if not is_recorded(self._places, self._ledger, ROTATED, field="root_sha256", value=root):
            versions = {"from_version": len(record.root_chain), "to_version": len(chain)}
            self._ledger.append(ROTATED, {**versions, "root_sha256": root})
        with writing("the trust record"):
            trust.save(self._places.trust, replace(record, root_chain=chain))

    def _compare(self, facts: Mapping[str, Any]) -> None:
        """Stop when the sender's receipts know a longer ledger, or another, than this box has."""
        self._checks.begin(Check.LEDGER)
        points = {
            origin: Checkpoint(origin=origin, size=point["size"], root=point["root"])
            for origin, point in facts["checkpoints"].items()
        }
        believing.require_history(self._ledger, points)

    def _conclude(self, record: TrustRecord, copied: Copied) -> ReceiveFacts:
        self._checks.end()
        stored = self._stored(copied.facts["serial"])
        known = stored is not None and stored.code == copied.facts["code"]
        if copied.held and known:
            discard(self._store, code=copied.facts["code"])
            body = {name: copied.facts[name] for name in ("release", "serial", "code", "payload_digest", "custody")}
            body |= {"site": self._config.site, "checks": self._checks.to_json(refused=False), "verifier": verifier()}
            appended = self._ledger.append(REVERIFIED, {**body, **copied.moved})
            self._is_accepted = True
            return self._facts("reverified", copied, appended, kind=REVERIFIED)
        _require_custody_judged(copied.facts["custody"], self._checks)
        created = from_text(copied.facts["created"])
        believed = replace(
            record,
            serial=copied.facts["serial"],
            timestamp_version=copied.facts["timestamp_version"],
            snapshot_version=copied.facts["serial"],
            targets_version=copied.facts["serial"],
            payload_digest=copied.facts["payload_digest"],
            floor=max(record.floor, believing.floor_of(self._places, created, self._now)),
        )
        pending = Pending(
            kind=RECEIVED,
            body=self._body(copied),
            key=f"receive-{copied.facts['code'][:12]}-{secrets.token_hex(8)}",
            code=copied.facts["code"],
            believed=believed,
        )
        self._checks.begin(Check.RECORD)
        try:
            appended = believing.commit(self._places, self._ledger, pending)
        except (NoSpaceError, StoreWriteError):  # what was laid down is recorded by now, and the next receive ends it
            self._is_accepted = believing.is_begun(self._places)
            raise
        self._is_accepted = True
        with suppress(SealiftError):  # it is received; what it brings stays in doubt until a note or a release is taken
            doubting.settle(self._config, self._ledger)
        return self._facts("reissued" if copied.held else "received", copied, appended, kind=RECEIVED)

    def _body(self, copied: Copied) -> dict[str, Any]:
        own = {"site": self._config.site, "reissued": copied.held, "moved": dict(copied.moved)}
        return {**copied.facts, **own, "checks": self._checks.to_json(refused=False), "verifier": verifier()}

    def _facts(self, outcome: str, copied: Copied, appended: Appended, *, kind: str) -> ReceiveFacts:
        file = receipt.write(self._config, copied.facts, self._ledger, outcome=outcome, at=to_text(self._now))
        self._write_evidence(kind, self._body(copied), appended, receipt=file.name)
        return ReceiveFacts(
            outcome=outcome,
            facts=copied.facts,
            moved=copied.moved,
            sequence=max(appended.sequence, SPOOLED),
            receipt=file.name,
        )

    def _stored(self, serial: int) -> StoredRelease | None:
        """Return the release if it is in place; one whose record or own files the disk has lost is put there again."""
        try:
            stored = StoredRelease.load(self._store, serial)
        except (UnknownReleaseError, StoreDamagedError):
            return None
        return None if any(broken_files(self._store, serial)) else stored

    def _write_evidence(
        self, kind: str, body: Mapping[str, Any], appended: Appended | None, *, receipt: str = ""
    ) -> None:
        if self._options.evidence is None:
            return
        sequence = None if appended is None else max(appended.sequence, SPOOLED)
        record = evidence.Record(kind=kind, body=body, at=to_text(self._now), sequence=sequence, receipt=receipt)
        evidence.write(self._options.evidence, record)

    def _record_refusal(self, error: SealiftError, facts: Mapping[str, Any]) -> None:
        """Record that a medium was refused: the code, what it says, the checks, and the facts known by then.

        Volumes that were proven while others are missing are no refusal: that they are kept is a fact of its own.
        """
        self._checks.end()
        kind = PARTLY_RECEIVED if isinstance(error, MissingVolumeError) and error.details else REFUSED
        known = {name: facts[name] for name in ("release", "serial", "payload_digest") if name in facts}
        body = {
            "site": self._config.site,
            "error": error.code,
            "exit_code": error.exit_code,
            "release_code": facts.get("code", ""),
            "verified": "code" in facts,
            "what": error.what[:_MOST_SAID],
            "checks": self._checks.to_json(refused=True),
            "verifier": verifier(),
            "looked_at": self._options.looked_at.to_json(),
            **known,
        }
        if error.details is not None:
            body["details"] = error.details
        appended = None
        if not self._options.dry_run:
            try:
                appended = self._ledger.append(kind, body)
            except SealiftError as unrecorded:
                error.why = f"{error.why}; this refusal could not be recorded: {unrecorded.what}"
        try:
            self._write_evidence(kind, body, appended)
        except SealiftError as unwritten:
            error.why = f"{error.why}; {unwritten.what}"


def _require_printable(decisions: Decisions) -> None:
    stale, custody = decisions.stale, decisions.custody
    said = [*((*stale.names, stale.reason) if stale else ()), *((custody.name, custody.reason) if custody else ())]
    for text in said:
        try:
            canonical.text(text, "The decision", may_be_empty=True)
        except MediaError as error:
            raise UsageError(
                what="a name or a reason cannot be recorded", why=error.why, fix="type it in plain characters"
            ) from None


def _require_custody_judged(custody: Mapping[str, Any], checks: Checklist) -> None:
    """Stop for a person when what is about to be recorded as received has findings that nobody accepted.

    The verifier asks for news only; a release whose place in the store was damaged is recorded again and is no news.
    """
    if custody["findings"] and custody["accepted_by"] is None:
        checks.begin(Check.CUSTODY)
        raise CustodyError(
            what=f"custody needs a person's decision: {custody['findings'][0]}",
            why="what the store keeps of this release is damaged, and is put in place again",
            fix="look at seals and paper forms, then --accept-custody NAME --reason TEXT",
        )
