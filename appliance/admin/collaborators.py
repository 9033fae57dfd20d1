"""What every view may use, and how it reaches it."""

from dataclasses import dataclass

from flask import current_app, g

from appliance.actions.retention.reviewdesk import Reviews
from appliance.actions.tracing.reading import How, Readings
from appliance.admin.facts import Facts, Promoter
from appliance.admin.sessions import Attempts, Session, Sessions
from appliance.audit.client import Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from media.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every view may use."""

    config: Config
    facts: Facts
    ledger: Ledger
    promoter: Promoter
    jobs: Promoter
    sessions: Sessions
    attempts: Attempts
    callers: Attempts
    clock: Clock
    readings: Readings
    samples: Reviews | None = None


def page() -> Page:
    """Return the collaborators of the running application."""
    found = current_app.extensions["sealift"]
    assert isinstance(found, Page)  # noqa: S101 - set in the factory above
    return found


def session() -> Session:
    """Return this request's session."""
    found = g.session
    assert isinstance(found, Session)  # noqa: S101 - set before every request
    return found


def note_read(how: How, leaf: Leaf, *, request_id: str = "") -> None:
    """Record that whoever is logged in reads this record, before it is shown; a reload within a minute is none.

    Raises:
        LedgerUnavailableError: It could not be recorded, so nothing may be shown.
    """
    here = page()
    here.readings.note(here.ledger, how, leaf, person=session().person, request_id=request_id)
