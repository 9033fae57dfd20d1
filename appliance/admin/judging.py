"""The page on which a person judges sampled answers: blinded, in an order of the person's own, kept as it goes.

Promises: that answers were shown is recorded before they are (`admin.answers-shown`: person, sheet, entry); prompts and
answers are in no record, log or address; what is handed in goes to the promoter with the person's password and lands
where `sealift answers take` puts it.
"""

from dataclasses import asdict
from typing import Final

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions import judgements
from appliance.actions.judgements import Entry, Sitting
from appliance.admin import collaborators
from appliance.errors import UnknownVersionError
from media import canonical

SHOWN: Final = "admin.answers-shown"
_MAX_FIELD: Final = 500


def make_blueprint() -> Blueprint:
    """Return the routes of judging."""
    blueprint = Blueprint("judging", __name__)
    blueprint.add_url_rule("/versions/<digest>/answers", "standing", _standing)
    blueprint.add_url_rule("/versions/<digest>/answers/<int:place>", "entry", _entry)
    blueprint.add_url_rule("/versions/<digest>/answers/<int:place>", "keep", _keep, methods=["POST"])
    blueprint.add_url_rule("/versions/<digest>/answers/hand-in", "hand_in", _hand_in, methods=["POST"])
    return blueprint


def _standing(digest: str) -> str:
    opened = _sitting(digest)
    done = opened.judged()
    return render_template(
        "judging.html",
        digest=digest,
        size=opened.size,
        done=done,
        following=_next(opened, 0),
        sheet=opened.sheet.sha256,
    )


def _entry(digest: str, place: int) -> str:
    opened, here = _sitting(digest), collaborators.page()
    found = _entry_of(opened, place)
    body = {"person": collaborators.session().person, "model_digest": digest, "sheet": opened.sheet.sha256}
    here.ledger.append(SHOWN, {**body, "entry": found.number})
    return render_template("judging_entry.html", digest=digest, one=found, size=opened.size, done=len(opened.judged()))


def _keep(digest: str, place: int) -> AnyResponse:
    opened = _sitting(digest)
    criteria = len(_entry_of(opened, place).criteria)
    points = [int(request.form.get(f"point-{number}") == "1") for number in range(1, criteria + 1)]
    opened.keep(place, request.form.get("choice", "")[:_MAX_FIELD], points)
    following = _next(opened, place)
    if following:
        return redirect(url_for("judging.entry", digest=digest, place=following))
    return redirect(url_for("judging.standing", digest=digest))


def _hand_in(digest: str) -> AnyResponse:
    here, person = collaborators.page(), collaborators.session().person
    if not here.attempts.allow(f"person {person}"):
        abort(429)
    opened = _sitting(digest)
    told, form_sha256 = opened.told()
    here.promoter.call(
        "answers-judged",
        model_digest=digest,
        sheet=opened.sheet.sha256,
        form_sha256=form_sha256,
        counts=asdict(told),
        person=person,
        password=request.form.get("password", "")[:_MAX_FIELD],
    )
    opened.forget()
    return redirect(url_for("pages.version", digest=digest))


def _sitting(digest: str) -> Sitting:
    here = collaborators.page()
    version = canonical.sha256_hex(digest, "digest")
    if here.facts.version(version) is None:
        abort(404)
    try:
        return judgements.sitting(here.config.at, here.ledger, version, person=collaborators.session().person)
    except UnknownVersionError as error:
        abort(404, f"{error.what}: {error.why}")


def _entry_of(opened: Sitting, place: int) -> Entry:
    try:
        return opened.entry(place)
    except UnknownVersionError as error:
        abort(404, error.what)


def _next(opened: Sitting, place: int) -> int:
    """Return the next place that is not judged, after this one and then from the start; 0 when all are."""
    done = set(opened.judged())
    places = [*range(place + 1, opened.size + 1), *range(1, place + 1)]
    return next((one for one in places if one not in done), 0)
