"""The machine below the appliance, for root: changed by a release's playbook, its services asked if they answer."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from appliance.config import Config
from appliance.errors import PrivilegeError
from appliance.install import health, maintainer, planunit, playbook
from appliance.install.account import PlayFailedError, PlayResult
from appliance.install.maintainer import Package
from appliance.install.plans import Plan
from appliance.install.playbook import Play
from appliance.install.supervisor import UNIT_FILES, SystemdSupervisor, open_supervisor, serving
from media.clock import Clock

_HEALTH_SECONDS: Final = 60.0
_PLAN_SECONDS: Final = 3600
_PLAN_UNIT: Final = "sealift-plan@.service"


class Host(Protocol):
    """The machine below the appliance: `Box` on a box, a fake in tests, absent in a demo."""

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        """Change the host as the playbook says."""
        ...

    def preview(self, play: Play, ansible: Path) -> PlayResult:
        """Show what the playbook would change."""
        ...

    def planned(self, serial: int) -> Plan | None:
        """Have the plan of a release made by its own unit; nothing where this process has to make it itself."""
        ...

    def packages(self, play: Play) -> tuple[Package, ...]:
        """Return the Debian packages that a play would put in; nothing of it is carried out."""
        ...

    def restart(self, which: str) -> None:
        """Start anew who reads what was changed in the site file; see `appliance.install.sitefile.readers`."""
        ...

    def require_healthy(self) -> None:
        """Return when every service answers."""
        ...


class Box:
    """This machine, for root."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._served: tuple[str, ...] | None = None

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        """Run the playbook and keep its account; starts that failed before do not count against those it asks for."""
        supervisor = open_supervisor(self._config)
        if isinstance(supervisor, SystemdSupervisor):
            if self._served is None:
                self._served = serving(supervisor)
            supervisor.forget_failures()
        try:
            result = play.run(ansible)
        except PlayFailedError as error:
            playbook.keep_log(self._config, error.account)
            raise
        playbook.keep_log(self._config, result.text + result.warnings)
        return result

    def preview(self, play: Play, ansible: Path) -> PlayResult:
        """Run the playbook in check mode, and look at the packages, which that mode passes over."""
        return replace(play.run(ansible, check_only=True), packages=self.packages(play))

    def packages(self, play: Play) -> tuple[Package, ...]:
        """Ask apt; see `maintainer.changes`."""
        return maintainer.changes(play.source / "debs", play.variables()["sealift_packages"])

    def planned(self, serial: int) -> Plan | None:
        """Start the unit that makes plans; see `planunit.run`.

        None where there is none yet: no systemd, or a first install that was cut off before it brought its units.
        """
        supervisor = open_supervisor(self._config, start_seconds=_PLAN_SECONDS)
        if not isinstance(supervisor, SystemdSupervisor) or not (UNIT_FILES / _PLAN_UNIT).is_file():
            return None
        return planunit.run(self._config.at, supervisor, serial)

    def restart(self, which: str) -> None:
        """Ask systemd; without it nothing runs that could read it anew.

        Raises:
            UnitError: systemd refused.
        """
        supervisor = open_supervisor(self._config)
        if isinstance(supervisor, SystemdSupervisor):
            supervisor.restart(which, gateways=self._config.service.gateways)

    def require_healthy(self) -> None:
        """Ask the services until they answer, and the engines that served before; see `health.require`."""
        supervisor = open_supervisor(self._config)
        health.require(self._config.at, supervisor, clock=self._clock, seconds=_HEALTH_SECONDS)
        health.require_active(
            supervisor, self._served or (), clock=self._clock, seconds=self._config.engine.start_seconds
        )


class Planner(Box):
    """This machine for the unit that makes plans, whose user may change nothing of it."""

    def apply(self, play: Play, ansible: Path) -> PlayResult:  # noqa: ARG002
        """Refuse.

        Raises:
            PrivilegeError: Always.
        """
        raise _needs_root()

    def planned(self, serial: int) -> Plan | None:  # noqa: ARG002
        """Return nothing: this process is the unit's."""
        return None


def open_planner(config: Config, *, clock: Clock) -> Host | None:
    """Return the machine for a process that only makes a plan, whichever user it is; nothing below a folder."""
    return Planner(config, clock) if config.places.root == "/" else None


def open_host(config: Config, *, clock: Clock) -> Host | None:
    """Return the machine on a box, nothing below a folder.

    Raises:
        PrivilegeError: It is a box and this is not root.
    """
    if config.places.root != "/":
        return None
    if os.geteuid() != 0:
        raise _needs_root()
    return Box(config, clock)


def _needs_root() -> PrivilegeError:
    return PrivilegeError(
        what="the command changes this machine",
        why="only root may do that, or foresee it",
        fix="run it as root, with sudo; what an install would change, `sealift install --plan --as PERSON` shows",
    )
