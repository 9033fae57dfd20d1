"""What gunicorn loads as `sealift-alerts`: the webhook with its real collaborators."""

from flask import Flask

from appliance import unit
from appliance.observe.alerts import Say, create_alerts_app, to_console, to_syslog
from appliance.observe.site import load_site
from media.clock import SystemClock


def make() -> Flask:
    """Build the application from the site file and the unit's state directory."""
    config, clock = load_site(), SystemClock()
    say: list[Say] = [to_console]
    if config.alerts.syslog:
        say.append(
            to_syslog(
                config.alerts.syslog,
                host=config.service.hostname,
                clock=clock,
                server=config.alerts.syslog_server,
                authority=config.at.syslog_authority,
            )
        )
    return create_alerts_app(unit.directory("STATE"), say=tuple(say), clock=clock)


app = make()
