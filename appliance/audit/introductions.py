"""The ledger's word, to the job service, on who speaks: it sees the users of the box, and that service does not.

    introduce -> {introduction}                    at any door, to whoever may stand there
    introduced{introduction} -> {uid, pid}         to root at the door of actions

The job service is root in a user name space of its own, where the kernel shows it every user but root as nobody. So
whoever asks it for something gets an introduction here first and shows it there.

Promises: an introduction is what SO_PEERCRED said of whoever asked for it; it cannot be guessed, and is told once. It
gives no right: who may open which door of the job service is said by the door's mode, and what may be asked there by
that service.
"""

import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from appliance.audit.rights import ACTIONS
from appliance.errors import LedgerRefusedError
from appliance.wire import Peer

INTRODUCE: Final = "introduce"
INTRODUCED: Final = "introduced"
_FORM: Final = re.compile(r"[0-9a-f]{64}")
_MOST_OF_ONE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced:
    """A user of the box and its process, as the kernel named them to the ledger."""

    uid: int
    pid: int


def is_introduction(untrusted: object) -> bool:
    """Tell whether something has the form of an introduction."""
    return isinstance(untrusted, str) and _FORM.fullmatch(untrusted) is not None


class Introductions:
    """Those that were given and not asked about yet: the newest few of each user, so that nobody crowds out another.

    For one thread.
    """

    def __init__(self) -> None:
        self._of: dict[int, OrderedDict[str, Introduced]] = {}

    def answer(self, peer: Peer, untrusted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer a message about introductions; nothing for any other message.

        Raises:
            LedgerRefusedError: Only root is told, and only of one that was given and not told yet.
        """
        asked = untrusted.get("do")
        if asked == INTRODUCE:
            return {"introduction": self._give(peer)}
        if asked == INTRODUCED:
            return asdict(self._tell(peer, untrusted.get("introduction")))
        return None

    def _give(self, peer: Peer) -> str:
        mine, introduction = self._of.setdefault(peer.uid, OrderedDict()), secrets.token_hex(32)
        mine[introduction] = Introduced(uid=peer.uid, pid=peer.pid)
        while len(mine) > _MOST_OF_ONE:
            mine.popitem(last=False)
        return introduction

    def _tell(self, peer: Peer, untrusted: object) -> Introduced:
        if peer.door != ACTIONS or peer.uid not in {0, os.getuid()}:
            raise LedgerRefusedError(
                what=f"user {peer.uid} may not ask who was introduced",
                why="the job service alone does, as root",
                fix="report it: a fault of ours, or a misuse",
            )
        found = [mine.pop(untrusted) for mine in self._of.values() if isinstance(untrusted, str) and untrusted in mine]
        if not found:
            raise LedgerRefusedError(
                what="nobody was introduced by this", why="it is unknown, or was told before", fix="ask again"
            )
        return found[0]
