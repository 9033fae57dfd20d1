"""`sealift alerts`: whether those whom the site file names are told of trouble, tried before there is any."""

import typer

from appliance.actions import alertstrial
from appliance.cli import context as shared
from appliance.install import watching


def register(app: typer.Typer) -> None:
    """Add the command."""
    alerts = typer.Typer(help="How alerts are told.", no_args_is_help=True)
    app.add_typer(alerts, name="alerts")
    alerts.command("try")(_try)
    alerts.callback()(lambda: None)


def _try(context: typer.Context) -> None:
    """Send a trial alert to the page, the console and whomever the site file names; ends with 53 when one got none.

    It takes half a minute. A minute later it is off the page, and after five who got it by mail is told that it ended.
    """
    own = shared.of(context)
    own.say("a trial alert is sent")
    found = alertstrial.trial(own.config, clock=own.clock)
    own.result(found.to_json(), f"told: {', '.join(('the page', 'the console', *watching.ways(own.config)))}")
