"""The page of samples: how many wait, one drawn by chance, and what it is worth. Every look is recorded first."""

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions.retention.reviewdesk import RATINGS, Reviews
from appliance.admin import collaborators


def make_blueprint() -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("samples", __name__)
    blueprint.add_url_rule("/samples", "standing", _standing)
    # POST, since it leaves a record: nothing that a browser asks for by itself may look at a sample.
    blueprint.add_url_rule("/samples/draw", "draw", _draw, methods=["POST"])
    blueprint.add_url_rule("/samples/rate", "rate", _rate, methods=["POST"])
    return blueprint


def _desk() -> Reviews:
    found = collaborators.page().samples
    if found is None:
        abort(503, "The review store does not run here.")
    return found


def _standing() -> str:
    desk = _desk()
    return render_template("samples.html", found=desk.call("standing"), samples=desk.call("list")["samples"])


def _draw() -> str:
    person = collaborators.session().person
    reason = request.form.get("reason", "").strip()[:400] or "quality review"
    found = _desk().call("draw", person=person, reason=reason)
    return render_template("sample.html", sample=found, ratings=RATINGS)


def _rate() -> AnyResponse:
    person = collaborators.session().person
    request_id, rating = request.form.get("request_id", "")[:64], request.form.get("rating", "")
    if rating not in RATINGS:
        abort(400, "Choose what it is worth.")
    _desk().call("rate", request_id=request_id, rating=rating, person=person)
    return redirect(url_for("samples.standing"))
