"""What gunicorn loads as `sealift-alerts`: the webhook with its real collaborators."""

from flask import Flask

from appliance import unit
from appliance.observe.alerts import Certified, create_alerts_app, to_console, to_syslog
from appliance.observe.collecting import Collector
from appliance.observe.site import load_site
from media.clock import SystemClock


def make() -> Flask:
    """Build the application from the site file and the unit's state directory."""
    config, clock = load_site(), SystemClock()
    named, collector = config.alerts, None
    if named.syslog:
        certified = Certified(server=named.syslog_server, authority=config.at.syslog_authority)
        collector = Collector(
            to_syslog(named.syslog, host=config.service.hostname, certified=certified if named.syslog_server else None)
        )
    return create_alerts_app(unit.directory("STATE"), say=(to_console,), clock=clock, collector=collector)


app = make()
