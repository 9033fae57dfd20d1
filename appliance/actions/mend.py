"""`sealift doctor --mend`: the few repairs that are safe to make by a program, and no other.

Each undoes an accident and changes nothing that people decided: rights are only taken away, folders only made, sockets
only removed when nobody listens, units only started as they are. An engine that rests in a maintenance window is not
started, whatever was found before: the window's end brings it back. Numbers that are ahead of the clock are put aside
only while the clock is believed: what is ahead of a wrong one may be right. What was mended is recorded.
"""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import doctor_services as services
from appliance.actions import numbers_taken
from appliance.actions.clock import standing
from appliance.actions.findings import Finding
from appliance.actions.resting import resting
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.errors import PrivilegeError, UnitError
from appliance.install.supervisor import Supervisor, engine_of, open_supervisor
from media.clock import Clock
from media.errors import SealiftError

MENDED: Final = "install.mended"
_MODES: Final = {"store": 0o2750, "trust": 0o750, "receipts": 0o750, "spool": 0o2770, "registry": 0o2770}
_TMPFILES: Final = ("systemd-tmpfiles", "--create", "--prefix=/var/lib/sealift", "--prefix=/run/sealift")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One repair: what was done to what, and what was wrong with that."""

    repair: str
    subject: str
    is_done: bool
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"repair": self.repair, "subject": self.subject, "done": self.is_done, "why": self.why}


def planned(findings: Iterable[Finding]) -> tuple[tuple[str, str], ...]:
    """Return the repairs that these findings ask for, each once, in their order."""
    return tuple(dict.fromkeys(one.repair for one in findings if one.repair and one.is_good is False))


def mend(
    config: Config, findings: Iterable[Finding], *, clock: Clock, supervisor: Supervisor | None = None
) -> tuple[Mended, ...]:
    """Do what the findings ask for; one repair that fails does not keep the others.

    Raises:
        PrivilegeError: It is a box and this is not root.
    """
    if config.places.root == "/" and os.geteuid() != 0:
        raise PrivilegeError(what="mending changes this machine", why="only root may do that", fix="run it as root")
    asked = supervisor or open_supervisor(config)
    done = tuple(_one(config, asked, clock, repair, subject) for repair, subject in planned(findings))
    if any(one.is_done for one in done):
        ledger = open_ledger(config, ACTIONS, spool=True, clock=clock)
        try:
            ledger.append(MENDED, {"format": 1, "repairs": [one.to_json() for one in done]})
        except SealiftError:
            pass  # a machine in need of mending may have no ledger yet; what was done is on the screen
        finally:
            ledger.close()
    return done


def _one(config: Config, supervisor: Supervisor, clock: Clock, repair: str, subject: str) -> Mended:
    if repair == services.START_UNIT and (why := _kept_down(config, clock, subject)):
        return Mended(repair=repair, subject=subject, is_done=False, why=why)
    if repair == numbers_taken.PUT_ASIDE and standing(config, clock=clock).is_good is False:
        why = "the clock is not believed: first two people put it right, see `sealift clock show`"
        return Mended(repair=repair, subject=subject, is_done=False, why=why)
    try:
        match repair:
            case services.CLOSE:
                _close(config.at.key_files / subject if subject else config.at.key_files)
            case services.MAKE_FOLDER:
                _make_folder(config, subject)
            case services.REMOVE_SOCKET:
                (config.at.run / Path(subject).name).unlink(missing_ok=True)
            case services.START_UNIT:
                supervisor.start(subject)
            case services.RESTART_LEDGER:
                supervisor.stop(subject)
                supervisor.start(subject)
            case numbers_taken.PUT_ASIDE:
                numbers_taken.put_aside(clock=clock)
            case _:
                return Mended(repair=repair, subject=subject, is_done=False, why="there is no such repair")
    except UnitError as error:
        return Mended(repair=repair, subject=subject, is_done=False, why=error.why or error.what)
    except (OSError, subprocess.SubprocessError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        return Mended(repair=repair, subject=subject, is_done=False, why=why)
    return Mended(repair=repair, subject=subject, is_done=True)


def _kept_down(config: Config, clock: Clock, unit: str) -> str:
    """Return why an engine is not started now; empty for every other unit.

    Asked just before the start: a window may have opened since the look. One that opens later still stops the start.
    """
    engine = engine_of(unit)
    if engine is None or engine[0] != "production":
        return ""
    ledger = open_ledger(config, ACTIONS, clock=clock)
    try:
        rest = resting(config, ledger)
    except (SealiftError, KeyError, ValueError) as error:
        said = error.what if isinstance(error, SealiftError) else "its record does not read"
        return f"whether it rests in a maintenance window cannot be told: {said}"
    finally:
        ledger.close()
    return f"it rests in a maintenance window {rest.text}" if rest is not None and rest.keeps_down(engine[1]) else ""


def _close(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o700)
    finally:
        os.close(descriptor)


def _make_folder(config: Config, name: str) -> None:
    if config.places.root == "/":
        subprocess.run(_TMPFILES, capture_output=True, check=True, timeout=60)  # with its owner, as installed
        return
    folder = config.at.state / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_MODES[name])
