"""What a person sees after the login: overview, releases, versions, promotion, ledger, connecting."""

import binascii

from flask import Blueprint, Response, abort, render_template, request

from appliance.actions import export_evidence
from appliance.actions import history as history_action
from appliance.actions.capacity import latest
from appliance.actions.provenance import provenance
from appliance.actions.units import addresses
from appliance.admin import collaborators, lines
from appliance.admin.approval import statement_file
from appliance.admin.facts import PendingRequest, pending_requests
from appliance.config import Config
from appliance.errors import EngineLoadError, UnitError, UnknownVersionError
from appliance.promote.destination import Said

_PAGE_SIZE = 50
_MOST_EVENTS = 200


def make_blueprint() -> Blueprint:
    """Return the routes of the pages."""
    blueprint = Blueprint("pages", __name__)
    blueprint.add_url_rule("/", "overview", _overview)
    blueprint.add_url_rule("/releases", "releases", _releases)
    blueprint.add_url_rule("/versions", "versions", _versions)
    blueprint.add_url_rule("/versions/<digest>", "version", _version)
    blueprint.add_url_rule("/promotion", "promotion", _promotion)
    blueprint.add_url_rule("/promotion/<digest>/statement", "statement", _statement)
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
        serving=facts.serving(),
        releases=facts.releases()[:5],
        head=here.ledger.head(),
        history=facts.history()[:10],
        requests=facts.pending_count(here.promoter),
        reviews=facts.review_count(here.promoter),
        capacity=latest(here.ledger),
    )


def _releases() -> str:
    return render_template("releases.html", releases=collaborators.page().facts.releases())


def _versions() -> str:
    facts = collaborators.page().facts
    return render_template(
        "versions.html",
        versions=facts.versions(),
        aliases=facts.aliases(),
        serving={one.digest for one in facts.serving()},
    )


def _version(digest: str) -> str:
    here = collaborators.page()
    found, registered = here.facts.version(digest), here.facts.registered(digest)
    if found is None or registered is None:
        abort(404)
    try:
        record = provenance(here.config, here.ledger, registered).to_json()
    except UnknownVersionError:  # deleted since the state was read
        abort(404)
    # Asked where the form is shown that says it.
    offer = lines.offer_of(found) if found.gates else lines.Offer()
    return render_template(
        "version.html",
        version=found,
        record=record,
        alias=here.facts.aliases().get(digest, "none"),
        fit=() if offer.destinations else _fit(digest),
        offer=offer,
        asks_password=not here.config.release_is_request,
    )


def _fit(digest: str) -> tuple[str, ...]:
    """Return what memory holds of a version and what that means; nothing where the machine does not say."""
    here = collaborators.page()
    try:
        return here.facts.fit(here.config, here.ledger, digest).plan
    except EngineLoadError:
        return ()


def _promotion() -> str:
    here = collaborators.page()
    number = lines.number()  # first: what comes after is not known as seen
    waiting = pending_requests(here.promoter)
    return render_template(
        "promotion.html",
        requests=waiting,
        goes={one.digest: _goes(one) for one in waiting},
        beside={one.digest for one in waiting if Said.of_fields(one.fields).beside},
        lines=lines.several(),
        number=number,
        history=here.facts.history(),
        events=history_action.history(here.ledger)[: -_MOST_EVENTS - 1 : -1],
        needed=here.config.policy.approvals,
    )


def _goes(asked: PendingRequest) -> str:
    """Return what goes away and stays if a request is carried out; nothing where a version simply follows another."""
    facts, digest = collaborators.page().facts, str(asked.fields["model_digest"])
    version = facts.version(digest)
    words = "" if version is None else facts.goes(Said.of_fields(asked.fields), digest)
    return f"{version.name} {version.version} {words}" if version is not None and words else ""


def _statement(digest: str) -> Response:
    found = [one for one in pending_requests(collaborators.page().promoter) if one.digest == digest]
    if not found:
        abort(404)
    return statement_file(found[0].statement.encode(), digest, about="statement")


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
    collaborators.note_read("show", leaf)
    return render_template("leaf.html", leaf=leaf, text=text, evidence_kinds=export_evidence.KINDS)


def _connect() -> str:
    here = collaborators.page()
    service = here.config.service
    base = f"https://{service.hostname}" if service.tls else _loopback(here.config)
    test = f"{base}/test" if service.tls else _loopback(here.config, "test")
    return render_template(
        "connect.html",
        base=f"{base}/v1",
        test=f"{test}/v1",
        keys=here.facts.keys(),
        has_authority=here.facts.authority() is not None,
    )


def _loopback(config: Config, door: str = "gateway") -> str:
    """Return where run-units publishes the API; with a port of 0 it chose one at its start."""
    try:
        return addresses(config)[door]
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
