"""The one port through which actions start and stop units: systemd on a box, `sealift run-units` without root.

Promises: a name that is not one of ours never reaches a supervisor; `start` returns when the unit is ready and raises
when it is not; `stop` returns when the process is gone; both may be repeated.
"""

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from appliance.config import Config
from appliance.errors import UnitError, WireError
from appliance.wire import Line

CONTROL: Final = "units"
"""Name of the control socket of `sealift run-units`."""
UNIT_FILES: Final = Path("/etc/systemd/system")
"""Where a box keeps our units, and beside them what it sets itself."""
GATEWAYS: Final = "gateways"
ALL: Final = "all"
"""Whom `SystemdSupervisor.restart` starts anew."""

_NAME = re.compile(r"sealift(-[a-z]+)*(@[a-z0-9]+(-[a-z0-9]+)*)?\.(service|socket|target)")
_ENGINE = re.compile(
    r"sealift-engine-(?:(test)@([0-9a-f]{12})|(production)@([0-9a-f]{12})(?:-([2-9]|cpu|standby))?)\.service"
)
_FURTHER = re.compile(r"[2-9]|cpu|standby")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_STAGE = re.compile(r"[a-z]{1,16}")
_BOOTED = Path("/run/systemd/system")
_PRODUCTION = "sealift-engine-production@"
_STOP_SECONDS = 60
_ASK_SECONDS = 30


class UnitState(StrEnum):
    """What a supervisor says of a unit."""

    ACTIVE = "active"
    STARTING = "activating"
    STOPPING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """One unit as a person sees it."""

    name: str
    state: UnitState


class Supervisor(Protocol):
    """Starts and stops units by name. One contract test serves all three implementations."""

    def start(self, unit: str) -> None:
        """Start a unit and wait until it is ready; no-op when it is active.

        Raises:
            UnitError: The name is not ours, the unit did not become ready, or no supervisor answers.
        """
        ...

    def stop(self, unit: str) -> None:
        """Stop a unit and wait until it is gone; no-op when it is not running.

        Raises:
            UnitError: The name is not ours, or no supervisor answers.
        """
        ...

    def rest(self, unit: str) -> None:
        """Stop a unit for a while and wait until it is gone: the next boot starts it again if it would have before.

        Raises:
            UnitError: The name is not ours, or no supervisor answers.
        """
        ...

    def kill(self, unit: str) -> None:
        """End a unit's processes without warning, as a fault would; the supervisor then does what it does on faults.

        Raises:
            UnitError: The name is not ours, nothing of it runs, or no supervisor answers.
        """
        ...

    def state(self, unit: str) -> UnitState:
        """Return the unit's state; a unit never started is inactive.

        Raises:
            UnitError: The name is not ours, or no supervisor answers.
        """
        ...

    def units(self) -> tuple[UnitFacts, ...]:
        """Return our services that are loaded, sorted by name.

        Raises:
            UnitError: No supervisor answers.
        """
        ...


def engine_unit(stage: str, model_digest: str, which: str = "") -> str:
    """Return the engine unit that serves `model_digest` in `stage`, e.g. ``sealift-engine-production@0a1b….service``.

    Args:
        stage: Production or test.
        model_digest: All 64 digits.
        which: Empty for the version's first engine; in production ``2`` to ``9``, ``cpu`` or ``standby`` for another.

    Raises:
        UnitError: The stage, the digest or the engine is not in its form.
    """
    is_named = not which or (stage == "production" and _FURTHER.fullmatch(which) is not None)
    if not _STAGE.fullmatch(stage) or not _DIGEST.fullmatch(model_digest) or not is_named:
        raise UnitError(
            what="an engine unit cannot be named",
            why="a stage is one lower-case word, a digest 64 hex digits, a further engine 2 to 9, cpu or standby",
            fix="give the version's full model digest",
        )
    return f"sealift-engine-{stage}@{model_digest[:12]}{which and f'-{which}'}.service"


def engine_of(unit: str) -> tuple[str, str] | None:
    """Return stage and DIGEST12 of an engine's unit, whichever of its version's it is; nothing for any other unit."""
    found = _ENGINE.fullmatch(unit)
    return None if found is None else (found[1] or found[3], found[2] or found[4])


