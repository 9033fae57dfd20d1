"""The line to a collector over TLS: who vouches for its certificate, and how the line ends once all was read."""

import errno
import fcntl
import socket
import ssl
import termios
from pathlib import Path
from time import monotonic, sleep
from typing import Final

_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.01


def vouched_by(authority: Path) -> ssl.SSLContext:
    """Return what verifies a collector's certificate and name in full, from TLS 1.2 on.

    Args:
        authority: The certificate authority of the collector, PEM.

    Raises:
        OSError: The authority does not read.
    """
    context = ssl.create_default_context(cafile=str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def end(line: ssl.SSLSocket) -> None:
    """Say that no more comes, and wait until the other side says so too and has ended the connection in order.

    Who ends a connection in order has read it to the end. Who refuses this box, for its certificate, or goes down, says
    good-bye as politely, but without having read: then the kernel there answers what is unread with a reset, which
    comes after. So the end counts once the other side's machine has every byte.

    Raises:
        OSError: The other side broke off, or did not read all.
    """
    try:
        plain = line.unwrap()
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        _require_there(line)  # it closed the connection itself: in order, for a reset is another error
        return
    _require_there(plain)
    plain.shutdown(socket.SHUT_WR)  # else one that waits for this side's end would wait for ever
    while plain.recv(4096):
        pass


def _require_there(line: socket.socket) -> None:
    """Wait until all that was sent has arrived: what comes to a connection that was closed is never read.

    Raises:
        OSError: It was reset, or took longer than anything may on this line.
    """
    ends = monotonic() + (line.gettimeout() or _SECONDS)
    while any(fcntl.ioctl(line, termios.TIOCOUTQ, bytes(4))):  # how many bytes wait, tcp(7)
        if line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if monotonic() > ends:
            raise TimeoutError(errno.ETIMEDOUT, "it did not read all")
        sleep(_LOOK_SECONDS)
