"""Media on the page: what is plugged in, what it claims to be, and the jobs that receive from it and take it out."""

from flask import Blueprint, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions import export_evidence
from appliance.actions.export_types import ExportType
from appliance.actions.exporting import RECORDED, preview
from appliance.admin import collaborators
from appliance.install import arrivals, auditors
from appliance.install.jobs import Kind
from media.digest import sha256_hex
from media.errors import UsageError

_MOST_EXPORTS = 20


def make_blueprint() -> Blueprint:
    """Return the routes of media."""
    blueprint = Blueprint("media", __name__)
    blueprint.add_url_rule("/media", "plugged_in", _plugged_in)
    blueprint.add_url_rule("/media/<name>/receive", "receive", _receive, methods=["POST"])
    blueprint.add_url_rule("/media/<name>/eject", "eject", _eject, methods=["POST"])
    blueprint.add_url_rule("/media/exports/<digest>", "export", _export)
    blueprint.add_url_rule("/media/evidence/<int:sequence>", "evidence", _evidence)
    blueprint.add_url_rule("/media/evidence/<int:sequence>/<digest>", "make", _make, methods=["POST"])
    blueprint.add_url_rule("/media/<name>/exports/<digest>", "carry", _carry, methods=["POST"])
    return blueprint


def _plugged_in() -> str:
    here = collaborators.page()
    found = arrivals.all_shown(here.config.at)
    made = here.ledger.find(kind=RECORDED, limit=_MOST_EXPORTS) if any(one.may_take_exports for one in found) else []
    return render_template("media.html", media=found, exports=made)


def _export(digest: str) -> str:
    """Show an EXPORT whole, hashed again: what a person lets leave is what they read."""
    here = collaborators.page()
    raw = str(here.jobs.call("export", digest=digest)["text"]).encode()
    if sha256_hex(raw) != digest:
        abort(502, "The export is not what its digest says.")
    marked = [one.arrival.name for one in arrivals.all_shown(here.config.at) if one.may_take_exports]
    made = here.ledger.find(kind=RECORDED, field="sha256", value=digest, limit=1)
    takes = _takes(str(made[0].body["type"])) if made else ""
    return render_template("export.html", digest=digest, text=preview(raw), marked=marked, takes=takes)


def _carry(name: str, digest: str) -> AnyResponse:
    return redirect(url_for("work.job", number=_ask(Kind.CARRY_EXPORT, name, digest=digest)))


def _receive(name: str) -> AnyResponse:
    return redirect(url_for("work.job", number=_ask(Kind.RECEIVE, name)))


def _eject(name: str) -> AnyResponse:
    _ask(Kind.EJECT, name)
    return redirect(url_for("media.plugged_in"))


def _evidence(sequence: int) -> str:
    """Show the evidence of a receive or a refusal as it would leave, before anything is made of it."""
    here = collaborators.page()
    try:
        _, out = export_evidence.drafted(here.config, here.ledger, serial=None, sequence=sequence)
    except UsageError:
        abort(404)
    content = out.draft.to_payload(ledger=None)
    digest, takes = sha256_hex(content), _takes(ExportType.EVIDENCE)
    return render_template("evidence.html", sequence=sequence, digest=digest, text=preview(content), takes=takes)


def _make(sequence: int, digest: str) -> AnyResponse:
    return redirect(url_for("work.job", number=_asked(Kind.MAKE_EVIDENCE, record=sequence, digest=digest)))


def _takes(kind: str) -> str:
    """Return whom it takes to let this leave, where who logged in is none of these; the job service decides."""
    return auditors.either(auditors.lacks(collaborators.page().config, kind, collaborators.session().roles))


def _ask(kind: Kind, name: str, **named: str) -> int:
    return _asked(kind, medium=arrivals.require_name(name), **named)


def _asked(kind: Kind, **named: str | int) -> int:
    answer = collaborators.page().jobs.call("ask", kind=str(kind), person=collaborators.session().person, **named)
    return int(answer["job"])
