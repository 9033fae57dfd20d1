"""Connections to the ledger's sockets: pooled, one for each call that is under way, many lines in flight on each.

A connection that broke is replaced once and the lines are sent again. That is safe for appends, because each carries an
idempotency key: the ledger answers a repeated one with the first acknowledgement.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from appliance.audit import requests
from appliance.boundedsocket import BoundedSocket
from appliance.errors import (
    LedgerDamagedError,
    LedgerFullError,
    LedgerRefusedError,
    LedgerUnavailableError,
    ProofError,
    WireError,
)
from media.errors import SealiftError, UsageError

MAX_IN_FLIGHT: Final = 256
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_CHUNK: Final = 64 * 1024
_KNOWN: Final[dict[str, type[SealiftError]]] = {
    kind.code: kind
    for kind in (
        *(LedgerDamagedError, LedgerFullError, LedgerRefusedError, LedgerUnavailableError),
        *(ProofError, UsageError),
    )
}


class _Connection:
    """One connection."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        self._socket = BoundedSocket(timeout_seconds)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return what can be read when there is an answer."""
        return self._socket.fileno()

    def send(self, lines: Sequence[bytes]) -> None:
        """Send lines.

        Raises:
            OSError: Nobody takes them.
        """
        self._socket.sendall(b"".join(lines))

    def answers(self, count: int) -> list[bytes]:
        """Return the line that answers each line that was sent.

        Raises:
            ConnectionError: The other side closed before the last answer.
            OSError: It did not answer in time.
        """
        parts: list[bytes] = []
        missing, size = count, 0
        while missing > 0:
            part = self._socket.recv(_CHUNK)
            size += len(part)
            if not part or size > _MAX_ANSWER_BYTES * count:
                raise ConnectionResetError(errno.ECONNRESET, "closed before the answer")
            parts.append(part)
            missing -= part.count(b"\n")
        return b"".join(parts).split(b"\n")[:count]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Asked:
    """Lines that were sent, and whose answers are still to be read: by one thread, once."""

    def __init__(self, pool: "Pool", lines: Sequence[bytes]) -> None:
        self._pool = pool
        self._lines = lines
        self._connection: _Connection | None = pool.sent(lines)

    def fileno(self) -> int:
        """Return what can be read when there is an answer; -1 after it was."""
        return -1 if self._connection is None else self._connection.fileno()

    def answers(self) -> list[bytes]:
        """Return the line that answers each.

        Raises:
            LedgerUnavailableError: Nobody answers in time.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            raise ValueError("the answers were read before")
        return self._pool.answered(connection, self._lines)

    def close(self) -> None:
        """Give the answers up, and the connection with them: nobody else may read them."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Pool:
    """Connections to one socket, safe for threads and for processes that fork."""

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Connection] = []
        self._owner = os.getpid()

    def ask(self, lines: Sequence[bytes]) -> list[dict[str, Any] | SealiftError]:
        """Send lines and return, in order, each answer or the error it was answered with.

        Raises:
            LedgerUnavailableError: Nobody answers in time.
        """
        found: list[dict[str, Any] | SealiftError] = []
        for start in range(0, len(lines), MAX_IN_FLIGHT):
            found += [opened(answer) for answer in Asked(self, lines[start : start + MAX_IN_FLIGHT]).answers()]
        return found

    def close(self) -> None:
        """Drop idle connections; the next call opens a new one."""
        while self._idle:
            self._idle.pop().close()

    def sent(self, lines: Sequence[bytes]) -> _Connection:
        """Return the connection on which lines were sent.

        Raises:
            LedgerUnavailableError: Nobody takes them.
        """
        if self._owner != os.getpid():
            # A fork shares the parent's sockets: using them would mix two conversations.
            self.close()
            self._owner = os.getpid()
        try:
            return self._send(self._idle_or_new(), lines)
        except ConnectionError:
            return self._send_anew(lines)
        except OSError as error:
            raise self._unavailable(error) from error

    def answered(self, connection: _Connection, lines: Sequence[bytes]) -> list[bytes]:
        """Return the answers to lines that were sent on a connection, which others may use from then on.

        Raises:
            LedgerUnavailableError: Nobody answers in time.
        """
        try:
            return self._read(connection, len(lines))
        except ConnectionError:
            connection = self._send_anew(lines)
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            return self._read(connection, len(lines))
        except OSError as error:
            raise self._unavailable(error) from error

    def _send(self, connection: _Connection, lines: Sequence[bytes]) -> _Connection:
        try:
            connection.send(lines)
        except OSError:
            connection.close()
            raise
        return connection

    def _send_anew(self, lines: Sequence[bytes]) -> _Connection:
        # The service was started anew since, so every idle connection is dead.
        self.close()
        try:
            return self._send(self._connect(), lines)
        except OSError as error:
            raise self._unavailable(error) from error

    def _read(self, connection: _Connection, count: int) -> list[bytes]:
        try:
            answers = connection.answers(count)
        except OSError:
            connection.close()
            raise
        self._idle.append(connection)
        return answers

    def _idle_or_new(self) -> _Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> _Connection:
        try:
            return _Connection(self._path, self._timeout_seconds)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> LedgerUnavailableError:
        return LedgerUnavailableError(
            what=f"the ledger does not answer on {self._path.name}",
            why=error.strerror or type(error).__name__,
            fix="check sealift-ledger with `sealift status`",
        )


def opened(untrusted_answer: bytes) -> dict[str, Any] | SealiftError:
    """Return what an answer says, or the error that it stands for."""
    try:
        answer = requests.decode(untrusted_answer)
    except WireError as error:
        return LedgerUnavailableError(what=error.what, why=error.why, fix=error.fix)
    if isinstance(ok := answer.get("ok"), dict):
        return ok
    error_fields = answer.get("error")
    fields = error_fields if isinstance(error_fields, dict) else {}
    # Whatever else went wrong over there, the caller may not take the record for written.
    kind = _KNOWN.get(str(fields.get("code")), LedgerUnavailableError)
    what, why, fix = (str(fields.get(name, "")) for name in ("what", "why", "fix"))
    return kind(what=what or "the ledger's answer has neither ok nor error", why=why, fix=fix)


def raise_errors(answers: Sequence[dict[str, Any] | SealiftError]) -> list[dict[str, Any]]:
    """Return the answers, or raise the first error among them.

    Raises:
        SealiftError: The error.
    """
    for answer in answers:
        if isinstance(answer, SealiftError):
            raise answer
    return [answer for answer in answers if not isinstance(answer, SealiftError)]
