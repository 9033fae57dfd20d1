"""The ledger's sockets: one thread for all connections, many requests in flight on each.

A client may send its next lines before the first is answered; answers keep the order of a connection's lines. All
records that are readable at the same moment go to the writer as one group. Questions run on a few threads of their
own, so that a long search delays no record. Whoever made an answer sends it where nothing stands before it, so that no
other thread is woken for that.
"""

import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from appliance.audit import requests
from appliance.audit.conversation import Conversation, Slot
from appliance.audit.introductions import Introductions
from appliance.audit.log import Entry, Log
from appliance.audit.rights import require_may_enter
from appliance.audit.writer import Outcome, Writer
from appliance.errors import WireError
from appliance.watchdog.loops import Pulse
from appliance.wire import MAX_LINE_BYTES, Peer
from media.errors import SealiftError

_READERS: Final = 4
_CHUNK: Final = 256 * 1024
_TICK_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 5.0
_PEERCRED: Final = struct.Struct("3i")


# Records of one conversation that are answered in one place.
_Part = tuple[Conversation, Slot, list[Entry]]


class Doors:
    """Serves the listening sockets by name until `stop`."""

    def __init__(
        self,
        listeners: Mapping[str, socket.socket],
        *,
        log: Log,
        writer: Writer,
        admit: Callable[[Peer], None] = require_may_enter,
    ) -> None:
        self._admit = admit
        self._log = log
        self._writer = writer
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="ledger-reader")
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._ready: deque[Conversation] = deque()
        self._conversations: set[Conversation] = set()
        self._group: list[_Part] = []
        self._introductions = Introductions()
        self._stopping = False
        self._deadline = 0.0
        self.pulse = Pulse()
        """Beats in each turn of the loop that serves all doors, at least twice a second."""
        self._thread = threading.Thread(target=self._run, name="ledger-doors", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        for door, listener in self._listeners.items():
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, door)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, send the answers to what was read, and hang up. Call before stopping the writer."""
        self._deadline = time.monotonic() + _STOP_SECONDS
        self._stopping = True
        self._wake()
        self._thread.join()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._selector.close()
        for one in (*self._listeners.values(), self._woken, self._waker):
            one.close()

    def _wake(self) -> None:
        # Full means that a wake-up waits already, closed that nobody is left to wake.
        with suppress(OSError):
            self._waker.send(b"!")

    def _run(self) -> None:
        while not self._is_done():
            self.pulse.beat()
            for key, events in self._selector.select(timeout=_TICK_SECONDS):
                if isinstance(key.data, Conversation):
                    self._serve(key.data, events)
                elif key.data is None:
                    self._woken.recv(4096)
                elif not self._stopping:
                    self._accept(key.data)
            self._submit()
            self._deliver()
        for conversation in list(self._conversations):
            self._close(conversation)

    def _is_done(self) -> bool:
        if not self._stopping:
            return False
        # A client that does not read its answers may not hold up the end.
        late = time.monotonic() > self._deadline
        return late or not any(one.slots or one.unsent for one in self._conversations)

    def _accept(self, door: str) -> None:
        try:
            connection, _ = self._listeners[door].accept()
        except OSError:
            return
        connection.setblocking(False)
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        pid, uid, gid = _PEERCRED.unpack(raw)
        conversation = Conversation(Peer(door=door, pid=pid, uid=uid, gid=gid), connection)
        try:
            self._admit(conversation.peer)
        except SealiftError as error:
            conversation.refusal = requests.failed(error)
        self._conversations.add(conversation)
        self._watch(conversation)

    def _serve(self, conversation: Conversation, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(conversation)
        if events & selectors.EVENT_READ and not self._stopping:
            self._receive(conversation)

    def _receive(self, conversation: Conversation) -> None:
        try:
            chunk = conversation.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._close(conversation)
            return
        conversation.unread += chunk
        *lines, rest = bytes(conversation.unread).split(b"\n")
        conversation.unread = bytearray(rest)
        if conversation.refusal and lines:
            conversation.next_slot().answer = conversation.refusal
            conversation.ending = True
        else:
            self._take(conversation, lines)
        if len(rest) > MAX_LINE_BYTES:
            conversation.next_slot().answer = requests.failed(_too_long())
            conversation.ending = True
        self._send(conversation)

    def _take(self, conversation: Conversation, untrusted_lines: Sequence[bytes]) -> None:
        """Give each line a place in the order of answers; records that follow each other share one."""
        entries: list[Entry] | None = None
        for untrusted_line in untrusted_lines:
            try:
                message = requests.decode(untrusted_line)
                if message.get("do") == "append":
                    entry = requests.entry_of(conversation.peer, message)
                    self._log.admit(entry)
                    if entries is None:
                        entries = []
                        self._group.append((conversation, conversation.next_slot(), entries))
                    entries.append(entry)
                    continue
                if (introduced := self._introductions.answer(conversation.peer, message)) is not None:
                    conversation.next_slot().answer = requests.ok(introduced)
                    continue
                self._readers.submit(self._read, conversation, conversation.next_slot(), message)
            except Exception as error:  # noqa: BLE001 - one bad request must not end the service
                conversation.next_slot().answer = requests.failed(error)
            entries = None

    def _read(self, conversation: Conversation, slot: Slot, message: Mapping[str, object]) -> None:
        try:
            answer = requests.ok(requests.read(self._log, message))
        except Exception as error:  # noqa: BLE001 - as above
            answer = requests.failed(error)
        if not self._answered(conversation, slot, answer):
            self._wake()

    def _submit(self) -> None:
        if not self._group:
            return
        group, self._group = self._group, []
        self._writer.submit([entry for _, _, entries in group for entry in entries], self._done(group))

    def _done(self, group: Sequence[_Part]) -> Callable[[Sequence[Outcome]], None]:
        def done(outcomes: Sequence[Outcome]) -> None:
            start, all_sent = 0, True
            for conversation, slot, entries in group:
                end = start + len(entries)
                answer = b"".join([requests.appended(outcome) for outcome in outcomes[start:end]])
                all_sent &= self._answered(conversation, slot, answer)
                start = end
            if not all_sent:
                self._wake()

        return done

    def _answered(self, conversation: Conversation, slot: Slot, answer: bytes) -> bool:
        """Give an answer, from any thread; return whether the loop need not be woken for it."""
        slot.answer = answer
        with suppress(OSError):
            if conversation.flush() and not self._stopping:
                return True
        self._ready.append(conversation)
        return False

    def _deliver(self) -> None:
        touched = set()
        while self._ready:
            touched.add(self._ready.popleft())
        for conversation in touched:
            if conversation in self._conversations:
                self._send(conversation)

    def _send(self, conversation: Conversation) -> None:
        try:
            conversation.flush()
        except OSError:
            self._close(conversation)
            return
        if conversation.ending and not conversation.slots and not conversation.unsent:
            self._close(conversation)
        else:
            self._watch(conversation)

    def _watch(self, conversation: Conversation) -> None:
        reading = not (conversation.ending or self._stopping or conversation.is_full)
        events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if conversation.unsent else 0)
        if events == conversation.events:
            return
        if not events:
            self._selector.unregister(conversation.connection)
        elif conversation.events:
            self._selector.modify(conversation.connection, events, conversation)
        else:
            self._selector.register(conversation.connection, events, conversation)
        conversation.events = events

    def _close(self, conversation: Conversation) -> None:
        self._conversations.discard(conversation)
        if conversation.events:
            self._selector.unregister(conversation.connection)
            conversation.events = 0
        conversation.close()


def _too_long() -> WireError:
    return WireError(what="a request is too long", why=f"the limit is {MAX_LINE_BYTES} bytes", fix="send less")
