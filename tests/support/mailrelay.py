"""A mail relay on loopback that keeps what it is given: enough of SMTP (RFC 5321) for one sender."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Where it listens and what came."""

    port: int
    mails: list[str] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)


@contextmanager
def mail_relay() -> Iterator[Relay]:
    """Run one."""

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 relay\r\n")
            while line := self.rfile.readline().decode().strip():
                word = line.split(" ", maxsplit=1)[0].upper()
                if word == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (text := self.rfile.readline().decode()).strip() != "." and text:
                        lines.append(text)
                    relay.mails.append("".join(lines))
                    relay.arrived.set()
                if word == "RCPT":
                    relay.receivers.append(line)
                self.wfile.write(b"221 bye\r\n" if word == "QUIT" else b"250 relay\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation) as server:
        relay = Relay(port=server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()
