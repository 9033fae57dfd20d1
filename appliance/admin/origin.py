"""The origin of an answer on the page: from its record to the people who approved it, proven while it is shown."""

from flask import Blueprint, render_template, request

from appliance.actions.tracing.origin import origin
from appliance.admin import collaborators

_LONGEST = 64


def make_blueprint() -> Blueprint:
    """Return the route of the view."""
    blueprint = Blueprint("origin", __name__)
    blueprint.add_url_rule("/origin", "of", _of)
    return blueprint


def _of() -> str:
    here = collaborators.page()
    untrusted = request.args.get("request", "").strip()[:_LONGEST]
    report = origin(here.ledger, here.config.at, untrusted) if untrusted else None
    return render_template("origin.html", asked=untrusted, report=report)
