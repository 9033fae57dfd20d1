"""The page of two versions side by side: quality, speed and what got worse, from what the gates of both found."""

from flask import Blueprint, abort, render_template, request
from markupsafe import Markup

from appliance.actions import comparing
from appliance.actions.comparing_plot import svg
from appliance.admin import collaborators
from appliance.errors import GateFailedError
from media import canonical


def make_blueprint() -> Blueprint:
    """Return the route of comparisons."""
    blueprint = Blueprint("comparing", __name__)
    blueprint.add_url_rule("/compare", "two", _two)
    return blueprint


def _two() -> str:
    """Let a person choose two versions, and compare them; the first is what the second is held against."""
    here = collaborators.page()
    versions = here.facts.versions()
    serving = here.facts.production()
    first = request.args.get("first", "" if serving is None else serving.digest)
    second = request.args.get("second", "")
    chosen = {"first": first, "second": second}
    found, missing = None, None
    if first and second:  # before anything serves there is one to be chosen first
        known = {one.digest for one in versions}
        if not {canonical.sha256_hex(first, "first"), canonical.sha256_hex(second, "second")} <= known:
            abort(404)
        try:
            found = here.facts.compare(here.config, here.ledger, first, second)
        except GateFailedError as error:
            missing = error
    # Of numbers and escaped names only; see `comparing_plot`.
    picture = "" if found is None else Markup(svg(found))  # noqa: S704
    return render_template(
        "compare.html",
        versions=versions,
        aliases=here.facts.aliases(),
        chosen=chosen,
        found=found,
        missing=missing,
        picture=picture,
        accuracy=comparing.accuracy,
        change=comparing.change,
    )
