"""Takes Alertmanager's webhook on loopback: banner file, console and journal, and the site's syslog collector.

Standard error is the journal and the console (the unit says so); its lines bear a priority that the journal
understands. The collector gets RFC 5424 over the protocol that the site file names, over TLS alone (RFC 5425) where its
certificate is named; one that does not answer, or shows another certificate, is noted and costs nothing else.
"""

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Flask, request

from appliance.actions import alerts
from appliance.actions.alerts import Alert, Told
from appliance.observe import posting, sealed
from media.clock import Clock, to_text
from media.errors import MediaError

MAX_BODY_BYTES: Final = 2**20
_SECONDS: Final = 5.0
_LOCAL0: Final = 16
_PRIORITY: Final = {"critical": 2, "warning": 4}

Say = Callable[[Alert], None]


def create_alerts_app(folder: Path, *, say: tuple[Say, ...], clock: Clock) -> Flask:
    """Return the WSGI application.

    Args:
        folder: Where the banner's file lies.
        say: Where new alerts are told besides.
        clock: The clock.
    """
    app = Flask("appliance.observe", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
    keeping = threading.Lock()  # each group of alerts is a post of its own, and several come at one moment

    @app.post("/alerts")
    def take() -> tuple[str, int]:
        try:
            content = request.get_data()
            posting.is_read(request.environ)
            told = Told.from_bytes(content, clock=clock)
            with keeping:
                fresh = alerts.keep(folder, told, clock=clock)
        except MediaError:
            return "", 400
        except OSError:
            return "", 503  # Alertmanager tells it again
        for alert in fresh:
            for tell in say:
                tell(alert)
        return "", 204

    @app.get("/health")
    def health() -> tuple[str, int]:
        return "", 204

    return app


def to_console(alert: Alert) -> None:
    """Write one line to standard error: the journal and the console."""
    sys.stderr.write(f"<{_PRIORITY[alert.severity]}>{alert.line}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What a collector has to show before anything is sent.

    Args:
        server: The name in its certificate.
        authority: Who vouches for that certificate, PEM; read for each alert, so that it can be renewed.
    """

    server: str
    authority: Path


def to_syslog(destination: str, *, host: str, clock: Clock, certified: Certified | None = None) -> Say:
    """Return what sends an alert to a collector.

    Args:
        destination: ``PROTOCOL ADDRESS PORT`` as in the site file.
        host: What the message calls this box.
        clock: The clock.
        certified: What the collector has to show; with it nothing is sent without TLS.
    """
    protocol, address, port = destination.split()

    def send(alert: Alert) -> None:
        priority = _LOCAL0 * 8 + _PRIORITY[alert.severity]
        message = f"<{priority}>1 {to_text(clock.now())} {host} sealift - {alert.name} - {alert.line}".encode()
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, kind) as line:
                line.settimeout(_SECONDS)
                line.connect((address, int(port)))
                # Over TCP a message bears its length (RFC 6587, and RFC 5425 for TLS).
                framed = message if protocol == "udp" else f"{len(message)} ".encode() + message
                if certified is None:
                    line.sendall(framed)
                else:
                    _send_sealed(line, framed, certified)
        except (OSError, ValueError) as error:
            with suppress(OSError):
                sys.stderr.write(f"<4>the syslog collector did not take an alert: {_why(error)}\n")

    return send


def _send_sealed(line: socket.socket, message: bytes, certified: Certified) -> None:
    try:
        context = sealed.vouched_by(certified.authority)
    except OSError as error:
        reason = "the certificate authority for it does not read"
        raise ValueError(reason) from error
    with context.wrap_socket(line, server_hostname=certified.server, suppress_ragged_eofs=False) as secured:
        secured.sendall(message)
        sealed.end(secured)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted ({error.verify_message})"
    return (error.strerror or "no answer") if isinstance(error, OSError) else str(error)
