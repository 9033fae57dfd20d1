"""Which engines a maintenance window stops: those that rest with a line, and what it leaves in the test stage."""

from appliance.config import Config
from appliance.install.engines import wanted_engines
from appliance.install.supervisor import Supervisor, UnitState, engine_of
from appliance.install.windowlines import is_spared
from appliance.promote.folder import PromoterFolder
from appliance.registry.windows import Window
from appliance.stages import FIRST_LINE, Stage


def running(supervisor: Supervisor, stage: Stage) -> tuple[tuple[str, str], ...]:
    """Return the engines of a stage that are not down: the unit and DIGEST12 of each."""
    up = (one.name for one in supervisor.units() if one.state not in {UnitState.INACTIVE, UnitState.FAILED})
    found = ((name, engine_of(name)) for name in up)
    return tuple((name, engine[1]) for name, engine in found if engine is not None and engine[0] == stage)


def resting(config: Config, supervisor: Supervisor, line: int) -> tuple[str, ...]:
    """Return the units of production that rest with a line: all that run but those which another line may load.

    Raises:
        UnitError: No supervisor answers.
        NotPromotedError: The chain of promotions is broken.
    """
    production, found = PromoterFolder(config.at.promoter).production(), running(supervisor, Stage.PRODUCTION)
    return tuple(unit for unit, digest12 in found if not is_spared(production, line, digest12))


def clear(config: Config, supervisor: Supervisor, window: Window) -> None:
    """Stop what a window left in the test stage, and take engines that rest from the next boot, if they serve no more.

    Raises:
        UnitError: No supervisor answers.
        NotPromotedError: The chain of promotions is broken.
    """
    for unit, digest in running(supervisor, Stage.TEST):
        if digest not in window.beside:
            supervisor.stop(unit)
    if window.previous is None or window.previous in PromoterFolder(config.at.promoter).production().loadable:
        return
    first = window.previous if window.line == FIRST_LINE else None  # which alone has further engines
    for unit in wanted_engines(config, (window.previous,), first):
        supervisor.stop(unit)
