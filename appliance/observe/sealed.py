"""The line to a collector over TLS: who vouches for its certificate, and how the line ends once all was read."""

import socket
import ssl
from pathlib import Path


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

    Who ends a connection in order has read it to the end. Who refuses this box, for its certificate, says good-bye as
    politely, but without having read: then the kernel there answers what is unread with a reset, which comes after.

    Raises:
        OSError: The other side broke off, or did not read all.
    """
    try:
        plain = line.unwrap()
        plain.shutdown(socket.SHUT_WR)  # else one that waits for this side's end would wait for ever
        while plain.recv(4096):
            pass
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return  # it closed the connection itself: in order, for a reset is another error
