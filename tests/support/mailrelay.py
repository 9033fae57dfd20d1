"""A mail relay that keeps what it is given: enough of SMTP (RFC 5321, 3207 for TLS) for one sender.

One with a certificate takes no mail without TLS, as relays do that a facility set up so.
"""

import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BufferedIOBase
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import tls

NAME = "relay.hospital.internal"
NOBODY: Mapping[str, int] = {}
_NEED_TLS = {"MAIL", "RCPT", "DATA"}


@dataclass
class Relay:
    """Where it listens and what came."""

    port: int
    mails: list[str] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)

    def refuses(self, line: str, left: dict[str, int]) -> bool:
        """Note a receiver; tell whether it is refused, which counts against how often it still is."""
        self.receivers.append(line)
        to = line.partition("<")[2].partition(">")[0]
        left[to] = left.get(to, 0) - 1
        return left[to] >= 0


def certificate(place: Path, by: tls.Authority, *, name: str = NAME) -> Path:
    """Let an authority sign for a relay, or another listener of that name; certificate and key are left in a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    began = datetime.now(UTC) - timedelta(hours=1)  # Alertmanager goes by its machine's clock
    signed = by.issue(key.public_key(), names=(name,), begins=began)
    place.write_bytes(tls.pem(signed) + tls.key_pem(key))
    return place


def certified(place: Path) -> ssl.SSLContext:
    """Return how a relay speaks that has what lies in a file."""
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(place)
    return offered


def _mail(stream: BufferedIOBase) -> str:
    lines = []
    while (text := stream.readline().decode()).strip() != "." and text:
        lines.append(text)
    return "".join(lines)


@contextmanager
def mail_relay(
    offered: ssl.SSLContext | None = None,
    *,
    at: tuple[str, int] = ("127.0.0.1", 0),
    is_implicit: bool = False,
    refuses: Mapping[str, int] = NOBODY,
) -> Iterator[Relay]:
    """Run one, which asks for STARTTLS where it has a certificate.

    Args:
        offered: The certificate and its key.
        at: Where it listens; at port 0, at one that is free.
        is_implicit: Whether it speaks TLS from the first byte, as at port 465 (RFC 8314), and knows no STARTTLS.
        refuses: Receivers that it does not know, and how many times it says so.
    """
    refusals = dict(refuses)

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # a sender that does not want this certificate leaves
                self.converse()

        def converse(self) -> None:
            if is_implicit:
                self.secure()
            self.wfile.write(b"220 relay\r\n")
            while line := self.rfile.readline().decode().strip():
                word = line.split(" ", maxsplit=1)[0].upper()
                if word == "EHLO" and offered is not None and not is_implicit:
                    self.wfile.write(b"250-relay\r\n250 STARTTLS\r\n")
                    continue
                if word == "STARTTLS" and offered is not None:
                    self.wfile.write(b"220 go on\r\n")
                    self.secure()
                    continue
                if offered is not None and not isinstance(self.request, ssl.SSLSocket) and word in _NEED_TLS:
                    self.wfile.write(b"530 5.7.0 Must issue a STARTTLS command first\r\n")
                    continue
                if word == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    relay.secured.append(isinstance(self.request, ssl.SSLSocket))
                    relay.mails.append(_mail(self.rfile))
                    relay.arrived.set()
                if word == "RCPT" and relay.refuses(line, refusals):
                    self.wfile.write(f"550 5.1.1 {line[8:]}: no such user\r\n".encode())
                    continue
                self.wfile.write(b"221 bye\r\n" if word == "QUIT" else b"250 relay\r\n")

        def secure(self) -> None:
            assert offered is not None
            self.request = offered.wrap_socket(self.request, server_side=True)
            self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", buffering=0)

        def finish(self) -> None:
            super().finish()
            self.request.close()  # what became of the connection is not the server's own any more

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = True  # where one listened before, its connections are remembered for a minute

    with Listener(at, Conversation) as server:
        relay = Relay(port=server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()
