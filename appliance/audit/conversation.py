"""One connection to the ledger: answers leave in the order of its lines, whatever thread made them."""

import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from appliance.wire import Peer

_MAX_PENDING: Final = 2048
_MAX_UNSENT_BYTES: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class Slot:
    """The place of one answer in its connection's order."""

    answer: bytes | None = None


@dataclass(slots=True, eq=False)
class Conversation:
    """A client's connection: what was read of it, and what it is still to be told.

    Attributes:
        peer: Who connected.
        connection: Does not block.
        refusal: What every request of this peer is answered with; empty for those who are let in.
        unread: The beginning of a line.
        slots: Answers that are not sent yet, in their order.
        unsent: The rest of what was.
        events: What the loop of the doors watches it for.
        ending: Whether it is hung up when all is sent.
        closed: Whether it was.
        sending: Held by whoever sends.
    """

    peer: Peer
    connection: socket.socket
    refusal: bytes = b""
    unread: bytearray = field(default_factory=bytearray)
    slots: deque[Slot] = field(default_factory=deque)
    unsent: bytearray = field(default_factory=bytearray)
    events: int = 0
    ending: bool = False
    closed: bool = False
    sending: threading.Lock = field(default_factory=threading.Lock)

    def next_slot(self) -> Slot:
        """Return the place of the next answer, behind all others."""
        slot = Slot()
        self.slots.append(slot)
        return slot

    @property
    def is_full(self) -> bool:
        """Whether nothing more is read until some of it is answered."""
        return len(self.slots) > _MAX_PENDING or len(self.unsent) > _MAX_UNSENT_BYTES

    def flush(self) -> bool:
        """Send the answers whose turn it is, as far as that goes without waiting, from any thread.

        Returns:
            Whether the loop of the doors has nothing to do about it.

        Raises:
            OSError: Nobody listens any more.
        """
        with self.sending:
            if self.closed:
                return True
            had_room, slots = not self.is_full, self.slots
            while slots and slots[0].answer is not None:
                self.unsent += slots.popleft().answer or b""
            if self.unsent:
                with suppress(BlockingIOError):
                    del self.unsent[: self.connection.send(self.unsent)]
            return had_room and not self.unsent and not self.ending

    def close(self) -> None:
        """Hang up; what was not sent is not."""
        with self.sending:
            self.closed = True
            self.slots.clear()
            self.unsent.clear()
            self.connection.close()
