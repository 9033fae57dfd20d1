"""What the units wrote into the journal, as journalctl tells it: nothing is kept here, and nothing is added to it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from appliance.errors import UnitError
from media.clock import to_text
from media.errors import UsageError

EVERY: Final = "sealift-*"
_UNIT: Final = re.compile(r"[a-zA-Z0-9*][a-zA-Z0-9@:._*-]{0,127}", re.ASCII)
_FIELDS: Final = "__REALTIME_TIMESTAMP,_SYSTEMD_UNIT,UNIT,PRIORITY,MESSAGE"
_SECONDS: Final = 60
_FIX: Final = "run it as root on the box, and name units that wrote; what `run-units` starts writes into its terminal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of the journal is wanted: of which units, how many lines at most, from when on (as journalctl reads it)."""

    units: tuple[str, ...]
    lines: int
    since: str = ""

    @classmethod
    def of(cls, names: Sequence[str], *, lines: int, since: str = "") -> "Asked":
        """Return what was asked: `gateway` is `sealift-gateway`, a name with a dot is taken as it is, none is all.

        Raises:
            UsageError: That is no unit's name.
        """
        for name in names:
            if not _UNIT.fullmatch(name):
                raise UsageError(what=f"{name[:40]!r} is no unit", why="", fix="name one of docs/operator/units.md")
        whole = (name if name.startswith("sealift") or "." in name else f"sealift-{name}" for name in names)
        return cls(units=tuple(whole) or (EVERY,), lines=lines, since=since)

    def command(self, tool: str, *more: str) -> list[str]:
        """Return the words of a command that asks for it."""
        units = [f"--unit={unit}" for unit in self.units]
        since = [f"--since={self.since}"] if self.since else []
        return [tool, "--no-pager", "--quiet", f"--lines={self.lines}", *units, *since, *more]


def text(asked: Asked) -> str:
    """Return the lines as journalctl writes them.

    Raises:
        UnitError: There is no journal here, or it cannot be read.
    """
    return _run(asked.command(_tool(), "--output=short-iso"))


def records(asked: Asked) -> list[dict[str, Any]]:
    """Return the same as records: when, of which unit, how grave (syslog's number), and the text.

    Raises:
        UnitError: As `text`.
    """
    return list(_records(_run(asked.command(_tool(), "--output=json", f"--output-fields={_FIELDS}"))))


def follow(asked: Asked) -> None:
    """Let journalctl write to this terminal until somebody ends it.

    Raises:
        UnitError: As `text`.
    """
    with suppress(KeyboardInterrupt):
        done = subprocess.run(asked.command(_tool(), "--output=short-iso", "--follow"), check=False)
        if done.returncode > 0:
            raise _unreadable(f"journalctl ended with {done.returncode}")


def _tool() -> str:
    found = shutil.which("journalctl")
    if found is None:
        raise _unreadable("journalctl is not on this machine")
    return found


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise _unreadable(type(error).__name__) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _unreadable(said[0][:200] if said else f"journalctl ended with {done.returncode}")
    return done.stdout.decode(errors="replace")


def _unreadable(why: str) -> UnitError:
    return UnitError(what="the journal cannot be read", why=why, fix=_FIX)


def _records(written: str) -> Iterator[dict[str, Any]]:
    for line in written.splitlines():
        try:
            fields = json.loads(line)
            at = datetime.fromtimestamp(int(fields["__REALTIME_TIMESTAMP"]) / 1_000_000, tz=UTC)
        except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
            continue
        said = fields.get("MESSAGE")
        if isinstance(said, list):  # bytes that are no text, as numbers
            said = bytes(one for one in said if type(one) is int and 0 <= one < 256).decode(errors="replace")
        priority = str(fields.get("PRIORITY", ""))
        yield {
            "at": to_text(at),
            "unit": str(fields.get("UNIT") or fields.get("_SYSTEMD_UNIT") or ""),
            "priority": int(priority) if priority.isdecimal() and len(priority) == 1 else None,
            "text": "" if said is None else str(said),
        }
