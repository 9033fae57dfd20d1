"""The web service of automation keys: a few addresses below /api/v1 that read, and three that ask; none decides.

A key comes as `Authorization: Bearer`, and there is no cookie, so no other site's page can speak for it. The promoter
judges the key, its scope and the deed before a view runs, and records it; this process neither knows keys nor lists
what they may (rules AUTO-1 to AUTO-6). What is not listed here is refused to every key, and so is each page for people.
"""

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response, abort, current_app, g, jsonify, request

from appliance.actions import alerts
from appliance.actions import history as history_action
from appliance.actions.tracing import listing
from appliance.actions.tracing.selection import By, Selector
from appliance.admin import collaborators, lines, openapi
from appliance.admin.facts import VersionRow, pending_requests
from appliance.admin.people import caller_address
from appliance.install.jobs import Kind
from appliance.promote.automation_key import AutomationKey, looks_like_one
from appliance.promote.destination import Said
from media import canonical
from media.errors import MalformedError, SealiftError

PREFIX: Final = "/api/"
DEEDS: Final[Mapping[str, str]] = {
    "automation.status": "status",
    "automation.versions": "versions",
    "automation.version": "version",
    "automation.job": "job",
    "automation.requests": "requests",
    "automation.rollout": "rollout",
    "automation.history": "history",
    "automation.openapi": "openapi",
    "automation.affected": "affected",
    "automation.validate": "validate",
    "automation.request": "request",
    "automation.hold": "hold",
}
"""What each address does, in the promoter's words."""
# The promoter judges the key again with what these ask for, and records the use then.
_WITH_KEY: Final = frozenset({"request", "hold"})
_STATUS: Final = {
    "automation-key": 401,
    "automation-refused": 403,
    "unknown-version": 404,
    "job-refused": 404,
    "approval-refused": 409,
    "conflict": 409,
    "gate-failed": 409,
    "not-promoted": 409,
    "too-often": 429,
    "ledger-full": 503,
    "ledger-unavailable": 503,
    "wire": 503,
}
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_LONGEST_KEY: Final = 200
_MOST_EVENTS: Final = 500
_MOST_ANSWERS: Final = 1000


def make_blueprint() -> Blueprint:
    """Return the routes of the web service."""
    blueprint = Blueprint("automation", __name__, url_prefix="/api/v1")
    blueprint.add_url_rule("/status", "status", _status)
    blueprint.add_url_rule("/versions", "versions", _versions)
    blueprint.add_url_rule("/versions/<digest>", "version", _version)
    blueprint.add_url_rule("/versions/<digest>/validation", "validate", _validate, methods=["POST"])
    blueprint.add_url_rule("/versions/<digest>/request", "request", _request, methods=["POST"])
    blueprint.add_url_rule("/versions/<digest>/affected", "affected", _affected)
    blueprint.add_url_rule("/jobs/<int:number>", "job", _job)
    blueprint.add_url_rule("/requests", "requests", _requests)
    blueprint.add_url_rule("/rollout", "rollout", _rollout)
    blueprint.add_url_rule("/rollout/hold", "hold", _hold, methods=["POST"])
    blueprint.add_url_rule("/history", "history", _history)
    blueprint.add_url_rule("/openapi.json", "openapi", _openapi)
    blueprint.add_url_rule("/<path:rest>", "never", _never, methods=list(_METHODS))
    return blueprint


def is_here() -> bool:
    """Tell whether this request is for the web service, which knows no sessions."""
    return request.path.startswith(PREFIX)


def admit() -> Response | None:
    """Let a request of the web service go on when the promoter says that its key may; else answer why not.

    Raises:
        RemoteError: The promoter refused the key or the deed.
    """
    here, caller = collaborators.page(), caller_address()
    if not here.callers.allow(f"address {caller}") or here.attempts.is_spent(f"wrong key {caller}"):
        return _answer(429, "too-often", "this address asks too often", "ask again in a minute")
    text = _bearer()
    if not text:
        return _answer(401, "automation-key", "an automation key is needed", "send it as Authorization: Bearer")
    deed = DEEDS.get(request.endpoint or "") or f"{request.method} {request.path.removeprefix(PREFIX)}"
    if deed in _WITH_KEY:
        here.promoter.call("automation-may", key=text, deed=deed)
        g.key_text = text
        return None
    named = request.view_args or {}
    g.key = _judged(text, deed, about=str(named.get("digest") or named.get("number") or ""))
    return None


