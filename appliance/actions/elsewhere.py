"""What was decided by way of another node is carried out on this one: its engines follow, without a person (ADR 53).

Callers are sent to a version once an engine of the node where it was decided answers. From then on each other node that
lacks that engine says so (503) and starts it here, which takes nothing from the nodes that answer already. So nodes
follow one after another, the one that decided first.

Promises: only what the promoter's chain names runs, as everywhere; on the node where it was decided nothing is done;
what was started once and stopped by hand stays stopped; an engine that does not start is tried again every ten minutes.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from appliance.actions.canary import is_left_by
from appliance.actions.following import is_anothers
from appliance.actions.production import STAGE, Served, Surroundings, is_production, settle, unit_digest
from appliance.audit.facts import EVERY
from appliance.audit.leaf import Leaf
from appliance.install.engines import wanted_engines
from appliance.install.jobdesk import ASKED, DONE
from appliance.install.jobs import DIGEST12, Kind
from appliance.install.supervisor import UnitState, engine_unit
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.state import projection
from media.clock import from_text

AGAIN: Final = timedelta(minutes=10)


def follow(here: Surroundings) -> Served | None:
    """Bring this node's engines to what was decided by way of another node; None where nothing is to be done.

    Raises:
        NotPromotedError: The chain does not verify; nothing was started.
        JobRefusedError, UnknownVersionError: This node's store does not hold the version, or its engine.
        UnitError, EngineUnavailableError: An engine did not start, or is not healthy.
        LedgerUnavailableError: It cannot be told who decided.
    """
    if not here.config.database.node:
        return None
    production = PromoterFolder(here.config.at.promoter).production()
    lines = [line for line in production.lines.values() if is_anothers(here.config, here.ledger, line.last)]
    if not lines or not _is_told(here, production):
        return None
    running = {one.name for one in here.supervisor.units() if one.state is UnitState.ACTIVE and is_production(one.name)}
    named = set(wanted_engines(here.config, production.loadable, production.current))
    left = [one for one in running - named if any(is_left_by(line, unit_digest(one), production) for line in lines)]
    lacking = (digest for line in lines for digest in _lacking(here, line, running))
    if not left and not any(lacking):
        return None
    # What is decided meanwhile is first carried out where that was.
    return settle(here, known=None if production.last is None else production.last.sequence)


def _is_told(here: Surroundings, production: Production) -> bool:
    """Tell whether callers were told of everything that was decided, or that it was to stop."""
    last = production.last
    if last is None or not production.serving:
        return True
    return projection.told_sequence(here.state) >= last.sequence


def _lacking(here: Surroundings, line: Line, running: set[str]) -> Iterator[str]:
    """Yield the versions of a line whose engine is to be started here."""
    for digest in line.loadable:
        if engine_unit(STAGE, digest) not in running and _is_due(here, line, digest[:12]):
            yield digest


def _is_due(here: Surroundings, line: Line, digest12: str) -> bool:
    """Tell whether an engine was not asked for on this node since the decision, or its start failed a while ago."""
    since = -1 if line.last is None else line.last.sequence
    asked = [
        leaf
        for leaf in _own(here, ASKED, digest12)
        if leaf.sequence > since and leaf.body.get("kind") == str(Kind.START_PRODUCTION)
    ]
    if not asked:
        return True
    done = [leaf for leaf in _own(here, DONE, digest12) if leaf.body.get("job") == asked[-1].sequence]
    if not done:
        return True  # it was cut off
    return done[-1].body.get("ok") is not True and here.clock.now() - from_text(done[-1].time) >= AGAIN


def _own(here: Surroundings, kind: str, digest12: str) -> list[Leaf]:
    found = here.ledger.find(kind=kind, field=DIGEST12, value=digest12, limit=EVERY, newest_first=False)
    return [leaf for leaf in found if leaf.via.node == here.config.database.node]
