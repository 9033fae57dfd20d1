"""What gunicorn loads: the page with its real collaborators."""

import os
from pathlib import Path

from flask import Flask

from appliance import config as configuration
from appliance.actions.retention.reviewdesk import ADMIN_DOOR as REVIEW
from appliance.admin.application import create_admin_app
from appliance.admin.facts import Facts
from appliance.audit.client import SocketLedger
from appliance.audit.rights import ADMIN
from appliance.install.jobclient import JobsLine
from appliance.install.jobrights import ADMIN as JOBS
from appliance.state.database import open_state
from appliance.wire import Line
from media.clock import SystemClock


def make() -> Flask:
    """Build the application from the site file that SEALIFT_CONFIG names; the ledger may come up later, or again."""
    config = configuration.load(Path(os.environ.get("SEALIFT_CONFIG", str(configuration.DEFAULT_PATH))))
    places = config.at
    return create_admin_app(
        config,
        facts=Facts(open_state(places), authority_file=places.etc / "tls/trust.crt"),
        ledger=SocketLedger(places.socket(ADMIN)),
        promoter=Line(places.socket("promoter-admin")),
        jobs=JobsLine.open(config, JOBS),
        clock=SystemClock(),
        samples=Line(places.socket(REVIEW)),
    )


app = make()
