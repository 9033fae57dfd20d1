"""Rotations of a ledger's key of checkpoints, as the service makes them, over a ledger in memory."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit import note, rotating, succession, tree
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.memory import MemoryBackend, MemoryLedger
from appliance.audit.succession import ROTATED, Signing
from appliance.keys.files import FileKeys, create_missing
from media.clock import FixedClock

BEGIN = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def signer_of(key: Ed25519PrivateKey) -> Signer:
    return Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)


def signing(key: Ed25519PrivateKey, origin: str) -> Signing:
    return Signing(key=note.VerifierKey(name=origin, public=key.public_key().public_bytes_raw()), sign=key.sign)


def renew(log: Log, keys: FileKeys) -> None:
    """Do what `sealift box-keys rotate ledger-checkpoint` and the ledger's next start do."""
    body = {"name": rotating.KEY_NAME, "version": keys.create(rotating.KEY_NAME), "reason": "Ana Petrova left"}
    log.append([Entry.of(rotating.ASKED, body, via=Via(door="ledger-actions", uid=0))])
    rotating.settle(log, keys)
    log.checkpoint()


def with_keys(ledger: MemoryLedger, folder: Path, *, site: str) -> FileKeys:
    """Let a ledger in memory begin anew with the key files of a box; return them."""
    create_missing(folder)
    keys = FileKeys(folder)
    ledger.log = Log.open(MemoryBackend(), clock=FixedClock(BEGIN), site=site, signer=rotating.signer_of(keys, 1))
    return keys


@dataclass
class Rotated:
    """A ledger in memory and every key that it had, by epoch."""

    ledger: MemoryLedger = field(default_factory=lambda: MemoryLedger(FixedClock(BEGIN)))
    keys: list[tuple[str, Ed25519PrivateKey]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begin(Ed25519PrivateKey.generate())

    def _begin(self, key: Ed25519PrivateKey) -> None:
        """Open an empty ledger, or go on in a new epoch."""
        self.clock = FixedClock(BEGIN)
        backend = self.ledger.log.backend
        if self.keys:
            log = Log.begin_epoch(
                backend, clock=self.clock, site="demo", signer=signer_of(key), facts={"by": ["a", "b"]}
            )
        else:
            backend = type(backend)()
            log = Log.open(backend, clock=self.clock, site="demo", signer=signer_of(key))
        self.ledger.log = log
        self.keys.append((log.origin, key))

    @property
    def log(self) -> Log:
        return self.ledger.log

    def grow(self) -> None:
        self.clock.advance(timedelta(seconds=1).total_seconds())
        self.ledger.append("trust.rotated", {"version": self.log.head().size})

    def rotate(self) -> None:
        """Do what the service does at a start, without the records beside."""
        origin, old = self.keys[-1]
        new, head = Ed25519PrivateKey.generate(), self.log.head()
        both = signing(old, origin), signing(new, origin)
        body = succession.body_of(
            note.Checkpoint(origin=origin, size=head.size, root=bytes.fromhex(head.root)),
            old=both[0],
            new=both[1],
            reason="yearly",
            version=len(self.keys) + 1,
        )
        self.log.append([Entry.of(ROTATED, body, via=Via(door="ledger", uid=0))])
        self.log.signer = signer_of(new)
        self.keys.append((origin, new))
        text = note.Checkpoint(
            origin=origin, size=head.size + 1, root=tree.root(head.size + 1, self.log.backend.node)
        ).to_text()
        self.log.backend.save_checkpoint(head.size + 1, succession.cosigned(text, both))

    def restore(self) -> None:
        """Go on in a new epoch."""
        self._begin(Ed25519PrivateKey.generate())

    def sign(self) -> None:
        """Sign, and keep a print."""
        self.printed.append(self.log.checkpoint())

    def signed_by(self, index: int, size: int) -> str:
        """Return a checkpoint of the first records as one of the keys would sign it, whether it may or not."""
        origin, key = self.keys[index]
        head = note.Checkpoint(origin=origin, size=size, root=tree.root(size, self.log.backend.node))
        return succession.cosigned(head.to_text(), [signing(key, origin)])
