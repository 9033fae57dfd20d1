"""Takes Alertmanager's webhook on loopback: banner file, console and journal, and the site's syslog collector.

Standard error is the journal and the console (the unit says so); its lines bear a priority that the journal
understands. The collector gets RFC 5424 over the protocol that the site file names, over TLS alone (RFC 5425) where its
certificate is named; one that does not answer, or shows another certificate, is noted and costs nothing else, and gets
what it did not take at Alertmanager's next message.

A full disk keeps nobody from being told: what fires is kept in memory, so it is told at once, and once however often
Alertmanager repeats what could not be written.
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

from flask import Flask, Response, request

from appliance.actions.alerts import Alert, Opened, Told
from appliance.observe import posting, sealed
from appliance.observe.collecting import Collector, Say
from media import canonical
from media.clock import Clock, to_text
from media.errors import MediaError

MAX_BODY_BYTES: Final = 2**20
_SECONDS: Final = 5.0
_LOCAL0: Final = 16
_PRIORITY: Final = {"critical": 2, "warning": 4}

Tell = Callable[[Alert], object]


def create_alerts_app(
    folder: Path, *, say: tuple[Tell, ...], clock: Clock, collector: Collector | None = None
) -> Flask:
    """Return the WSGI application.

    Args:
        folder: Where the banner's file lies.
        say: Where new alerts are told besides, once.
        clock: The clock.
        collector: Gets them, too, until it has taken each; what the file holds once more, since nobody knows.
    """
    app = Flask("appliance.observe", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
    keeping = threading.Lock()  # each group of alerts is a post of its own, and several come at one moment
    opened = Opened(folder, clock=clock)
    if collector is not None:
        collector.add(opened.now)

    @app.post("/alerts")
    def take() -> tuple[str, int]:
        try:
            content = request.get_data()
            posting.is_read(request.environ)
            told = Told.from_bytes(content, clock=clock)
        except MediaError:
            return "", 400
        is_written = True
        with keeping:
            fresh = opened.take(told)
            if collector is not None:
                collector.add(fresh)  # before the page shows it: a trial asks then
            try:
                opened.write()
            except OSError:
                is_written = False
        for alert in fresh:
            for tell in say:
                with suppress(OSError):  # one way that fails keeps no other
                    tell(alert)
        if collector is not None:
            collector.send()
        return "", 204 if is_written else 503  # then Alertmanager tells it again, and the page shows it late

    @app.get("/untold")
    def untold() -> Response:
        found = [] if collector is None else [one.to_json() for one in collector.untold()]
        return Response(canonical.dumps({"format": 1, "untold": found}), mimetype="application/json")

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


def to_syslog(destination: str, *, host: str, certified: Certified | None = None) -> Say:
    """Return what sends an alert to a collector, with the time at which it was first told, and says whether it took it.

    Over UDP nobody knows whether it did.

    Args:
        destination: ``PROTOCOL ADDRESS PORT`` as in the site file.
        host: What the message calls this box.
        certified: What the collector has to show; with it nothing is sent without TLS.
    """
    protocol, address, port = destination.split()

    def send(alert: Alert) -> bool:
        priority = _LOCAL0 * 8 + _PRIORITY[alert.severity]
        message = f"<{priority}>1 {to_text(alert.told)} {host} sealift - {alert.name} - {alert.line}".encode()
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
            return False
        return True

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
