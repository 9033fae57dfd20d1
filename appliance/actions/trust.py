"""First trust and its recovery: the two moments at which people, not signatures, say what this box believes.

Pinning writes the first root once. Both need a code from two people, each typed apart from the other and from the
medium; what would have been right is never shown.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance.actions import recovery
from appliance.actions.believing import finish_what_was_begun, floor_of, set_pending_aside
from appliance.actions.pinned import is_pinned, plain_bytes, write_once
from appliance.actions.recorded import is_recorded
from appliance.actions.recovery import Accepted
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config, Places
from appliance.errors import ConflictError, UnknownReleaseError
from appliance.store.content import ContentStore
from appliance.store.writing import writing
from appliance.timekeeping.believed import BelievedClock
from appliance.verify import kept, trust
from appliance.verify.freshness import different
from appliance.verify.metadata import TrustChain
from appliance.verify.trust import TrustRecord
from media import bagit, layout, limits
from media.clock import Clock
from media.digest import release_code, same, sha256_hex
from media.emergency import whose
from media.errors import (
    DigestMismatchError,
    NoTrustError,
    UsageError,
    WrongEnvironmentError,
)
from media.people import Role

DOOR: Final = "ledger-actions"
PINNED: Final = "trust.pinned"
RECOVERED: Final = "trust.recovered"
_CODES: Final = 2
_CODE_FIX: Final = "compare with the trust sheet that travelled apart from the medium; call the sender if it differs"
_ROOT_FIX: Final = "give metadata/1.root.json of volume 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFacts:
    """What this box believes, for people to read.

    `damaged` are serials whose stored records do not read; `taken` says whose keys an emergency note took away.
    """

    environment: str
    policy: str
    root_version: int
    root_sha256: str
    people: tuple[Mapping[str, Any], ...]
    thresholds: Mapping[str, int]
    serial: int
    floor: str
    damaged: tuple[int, ...] = ()
    taken: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "environment": self.environment,
            "signature_policy": self.policy,
            "root_version": self.root_version,
            "root_sha256": self.root_sha256,
            "people": [dict(person) for person in self.people],
            "thresholds": dict(self.thresholds),
            "serial": self.serial,
            "floor": self.floor,
            "damaged": list(self.damaged),
            "taken": [dict(one) for one in self.taken],
        }


def pin(config: Config, root_file: Path, codes: Sequence[str], *, clock: Clock) -> TrustFacts:
    """Write the first root of this box, once.

    Args:
        config: The site file; the root must be for its environment.
        root_file: ``1.root.json``; on a volume, or as the ceremony gave it.
        codes: What two people typed: the release code of the volume that the file lies on, or the file's own SHA-256.
        clock: For the record.

    Raises:
        DigestMismatchError: A code is not the one of this root.
        ConflictError: Another root is pinned here, or two people replaced this one.
        WrongEnvironmentError, MediaError, TrustError: It is no root that this box could believe.
        StoreWriteError: It could not be written.
    """
    places = config.at
    if config.environment == "rehearsal":
        raise WrongEnvironmentError(
            what="nothing is pinned for a rehearsal",
            why="its root is thrown away with it",
            fix="receive with --trust-root, in a fresh folder",
        )
    untrusted = read_root(root_file)
    accepted = codes_of(root_file, untrusted)
    require_codes(codes, accepted)
    record = TrustRecord(root_chain=(_text(untrusted),))
    chain = TrustChain(record.root_chain, config.environment)
    record.require_storable()
    was_pinned = is_pinned(places, untrusted)
    if was_pinned and kept.pinned_root(places.pinned_trust).encode() != untrusted:
        raise ConflictError(
            what="this root was replaced on this machine",
            why="two people pinned another",
            fix="see `sealift trust show`",
        )
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        # Recorded first: what is pinned stays for ever, so nothing later would notice that the record is missing.
        root = sha256_hex(untrusted)
        if not is_recorded(places, ledger, PINNED, field="root_sha256", value=root):
            body = {"site": config.site, "environment": config.environment, "root_sha256": root}
            ledger.append(PINNED, {**body, "root_version": chain.version, "codes_typed": len(codes)})
    finally:
        ledger.close()
    if was_pinned:
        with suppress(NoTrustError):  # lost or damaged, which two people recover; that it is pinned is true
            return show(config)
    else:
        write_once(places, untrusted)
    return facts_of(chain, record)


def show(config: Config) -> TrustFacts:
    """Return what this box believes.

    Raises:
        NoTrustError: Nothing is pinned, or the record is damaged.
    """
    places = config.at
    record = trust.load(places.trust, places.pinned_trust, may_begin=not ContentStore(places.store).serials())
    return facts_of(TrustChain(record.root_chain, config.environment, untrusted_notes=record.notes), record)


def recover(
    config: Config,
    codes: Sequence[str],
    names: Sequence[str],
    *,
    checkpoint: str,
    clock: Clock,
    roots: Sequence[Path] = (),
) -> TrustFacts:
    """Write a lost or damaged trust record anew, from the pinned root and what was accepted last.

    What a receive left half done is finished first; if that gives the record back, nothing else happens.

    Args:
        config: The site file.
        codes: What two people typed: the code of the running release, from its trust sheet.
        names: Who they are.
        checkpoint: The last printed checkpoint, a signed note; may be empty where no ledger ever ran.
        clock: For the record.
        roots: Root files from media, where this box has lost one that it accepted.

    Raises:
        ConflictError: The record is there and sound.
        DigestMismatchError: A code is not that of the release that was accepted last.
        LedgerUnavailableError: A ledger is there and does not answer.
        NoTrustError, UnknownReleaseError: There is nothing to recover from, or it would fall behind what was accepted.
        ProofError: The checkpoint is not one of this box's ledger.
        StoreBusyError: A receive is running.
        UsageError: Fewer than two people.
    """
    places = config.at
    if different(names) < _CODES:
        raise UsageError(what="two people recover trust", why=f"{len(names)} named", fix="give --by NAME twice")
    given = [read_root(path) for path in roots]
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        with ContentStore(places.store).locked():
            now = BelievedClock(places, clock).now()
            return _recover(config, ledger, codes, names=names, checkpoint=checkpoint, given=given, now=now)
    finally:
        ledger.close()


def _recover(
    config: Config,
    ledger: Ledger,
    codes: Sequence[str],
    *,
    names: Sequence[str],
    checkpoint: str,
    given: Sequence[bytes],
    now: datetime,
) -> TrustFacts:
    places = config.at
    was_sound = _is_sound(places)
    with suppress(NoTrustError):  # what it left does not read: it is kept, and what was recorded counts all the same
        finish_what_was_begun(places, ledger)
    stored, damaged = recovery.stored(places)
    accepted = sorted([*stored, *recovery.recorded(places, ledger)], key=lambda each: each.rank)
    if not accepted:
        raise UnknownReleaseError(
            what="there is nothing to recover from", why="no release was ever accepted here", fix="receive one"
        )
    if _is_sound(places):
        require_codes(codes, {each.code for each in accepted})
        if was_sound:
            raise ConflictError(what="the trust record is there and sound", why="nothing is to be recovered", fix="")
        record = trust.load(places.trust, places.pinned_trust, may_begin=False)
    else:
        newest = accepted[-1]
        _require_newest(codes, newest, stored)
        record = recovery.rebuild(
            places,
            ledger,
            newest,
            environment=config.environment,
            checkpoint=recovery.printed(places, ledger, checkpoint),
            given=given,
        )
        record = replace(record, floor=floor_of(places, record.floor, now))
    chain = TrustChain(record.root_chain, config.environment)
    body = {"site": config.site, "serial": record.serial, "root_version": chain.version, "names": list(names)}
    ledger.append(RECOVERED, {**body, "damaged": list(damaged)})
    with writing("the trust record"):
        set_pending_aside(places)
        trust.save(places.trust, record)
    return replace(facts_of(chain, record), damaged=damaged)


def read_root(root_file: Path) -> bytes:
    """Return a root's bytes, from wherever it lies.

    Raises:
        MediaError: It is missing, too large, or no plain file.
    """
    return plain_bytes(root_file, f"the root {root_file.name}", limit=limits.JSON_BYTES, fix=_ROOT_FIX)


def _text(untrusted: bytes) -> str:
    try:
        return untrusted.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise NoTrustError(what="the root is not text", why="not UTF-8", fix="give 1.root.json") from error


def codes_of(root_file: Path, untrusted: bytes) -> set[str]:
    """Return the codes that name this root: its own digest, and that of the release it lies in, which covers it."""
    codes = {sha256_hex(untrusted)}
    beside = root_file.absolute().parent.parent / layout.TAG_MANIFEST
    try:
        beside.lstat()
    except OSError:
        return codes
    tag_manifest = plain_bytes(beside, "the tag manifest beside the root", limit=limits.MANIFEST_BYTES, fix=_ROOT_FIX)
    listed = bagit.parse_manifest(tag_manifest).get(f"{layout.METADATA}/{root_file.name}", "")
    if same(listed, sha256_hex(untrusted)):
        codes.add(release_code(tag_manifest))
    return codes


def require_codes(codes: Sequence[str], accepted: set[str], *, of: str = "this release", fix: str = _CODE_FIX) -> None:
    """Pass when two people each typed an accepted code; what would have been right is never said.

    Args:
        codes: What they typed.
        accepted: Any of these is right.
        of: Whose code it was to be, for the error.
        fix: What to do when it is another.

    Raises:
        DigestMismatchError: A code is another.
        UsageError: Not two codes.
    """
    typed = ["".join(code.split()).lower() for code in codes]
    if len(typed) != _CODES:
        raise UsageError(what="two people each type the code", why=f"{len(typed)} given", fix="type it at both prompts")
    if not all(any(same(code, right) for right in accepted) for code in typed):
        raise DigestMismatchError(
            what=f"a code that was typed is not the one of {of}", why="what would be right is not shown", fix=fix
        )


def _is_sound(places: Places) -> bool:
    try:
        trust.load(places.trust, places.pinned_trust, may_begin=False)
    except NoTrustError:
        return False
    return True


def _require_newest(codes: Sequence[str], newest: Accepted, stored: Sequence[Accepted]) -> None:
    """Refuse codes of any release but the one accepted last; say so where they are of an earlier one."""
    try:
        require_codes(codes, {newest.code})
    except DigestMismatchError:
        require_codes(codes, {each.code for each in stored})
        raise NoTrustError(
            what=f"release {newest.release} (serial {newest.serial}) was accepted after the one whose code was typed",
            why="a recovered record may not fall behind it",
            fix=f"type the code of {newest.release} from its trust sheet; its medium is then received again",
        ) from None


def facts_of(chain: TrustChain, record: TrustRecord) -> TrustFacts:
    """Return what a record and its verified chain say, for people."""
    people = tuple(
        {"person": person.id, "name": person.name, "roles": list(person.roles), "fingerprint": person.fingerprint}
        for person in chain.people.people
        if Role.RELEASE in person.roles or Role.ROOT in person.roles
    )
    return TrustFacts(
        environment=str(chain.people.environment),
        policy=str(chain.people.policy),
        root_version=chain.version,
        root_sha256=sha256_hex(chain.roots[0]),
        people=people,
        thresholds=dict(chain.people.thresholds),
        serial=record.serial,
        floor=record.to_json()["floor"],
        taken=tuple(
            {"note": signed.note.note, "person": person, "keys": list(uses)}
            for signed in chain.notes
            for person, uses in sorted(whose(chain.people, signed.note).items())
            if person  # of nobody in this root: it is replaced already
        ),
    )
