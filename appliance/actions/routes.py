"""What the site's rules would do with a request for `auto`, without one: nothing is asked, started or recorded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, select

from appliance.config import Config
from appliance.errors import NotInstalledError
from appliance.registry import catalog
from appliance.registry.router import Loaded, Query, Routed, decide
from appliance.stages import FIRST_LINE, Stage
from appliance.state import held, lines
from appliance.state.rollouts import OPEN
from appliance.state.tables import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The decision, and the versions that it chose among.

    Attributes:
        routed: What the rules say.
        loaded: What each line serves, line 1 first, then what runs beside it.
        first: What line 1 serves, which answers where no rule applies; None while that is stopped and others serve.
        lines: The line of each version; empty where there is one.
        waiting: What was decided and is held back from callers, since its engine was not seen to answer yet.
    """

    routed: Routed
    loaded: tuple[Loaded, ...]
    first: Loaded | None
    lines: Mapping[str, int]
    waiting: tuple[Loaded, ...] = ()

    @property
    def answers(self) -> Loaded | None:
        """Which version answers, as far as rules decide; where none applies line 1's, or a canary's share of it."""
        return next((one for one in self.loaded if one.model_digest == self.routed.model_digest), self.first)

    @property
    def line(self) -> int | None:
        """The line of the version that answers, where there are several."""
        return None if self.answers is None else self.lines.get(self.answers.model_digest)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        answers = self.answers
        return {
            **self.routed.to_json(),
            "answers": None if answers is None else answers.model_digest,
            "name": None if answers is None else answers.name,
            **({} if self.line is None else {"line": self.line}),
            **({"held_back": [one.model_digest for one in self.waiting]} if self.waiting else {}),
        }


def explain(config: Config, state: Engine, query: Query) -> Explained:
    """Return what the rules decide now, among the versions of all lines that callers of this box are sent to.

    Raises:
        NotInstalledError: Nothing is in production.
    """
    with state.connect() as session:
        back = held.held(session)
        stands = lines.stands(session, held=back, socket_of=partial(config.at.engine_socket, Stage.PRODUCTION))
        served = {number: one.last for number, one in stands.items() if not one.is_stopped}
        waits = [digest for number, digest in lines.served(session).items() if served.get(number) != digest]
        found = {digest: number for number, digest in served.items()}
        rows = session.execute(select(Rollout.__table__).where(Rollout.state.in_(OPEN))).all()
        for row in sorted(rows, key=lambda row: row.line or FIRST_LINE):
            number, digest = row.line or FIRST_LINE, row.control if row.state == "beside" else row.model_digest
            if row.sequence in back:
                waits.append(digest)
            elif number in served and digest and row.state != "held":  # to a canary on hold nobody is added
                found.setdefault(digest, number)
        loaded, waiting = _known(session, found), _known(session, waits)
        is_alone = set(lines.newest(session)) <= {FIRST_LINE}
    if not served:
        why = "".join(f"{one.model_digest[:12]} is held back until its engine answers" for one in waiting[:1])
        raise NotInstalledError(what="nothing is in production", why=why, fix="promote a version: `sealift promote`")
    first = served.get(FIRST_LINE)
    return Explained(
        routed=decide(config.router.rules, query, loaded),
        loaded=loaded,
        first=next((one for one in loaded if one.model_digest == first), None),
        lines={} if is_alone else found,
        waiting=waiting,
    )


def _known(session: Connection, digests: Iterable[str]) -> tuple[Loaded, ...]:
    versions = [catalog.version(session, digest) for digest in digests]
    return tuple(Loaded(name=one.name, version=one.version, model_digest=one.model_digest) for one in versions)
