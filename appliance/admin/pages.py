"""What a person sees after the login: overview, releases, versions, promotion, ledger, connecting."""

import base64
import binascii

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.actions import export_evidence
from appliance.actions.capacity import latest
from appliance.actions.units import addresses
from appliance.admin import collaborators
from appliance.admin.facts import pending_requests
from appliance.config import Config
from appliance.errors import UnitError

_PAGE_SIZE = 50
_MAX_SIGNATURE = 16 * 1024


def make_blueprint() -> Blueprint:
    """Return the routes of the pages."""
    blueprint = Blueprint("pages", __name__)
    blueprint.add_url_rule("/", "overview", _overview)
    blueprint.add_url_rule("/releases", "releases", _releases)
    blueprint.add_url_rule("/versions", "versions", _versions)
    blueprint.add_url_rule("/versions/<digest>", "version", _version)
    blueprint.add_url_rule("/promotion", "promotion", _promotion)
    blueprint.add_url_rule("/promotion/<digest>/statement", "statement", _statement)
    blueprint.add_url_rule("/promotion/<digest>/approve", "approve", _approve, methods=["POST"])
    blueprint.add_url_rule("/ledger", "ledger", _ledger)
    blueprint.add_url_rule("/ledger/<int:sequence>", "leaf", _leaf)
    blueprint.add_url_rule("/connect", "connect", _connect)
    blueprint.add_url_rule("/connect/ca.crt", "authority", _authority)
    return blueprint


def _overview() -> str:
    here = collaborators.page()
    facts = here.facts
    return render_template(
        "overview.html",
        production=facts.production(),
        releases=facts.releases()[:5],
        head=here.ledger.head(),
        history=facts.history()[:10],
        requests=facts.pending_count(here.promoter),
        capacity=latest(here.ledger),
    )


def _releases() -> str:
    return render_template("releases.html", releases=collaborators.page().facts.releases())


def _versions() -> str:
    facts = collaborators.page().facts
    return render_template("versions.html", versions=facts.versions(), production=facts.production())


def _version(digest: str) -> str:
    found = collaborators.page().facts.version(digest)
    if found is None:
        abort(404)
    return render_template("version.html", version=found)


def _promotion() -> str:
    here = collaborators.page()
    return render_template(
        "promotion.html",
        requests=pending_requests(here.promoter),
        history=here.facts.history(),
        needed=here.config.policy.approvals,
    )


def _statement(digest: str) -> Response:
    found = [one for one in pending_requests(collaborators.page().promoter) if one.digest == digest]
    if not found:
        abort(404)
    name = f"statement-{digest[:12]}.json"
    return Response(
        found[0].statement.encode(),
        mimetype="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _approve(digest: str) -> AnyResponse:
    """Relay a signature made elsewhere; who approved is what the promoter reads from the signature, not this login."""
    upload = request.files.get("signature")
    signature = upload.read(_MAX_SIGNATURE + 1) if upload is not None else b""
    if not signature or len(signature) > _MAX_SIGNATURE:
        abort(400, "Choose the binary signature file that gpg made.")
    here = collaborators.page()
    here.promoter.call("approve", statement_sha256=digest, signature=base64.b64encode(signature).decode())
    here.ledger.append("admin.relayed-approval", {"person": collaborators.session().person, "statement_sha256": digest})
    return redirect(url_for("pages.promotion"))


def _ledger() -> str:
    here = collaborators.page()
    kind = request.args.get("kind", "")[:64] or None
    return render_template(
        "ledger.html",
        leaves=here.ledger.find(kind=kind, limit=_PAGE_SIZE, newest_first=True),
        head=here.ledger.head(),
        kind=kind or "",
    )


def _leaf(sequence: int) -> str:
    here = collaborators.page()
    leaf = here.ledger.leaf(sequence)
    try:
        text = leaf.raw.decode()
    except (UnicodeDecodeError, binascii.Error):
        abort(404)
    return render_template("leaf.html", leaf=leaf, text=text, evidence_kinds=export_evidence.KINDS)


def _connect() -> str:
    here = collaborators.page()
    service = here.config.service
    base = f"https://{service.hostname}" if service.tls else _loopback(here.config)
    return render_template("connect.html", base=f"{base}/v1", has_authority=here.facts.authority() is not None)


def _loopback(config: Config) -> str:
    """Return where run-units publishes the API; with a port of 0 it chose one at its start."""
    try:
        return addresses(config)["gateway"]
    except (UnitError, KeyError):
        return f"http://{config.service.host}:{config.service.gateway_port}"


def _authority() -> Response:
    certificate = collaborators.page().facts.authority()
    if certificate is None:
        abort(404)
    return Response(
        certificate,
        mimetype="application/x-x509-ca-cert",
        headers={"Content-Disposition": 'attachment; filename="sealift-ca.crt"'},
    )
