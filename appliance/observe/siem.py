"""Forwards the ledger to the site's collector over TLS: ``python -I -m appliance.observe.siem --config FILE``.

The ledger itself is the spool: a cursor, the sequence of the next record, moves when the collector has taken a batch,
and is on the disk before the next one is sent. So nothing is lost while the collector is away, for however long.

Syslog over TLS has no acknowledgement (RFC 5425). Each batch is therefore a connection of its own that is ended from
this side, and counts as taken when the other side ends it in order too: then it has read every byte. Where a connection
breaks before that, the batch is sent again; a record that came twice bears the same sequence and leaf hash both times.
"""

import argparse
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final

from appliance import config as configuration
from appliance import unit
from appliance.actions.forwarding import Standing, client_file
from appliance.audit.epochs import RESTORED
from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.rights import SIEM
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import CollectorError, LedgerUnavailableError
from appliance.observe import sealed
from appliance.observe.sentepochs import SentEpochs
from appliance.observe.siemformats import FORMATS, Encode
from appliance.watchdog.loops import Pulse, Watchdog
from media import canonical, durable
from media.clock import Clock, SystemClock, to_text
from media.errors import MediaError, SealiftError

BATCH: Final = 500
LOOK_SECONDS: Final = 1.0
LATER_SECONDS: Final = 15.0
SAY_SECONDS: Final = 60.0
JUDGED_SECONDS: Final = 2.0
"""How long a collector that asks for a certificate is given to refuse it; so a batch takes at least as long."""
JUDGE_AGAIN_SECONDS: Final = 60.0
"""Where this box has no certificate to show, it looks this often whether the collector began to ask for one."""
CURSOR: Final = "cursor.json"
_MOST_WORDS: Final = 300
_CONNECT_SECONDS: Final = 20.0
_log = logging.getLogger("sealift.siem")

