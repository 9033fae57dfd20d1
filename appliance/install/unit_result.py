"""How a unit ended, and what helps: out of memory, refused by our own rule, never begun, killed, silent, or failed.

On a box systemd is asked; below a folder, `sealift run-units`. What either says is read by pure functions.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from appliance.config import Config
from appliance.errors import (
    ConfigError,
    EngineLoadError,
    EngineUnavailableError,
    NotPromotedError,
    PairingRefusedError,
    StoreDamagedError,
    UnknownVersionError,
    WireError,
)
from appliance.install import oneshots
from appliance.install.supervisor import CONTROL, SystemdSupervisor, open_supervisor, require_unit_name
from appliance.wire import Line, RemoteError

_PROPERTIES: Final = "ActiveState,Result,ExecMainCode,ExecMainStatus,ExecStartPre,NRestarts"
_ENDED: Final = re.compile(r"it ended with (-?[0-9]{1,5})")
_KILLED: Final = 9
_GAVE_UP: Final = frozenset({"start-limit-hit"})
_NAMESPACE: Final = 226
"""systemd's own number (systemd.exec(5)): the unit's view of the files could not be made, so nothing of it ran."""
_BEFORE_IT: Final = re.compile(rf"^ExecStartPre=\{{ .* ; code=exited ; status={_NAMESPACE} \}}$", re.MULTILINE)
"""What runs before the main process, nginx's look at its own file, say, could not begin."""
_NO_RESOURCES: Final = "resources"
_ASK_SECONDS: Final = 20


class Ending(StrEnum):
    """Why a unit does not run."""

    NONE = "none"
    MEMORY = "out-of-memory"
    REFUSED = "refused"
    NO_SANDBOX = "no-sandbox"
    KILLED = "killed"
    SLOW = "not-ready-in-time"
    SILENT = "no-sign-of-life"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """One unit's last ending; `exit_code` is negative for a signal, as Python counts."""

    unit: str
    ending: Ending
    exit_code: int
    restarts: int
    why: str

    @property
    def fix(self) -> str:
        """What helps."""
        if self.ending is Ending.MEMORY and self.unit.startswith("sealift-engine"):
            return (
                "give the version a smaller n_ctx or a smaller quantization (a new version, validated and promoted),"
                " put in more memory, or go back: `sealift rollback --as PERSON --reason TEXT`"
            )
        if oneshots.is_asked_for(self.unit) and self.ending is not Ending.REFUSED:
            return f"read `journalctl -u {self.unit}`; then {_ASKED_FIX.get(self.unit, _ASK_AGAIN)}"
        if self.ending is Ending.MEMORY:
            return "more memory, or fewer callers at once (limits.concurrent_requests); then `sealift doctor --mend`"
        if self.ending is Ending.REFUSED:
            remedies = _SYNC_FIX if self.unit == SYNC else _REMEDIES
            return remedies.get(self.exit_code, f"docs/exit-codes.md, number {self.exit_code}")
        if self.ending is Ending.NO_SANDBOX:
            return (
                "make room where /tmp lies (`sealift doctor` names the file system that is full): what serves is"
                f" started again by itself then; where it is not, read `journalctl -u {self.unit}`"
            )
        stuck = f"{_SILENT_FIX}; " if self.ending is Ending.SILENT else ""
        return f"{stuck}read `journalctl -u {self.unit}`; `sealift doctor --mend` starts it once more"


_ASK_AGAIN: Final = "ask for it again, by the command or on the page, where it is still wanted"
_ASKED_FIX: Final[Mapping[str, str]] = {oneshots.SETTLE: "`sealift install --settle`, as root"}
_SILENT_FIX: Final = "look whether the disk or the processor is stuck: `sealift doctor` measures both"
_WHY: Final[Mapping[int, str]] = {
    EngineLoadError.exit_code: "the engine refused to load: digest, memory or format",
    NotPromotedError.exit_code: "the approvals of this version do not verify",
    UnknownVersionError.exit_code: "the store holds no such version",
    StoreDamagedError.exit_code: "a file in the store is damaged",
    ConfigError.exit_code: "the site file is wrong",
}
SYNC: Final = "sealift-standby-sync.service"
"""Of one run each minute: that one ended so says what it found, and the next one tries again."""
_SYNC_WHY: Final[Mapping[int, str]] = {
    WireError.exit_code: "the other box does not answer; it is tried again every minute",
    PairingRefusedError.exit_code: "one of the two boxes refuses the other's records; `sealift standby sync` says why",
}
_SYNC_FIX: Final[Mapping[int, str]] = {
    WireError.exit_code: "its power and its cable; there: `systemctl status sealift-standby`",
    PairingRefusedError.exit_code: "`sealift standby sync`, as root",
}
_REMEDIES: Final[Mapping[int, str]] = {
    EngineLoadError.exit_code: (
        "`sealift validate` the version again; where memory is short, a version with a smaller n_ctx; meanwhile go back"
        " with `sealift rollback --as PERSON --reason TEXT`"
    ),
    NotPromotedError.exit_code: "two people approve a version: `sealift promote`",
    UnknownVersionError.exit_code: "receive the release that brings it: `sealift receive`",
    StoreDamagedError.exit_code: "receive the release again; then `sealift doctor --mend`",
    ConfigError.exit_code: "correct the site file, as the journal of the unit says; then `sealift doctor --mend`",
}