def refuse_on_page() -> Response | None:
    """Refuse a request for a person's page that brings an automation key; nothing where it brings none.

    Raises:
        RemoteError: The refusal, from the promoter, which records it.
    """
    text = _bearer()
    if not looks_like_one(text) or request.endpoint in {"static", "health"}:
        return None
    if not collaborators.page().callers.allow(f"address {caller_address()}"):
        return _answer(429, "too-often", "this address asks too often", "ask again in a minute")
    g.as_json = True
    _judged(text, f"page {request.endpoint or 'unknown'}")
    return _answer(403, "automation-refused", "an automation key opens no page", "AUTO-5: log in as a person")


def error_answer(error: SealiftError) -> Response:
    """Return an error of ours in the service's form; who guesses keys is counted."""
    fields = error.to_json()
    if fields["code"] == "automation-key":
        collaborators.page().attempts.allow(f"wrong key {caller_address()}")
    status = _STATUS.get(str(fields["code"]), 400)
    return _answer(status, str(fields["code"]), str(fields["what"]), str(fields["fix"]), why=str(fields["why"]))


def http_answer(status: int, name: str, why: str) -> Response:
    """Return an error of HTTP's in the service's form."""
    return _answer(status, "http", name, "see docs/operator/automation.md", why=why)


def _judged(text: str, deed: str, *, about: str = "") -> AutomationKey:
    answer = collaborators.page().promoter.call("automation-use", key=text, deed=deed[:64], about=about[:64])
    return AutomationKey.from_json(answer["key"])


def _bearer() -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return credentials.strip()[:_LONGEST_KEY] if scheme.lower() == "bearer" else ""


def _answer(status: int, code: str, what: str, fix: str, *, why: str = "") -> Response:
    answer = jsonify({"error": {"code": code, "what": what, "why": why, "fix": fix}})
    answer.status_code = status
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="sealift"'
    if status == 429:
        answer.headers["Retry-After"] = "60"
    return answer


def _status() -> dict[str, Any]:
    here = collaborators.page()
    production = here.facts.production()
    standing = here.promoter.call("current")
    return {
        "site": here.config.site,
        "environment": here.config.environment,
        "production": None if production is None else _plain(production, here.facts.aliases()),
        "promotions": standing["number"],
        "is_stopped": standing["is_stopped"],
        "requests": here.facts.pending_count(here.promoter),
        "alerts": [one.name for one in alerts.firing(here.config.at.alerts, clock=here.clock)],
        "ledger": {"size": here.ledger.head().size, "root": here.ledger.head().root},
    }


def _versions() -> dict[str, Any]:
    facts = collaborators.page().facts
    aliases = facts.aliases()
    return {"versions": [_plain(one, aliases) for one in facts.versions()]}


def _version(digest: str) -> dict[str, Any]:
    aliases = collaborators.page().facts.aliases()
    found = _known(digest)
    gates = [{"gate": gate, "passed": passed, "figures": dict(figures)} for gate, passed, figures in found.gates]
    return {**_plain(found, aliases), "gates": gates, "quantization": found.descriptor.get("quantization")}


def _validate(digest: str) -> tuple[dict[str, Any], int]:
    _body()
    answer = collaborators.page().jobs.call(
        "ask", kind=str(Kind.VALIDATE), digest=_known(digest).digest, person=_key().actor
    )
    return {"job": int(answer["job"]), "state": str(answer["state"])}, 202


def _job(number: int) -> dict[str, Any]:
    """Tell how a validation goes; other jobs are people's."""
    job = collaborators.page().jobs.call("show", job=number)
    if job["kind"] != Kind.VALIDATE:
        abort(404)
    outcome = job["outcome"] or {}
    shown = {name: job[name] for name in ("job", "kind", "digest", "at", "state", "step", "done", "total", "person")}
    return {**shown, "outcome": {name: outcome.get(name, "") for name in ("what", "why", "fix")} if outcome else None}


def _request(digest: str) -> tuple[dict[str, Any], int]:
    """Ask people to approve a version whose gates passed."""
    here = collaborators.page()
    body = _body("meaning", optional=("beside", "replaces"))
    said = _said(body)
    if said != Said():
        here.promoter.call("automation-may", key=g.key_text, deed="request", says_line=True)
        lines.require_loadable(_known(digest).digest, said)
    answer = here.promoter.call(
        "automation-request", key=g.key_text, model_digest=digest, meaning=_words(body, "meaning"), **said.fields
    )
    made = answer["request"]
    return {"statement_sha256": made["statement_sha256"], "approvals_needed": here.config.policy.approvals}, 201


