"""Who asks the job service, where the kernel shows it root alone.

On a box it is root in a user name space of its own: SO_PEERCRED names root as root, and every other user as nobody.
Whoever is hidden like that brings an introduction, which the ledger gave it and tells once; what may be asked is then
decided as if the kernel had named the user (`jobrights`). Elsewhere (demo, rehearsal) the kernel shows everybody.

Promises: a user that the kernel shows is taken from the kernel alone; an introduction never names such a user, root
above all, and counts for connections of the process that it was given to; without one nobody hidden is answered.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from appliance.audit.introductions import Introduced, is_introduction
from appliance.errors import LedgerRefusedError, PrivilegeError
from appliance.wire import Peer

INTRODUCTION: Final = "introduction"
_USERS: Final = Path("/proc/self/uid_map")
_MOST_KNOWN: Final = 256

Shown = Callable[[int], bool]
"""Whether the kernel shows this process a user by its number."""


class NotIntroducedError(PrivilegeError):
    """The user at the other end is hidden from the job service, and nobody said who it is."""

    code = "not-introduced"


def shown_here(users: Path = _USERS) -> Shown:
    """Return which users the kernel shows this process: those of its user name space (user_namespaces(7))."""
    try:
        rows = [[int(part) for part in row.split()] for row in users.read_text("ascii").splitlines()]
    except FileNotFoundError:  # a kernel without user name spaces
        return lambda _: True
    return lambda uid: any(first <= uid < first + many for first, _, many in rows)


class Askers:
    """Who the peers of the job service are; safe for threads.

    Args:
        introduced: Asks the ledger whom it introduced, once for each introduction.
        shown: Which users the kernel shows this process.
    """

    def __init__(self, introduced: Callable[[str], Introduced], *, shown: Shown) -> None:
        self._introduced = introduced
        self._shown = shown
        self._known: OrderedDict[str, Introduced] = OrderedDict()
        self._lock = threading.Lock()

    def seen(self, peer: Peer, untrusted: Mapping[str, Any]) -> Peer:
        """Return the peer with the user that it really is.

        Raises:
            NotIntroducedError: The kernel hides it, and it brought no introduction of its own.
            LedgerUnavailableError: Whether it was introduced cannot be known.
        """
        if self._shown(peer.uid):
            return peer
        untrusted_introduction = untrusted.get(INTRODUCTION)
        if not is_introduction(untrusted_introduction):
            raise _hidden("no introduction came along")
        found = self._who(str(untrusted_introduction))
        if found.pid != peer.pid or self._shown(found.uid):
            raise _hidden("another process was introduced")
        return replace(peer, uid=found.uid)

    def _who(self, introduction: str) -> Introduced:
        with self._lock:
            if introduction in self._known:
                self._known.move_to_end(introduction)
                return self._known[introduction]
        try:
            found = self._introduced(introduction)
        except LedgerRefusedError as error:
            raise _hidden("the ledger introduced nobody by this") from error
        with self._lock:
            self._known[introduction] = found
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return found


def _hidden(why: str) -> NotIntroducedError:
    return NotIntroducedError(
        what="the job service cannot see who asks", why=why, fix="use `sealift` of the release in use, and ask again"
    )
