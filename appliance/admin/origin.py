"""The origin of an answer on the page: from its record to the people who approved it, proven while it is shown.

What takes the bytes of the store, which the page may not read, is verified afresh by a job. What that found of each
link, and when, is shown until somebody asks again, with the file that is checked elsewhere.
"""

from typing import Final

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions.prove import request_of
from appliance.actions.standby.forked import IMPORTED
from appliance.actions.tracing import proofs
from appliance.actions.tracing.origin import origin
from appliance.actions.tracing.selection import INTENT
from appliance.admin import collaborators
from appliance.audit.leaf import Leaf
from appliance.install.jobs import Kind

_LONGEST: Final = 64


def make_blueprint() -> Blueprint:
    """Return the routes of the view."""
    blueprint = Blueprint("origin", __name__)
    blueprint.add_url_rule("/origin", "of", _of)
    blueprint.add_url_rule("/origin", "verify", _verify, methods=["POST"])
    blueprint.add_url_rule("/origin/<int:record>", "proven", _proven)
    blueprint.add_url_rule("/origin/<int:record>/proof.json", "file", _file)
    return blueprint


def _of() -> str:
    here = collaborators.page()
    untrusted = request.args.get("request", "").strip()[:_LONGEST]
    report = origin(here.ledger, here.config.at, untrusted, clock=here.clock) if untrusted else None
    asked = _asked(untrusted) if untrusted else None
    if asked is not None:
        collaborators.note_read("prove", asked, request_id=request_of(untrusted))
    kept = None if asked is None else proofs.newest(here.config.at.proofs, here.ledger, asked.sequence)
    # Whose answer it may be instead: mirrors are root's, so this process can only say that there are some.
    mirrors = here.ledger.find(kind=IMPORTED, limit=1) if untrusted and asked is None else []
    return render_template(
        "origin.html", asked=untrusted, report=report, kept=kept, can_verify=asked is not None, mirrors=mirrors
    )


def _verify() -> AnyResponse:
    """Let a job verify every link afresh: it may read the store, this process may not."""
    asked = _asked(request.form.get("request", "").strip()[:_LONGEST])
    if asked is None:
        abort(404, "No such answer is recorded.")
    here = collaborators.page()
    person = collaborators.session().person
    answer = here.jobs.call("ask", kind=str(Kind.PROVE), person=person, record=asked.sequence)
    return redirect(url_for("work.job", number=int(answer["job"])))


def _proven(record: int) -> AnyResponse:
    here = collaborators.page()
    kept = proofs.newest(here.config.at.proofs, here.ledger, record)
    if kept is None:
        abort(404, "Nobody had the origin of that answer verified here.")
    return redirect(url_for("origin.of", request=kept.request_id))


def _file(record: int) -> Response:
    """Hand out the proof for elsewhere, as it was recorded; saved, not shown."""
    here = collaborators.page()
    content = proofs.file(here.config.at.proofs, here.ledger, record)
    if content is None:
        abort(404)
    collaborators.note_read("prove", here.ledger.leaf(record))
    named = f'attachment; filename="proof-{record}.json"'
    return Response(content, mimetype="application/json", headers={"Content-Disposition": named})


def _asked(untrusted: str) -> Leaf | None:
    found = collaborators.page().ledger.find(kind=INTENT, field="request_id", value=request_of(untrusted), limit=1)
    return found[0] if found else None