def which_of(unit: str) -> str:
    """Return which of its version's engines a unit is: empty for the first one, and for any other unit."""
    found = _ENGINE.fullmatch(unit)
    return "" if found is None else found[5] or ""


def serving(supervisor: Supervisor) -> tuple[str, ...]:
    """Return the engines of production that are active now."""
    return tuple(
        one.name
        for one in supervisor.units()
        if one.state is UnitState.ACTIVE and (engine_of(one.name) or ("", ""))[0] == "production"
    )


def is_unit_name(untrusted: str) -> bool:
    """Tell whether that is the name of one of ours."""
    return len(untrusted) <= 100 and _NAME.fullmatch(untrusted) is not None


def require_unit_name(untrusted: str) -> str:
    """Return the name if it is one of ours.

    Raises:
        UnitError: It is not.
    """
    if not is_unit_name(untrusted):
        raise UnitError(
            what="that is not the name of a Sealift unit",
            why="names are sealift-WORD.service or sealift-engine-STAGE@DIGEST12.service",
            fix="see `sealift status`",
        )
    return untrusted


class SystemdSupervisor:
    """`systemctl`, on a box. An engine that serves production is enabled too, so that it is back after a boot."""

    def __init__(self, *, start_seconds: int = 300, systemctl: str = "systemctl") -> None:
        self._start_seconds = start_seconds
        self._systemctl = systemctl

    def start(self, unit: str) -> None:
        """Start and wait; see `Supervisor.start`."""
        # Somebody asks for it: what failed before does not count against its start limit.
        with suppress(UnitError):
            self._tell("reset-failed", require_unit_name(unit), min(_ASK_SECONDS, self._start_seconds))
        self._change("start", unit, self._start_seconds)
        if unit.startswith(_PRODUCTION):
            self._change("enable", unit, _STOP_SECONDS)

    def stop(self, unit: str) -> None:
        """Stop and wait; see `Supervisor.stop`."""
        if unit.startswith(_PRODUCTION):
            self._change("disable", unit, _STOP_SECONDS)
        self._change("stop", unit, _STOP_SECONDS)

    def rest(self, unit: str) -> None:
        """Stop and leave enabled what is; see `Supervisor.rest`."""
        self._change("stop", unit, _STOP_SECONDS)

    def kill(self, unit: str) -> None:
        """Kill all processes of a unit; see `Supervisor.kill`."""
        self._change("kill", unit, _ASK_SECONDS, "--signal=KILL")

    def state(self, unit: str) -> UnitState:
        """Ask `systemctl show`; see `Supervisor.state`."""
        name = require_unit_name(unit)
        return _state_of(self._ask("show", "--property=ActiveState", "--value", name).strip())

    def units(self) -> tuple[UnitFacts, ...]:
        """Ask `systemctl list-units`; see `Supervisor.units`."""
        text = self._ask("list-units", "--all", "--plain", "--no-legend", "--type=service", "sealift-*")
        rows = [line.split() for line in text.splitlines()]
        return tuple(
            UnitFacts(name=row[0], state=_state_of(row[2]))
            for row in sorted(rows)
            if len(row) >= 4 and _NAME.fullmatch(row[0])
        )

    def forget_failures(self) -> None:
        """Let no start that failed, nor how many there were, count against those to come; for all our units."""
        with suppress(OSError, subprocess.TimeoutExpired):  # what was never loaded has nothing to forget
            subprocess.run(
                [self._systemctl, "reset-failed", "sealift-*"], capture_output=True, check=False, timeout=_STOP_SECONDS
            )

    def restart(self, which: str, *, gateways: int) -> None:
        """Start anew everything of ours by its target, or those who answer callers and who show what they do.

        Args:
            which: `ALL` or `GATEWAYS`.
            gateways: How many there are to be; those that are down are started.

        Raises:
            UnitError: systemd refused, or it took too long.
        """
        if which == ALL:
            commands = [("restart", "sealift.target")]
        else:
            further = [f"sealift-gateway@{number}.service" for number in range(2, gateways + 1)]
            commands = [("restart", name) for name in ("sealift-gateway.service", *further)]
            shown = ("sealift-gateway-test.service", "sealift-admin.service", "sealift-metrics.service")
            commands += [("try-restart", name) for name in shown]
        for verb, name in commands:
            self._change(verb, name, self._start_seconds + _STOP_SECONDS)

    def _change(self, verb: str, unit: str, seconds: int, *options: str) -> None:
        name = require_unit_name(unit)
        if (code := self._tell(verb, name, seconds, *options)) != 0:
            raise _failed(verb, name, f"systemctl answered {code}")

    def _tell(self, verb: str, name: str, seconds: int, *options: str) -> int:
        command = [self._systemctl, "--no-ask-password", *options, verb, name]
        try:
            return subprocess.run(command, capture_output=True, check=False, timeout=seconds).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failed(verb, name, type(error).__name__) from error

    def _ask(self, *arguments: str) -> str:
        return ask_systemd(self._systemctl, *arguments)


