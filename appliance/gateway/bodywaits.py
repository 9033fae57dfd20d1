"""What a request is read from: its head never waits, its body for a time that grows with what has come of it.

A thread waits for a body; so only a part of them may at once. Where more do, those who send slowly are broken off, the
body that began first before others. Who sends at an ordinary pace, as nginx does on a busy box too, is not among them.
"""

import os
import re
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Final

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.unreader import SocketUnreader

from appliance.gateway.disconnect import SILENCE_SECONDS

BODY_SECONDS: Final = 30
BYTES_PER_SECOND: Final = 16 * 1024
# Where too many are waited for: 4 MiB in half a minute, as over a line of one megabit.
ORDINARY_BYTES_PER_SECOND: Final = 128 * 1024
_LOOK_SECONDS: Final = 0.5
MOST_HEAD_BYTES: Final = 64 * 1024
_END_OF_HEAD: Final = b"\r\n\r\n"
# What looks like it where lines end without CR, too: the parser refuses such a head at once.
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")


class BodyWaits:
    """Those whose threads wait for the next bytes of a body: no more than so many of them slowly."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: set[BoundedUnreader] = set()

    def wait(self, unreader: "BoundedUnreader", seconds: float) -> bool:
        """Wait for a caller's next bytes; tell whether there are some, or its end, also one that `break_off` made."""
        poll = select.poll()
        poll.register(unreader.sock, select.POLLIN)
        until = time.monotonic() + seconds
        with self._lock:
            self._waiting.add(unreader)
        try:
            while (left := until - time.monotonic()) > 0:
                self._make_room()
                if poll.poll(min(left, _LOOK_SECONDS) * 1000):
                    return True
            return False
        finally:
            with self._lock:
                self._waiting.discard(unreader)

    def _make_room(self) -> None:
        with self._lock:
            too_many = len(self._waiting) - self._most
            if too_many > 0:
                slow = sorted((one for one in self._waiting if one.is_slow()), key=lambda one: one.began)
                for one in slow[:too_many]:
                    self._waiting.discard(one)
                    one.break_off()


class BoundedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads the requests of one connection for gunicorn's parser."""

    def __init__(self, sock: socket.socket, waits: BodyWaits) -> None:
        super().__init__(sock)
        self.began = 0.0
        self._waits = waits
        self._came = 0
        self._in_head = True
        self._is_broken_off = False

    def has_head(self) -> bool:
        """Tell whether the next request's head is whole; False: the caller left before it was.

        One without an end counts as whole at 64 KiB, and one whose lines end otherwise: the parser refuses both.

        Raises:
            BlockingIOError: It is to be waited for.
        """
        self._in_head = True
        held = self.buf.getvalue()
        searched = 0
        while _BLANK_LINE.search(held, searched) is None and len(held) < MOST_HEAD_BYTES:
            more = self._what_is_there(self.mxchunk)
            if not more:
                return False
            searched = max(0, len(held) - len(_END_OF_HEAD) + 1)
            held += more
            self.buf.seek(0, os.SEEK_END)
            self.buf.write(more)
        self._in_head = _END_OF_HEAD not in held
        self._came = 0
        self.began = time.monotonic()
        return True

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return the next bytes; none at the end of what the caller sends.

        Raises:
            TimeoutError: They did not come in time.
            LimitRequestHeaders: The head has no end.
        """
        if self._in_head:
            raise LimitRequestHeaders("the head has no end")
        size = min(max(size_hint or 0, self.mxchunk), self.max_body_chunk)
        while True:
            if self._is_broken_off:
                raise TimeoutError("too many bodies are waited for")
            with suppress(BlockingIOError):
                came = self._what_is_there(size)
                self._came += len(came)
                return came
            left = self.began + BODY_SECONDS + self._came / BYTES_PER_SECOND - time.monotonic()
            bound = self.sock.gettimeout()  # gunicorn's, for what nobody reads
            seconds = min(left, SILENCE_SECONDS if bound is None else bound)
            if seconds <= 0 or not self._waits.wait(self, seconds):
                raise TimeoutError("the body did not come in time")

    def hold_what_is_decrypted(self) -> None:
        """Hold what TLS has of the next request already, which no poller would tell of."""
        if isinstance(self.sock, ssl.SSLSocket) and (size := self.sock.pending()):
            self.buf.seek(0, os.SEEK_END)
            self.buf.write(self._what_is_there(size))

    def is_slow(self) -> bool:
        """Tell whether a body has come for a while and more slowly than over an ordinary line; for another thread."""
        taken = time.monotonic() - self.began
        return taken >= _LOOK_SECONDS and self._came < taken * ORDINARY_BYTES_PER_SECOND

    def break_off(self) -> None:
        """Wake the thread that waits, and let it read no more; for another thread."""
        self._is_broken_off = True
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RD)  # a TLS socket's own would answer without TLS then

    def _what_is_there(self, size: int) -> bytes:
        if not isinstance(self.sock, ssl.SSLSocket):
            return bytes(self.sock.recv(size, socket.MSG_DONTWAIT))
        bound = self.sock.gettimeout()
        self.sock.setblocking(False)  # flags are not for TLS sockets
        try:
            return self.sock.recv(size)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        finally:
            self.sock.settimeout(bound)