def result_of(config: Config, unit: str) -> UnitResult:
    """Ask how a unit ended.

    Raises:
        UnitError: The name is not ours.
    """
    name = require_unit_name(unit)
    if isinstance(open_supervisor(config), SystemdSupervisor):
        command = ["systemctl", "show", f"--property={_PROPERTIES}", name]
        try:
            text = subprocess.run(command, capture_output=True, check=True, timeout=_ASK_SECONDS, text=True).stdout
        except (OSError, subprocess.SubprocessError):
            text = ""
        return from_systemd(name, text)
    line = Line(config.at.socket(CONTROL))
    try:
        return from_run_units(name, line.call("status", unit=name))
    except (WireError, RemoteError):
        return from_run_units(name, {})
    finally:
        line.close()


def from_systemd(unit: str, untrusted: str) -> UnitResult:
    """Read what ``systemctl show`` printed of a unit."""
    said = dict(line.split("=", 1) for line in untrusted.splitlines() if "=" in line)
    status = _number(said.get("ExecMainStatus"))
    by_signal = said.get("ExecMainCode") in {"2", "3", "killed", "dumped"}
    result = said.get("Result", "success")
    code = -status if by_signal else status
    restarts = _number(said.get("NRestarts"))
    if said.get("ActiveState") in {"active", None} or result == "success":
        return UnitResult(unit=unit, ending=Ending.NONE, exit_code=0, restarts=restarts, why="")
    if result == "oom-kill":
        return UnitResult(
            unit=unit,
            ending=Ending.MEMORY,
            exit_code=code,
            restarts=restarts,
            why=f"the kernel ended it because memory was short; started again {restarts} times",
        )
    if result == "watchdog":
        why = f"it hung: nothing in it moved for its WatchdogSec=; started again {restarts} times"
        return UnitResult(unit=unit, ending=Ending.SILENT, exit_code=code, restarts=restarts, why=why)
    if result == "timeout":
        return UnitResult(
            unit=unit, ending=Ending.SLOW, exit_code=code, restarts=restarts, why="it was not ready in time"
        )
    # What is said of the main process besides is then of the start before.
    if result == _NO_RESOURCES or _BEFORE_IT.search(untrusted):
        return _never_ran(unit, restarts)
    found = _by_code(unit, code, restarts)
    return replace(found, why=f"{found.why}; it failed too often in a short time") if result in _GAVE_UP else found


def from_run_units(unit: str, untrusted: Mapping[str, Any]) -> UnitResult:
    """Read what `sealift run-units` says of a unit; without systemd a kill cannot be told from a shortage."""
    why, restarts = str(untrusted.get("why", "")), _number(untrusted.get("restarts"))
    if untrusted.get("state") != "failed":
        return UnitResult(unit=unit, ending=Ending.NONE, exit_code=0, restarts=restarts, why="")
    found = _ENDED.search(why)
    if found is None:
        ending = Ending.SILENT if "no sign of life" in why else Ending.SLOW if "in time" in why else Ending.FAILED
        return UnitResult(unit=unit, ending=ending, exit_code=1, restarts=restarts, why=why)
    return _by_code(unit, int(found[1]), restarts)


def _never_ran(unit: str, restarts: int) -> UnitResult:
    why = "systemd could not make its sandbox, for which it needs a little room in /tmp; nothing of it ran"
    return UnitResult(unit=unit, ending=Ending.NO_SANDBOX, exit_code=_NAMESPACE, restarts=restarts, why=why)


def _by_code(unit: str, code: int, restarts: int) -> UnitResult:
    if code == _NAMESPACE:
        return _never_ran(unit, restarts)
    if code == EngineUnavailableError.exit_code and unit.startswith("sealift-engine"):
        why = (
            "its process was killed again and again, which is what a shortage of memory looks like;"
            " SIGSYS in its journal means that it tried to start another program"
        )
        return UnitResult(unit=unit, ending=Ending.MEMORY, exit_code=code, restarts=restarts, why=why)
    if code == -_KILLED:
        why = "it was killed; memory is the usual reason"
        ending = Ending.MEMORY if unit.startswith("sealift-engine") else Ending.KILLED
        return UnitResult(unit=unit, ending=ending, exit_code=code, restarts=restarts, why=why)
    if unit == SYNC and code in _SYNC_WHY:
        return UnitResult(unit=unit, ending=Ending.REFUSED, exit_code=code, restarts=restarts, why=_SYNC_WHY[code])
    if code in _WHY:
        return UnitResult(unit=unit, ending=Ending.REFUSED, exit_code=code, restarts=restarts, why=_WHY[code])
    why = f"it ended by signal {-code}" if code < 0 else f"it ended with {code}"
    return UnitResult(
        unit=unit, ending=Ending.KILLED if code < 0 else Ending.FAILED, exit_code=code, restarts=restarts, why=why
    )


def _number(untrusted: object) -> int:
    text = str(untrusted or "0")
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else 0
