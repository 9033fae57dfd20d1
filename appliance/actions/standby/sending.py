"""Keeping a paired box current over the network: the same bundle as on a medium, sent to its inbox, proven there.

Run as root by a timer, because only root's commands may use the ledger's key. What came from the other box is proven
and taken over in the same turn.
"""

import base64
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions.pinned import plain_bytes
from appliance.actions.standby import forked, keeping
from appliance.actions.standby.forked import IMPORTED
from appliance.actions.standby.keeping import EXPORTED, Grown
from appliance.audit.facts import EvidenceLedger, Ledger
from appliance.config import Config
from appliance.errors import PairingRefusedError
from appliance.keys.opening import folder_of
from appliance.keys.provider import KeyProvider
from appliance.standby import channel, mirror, vouched
from appliance.standby.bundle import ENVELOPE_NAME, EVIDENCE_NAME, LEAVES_NAME
from appliance.standby.inbox import HAVE, ROOT
from appliance.standby.pairing import require_paired
from appliance.standby.peers import PeerLine, PeerRefusedError
from media import canonical, durable
from media.clock import Clock
from media.errors import SealiftError

TIMEOUT_SECONDS: Final = 20.0
AIM_BYTES: Final = 2**25
"""Of records in one turn: the unit that takes them in has 512 MiB of memory."""
_PART: Final = 1024 * 1024
_NOTE_BYTES: Final = 128
_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What was sent; nothing where the other box was current.

    Attributes:
        more: Records follow that go in the next turns.
        is_taken: The other box's inbox was free; else it has yet to take in what was sent before.
    """

    start: int
    size: int
    more: bool = False
    is_taken: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"start": self.start, "size": self.size, "more": self.more, "is_taken": self.is_taken}


def send(config: Config, peer: str, *, ledger: EvidenceLedger, keys: KeyProvider, clock: Clock) -> Sent:
    """Send the other box what it lacks.

    Raises:
        KeyMissingError: This process may not use the keys.
        LedgerUnavailableError: The ledger does not answer.
        PairingRefusedError: The box is not paired, another answers at its address, or this box lost records
            that it holds.
        WireError: It does not answer, or does not take it.
    """
    pair, section = require_paired(config.at, peer), config.standby
    if peer != section.peer or not section.peer_address:
        raise vouched.refused(f"the site file gives no address for {peer}: standby.peer_address")
    line = PeerLine(
        section.peer_address,
        section.port,
        own=folder_of(config) / channel.KEY_FILE,
        name=peer,
        certificate=pair.peer.channel,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    try:
        has = canonical.integer(line.call("have").get("size"), "size")
        if not _is_news(ledger, has):  # nor is there any after the end of a ledger that is shorter than it was
            forked.require_whole(config, pair, ledger, clock=clock, holds=has)
            return Sent(start=has, size=has)
        made = keeping.make(config, peer, since=has, ledger=ledger, keys=keys, clock=clock, aim=AIM_BYTES)
        with suppress(PeerRefusedError):  # a release of before takes no documents; the records go there all the same
            _put(line, EVIDENCE_NAME, made.evidence)
        for name, content in ((LEAVES_NAME, made.leaves), (ENVELOPE_NAME, made.envelope)):
            _put(line, name, content)
        is_taken = line.call("done").get("taken") is True
    finally:
        line.close()
    return Sent(start=made.start, size=made.size, more=made.more, is_taken=is_taken)


def take_in(config: Config, peer: str, *, ledger: Ledger) -> Grown | None:
    """Prove what the other box has sent and grow its mirror; None where nothing came, or a medium brought more since.

    It is gone from the inbox then.

    Raises:
        SealiftError: As `keeping.grow`; a bundle that is refused is gone too, and is sent anew.
    """
    folder = inbox_of(config)
    ready = folder / f"{peer}.ready"
    if not ready.is_dir():
        note_held(config, peer)
        return None
    try:
        envelope, leaves = keeping.read(ready)
        grown = keeping.grow(config, envelope, leaves, keeping.read_evidence(ready), peer=peer, ledger=ledger)
    except PairingRefusedError as error:
        if error.what != mirror.OLDER:
            raise
        grown = None
    finally:
        with suppress(FileNotFoundError):  # another process took it in meanwhile: the timer's, or a person's
            shutil.rmtree(ready)
        note_held(config, peer)
    return grown


def note_held(config: Config, peer: str) -> None:
    """Let the process between boxes say which records of the other box are here, whichever way they came.

    Where it never ran there is no inbox; it gets to know in the first turn after, as it does where this cannot be
    written or the mirror is being looked at. Its folder belongs to a service that the network reaches, so nothing in
    it is followed.
    """
    box, inbox = require_paired(config.at, peer).peer, inbox_of(config)
    with suppress(SealiftError, OSError):
        size, root = mirror.head_of(mirror.folder_of(config.at, box), box)
        # A file each, since a release of before reads the number alone.
        for ending, told in ((ROOT, f"{size} {root}\n".encode()), (HAVE, f"{size}\n".encode())):
            note = inbox / f"{peer}.{ending}"
            if inbox.is_dir() and _noted(note) != told:
                durable.replace(note, told, mode=0o644)


def _noted(note: Path) -> bytes | None:
    try:
        return plain_bytes(note, "what is noted of the other box", limit=_NOTE_BYTES)
    except SealiftError:
        return None


def _put(line: PeerLine, name: str, content: bytes) -> None:
    for offset in range(0, max(len(content), 1), _PART):
        data = base64.b64encode(content[offset : offset + _PART]).decode()
        line.call("put", name=name, offset=offset, data=data)


def inbox_of(config: Config) -> Path:
    """Return where the process between boxes puts what it takes in."""
    return config.at.state / "standby/inbox"


def _is_news(ledger: Ledger, has: int) -> bool:
    """Tell whether there is any record that the other box lacks, but those about bundles themselves."""
    return any(leaf.kind not in {EXPORTED, IMPORTED} for leaf in _since(ledger, has))


def _since(ledger: Ledger, start: int) -> Iterator[Any]:
    while page := ledger.leaves(start, _PAGE):
        yield from page
        start = page[-1].sequence + 1
