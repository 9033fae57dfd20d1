"""Where conversations began, while a line has two versions: what the ledger has since then, remembered in this process.

Every gateway reads what the others answered, so a conversation stays with its version whichever gateway it reaches
next, and after a restart. Conversations are keyed hashes; when more are open than are remembered, the oldest are
forgotten and go on as ones that began earlier (ARM-3). Each line has its own: whoever begins with the same words in two
lines has two conversations.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from appliance.audit.facts import Ledger
from appliance.gateway.arms import Began
from appliance.gateway.onelook import LastFailure
from appliance.gateway.routing import Serving

_INTENT: Final = "request.intent"
_MOST: Final = 200_000
_FURTHEST: Final = 200_000
_PAGE: Final = 500


@dataclass(slots=True)
class _Rollout:
    """What began in a line since its rollout did, and which record is read next."""

    since: int
    next: int
    began: OrderedDict[str, Began] = field(default_factory=OrderedDict)


class Conversations:
    """Safe for threads.

    Args:
        ledger: Read through the gateway's door.
        most: How many conversations of a line are remembered.
    """

    def __init__(self, ledger: Ledger, *, most: int = _MOST) -> None:
        self._ledger = ledger
        self._most = most
        self._lock = threading.Lock()
        self._rollouts: dict[int, _Rollout] = {}
        self._failure = LastFailure()

    def began(self, serving: Serving, conversation: str) -> Began | None:
        """Return where a conversation began since this rollout did; None where it began before, or is forgotten.

        Raises:
            LedgerUnavailableError: It cannot be told; then no record could be made either.
        """
        came = time.monotonic()
        with self._lock:
            rollout = self._rollouts.get(serving.line)
            if rollout is None or rollout.since != serving.since:
                rollout = self._rollouts[serving.line] = _Rollout(since=serving.since, next=serving.since)
            found = rollout.began.get(conversation)
            if found is None:
                self._failure.require_none_since(came)  # nobody waits for a silent ledger twice
                with self._failure.noting(time.monotonic):
                    self._read_on(rollout, {route.model_digest for route in serving.routes})
                found = rollout.began.get(conversation)
            return found

    def note(self, serving: Serving, conversation: str, began: Began) -> None:
        """Remember what this gateway has answered itself."""
        with self._lock:
            rollout = self._rollouts.get(serving.line)
            if conversation and rollout is not None and rollout.since == serving.since:
                self._remember(rollout, conversation, began)

    def _read_on(self, rollout: _Rollout, versions: AbstractSet[str]) -> None:
        head = self._ledger.head().size
        rollout.next = max(rollout.next, head - _FURTHEST)
        while rollout.next < head:
            page = self._ledger.leaves(rollout.next, _PAGE, kinds={_INTENT})
            for leaf in page:
                conversation, digest = leaf.body.get("conversation"), str(leaf.body.get("model_digest"))
                # What another line answered is none of this one's, also where it began with the same words.
                if isinstance(conversation, str) and conversation and digest in versions:
                    began = Began(model_digest=digest, assigned=str(leaf.body.get("assigned")))
                    self._remember(rollout, conversation, began)
            rollout.next = page[-1].sequence + 1 if len(page) == _PAGE else head

    def _remember(self, rollout: _Rollout, conversation: str, began: Began) -> None:
        rollout.began[conversation] = began
        rollout.began.move_to_end(conversation)
        if len(rollout.began) > self._most:
            rollout.began.popitem(last=False)
