"""What gunicorn loads as `sealift-metrics`: the facts with their real collaborators."""

from flask import Flask

from appliance.audit.client import SocketLedger
from appliance.audit.rights import METRICS
from appliance.install.supervisor import open_supervisor
from appliance.observe.metrics import create_metrics_app
from appliance.observe.site import load_site
from media.clock import SystemClock


def make() -> Flask:
    """Build the application; the ledger may come up later, or again."""
    config = load_site()
    return create_metrics_app(
        config,
        ledger=SocketLedger(config.at.socket(METRICS)),
        supervisor=open_supervisor(config),
        clock=SystemClock(),
    )


app = make()
