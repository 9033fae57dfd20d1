"""Reports on the page: those that were made, their files as the ledger recorded them, and the job that makes one."""

from typing import Final

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions.reports import period, shelf
from appliance.admin import collaborators
from appliance.install.jobs import Kind

_TYPES: Final = {".html": "text/html; charset=utf-8", ".pdf": "application/pdf", ".json": "application/json"}


def make_blueprint() -> Blueprint:
    """Return the routes of reports."""
    blueprint = Blueprint("reports", __name__)
    blueprint.add_url_rule("/reports", "made", _made)
    blueprint.add_url_rule("/reports", "make", _make, methods=["POST"])
    blueprint.add_url_rule("/reports/<name>.<ending>", "file", _file)
    return blueprint


def _made() -> str:
    here = collaborators.page()
    kept = shelf.all_kept(here.config.at.reports, here.ledger)
    now = here.clock.now()
    wanted = (period.last_quarter(now).name, period.this_quarter(now).name)
    return render_template("reports.html", reports=kept, wanted=wanted, endings=tuple(_TYPES))


def _make() -> AnyResponse:
    quarter = period.require_quarter(request.form.get("quarter", ""))
    here = collaborators.page()
    answer = here.jobs.call("ask", kind=str(Kind.REPORT), person=collaborators.session().person, quarter=quarter)
    return redirect(url_for("work.job", number=int(answer["job"])))


def _file(name: str, ending: str) -> Response:
    """Hand out a file that is what the ledger says; saved, not shown, since its look is its own."""
    here, suffix = collaborators.page(), f".{ending}"
    is_quarter = period.is_quarter(name)
    content = shelf.read(here.config.at.reports, here.ledger, name, suffix) if is_quarter else None
    if content is None:
        abort(404)
    return Response(
        content,
        mimetype=_TYPES[suffix],
        headers={"Content-Disposition": f'attachment; filename="report-{name}{suffix}"'},
    )
