"""Names that move: production, previous and candidate, derived from what was promoted and never stored.

A version has none of them, or one. `previous` is where `sealift rollback` goes without `--to`; `candidate` is the
version whose canary runs.
"""

from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from appliance.state.tables import ModelVersion, Promotion, Rollout

PRODUCTION: Final = "production"
PREVIOUS: Final = "previous"
CANDIDATE: Final = "candidate"
ALIASES: Final = (PRODUCTION, PREVIOUS, CANDIDATE)

Reader = Connection | Session
_CANARY: Final = ("running", "held")


def aliases(session: Reader) -> dict[str, str]:
    """Return the digest behind each alias that stands for a version now."""
    line, is_stopped = _line(session)
    known = set(session.execute(select(ModelVersion.model_digest)).scalars())
    found: dict[str, str] = {}
    if line and not is_stopped:
        found[PRODUCTION] = line[-1]
    previous = next((one for one in reversed(line[:-1]) if one in known), None)
    if previous is not None:
        found[PREVIOUS] = previous
    running = select(Rollout.model_digest).where(Rollout.state.in_(_CANARY)).order_by(Rollout.sequence.desc()).limit(1)
    candidate = session.execute(running).scalar_one_or_none()
    if candidate is not None:
        found[CANDIDATE] = candidate
    return found


def _line(session: Reader) -> tuple[list[str], bool]:
    """Return the versions that led here, the last on top, and whether it was stopped; as the promoter's chain does."""
    line: list[str] = []
    is_stopped = False
    steps = select(Promotion.kind, Promotion.model_digest).order_by(Promotion.sequence)
    for kind, digest in session.execute(steps):
        is_stopped = digest is None
        if kind == "rolled-back" and digest in line[:-1]:
            nearest = max(place for place, one in enumerate(line[:-1]) if one == digest)
            del line[nearest + 1 :]
        elif digest is not None and (not line or line[-1] != digest):
            line.append(digest)
    return line, is_stopped
