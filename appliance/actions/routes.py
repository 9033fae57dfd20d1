"""What the site's rules would do with a request for `auto`, without one: nothing is asked, started or recorded."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from appliance.config import Config
from appliance.errors import NotInstalledError
from appliance.registry import catalog
from appliance.registry.router import Loaded, Query, Routed, decide
from appliance.state import lines
from appliance.state.rollouts import OPEN
from appliance.state.tables import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The decision, and the versions that it chose among, production's first."""

    routed: Routed
    loaded: tuple[Loaded, ...]

    @property
    def answers(self) -> Loaded:
        """Which version answers, as far as rules decide; where none applies production's, or a canary's share of it."""
        return next((one for one in self.loaded if one.model_digest == self.routed.model_digest), self.loaded[0])

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {**self.routed.to_json(), "answers": self.answers.model_digest, "name": self.answers.name}


def explain(config: Config, state: Engine, query: Query) -> Explained:
    """Return what the rules decide now.

    Raises:
        NotInstalledError: Nothing is in production.
    """
    with state.connect() as session:
        current = catalog.in_production(session)
        row = session.execute(select(Rollout.__table__).where(Rollout.state.in_(OPEN), lines.is_of(Rollout))).first()
        found = [current]
        if row is not None and row.state != "held":  # to a canary on hold nobody is added
            found.append(row.control if row.state == "beside" else row.model_digest)
        versions = [catalog.version(session, digest) for digest in found if digest]
    if current is None:
        raise NotInstalledError(what="nothing is in production", why="", fix="promote a version: `sealift promote`")
    loaded = tuple(Loaded(name=one.name, version=one.version, model_digest=one.model_digest) for one in versions)
    return Explained(routed=decide(config.router.rules, query, loaded), loaded=loaded)
