"""The page of a version's last validation: the report that people sign, and the same as PDF."""

from typing import Any

from flask import Blueprint, Response, abort, render_template

from appliance.actions import validate, validation_report
from appliance.admin import collaborators
from appliance.paper import bars
from appliance.paper.drawn import drawn
from appliance.paper.form import Form
from appliance.registry import evidence
from appliance.registry.catalog import Version
from media import canonical


def make_blueprint() -> Blueprint:
    """Return the routes of validations."""
    blueprint = Blueprint("validation", __name__)
    blueprint.add_url_rule("/versions/<digest>/validation", "report", _report)
    blueprint.add_url_rule("/versions/<digest>/validation.pdf", "pdf", _pdf)
    return blueprint


def _report(digest: str) -> str:
    return render_template("validation.html", form=_form(digest), digest=digest, draw=bars.svg)


def _pdf(digest: str) -> Response:
    name = f"validation-{digest[:12]}.pdf"
    return Response(
        drawn(_form(digest), validation_report.PDF_NAME),
        mimetype="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _form(digest: str) -> Form:
    """Draw the newest evidence of a version, read by its digest and hashed again."""
    here = collaborators.page()
    row = here.facts.version(canonical.sha256_hex(digest, "digest"))
    if row is None:
        abort(404)
    leaves = here.ledger.find(kind=validate.GATE_RESULT, field="model_digest", value=digest, limit=1)
    if not leaves:
        abort(404)
    descriptor: dict[str, Any] = dict(row.descriptor)
    version = Version(
        model_digest=digest,
        name=row.name,
        version=row.version,
        weights_digest=row.weights_digest,
        serial=row.serial,
        descriptor=descriptor,
        sequence=-1,
    )
    found = str(leaves[0].body.get("evidence_digest"))
    report = validate.report_of(version, found, evidence.read(here.config.at, found))
    return validation_report.made(report, ledger=here.ledger, site=here.config.site)
