"""Facts from before a ledger answers: one file each, synced, which the ledger appends first when it starts.

A file is ``NNNNNN-XXXXXXXX.json`` of format 1. The ledger appends it under an idempotency key made from its bytes and
then removes it, so that a crash between the two doubles nothing. A file that does not read is kept aside, never lost.
"""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.audit.leaf import encode_body, require_kind
from appliance.errors import LedgerUnavailableError
from appliance.state.shapes import require_shape
from media import canonical, durable
from media.clock import Clock, SystemClock, to_text
from media.errors import SealiftError

FORMAT: Final = 1
REJECTED: Final = "rejected"
FAMILIES: Final = ("release.", "custody.", "trust.", "install.", "store.", "tls.")
"""What may come this way at all: facts of receiving, installing and certificates."""
_REJECTED_MODE: Final = 0o750
_NAME = re.compile(r"([0-9]{6,9})-[0-9a-f]{8}\.json")
_MEMBERS: Final = {"format", "kind", "at", "body"}
_MAX_BYTES: Final = 2 * 1024 * 1024

Record = Callable[[str, Mapping[str, Any], str, int], object]


class Spool:
    """The folder of waiting facts."""

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()

    def append(self, kind: str, body: Mapping[str, Any]) -> str:
        """Write one fact durably; return its file's name.

        Raises:
            LedgerRefusedError: The ledger would refuse it.
            LedgerUnavailableError: It could not be written.
        """
        require_kind(kind)
        encode_body(kind, body)
        require_shape(kind, body)
        fact = {"format": FORMAT, "kind": kind, "at": to_text(self._clock.now()), "body": body}
        data = canonical.dumps(fact, allow_floats=True)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{self._next():06d}-{secrets.token_hex(4)}.json"
            # The ledger's user reads it through the folder's group.
            durable.replace(self._folder / name, data, mode=0o660)
        except OSError as error:
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise LedgerUnavailableError(
                what="a fact could not be kept for the ledger",
                why=error.strerror or "",
                fix="make room on the disk" if is_full else "run it as root; if that was so, check the folder's owner",
            ) from error
        return name

    def pending(self) -> list[Path]:
        """Return the waiting files in the order they were written."""
        try:
            found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerUnavailableError(
                what="the spool cannot be read", why=error.strerror or "", fix="check the folder's owner"
            ) from error
        return sorted(found, key=lambda path: (_number(path), path.name))

    def drain(self, record: Record) -> int:
        """Hand every fact to `record` (kind, body, idempotency key, the file's user) and remove it; return how many.

        A fact that does not read or that `record` refuses for its content goes to the folder ``rejected``.

        Raises:
            LedgerUnavailableError: `record` could not make one durable; it and the rest stay.
        """
        done = 0
        for path in self.pending():
            try:
                untrusted, uid = _read(path)
                kind, body = _parse(untrusted)
                record(kind, body, f"spool-{hashlib.sha256(path.name.encode() + untrusted).hexdigest()[:32]}", uid)
            except LedgerUnavailableError:
                raise
            except SealiftError:
                self._reject(path)
                continue
            path.unlink()
            done += 1
        if done:
            durable.sync_folder(self._folder)
        return done

    def rejected(self) -> list[str]:
        """Return the names of the files that were set aside."""
        folder = self._folder / REJECTED
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _next(self) -> int:
        return max((_number(path) for path in self.pending()), default=0) + 1

    def _reject(self, path: Path) -> None:
        folder = self._folder / REJECTED
        folder.mkdir(exist_ok=True)
        # Whatever the unit's umask: who may count what waits may count what was refused. One that lies there may be
        # another user's, who alone could change its mode, and the ledger is to start.
        with suppress(PermissionError):
            folder.chmod(_REJECTED_MODE)
        path.rename(folder / path.name)
        durable.sync_folder(folder)
        durable.sync_folder(self._folder)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _read(path: Path) -> tuple[bytes, int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            status = os.fstat(stream.fileno())
            return stream.read(_MAX_BYTES + 1) if stat.S_ISREG(status.st_mode) else b"", status.st_uid
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            return b"", -1
        raise LedgerUnavailableError(
            what="a spooled fact cannot be read", why=error.strerror or "", fix="check the owner of the spool's files"
        ) from error


def _parse(untrusted: bytes) -> tuple[str, Mapping[str, Any]]:
    fact = canonical.loads_canonical(untrusted, max_bytes=_MAX_BYTES, allow_floats=True)
    fields = fact if isinstance(fact, dict) else {}
    kind, body, at = fields.get("kind"), fields.get("body"), fields.get("at")
    if (
        set(fields) != _MEMBERS
        or fields.get("format") != FORMAT
        or not isinstance(body, dict)
        or not isinstance(at, str)
    ):
        raise SealiftError(what="a spooled fact is not of format 1")
    if not require_kind(kind).startswith(FAMILIES):
        raise SealiftError(what="a spooled fact is of a kind that nobody spools")
    return require_kind(kind), {**body, "spooled_at": at}
