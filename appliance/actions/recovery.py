"""What a lost trust record is rebuilt from, and never below: releases in the store, what was recorded, every root kept.

A rotation may revoke a person, and a serial stands for every release before it. So a rebuilt record that would fall
behind either is refused, and what is missing is named.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.actions.recorded import NOTED, RECEIVED, ROTATED, bodies, ledger_may_exist
from appliance.audit import succession
from appliance.audit.facts import Ledger
from appliance.audit.note import VerifierKey
from appliance.config import Places
from appliance.errors import LedgerUnavailableError, ProofError, StoreDamagedError, UnknownReleaseError
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify import kept, trust
from appliance.verify.metadata import TrustChain
from appliance.verify.trust import Checkpoint, TrustRecord
from media import canonical, layout, limits
from media.digest import sha256_hex
from media.errors import MediaError, NoTrustError, TrustError

_WHAT: Final = "A record of a release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A release that this box has accepted, as the store or a record tells it."""

    release: str
    serial: int
    timestamp_version: int
    payload_digest: str
    code: str
    created: str

    @classmethod
    def from_facts(cls, untrusted: Any) -> Self:
        """Read the facts of a stored release or the body of its record.

        Raises:
            MediaError: They do not read.
        """
        facts = canonical.mapping(untrusted, _WHAT)
        canonical.moment(facts.get("created"), _WHAT)
        return cls(
            release=canonical.text(facts.get("release"), _WHAT),
            serial=canonical.integer(facts.get("serial"), _WHAT, minimum=1),
            timestamp_version=canonical.integer(facts.get("timestamp_version"), _WHAT, minimum=1),
            payload_digest=canonical.sha256_hex(facts.get("payload_digest"), _WHAT),
            code=canonical.sha256_hex(facts.get("code"), _WHAT),
            created=str(facts.get("created")),
        )

    @property
    def rank(self) -> tuple[int, int]:
        """What rises with every release and every signing of it."""
        return self.serial, self.timestamp_version


def stored(places: Places) -> tuple[list[Accepted], tuple[int, ...]]:
    """Return the releases in the store, and the serials whose records are damaged."""
    store = ContentStore(places.store)
    found, damaged = [], []
    for serial in store.serials():
        try:
            found.append(Accepted.from_facts(StoredRelease.load(store, serial).facts))
        except (StoreDamagedError, UnknownReleaseError, MediaError):
            damaged.append(serial)
    return found, tuple(damaged)


def recorded(places: Places, ledger: Ledger) -> list[Accepted]:
    """Return the releases whose receiving was recorded.

    Raises:
        LedgerUnavailableError: A ledger is there and does not answer.
    """
    found = []
    for body in bodies(places, ledger, RECEIVED):
        try:
            found.append(Accepted.from_facts(body))
        except MediaError:
            continue
    return found


def rebuild(
    places: Places,
    ledger: Ledger,
    newest: Accepted,
    *,
    environment: str,
    checkpoint: Checkpoint | None,
    given: Sequence[bytes] = (),
) -> TrustRecord:
    """Return the record; its roots are verified again from the pinned one on.

    Args:
        places: Where everything lies.
        ledger: What was recorded.
        newest: What was accepted last.
        environment: Of this box.
        checkpoint: Of its ledger.
        given: Roots from media, where the box has lost its own.

    Raises:
        LedgerUnavailableError: A ledger is there and does not answer.
        NoTrustError: A root that was accepted is lost, or no root is pinned.
        MediaError, TrustError: The pinned root does not verify.
    """
    chain = TrustChain((trust.pinned_root(places.pinned_trust),), environment)
    former = _former(places, environment)
    rotations = _rotations(places, ledger, former)
    last = max(rotations, default=1)
    while _extend(chain, [*_kept(places, chain.version + 1), *_lost(chain.version + 1, rotations, given)]):
        pass
    if last > chain.version:
        raise NoTrustError(
            what=f"root {last} was accepted here, and root {chain.version + 1} is nowhere to be found",
            why="without it, people whom it left out would count again",
            fix=f"give {layout.root_name(chain.version + 1)} of the medium that brought it, with --root",
        )
    for untrusted_note in _notes(places, ledger):
        with suppress(MediaError, TrustError):
            chain.heed_again(untrusted_note)
    while _extend(chain, given):  # never accepted here, so that nobody signs them whose keys a note took away
        pass
    return TrustRecord(
        root_chain=chain.texts,
        serial=newest.serial,
        timestamp_version=newest.timestamp_version,
        snapshot_version=newest.serial,
        targets_version=newest.serial,
        payload_digest=newest.payload_digest,
        floor=canonical.moment(newest.created, _WHAT),
        checkpoint=checkpoint,
        notes=tuple(signed.raw.decode() for signed in chain.notes),
        former=former,
    )


