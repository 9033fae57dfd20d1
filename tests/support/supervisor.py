"""A supervisor in memory, for tests of actions that start and stop units."""

from appliance.errors import UnitError
from appliance.install.supervisor import UnitFacts, UnitState, require_unit_name


class FakeSupervisor:
    """Remembers what was asked, in order, and refuses to start what a test named in `broken`."""

    def __init__(self, *, broken: frozenset[str] = frozenset()) -> None:
        self.broken = broken
        self.asked: list[tuple[str, str]] = []
        self.states: dict[str, UnitState] = {}

    def start(self, unit: str) -> None:
        name = require_unit_name(unit)
        self.asked.append(("start", name))
        if name in self.broken:
            self.states[name] = UnitState.FAILED
            raise UnitError(what=f"{name} did not start", why="the test says so", fix="none")
        self.states[name] = UnitState.ACTIVE

    def stop(self, unit: str) -> None:
        name = require_unit_name(unit)
        self.asked.append(("stop", name))
        self.states[name] = UnitState.INACTIVE

    def rest(self, unit: str) -> None:
        name = require_unit_name(unit)
        self.asked.append(("rest", name))
        self.states[name] = UnitState.INACTIVE

    def kill(self, unit: str) -> None:
        name = require_unit_name(unit)
        self.asked.append(("kill", name))
        if self.states.get(name) is not UnitState.ACTIVE:
            raise UnitError(what=f"{name} cannot be killed", why="it does not run", fix="none")

    def state(self, unit: str) -> UnitState:
        return self.states.get(require_unit_name(unit), UnitState.INACTIVE)

    def units(self) -> tuple[UnitFacts, ...]:
        return tuple(UnitFacts(name=name, state=state) for name, state in sorted(self.states.items()))
