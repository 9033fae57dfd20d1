"""What happens before the ledger answers anyone: it is the only one, it is whole, and nothing is left open.

In this order: lock, open, verify the tail, compare with what a token remembers, compare the keys with those of other
nodes where there are several, append the spooled facts, close the requests that have no outcome, note the start, let a
new checkpoint key take over that a record asks for, name the second key when it is new, sign a checkpoint.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from appliance import formats
from appliance.audit import cosigning, lives, nodekeys, pin, remembering, rotating, storage, succession
from appliance.audit.facts import Appended
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log
from appliance.audit.postgres_sharing import SharedBackend
from appliance.audit.remembering import Memory
from appliance.audit.rights import ACTIONS, require_account_may, require_may_append
from appliance.audit.sharing import SharedLog
from appliance.audit.spool import Spool
from appliance.audit.verify import require_sound_tail
from appliance.config import Config
from appliance.keys import commitments
from appliance.keys.provider import KeyProvider
from appliance.wire import Peer
from media.clock import Clock

STARTED: Final = lives.STARTED
_LOCK_WAIT_SECONDS: Final = 10.0
_CLOSE_BATCH: Final = 1000
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_log = logging.getLogger("sealift.ledger")


@contextmanager
def open_log(config: Config, *, keys: KeyProvider, clock: Clock, memory: Memory | None = None) -> Iterator[Log]:
    """Open the ledger of a site as its only writer, ready to append.

    Args:
        config: Of the site.
        keys: Hold the key of checkpoints.
        clock: What time it is.
        memory: What remembers the ledger's head elsewhere than on its disk, where there is such a thing.

    Raises:
        LedgerUnavailableError: Another process has it, on this machine or another; the disk is remote, the database
            server away, or it cannot be written.
        LedgerDamagedError: It contradicts itself: people decide.
        KeyMissingError: There is no checkpoint key, or it is another one; or, where several nodes answer, any key is
            another one than theirs; or this box has pinned the key of another ledger than the one on its server.
    """
    keys.public(rotating.KEY_NAME)  # without any key no ledger is begun
    with storage.writing(config.at, wait_seconds=_LOCK_WAIT_SECONDS) as (backend, engine):
        shared = backend if isinstance(backend, SharedBackend) else None
        with shared.moment() if shared else nullcontext():
            if backend.size():
                require_sound_tail(backend)
        named = succession.newest_of(backend)
        kind = SharedLog if shared else Log
        log = kind.open(backend, clock=clock, site=config.site, signer=rotating.choose(keys, named))
        if config.at.server is not None:
            pin.require_same(config.at, log.vkey)
        if memory is not None:
            remembering.require_nothing_lost(log, memory)
            remembering.remember(log, memory)
        if shared and (to_say := nodekeys.settle(log, commitments.seen_from(config, keys)).text):
            _log.warning("keys of this node: %s", to_say)
        _begin(log, engine, keys, config=config, clock=clock)
        if shared:
            shared.share()
            shared.try_to_lead()
        yield log


def _begin(log: Log, engine: Mapping[str, str], keys: KeyProvider, *, config: Config, clock: Clock) -> None:
    own = Via(door="ledger", uid=os.getuid())
    drained, rejected = _drain(log, Spool(config.at.spool, clock=clock))
    is_alone = log.is_alone  # once: all that follows rests on one answer
    closed = _close_open_requests(log, own, is_alone=is_alone)
    facts = {
        "boot_id": _boot_id(),
        **engine,
        **({"alone": is_alone, formats.FIELD: dict(formats.READS)} if log.node else {}),
        "spooled": drained,
        "rejected": rejected,
        "closed_requests": closed,
    }
    _append(log, Entry.of(STARTED, facts, via=own))
    # Both conclude from the newest records what the next one is; nobody may add one between.
    rotating.settle(log, keys, is_alone=is_alone)
    cosigning.prepare(log, keys, may_name=is_alone)
    pin.pin(config.at, log.vkey)
    log.checkpoint()


def _drain(log: Log, spool: Spool) -> tuple[int, list[str]]:
    before = set(spool.rejected())

    def record(kind: str, body: Mapping[str, Any], key: str, uid: int) -> None:
        require_may_append(ACTIONS, kind)
        require_account_may(Peer(door=ACTIONS, pid=0, uid=uid, gid=0), kind)
        _append(log, Entry.of(kind, body, via=Via(door="spool", uid=uid), key=key))

    return spool.drain(record), sorted(set(spool.rejected()) - before)


def _close_open_requests(log: Log, own: Via, *, is_alone: bool) -> int:
    """Give every intent that an earlier life left without an outcome the outcome `unknown`."""
    open_requests = lives.left_open(log, is_alone=is_alone)
    for start in range(0, len(open_requests), _CLOSE_BATCH):
        log.append(
            [
                Entry.of(
                    "request.outcome",
                    {"request_id": request_id, "intent_sequence": sequence, "outcome": "unknown"},
                    via=own,
                )
                for request_id, sequence in open_requests[start : start + _CLOSE_BATCH]
            ]
        )
    return len(open_requests)


def _append(log: Log, entry: Entry) -> None:
    (outcome,) = log.append([entry])
    if not isinstance(outcome, Appended):
        raise outcome


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        # The unit may not see it (ProcSubset=pid).
        return ""