Send = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The next record to send, and the leaf hash of the one before it, empty for none."""

    sequence: int = 0
    before: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Cursor":
        """Return where the last run stood; the beginning where none ran, or its file does not read."""
        try:
            value = canonical.exact_keys(
                canonical.loads_canonical((folder / CURSOR).read_bytes()), ("before", "sequence"), (), "the cursor"
            )
            return cls(
                sequence=canonical.integer(value["sequence"], "sequence"),
                before=canonical.text(value["before"], "before", may_be_empty=True),
            )
        except (OSError, MediaError):
            return cls()

    def write(self, folder: Path) -> None:
        """Keep it; it is on the disk when this returns.

        Raises:
            OSError: The disk refuses.
        """
        content = canonical.dumps({"sequence": self.sequence, "before": self.before})
        durable.replace(folder / CURSOR, content, mode=0o600)


class Forwarder:
    """Sends what is new, batch by batch.

    Args:
        ledger: Where records are read.
        folder: Where the cursor is kept.
        encode: How a record is written.
        host: What the messages call this box.
        send: Takes a batch; returns when the collector has it all.
    """

    def __init__(self, ledger: Ledger, folder: Path, *, encode: Encode, host: str, send: Send) -> None:
        self._ledger = ledger
        self._folder = folder
        self._encode = encode
        self._host = host
        self._send = send
        self._is_kept = True
        self._are_noted = False
        self.cursor = Cursor.read(folder)

    def turn(self) -> int:
        """Send one batch of what is new; return how many records it had.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
            CollectorError: The collector did not take it; it is sent again by the next turn.
            OSError: The cursor could not be kept: the batch is sent again, once one can be.
        """
        if not self._is_kept:
            self._keep(self.cursor)
        self._follow_restores()
        leaves = self._ledger.leaves(self.cursor.sequence, BATCH)
        if not self._are_noted or any(leaf.sequence == 0 or leaf.kind == RESTORED for leaf in leaves):
            end = leaves[-1].sequence + 1 if leaves else self.cursor.sequence
            SentEpochs.of(self._ledger, end).write(self._folder)  # before they are sent: the cursor may not be ahead
            self._are_noted = True
        if not leaves:
            return 0
        self._send(b"".join(self._encode(leaf, self._host) for leaf in leaves))
        self._keep(Cursor(sequence=leaves[-1].sequence + 1, before=leaves[-1].hash))
        return len(leaves)

    def _keep(self, moved: Cursor) -> None:
        self._is_kept = False
        moved.write(self._folder)
        self.cursor, self._is_kept = moved, True

    def behind(self) -> int:
        """Return how many records wait."""
        return max(self._ledger.head().size - self.cursor.sequence, 0)

    def oldest(self) -> str:
        """Return when the next record was recorded; empty where there is none."""
        found = self._ledger.leaves(self.cursor.sequence, 1)
        return found[0].time if found else ""

    def _follow_restores(self) -> None:
        """Go back to where restores parted the ledger from what was sent, when the record before the cursor is another.

        The cursor is kept before the epochs are: cut off in between, what was sent is not forgotten.
        """
        if not self.cursor.sequence or self._is_the_same(self.cursor.sequence - 1):
            return
        now = SentEpochs.of(self._ledger).begun
        begin = SentEpochs.read(self._folder).common(now, self.cursor.sequence)
        begin = min(begin, self._ledger.head().size)
        _log.warning("the ledger is another from record %d on: sending again from there", begin)
        before = self._ledger.leaf(begin - 1).hash if begin else ""
        self._keep(Cursor(sequence=begin, before=before))
        self._are_noted = False

    def _is_the_same(self, sequence: int) -> bool:
        found: list[Leaf] = self._ledger.leaves(sequence, 1)
        return bool(found) and found[0].hash == self.cursor.before


class Publisher:
    """Says how the forwarder stands: when that changed, and every so often that it still does.

    Args:
        forwarder: What is told of.
        folder: Where it is published.
        clock: The times in it.
    """

    def __init__(self, forwarder: Forwarder, folder: Path, clock: Clock) -> None:
        self._forwarder = forwarder
        self._folder = folder
        self._clock = clock
        self._last: Standing | None = None
        self._taken = ""

    def tell(self, sent: int, error: str) -> None:
        """Publish it after a turn that sent so many records, or failed as said; one that cannot is no reason to end."""
        now = to_text(self._clock.now())
        self._taken = now if sent else self._taken
        waiting, oldest = self._waiting()
        standing = Standing(
            at=now,
            sequence=self._forwarder.cursor.sequence,
            waiting=waiting,
            oldest=oldest,
            taken=self._taken,
            error=error[:_MOST_WORDS],
        )
        last = self._last
        if last is not None and last.age_seconds(self._clock) < SAY_SECONDS and replace(standing, at=last.at) == last:
            return
        with suppress(OSError):
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            standing.write(self._folder)
            self._last = standing

    def _waiting(self) -> tuple[int, str]:
        try:
            waiting = self._forwarder.behind()
            return waiting, self._forwarder.oldest() if waiting else ""
        except LedgerUnavailableError:
            return (0, "") if self._last is None else (self._last.waiting, self._last.oldest)


def sender(config: Config, *, authority: Path, client: Path | None = None) -> Send:
    """Return what sends a batch to the collector that the site file names, by TLS verified in full.

    Args:
        config: The site file, with a collector.
        authority: The certificate authority of the collector, PEM.
        client: This box's certificate and its key, PEM, where the collector asks for one.
    """
    chosen = config.siem
    judged = [monotonic() - 2 * JUDGE_AGAIN_SECONDS]  # when a collector last had its time to refuse this box

    def send(batch: bytes) -> None:
        try:
            context = sealed.vouched_by(authority)
            if client is not None:
                context.load_cert_chain(client)
            plain = socket.create_connection((chosen.address, chosen.port), timeout=_CONNECT_SECONDS)
            with plain, context.wrap_socket(plain, server_hostname=chosen.server, suppress_ragged_eofs=False) as line:
                if client is not None or monotonic() - judged[0] > JUDGE_AGAIN_SECONDS:
                    _require_accepted(line)
                    judged[0] = monotonic()
                line.sendall(batch)
                sealed.end(line)
        except (OSError, ValueError) as error:
            why = type(error).__name__ if not isinstance(error, OSError) else error.strerror or type(error).__name__
            raise CollectorError(
                what="the collector did not take the records",
                why=why,
                fix="see that it runs and what its certificate says; they are sent again",
            ) from error

    return send


def _require_accepted(line: ssl.SSLSocket) -> None:
    """Wait a moment before anything is sent: who refuses this box's certificate ends the connection by itself.

    A collector judges the certificate after the handshake, when this side already believes that all is well (TLS 1.3);
    some then end the connection as politely as if they had read all. A collector that takes records says nothing.

    Raises:
        OSError: It ended the connection.
    """
    line.settimeout(JUDGED_SECONDS)
    try:
        line.recv(1)
    except TimeoutError:
        line.settimeout(_CONNECT_SECONDS)
        return
    raise ConnectionRefusedError(111, "it does not take this box's certificate")


def run(config: Config, folder: Path, ledger: Ledger, ending: threading.Event, pulse: Pulse) -> None:
    """Forward until the event is set; what cannot be done now is tried again later."""
    chosen = client_file(config, os.environ.get("CREDENTIALS_DIRECTORY", "")) if config.siem.client else None
    forwarder = Forwarder(
        ledger,
        folder,
        encode=FORMATS[config.siem.format],
        host=config.service.hostname,
        send=sender(config, authority=config.at.collector_authority, client=chosen),
    )
    publisher = Publisher(forwarder, config.at.siem_now, SystemClock())
    wait = 0.0
    while not ending.wait(wait):
        pulse.beat()
        why = ""
        try:
            sent = forwarder.turn()
            wait = 0.0 if sent == BATCH else LOOK_SECONDS
        except (CollectorError, LedgerUnavailableError) as error:
            _log.warning("%s (%s)", error.what, error.why)
            unit.notify(f"STATUS={error.what}")
            sent, why, wait = 0, f"{error.what} ({error.why})", LATER_SECONDS
        except OSError as error:  # a full disk, on which nothing of this process may end
            why = f"what was sent could not be noted ({error.strerror or type(error).__name__})"
            _log.warning("%s; it is sent again", why)
            unit.notify(f"STATUS={why}")
            sent, wait = 0, LATER_SECONDS
        publisher.tell(sent, why)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; return the exit code. Without a collector in the site file there is nothing to do."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-siem", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    ending = unit.Ending()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ending.set())
    try:
        config = configuration.load(options.config)
        folder = unit.directory("STATE")
    except SealiftError as error:
        _log.error("%s (%s) %s", error.what, error.why, error.fix)
        return error.exit_code
    unit.notify("READY=1")
    if not config.siem.address:
        _log.info("the site file names no collector")
        return 0
    pulse = Pulse()
    limit = unit.watchdog_seconds()
    watchdog = Watchdog({"loop": lambda: pulse.within(limit)}, limit_seconds=limit)
    watchdog.start()
    run(config, folder, SocketLedger(config.at.socket(SIEM)), ending, pulse)
    watchdog.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