def _requests() -> dict[str, Any]:
    shown = ("model_digest", "meaning", "requested_by", "requested_at", "expires")
    found = pending_requests(collaborators.page().promoter)
    return {
        "requests": [
            {
                "statement_sha256": one.digest,
                **{name: one.fields.get(name) for name in shown},
                "approvals": list(one.approvals),
                **Said.of_fields(one.fields).fields,
            }
            for one in found
        ]
    }


def _rollout() -> dict[str, Any]:
    return collaborators.page().promoter.call("canary-standing")


def _hold() -> dict[str, Any]:
    """Add no caller to the canary for now; a person lets it go on."""
    here = collaborators.page()
    reason = _words(_body("reason"), "reason")
    answer = here.promoter.call("automation-hold", key=g.key_text, reason=reason)
    key, digest = AutomationKey.from_json(answer["key"]), str(answer["promotion"]["model_digest"])
    job = here.jobs.call("ask", kind=str(Kind.SWITCH), digest=digest, person=key.actor)
    return {"held": True, "sequence": answer["promotion"]["sequence"], "job": int(job["job"])}


def _history() -> dict[str, Any]:
    here, of = collaborators.page(), request.args.get("of", "")
    digest = canonical.sha256_hex(of, "of") if of else ""
    events = history_action.history(here.ledger, every=False, model_digest=digest)
    return {"events": [one.to_json() for one in events[-_MOST_EVENTS:]], "total": len(events)}


def _openapi() -> dict[str, Any]:
    return openapi.document(current_app, DEEDS)


def _affected(digest: str) -> dict[str, Any]:
    """List which answers a version gave, by their ids: of which department, never what was asked or of whom."""
    selector = Selector(by=By.VERSION, value=canonical.sha256_hex(digest, "digest"))
    found = listing.counted(collaborators.page().ledger, selector, most=_MOST_ANSWERS)
    names = ("request_id", "sequence", "at", "department", "model_digest", "arm")
    return {
        "answers": found.answers,
        "first": found.first,
        "last": found.last,
        "departments": dict(found.departments),
        "requests": [{name: one[name] for name in names} for one in found.requests],
    }


def _never(rest: str) -> Response:
    """Stand for every other address: the promoter refused it to each key before this, and would not let one pass."""
    return _answer(403, "automation-refused", f"no key may ask for {rest[:64]}", "let an enrolled person do it")


def _key() -> AutomationKey:
    found = g.key
    assert isinstance(found, AutomationKey)  # noqa: S101 - set by `admit` before every view that reads it
    return found


def _known(digest: str) -> VersionRow:
    found = collaborators.page().facts.version(canonical.sha256_hex(digest, "digest"))
    if found is None:
        abort(404)
    return found


def _body(*required: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the body: a JSON object of exactly these."""
    if not required and not request.data:
        return {}
    if not request.is_json:
        abort(415, "Send application/json.")
    return canonical.exact_keys(request.get_json(silent=True), required, optional, what="body")


def _words(untrusted_body: Mapping[str, Any], name: str) -> str:
    return canonical.text(untrusted_body[name], name, most=500)


def _said(untrusted_body: Mapping[str, Any]) -> Said:
    """Return what a request says of its line: nothing, `beside`, which is true, or `replaces`, the name of a model."""
    said = Said.of_message(untrusted_body)
    told = {name for name in ("beside", "replaces") if name in untrusted_body}
    if told != set(said.fields) or len(told) > 1:
        raise MalformedError(
            what="the body is malformed",
            why="`beside` is true or absent, `replaces` a model's name or absent, and not both are there",
            fix="see docs/operator/automation.md",
        )
    return said


def _plain(row: VersionRow, aliases: Mapping[str, str]) -> dict[str, Any]:
    passed = all(ok for _, ok, _ in row.gates) if row.gates else None
    return {
        "model_digest": row.digest,
        "name": row.name,
        "version": row.version,
        "serial": row.serial,
        "alias": aliases.get(row.digest, ""),
        "gates_passed": passed,
    }