def printed(places: Places, ledger: Ledger, note: str) -> Checkpoint | None:
    """Return the printed checkpoint, once the ledger is seen to continue it.

    Raises:
        LedgerUnavailableError: A ledger is there and does not answer.
        ProofError: The ledger does not continue it.
    """
    try:
        head = ledger.head()
    except LedgerUnavailableError:
        if ledger_may_exist(places):
            raise
        return None
    try:
        key = VerifierKey.from_text((places.etc / "ledger.pub").read_text(encoding="utf-8"))
    except OSError as error:
        raise ProofError(
            what="the ledger's public key cannot be read", why=error.strerror or "", fix="restore ledger.pub"
        ) from error
    point = succession.verified(ledger, note, key)
    if point.origin != head.origin or point.size > head.size:
        raise ProofError(
            what="the ledger does not continue the printed checkpoint",
            why=f"it has {head.size} records, {point.size} were printed",
            fix="keep this machine as it is and compare more printed checkpoints",
        )
    if point.size and ledger.consistency(point.size, head.size).old_root != point.root.hex():
        raise ProofError(
            what="the ledger is not the one that was printed",
            why=f"its first {point.size} records hash to something else",
            fix="keep this machine as it is and compare more printed checkpoints",
        )
    return Checkpoint(origin=point.origin, size=point.size, root=point.root.hex())


def _kept(places: Places, version: int) -> Iterable[bytes]:
    """Return what may be the root of this version: as it was kept when it was believed, and from every release."""
    own = trust.kept_root(places.trust, version)
    if own is not None:
        yield own
    store = ContentStore(places.store)
    for serial in reversed(store.serials()):
        path = store.release_folder(serial) / layout.root_name(version)
        if found := _read(path):
            yield found


def _rotations(places: Places, ledger: Ledger, former: Iterable[Sequence[str]]) -> dict[int, set[str]]:
    """Return the SHA-256 of the roots that rotations led to since the first root was pinned, by version."""
    ended = {sha256_hex(root.encode()) for chain in former for root in chain}
    found: dict[int, set[str]] = {}
    for body in bodies(places, ledger, ROTATED):
        version, root = body.get("to_version"), str(body.get("root_sha256"))
        if isinstance(version, int) and root not in ended:
            found.setdefault(version, set()).add(root)
    return found


def _lost(version: int, rotations: Mapping[int, Collection[str]], given: Sequence[bytes]) -> Iterable[bytes]:
    """Return those of the given roots that may be what was accepted here as this version."""
    if version > max(rotations, default=1):
        return ()
    return [root for root in given if version not in rotations or sha256_hex(root) in rotations[version]]


def _former(places: Places, environment: str) -> tuple[tuple[str, ...], ...]:
    """Return the chains that were replaced, each beginning with the root that was pinned in its epoch.

    Raises:
        NoTrustError: One that must be there is not; what was received under it could not be proven any more.
    """
    epochs = kept.epoch_of(places.pinned_trust)
    found = kept.kept_former(places.trust)[: epochs - 1]
    for epoch, chain in enumerate(found, start=1):
        TrustChain(chain, environment)
        if _read(places.pinned_trust / kept.pinned_name(epoch)).decode(errors="replace") != chain[0]:
            found = found[: epoch - 1]
            break
    if len(found) < epochs - 1:
        raise NoTrustError(
            what=f"the roots of epoch {len(found) + 1} are lost",
            why="two people replaced them later, and what was received under them needs them",
            fix="restore trust/former/ from the backup",
        )
    return found


def _notes(places: Places, ledger: Ledger) -> list[bytes]:
    """Return what may be emergency notes, each once: as they were kept, and from their records, the oldest first."""
    recorded_ones = [body.get("envelope") for body in bodies(places, ledger, NOTED)]
    texts = [text.encode() for text in recorded_ones if isinstance(text, str)]
    return list(dict.fromkeys([*texts, *kept.kept_notes(places.trust)]))


def _extend(chain: TrustChain, candidates: Iterable[bytes]) -> bool:
    """Add the first root that follows; tell whether there was one. What does not verify is as good as lost."""
    for untrusted in candidates:
        with suppress(MediaError, TrustError):
            chain.extend(untrusted)
            return True
    return False


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(limits.JSON_BYTES + 1)
    except OSError:
        return b""
