"""The pages of a rollout: a canary with its arms, the watch after a cut-over, open reviews, what a cut-over changes."""

from flask import Blueprint, abort, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions import canary_plot
from appliance.actions.summary import summarise
from appliance.admin import collaborators, lines


def make_blueprint() -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("rollout", __name__)
    blueprint.add_url_rule("/rollout", "standing", _standing)
    blueprint.add_url_rule("/rollout/cutover", "cut_over", _cut_over)
    blueprint.add_url_rule("/rollout/review/<int:sequence>", "review", _review, methods=["POST"])
    blueprint.add_url_rule("/emergency/<int:number>/end", "end_emergency", _end_emergency, methods=["POST"])
    return blueprint


def _standing() -> str:
    promoter = collaborators.page().promoter
    number = lines.number()  # first: what comes after is not known as seen
    found = promoter.call("canary-standing")
    reviews = promoter.call("reviews")["open"]
    canary = found["canary"]
    # Of numbers and escaped names only; see `canary_plot`.
    picture = Markup(canary_plot.svg(canary)) if canary else ""  # noqa: S704
    several = lines.several()
    names = {int(one["line"]): str(one["name"]) for one in several}
    return render_template(
        "rollout.html",
        canary=canary,
        canary_line=lines.named(canary or {}, names),
        beside=found["beside"],
        standing=[{**one, "name": lines.named(one, names)} for one in (found, *found.get("lines", ()))],
        lines={one["name"]: one["value"] for one in several},
        number=number,
        reviews=reviews,
        picture=picture,
    )


def _cut_over() -> str:
    """Show on one page what the cut-over changes, for whom, what got worse and how to undo it."""
    here = collaborators.page()
    canary = here.promoter.call("canary-standing")["canary"]
    after = None if canary is None else here.facts.version(str(canary["version"]))
    # What serves in the canary's own line.
    before = here.facts.version(str(canary["production"])) if canary and "line" in canary else here.facts.production()
    if canary is None or after is None or before is None:
        abort(404)
    return render_template(
        "cutover.html",
        canary=canary,
        version=after,
        production=before,
        pinned=here.facts.pinned_to(before.digest),
        summary=summarise(
            after=after.descriptor,
            before=before.descriptor,
            gates=after.gates,
            gates_before=before.gates,
            departments=here.facts.departments(),
            previous=f"{before.name} {before.version}",
            line=after.name if lines.several() else "",
            alias=here.config.models.taken_by(after.name),
        ),
    )


def _review(sequence: int) -> AnyResponse:
    """Hand in that the person of this session looked at what another did; the password says that it is that person."""
    here = collaborators.page()
    person = collaborators.session().person
    note, password = request.form.get("note", "").strip()[:500], request.form.get("password", "")
    if not here.attempts.allow(f"person {person}"):
        abort(429)
    if not note or not password:
        abort(400, "Say what you found, and give your password.")
    here.promoter.call("review", sequence=sequence, person=person, note=note, password=password)
    return redirect(url_for("rollout.standing"))


def _end_emergency(number: int) -> AnyResponse:
    """End emergency access now; its key is refused from then on."""
    here = collaborators.page()
    person = collaborators.session().person
    reason, password = request.form.get("reason", "").strip()[:500], request.form.get("password", "")
    if not here.attempts.allow(f"person {person}"):
        abort(429)
    if not reason or not password:
        abort(400, "Give a reason and your password.")
    here.promoter.call("emergency-end", number=number, person=person, reason=reason, password=password)
    return redirect(url_for("rollout.standing"))
