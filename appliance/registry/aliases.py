"""Names that move: production, previous and candidate, derived from what was promoted and never stored.

A version has none of them, or one. `previous` is where `sealift rollback` goes without `--to`; `candidate` is the
version whose canary runs.
"""

from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from appliance.stages import FIRST_LINE
from appliance.state import lines
from appliance.state.rollouts import CANARY, OPEN
from appliance.state.tables import ModelVersion, Rollout

PRODUCTION: Final = "production"
PREVIOUS: Final = "previous"
CANDIDATE: Final = "candidate"
ALIASES: Final = (PRODUCTION, PREVIOUS, CANDIDATE)

Reader = Connection | Session


def aliases(session: Reader) -> dict[str, str]:
    """Return the digest behind each alias that stands for a version now; all of them are line 1's."""
    known = set(session.execute(select(ModelVersion.model_digest)).scalars())
    found: dict[str, str] = {}
    current = lines.served(session).get(FIRST_LINE)
    if current is not None:
        found[PRODUCTION] = current
    elsewhere = _elsewhere(session)
    line = lines.versions(session)[FIRST_LINE]
    previous = next((one for one in reversed(line[:-1]) if one in known and one not in elsewhere), None)
    if previous is not None:
        found[PREVIOUS] = previous
    running = select(Rollout.model_digest).where(Rollout.state.in_(CANARY), lines.is_of(Rollout))
    candidate = session.execute(running.order_by(Rollout.sequence.desc()).limit(1)).scalar_one_or_none()
    if candidate is not None:
        found[CANDIDATE] = candidate
    return found


def _elsewhere(session: Reader) -> set[str]:
    """Return the versions that stand in another line than the first, which nobody goes back to in that one."""
    found = {stack[-1] for number, stack in lines.versions(session).items() if number != FIRST_LINE}
    beside = select(Rollout.model_digest, Rollout.control).where(Rollout.state.in_(OPEN), ~lines.is_of(Rollout))
    return found.union(*session.execute(beside))
