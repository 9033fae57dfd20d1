"""The facility's collector of records: `python -m tests.box.collector ADDRESS PORT FILE CERTIFICATE` keeps what comes.

In the facility's name space, over TLS alone. Each whole line of a connection is put at the end of FILE, also of one
that broke off; until it is ended.
"""

import socket
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.support.mailrelay import certified

_SECONDS = 30.0
# As long as the forwarder looks away between two batches: so every other kill of it falls into one.
_BUSY_SECONDS = 1.0


def main() -> None:
    """Take records, one connection after the other."""
    address, port, file, certificate = sys.argv[1:]
    offered, kept = certified(Path(certificate)), Path(file)
    with socket.create_server((address, int(port))) as listening:
        kept.touch()  # it listens
        while True:
            take(listening.accept()[0], offered, kept)


def take(plain: socket.socket, offered: ssl.SSLContext, kept: Path) -> None:
    """Read what comes over a connection; who ended it in order is told so a moment after that is in the file."""
    taken = b""
    with suppress(OSError):  # one that was killed breaks off
        plain.settimeout(_SECONDS)
        with plain, offered.wrap_socket(plain, server_side=True) as line:
            try:
                while data := line.recv(65536):
                    taken += data
            finally:
                with kept.open("ab") as file:
                    file.write(taken[: taken.rfind(b"\n") + 1])
            time.sleep(_BUSY_SECONDS)
            line.unwrap()


if __name__ == "__main__":
    main()