class RunUnitsSupervisor:
    """The control socket of `sealift run-units`."""

    def __init__(self, control: Path, *, start_seconds: int = 300) -> None:
        self._control = control
        self._timeout_seconds = start_seconds + 10.0

    def start(self, unit: str) -> None:
        """Start and wait; see `Supervisor.start`."""
        self._call("start", unit=require_unit_name(unit))

    def stop(self, unit: str) -> None:
        """Stop and wait; see `Supervisor.stop`."""
        self._call("stop", unit=require_unit_name(unit))

    def rest(self, unit: str) -> None:
        """Stop for a while; see `Supervisor.rest`."""
        self._call("rest", unit=require_unit_name(unit))

    def kill(self, unit: str) -> None:
        """Kill the processes of a unit; see `Supervisor.kill`."""
        self._call("kill", unit=require_unit_name(unit))

    def state(self, unit: str) -> UnitState:
        """Ask for one unit; see `Supervisor.state`."""
        return _state_of(str(self._call("status", unit=require_unit_name(unit)).get("state")))

    def units(self) -> tuple[UnitFacts, ...]:
        """Ask for all units; see `Supervisor.units`."""
        rows = self._call("list").get("units", [])
        return tuple(UnitFacts(name=str(row["unit"]), state=_state_of(str(row["state"]))) for row in rows)

    def _call(self, do: str, **fields: str) -> dict[str, Any]:
        line = Line(self._control, timeout_seconds=self._timeout_seconds)
        try:
            return line.call(do, **fields)
        except WireError as error:
            raise UnitError(
                what="no supervisor answers", why=error.why, fix="start the units with `sealift run-units`"
            ) from error
        finally:
            line.close()


def ask_systemd(systemctl: str, *arguments: str, seconds: int = _ASK_SECONDS, check: bool = True) -> str:
    """Run `systemctl` and return what it printed.

    Args:
        systemctl: The program.
        arguments: Its words.
        seconds: How long it may take.
        check: Whether an exit status other than 0 is no answer.

    Raises:
        UnitError: systemd does not answer.
    """
    try:
        return subprocess.run(
            [systemctl, *arguments], capture_output=True, check=check, timeout=seconds, text=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UnitError(
            what="systemd does not answer", why=type(error).__name__, fix="run `systemctl status`"
        ) from error


def is_booted_box(config: Config) -> bool:
    """Tell whether this is a box under systemd, not a demo or rehearsal below a folder."""
    return config.places.root == "/" and _BOOTED.is_dir()


def open_supervisor(config: Config, *, start_seconds: int = 0) -> Supervisor:
    """Return systemd's supervisor on a booted box, else that of `sealift run-units`.

    Args:
        config: The site file.
        start_seconds: How long a start may take; 0 means what the site file gives an engine.
    """
    seconds = start_seconds or config.engine.start_seconds
    if is_booted_box(config):
        return SystemdSupervisor(start_seconds=seconds)
    return RunUnitsSupervisor(config.at.socket(CONTROL), start_seconds=seconds)


def _state_of(text: str) -> UnitState:
    try:
        return UnitState(text)
    except ValueError:
        return UnitState.INACTIVE


def _failed(verb: str, unit: str, why: str) -> UnitError:
    return UnitError(what=f"{unit} did not {verb}", why=why, fix=f"read `journalctl -u {unit}`")
